/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>

#include "internal.h"

/* Fences a timeline may retire before the next one has its turn. */
#define TURN 16

/* The base of a timeline that its context's present life has not used. */
#define NEVER_OPENED UINT64_MAX

/* -- posters ----------------------------------------------------------------------------------- */

/* Climbs from the mark to the queue, as far as nobody else has done so for this round. */
static void tell_owner(struct fq_timeline *tl)
{
	struct fq_bank *bank = tl->bank;
	uint64_t round, bank_round;

	if (!fq_relay_untold(&tl->relay, &round))
		return;
	/* T2: release pairs with the acquire of T2 in collect_bank */
	fq_or_acqrel(&bank->dirty, UINT64_C(1) << tl->ring);
	if (fq_relay_untold(&bank->relay, &bank_round)) {
		/* T3: release pairs with the acquire of T3 in fq_bank_group_collect */
		fq_or_acqrel(&bank->source->dirty, UINT64_C(1) << bank->slot);
		fq_source_tell(bank->source);
		fq_relay_tell(&bank->relay, bank_round);
	}
	fq_relay_tell(&tl->relay, round);
}

static int refuse(fq_a64 *counter, int err)
{
	fq_count(counter);
	return err;
}

static int refuse_closed(struct fq_timeline *tl)
{
	if (fq_load_rlx(&tl->base) == NEVER_OPENED)
		return refuse(&tl->sink->refused_unknown, -ENOENT);
	return refuse(&tl->sink->refused_stale, -ESTALE);
}

int fq_timeline_signal(struct fq_timeline *tl, uint64_t token)
{
	uint64_t mark;

	if (!tl)
		return -EINVAL;
	if (!token)
		return refuse(&tl->sink->refused_invalid, -EINVAL);
	mark = fq_load_acq(&tl->mark); /* T1, T4: pairs with fq_timeline_open */
	do {
		if (mark & FQ_MARK_CLOSED)
			return refuse_closed(tl);
		if (token <= mark >> FQ_MARK_SHIFT) {
			if (token <= fq_load_rlx(&tl->base))
				return refuse(&tl->sink->refused_stale, -ESTALE);
			break; /* covered, but perhaps by a poster that has not told the owner */
		}
		if (token > fq_load_rlx(&tl->submitted))
			return refuse(&tl->sink->refused_range, -ERANGE);
		/* T1: release pairs with the acquire of T1 in visit */
	} while (!fq_cas_acqrel(&tl->mark, &mark, token << FQ_MARK_SHIFT));
	tell_owner(tl);
	return 0;
}

/* -- owner: from the queue down to the mark ---------------------------------------------------- */

static bool retirable(const struct fq_timeline *tl)
{
	return tl->first && tl->first->token <= tl->limit && !tl->sink->frozen;
}

static void make_ready_if_due(struct fq_timeline *tl)
{
	if (tl->ready || !retirable(tl))
		return;
	tl->ready = true;
	fq_queue_ready(tl->sink->queue, &tl->node);
}

static void visit(struct fq_timeline *tl)
{
	fq_relay_begin(&tl->relay);
	/*
	 * T1: a read-modify-write that changes nothing. A poster whose own comes later finds the
	 * new round; one whose own came earlier is seen here.
	 */
	tl->limit = fq_add_acqrel(&tl->mark, 0) >> FQ_MARK_SHIFT;
	make_ready_if_due(tl);
}

static void collect_bank(struct fq_bank *bank)
{
	uint64_t rings;

	fq_relay_begin(&bank->relay);
	rings = fq_xchg_acqrel(&bank->dirty, 0); /* T2 */
	for (; rings; rings &= rings - 1)
		visit(fq_ptr_load_rlx(&bank->ring[__builtin_ctzll(rings)]));
}

void fq_bank_group_collect(struct fq_source *source)
{
	struct fq_bank_group *group = fq_container_of(source, struct fq_bank_group, source);
	uint64_t banks;

	fq_relay_begin(&source->relay);
	banks = fq_xchg_acqrel(&source->dirty, 0); /* T3 */
	for (; banks; banks &= banks - 1)
		collect_bank(group->bank[__builtin_ctzll(banks)]);
}

static void retire_first(struct fq_timeline *tl)
{
	struct fq_fence *fence = tl->first;

	tl->first = fence->next;
	if (!tl->first)
		tl->last = &tl->first;
	tl->pending--;
	fence->timeline = NULL;
	fq_sink_retire(tl->sink, fence);
}

