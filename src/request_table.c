/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>

#include "request_internal.h"

/* The memory of a table, and who may still touch it. */

static uint32_t bits_for(uint32_t slots)
{
	uint32_t bits = 0;

	while (UINT32_C(1) << bits < slots)
		bits++;
	return bits;
}

int fq_request_table_create(struct fq_request_table **out, const struct fq_request_config *config)
{
	struct fq_request_table *t;
	uint32_t bits;

	if (!out || !config || !fq_is_alive(config->queue) || !config->slots ||
	    config->slots > FQ_REQUEST_SLOTS_MAX || config->id_bits > 64)
		return -EINVAL;
	bits = bits_for(config->slots);
	if (config->id_bits < bits + 2)
		return -EINVAL;
	t = fq_alloc_aligned(sizeof(*t) + config->slots * sizeof(t->slot[0]));
	if (!t)
		return -ENOMEM;
	t->queue = config->queue;
	t->slots = config->slots;
	t->slot_bits = bits;
	bits = config->id_bits - bits;
	t->generation_mask =
		(UINT64_C(1) << (bits < FQ_SLOT_GENERATION_BITS ? bits : FQ_SLOT_GENERATION_BITS)) -
		1;
	for (uint32_t i = 0; i < t->slots; i++)
		fq_store_rlx(&t->slot[i].word, UINT64_C(1) << FQ_SLOT_GENERATION_SHIFT);
	fq_queue_hold(t->queue);
	fq_debug_born(t);
	*out = t;
	return 0;
}

void fq_request_table_free(struct fq_request_table *t)
{
	fq_debug_dead(t);
	fq_queue_release(t->queue);
	free(t);
}

int fq_request_table_destroy(struct fq_request_table *t)
{
	if (!t)
		return 0;
	if (!fq_is_alive(t))
		return -EINVAL;
	if (fq_load_acq(&t->users)) /* K4 */
		return -EBUSY;
	fq_request_table_free(t);
	return 0;
}

void fq_request_enter(struct fq_request_table *t)
{
	fq_add_rlx(&t->users, 2);
}

void fq_request_leave(struct fq_request_table *t)
{
	struct fq_queue *q = t->queue;

	/* K4: the last touch of the table comes before this, unless nobody else is left */
	if (fq_add_acqrel(&t->users, (uint64_t)-2) != (2 | 1))
		return;
	/* The node lets go of the table's hold on the queue, while this may still be in its push. */
	fq_queue_hold(q);
	fq_queue_push(q, t->last_left);
	fq_queue_release(q);
}

bool fq_request_retire(struct fq_request_table *t)
{
	return !fq_add_acqrel(&t->users, 1); /* K4 */
}

void fq_request_get_stats(const struct fq_request_table *t, struct fq_request_stats *out)
{
	*out = (struct fq_request_stats){
		.submitted = fq_load_rlx(&t->submitted),
		.completed = fq_load_rlx(&t->completed),
		.oversized = fq_load_rlx(&t->oversized),
		.timed_out = fq_load_rlx(&t->timed_out),
		.cancelled = fq_load_rlx(&t->cancelled),
		.lost = fq_load_rlx(&t->lost),
		.refused_late = fq_load_rlx(&t->refused_late),
		.refused_forged = fq_load_rlx(&t->refused_forged),
		.exhausted = fq_load_rlx(&t->exhausted),
	};
}
