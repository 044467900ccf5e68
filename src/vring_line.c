/* SPDX-License-Identifier: MIT */
#include "vring_internal.h"

/*
 * The line: chains whose used elements are written later than they are put, and in which order. A
 * chain joins it when it is put into a stopped ring; with IN_ORDER all do, when they are popped.
 */

void fq_line_add(struct fq_vring *vr, uint16_t id)
{
	struct fq_line *line = &vr->line;

	if (line->count++)
		vr->heads[line->last].next = id;
	else
		line->first = id;
	line->last = id;
}

static bool first_is_put(const struct fq_vring *vr)
{
	return vr->line.count && vr->heads[vr->line.first].put_at == FQ_KEPT;
}

/*
 * A driver takes what a batch passes over for written to its end. (As long as can be is as good as
 * longer: there may be more of it than a length can say.)
 */
static bool may_be_passed_over(const struct fq_vring *vr, const struct fq_vring_head *head)
{
	return (vr->features & FQ_VRING_BATCH) && head->len == head->writable &&
	       head->writable != UINT32_MAX;
}

/* One element: for one chain, or a batch that ends where one may not be passed over. */
static void write_element(struct fq_vring *vr)
{
	struct fq_vring_head *head;
	uint32_t count = 0, descs = 0;
	uint16_t id;

	do {
		id = vr->line.first;
		head = &vr->heads[id];
		vr->line.first = head->next;
		vr->line.count--;
		count++;
		descs += head->descs;
		head->put_at = vr->used + count;
	} while (may_be_passed_over(vr, head) && first_is_put(vr));
	vr->ops->put(vr, id, head->len, descs);
	vr->used += count;
}

void fq_line_write(struct fq_vring *vr)
{
	while (first_is_put(vr))
		write_element(vr);
}