struct turn {
	struct fq_turn base;
	struct fq_timeline *tl;
};

static void resume(struct fq_turn *base)
{
	make_ready_if_due(fq_container_of(base, struct turn, base)->tl);
}

static void run_turn(struct fq_node *node)
{
	struct fq_timeline *tl = fq_container_of(node, struct fq_timeline, node);
	struct fq_queue *q = tl->sink->queue;
	struct turn turn = {.base = {.outer = q->turn, .resume = resume}, .tl = tl};
	unsigned n = 0;

	tl->ready = false;
	fq_queue_refund(q);
	q->turn = &turn.base;
	while (retirable(tl) && n++ < TURN && fq_queue_spend(q))
		retire_first(tl);
	q->turn = turn.base.outer;
	make_ready_if_due(tl);
}

bool fq_timeline_owns(struct fq_node *node, void *sink)
{
	return node->run == run_turn &&
	       fq_container_of(node, struct fq_timeline, node)->sink == sink;
}

/* -- owner: life ------------------------------------------------------------------------------- */

struct fq_timeline *fq_timeline_create(struct fq_bank *bank, uint8_t ring, struct fq_sink *sink)
{
	struct fq_timeline *tl = fq_alloc_aligned(sizeof(*tl));

	if (!tl)
		return NULL;
	tl->bank = bank;
	tl->ring = ring;
	tl->sink = sink;
	tl->node.run = run_turn;
	tl->last = &tl->first;
	fq_relay_begin(&tl->relay);
	fq_store_rlx(&tl->base, NEVER_OPENED);
	fq_store_rlx(&tl->mark, FQ_MARK_CLOSED);
	return tl;
}

void fq_timeline_open(struct fq_timeline *tl, uint64_t base)
{
	fq_timeline_restore(tl, base, base, base);
}

void fq_timeline_restore(struct fq_timeline *tl, uint64_t base, uint64_t mark, uint64_t submitted)
{
	fq_store_rlx(&tl->base, base);
	fq_store_rlx(&tl->submitted, submitted);
	tl->limit = mark;
	/* T4: the base is there for whoever sees this life's mark. Closed, so no poster writes it. */
	fq_store_rel(&tl->mark, mark << FQ_MARK_SHIFT);
}

bool fq_timeline_was_opened(const struct fq_timeline *tl)
{
	return fq_load_rlx(&tl->base) != NEVER_OPENED;
}

bool fq_timeline_is_open(const struct fq_timeline *tl)
{
	return !(fq_load_rlx(&tl->mark) & FQ_MARK_CLOSED);
}

void fq_timeline_append(struct fq_timeline *tl, struct fq_fence *fence, uint64_t token)
{
	fence->token = token;
	fence->status = 0;
	fence->epoch = tl->sink->epoch;
	tl->sink->epoch_pending++;
	fence->timeline = tl;
	fence->next = NULL;
	*tl->last = fence;
	tl->last = &fence->next;
	tl->pending++;
	/* Relaxed: whoever has the token got it from this thread, by whatever handed it over. */
	fq_store_rlx(&tl->submitted, token);
}

uint64_t fq_timeline_close(struct fq_timeline *tl, int status)
{
	uint64_t base = fq_load_rlx(&tl->base);

	fq_or_acqrel(&tl->mark, FQ_MARK_CLOSED); /* T1: no poster changes the word from here on */
	tl->limit = fq_load_acq(&tl->mark) >> FQ_MARK_SHIFT;
	tl->failed = fq_load_rlx(&tl->submitted);
	/* What is left of an earlier life has its status. */
	for (struct fq_fence *f = tl->first; f; f = f->next) {
		if (f->token > tl->limit && f->token > base)
			f->status = status;
	}
	return tl->failed;
}

void fq_timeline_forget(struct fq_timeline *tl)
{
	fq_store_rlx(&tl->base, NEVER_OPENED);
}

void fq_timeline_fail(struct fq_timeline *tl)
{
	while (tl->first && tl->first->token <= tl->failed)
		retire_first(tl);
}

void fq_timeline_thaw(struct fq_timeline *tl)
{
	make_ready_if_due(tl);
}

uint64_t fq_timeline_pending(const struct fq_timeline *tl)
{
	return tl->pending;
}

uint64_t fq_timeline_token(const struct fq_timeline *tl)
{
	uint64_t submitted = fq_load_rlx(&tl->submitted);

	return submitted == fq_load_rlx(&tl->base) ? 0 : submitted;
}
