/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>

#include "park.h"

/* In slot.state. */
#define SCHEDULED 1u
#define IDLE 2u

/* In slot.runs: the lower half, on which waiters sleep, counts runs on the stack; the upper, waiters. */
#define RUN UINT64_C(1)
#define WAITER (UINT64_C(1) << 32)

/*
 * The part of a call that posters change. It belongs to the queue and is used again for other calls;
 * what a late poster does to it then, setting bits above and telling that they are set, asks for a
 * look that finds nothing.
 *
 * States of `state`: none -> SCHEDULED, IDLE, both  (posters)
 *                    any  -> none                   (owner: a run begins; anybody: cancel)
 * Every change is a read-modify-write, also of a slot that changes hands, so each reads from the one
 * before it. Impossible: a bit that goes away otherwise; a bit in a slot without a call (but for a
 * host that schedules what it has ended).
 *
 * States of `runs`: + RUN, - RUN       (owner: around a run, and before its take of `state`)
 *                   + WAITER, - WAITER (fq_call_cancel_wait)
 * While there are waiters no callback begins. A free slot with either is not used again yet.
 */
struct fq_call_slot {
	alignas(FQ_CACHELINE) fq_a64 state;
	struct fq_relay relay;
	fq_a64 runs;
	struct fq_node node;  /* owner: on the ready list, or the list of free slots */
	struct fq_call *call; /* owner; NULL while free */
	bool ready;           /* owner: node is on the ready list */
	uint8_t index;        /* in its group */
};

_Static_assert(sizeof(struct fq_call_slot) == FQ_CACHELINE, "fenceq/call.h promises it");

struct fq_call_group {
	struct fq_source source;
	uint64_t idle; /* owner: a bit for each idle call that waits */
	struct fq_call_group *next;
	struct fq_call_slot slot[FQ_WORD_BITS];
};

/* The runs of this thread, innermost first. */
struct frame {
	struct frame *outer;
	const struct fq_call_slot *slot;
};

static __thread struct frame *frames;

static struct fq_call_group *group_of(struct fq_call_slot *slot)
{
	return fq_container_of(slot - slot->index, struct fq_call_group, slot[0]);
}

static uint64_t bit_of(const struct fq_call_slot *slot)
{
	return UINT64_C(1) << slot->index;
}

static struct fq_call_slot *slot_of(const struct fq_call *call)
{
	return call ? call->slot : NULL;
}

/* -- posters ----------------------------------------------------------------------------------- */

static void tell_owner(struct fq_call_slot *slot)
{
	struct fq_source *source = &group_of(slot)->source;
	uint64_t round;

	if (!fq_relay_untold(&slot->relay, &round))
		return;
	/* C2: release pairs with the acquire of C2 in collect */
	fq_or_acqrel(&source->dirty, bit_of(slot));
	fq_source_tell(source);
	fq_relay_tell(&slot->relay, round);
}

static int schedule(struct fq_call *call, uint64_t how)
{
	struct fq_call_slot *slot = slot_of(call);

	if (!slot)
		return -EINVAL;
	/*
	 * C1: pairs with C1 in visit and take. Also when the bit is there: the run that takes it must
	 * see what this thread wrote. The call may be gone from here on.
	 */
	fq_or_acqrel(&slot->state, how);
	tell_owner(slot);
	return 0;
}

int fq_call_schedule(struct fq_call *call)
{
	return schedule(call, SCHEDULED);
}

int fq_call_schedule_idle(struct fq_call *call)
{
	return schedule(call, IDLE);
}

/* What was scheduled, which is the caller's from here on. */
static uint64_t take(struct fq_call_slot *slot)
{
	return fq_xchg_acqrel(&slot->state, 0); /* C1 */
}

bool fq_call_cancel(struct fq_call *call)
{
	struct fq_call_slot *slot = slot_of(call);

	return slot && take(slot);
}

bool fq_call_pending(const struct fq_call *call)
{
	const struct fq_call_slot *slot = slot_of(call);

	return slot && fq_load_rlx(&slot->state);
}

static bool runs_on_this_stack(const struct fq_call_slot *slot)
{
	for (const struct frame *f = frames; f; f = f->outer) {
		if (f->slot == slot)
			return true;
	}
	return false;
}

static int wait_for_runs(struct fq_call_slot *slot, int64_t until)
{
	uint32_t running;
	int err = 0;

	while ((running = (uint32_t)fq_load_acq(&slot->runs))) { /* C3 */
		if (err)
			return err;
		err = fq_park_wait(&slot->runs, running, until);
	}
	return 0;
}

/* False while something runs. C4: the last touch; pairs with C4 in free_slot; acquire as C3. */
static bool stop_waiting(struct fq_call_slot *slot)
{
	uint64_t seen = fq_load_rlx(&slot->runs);

	while (!(uint32_t)seen) {
		if (fq_cas_acqrel(&slot->runs, &seen, seen - WAITER))
			return true;
	}
	return false;
}

/*
 * A run counts itself before it takes what was scheduled. If that take came before ours, we see the
 * run; if after, it has only what was scheduled in between, and sees that somebody waits: for we do
 * not go while a run is between its take and that look. Whoever schedules when we are gone is taken by
 * somebody who sees that we are.
 */
int fq_call_cancel_wait(struct fq_call *call, int64_t timeout_ns)
{
	struct fq_call_slot *slot = fq_is_alive(call) ? slot_of(call) : NULL;
	const int64_t until = fq_until(timeout_ns);
	int err;

	if (!slot)
		return -EINVAL;
	if (runs_on_this_stack(slot)) {
		(void)take(slot);
		return -EDEADLK;
	}
	fq_add_acqrel(&slot->runs, WAITER);
	(void)take(slot);
	do {
		err = wait_for_runs(slot, until);
		(void)take(slot);
	} while (!err && !stop_waiting(slot));
	if (err)
		fq_add_rel(&slot->runs, -WAITER); /* C4 */
	return err;
}

/* -- owner: runs ------------------------------------------------------------------------------- */

static void call_back(struct fq_call_slot *slot)
{
	struct frame frame = {.outer = frames, .slot = slot};

	frames = &frame;
	slot->call->run(slot->call);
	frames = frame.outer;
}

/* False when there was nothing to run, or somebody waits for there to be nothing. */
static bool run(struct fq_call_slot *slot)
{
	uint64_t runs, pending;

	fq_add_acqrel(&slot->runs, RUN);
	pending = take(slot);
	if (fq_load_rlx(&slot->runs) >= WAITER)
		pending = 0;
	if (pending)
		call_back(slot);
	/* C3: what the callback did comes before this */
	runs = fq_add_acqrel(&slot->runs, -RUN) - RUN;
	if (runs >= WAITER)
		fq_park_wake(&slot->runs);
	return pending & SCHEDULED;
}

static void add_idle(struct fq_call_slot *slot)
{
	struct fq_call_group *group = group_of(slot);

	if (group->idle & bit_of(slot))
		return;
	group->idle |= bit_of(slot);
	group->source.queue->calls.idle++;
}

static void remove_idle(struct fq_call_slot *slot)
{
	struct fq_call_group *group = group_of(slot);
	struct fq_calls *calls = &group->source.queue->calls;

	if (!(group->idle & bit_of(slot)))
		return;
	group->idle &= ~bit_of(slot);
	if (!--calls->idle)
		(void)fq_deadline_cancel(&calls->idle_until);
}

static void sort_in(struct fq_call_slot *slot, uint64_t state)
{
	if (!slot->call || !state)
		return;
	if (!(state & SCHEDULED)) {
		add_idle(slot);
		return;
	}
	remove_idle(slot);
	if (slot->ready)
		return;
	slot->ready = true;
	fq_queue_ready(group_of(slot)->source.queue, &slot->node);
}

static void visit(struct fq_call_slot *slot)
{
	fq_relay_begin(&slot->relay);
	/* C1: changes nothing; whose schedule comes later finds the new round, others are seen here */
	sort_in(slot, fq_add_acqrel(&slot->state, 0));
}

static void collect(struct fq_source *source)
{
	struct fq_call_group *group = fq_container_of(source, struct fq_call_group, source);
	uint64_t slots;

	fq_relay_begin(&source->relay);
	slots = fq_xchg_acqrel(&source->dirty, 0); /* C2 */
	for (; slots; slots &= slots - 1)
		visit(&group->slot[__builtin_ctzll(slots)]);
}

static void run_ready(struct fq_node *node)
{
	struct fq_call_slot *slot = fq_container_of(node, struct fq_call_slot, node);
	struct fq_queue *q = group_of(slot)->source.queue;
	const uint64_t state = fq_load_rlx(&slot->state);

	slot->ready = false;
	/* Cancelled, and perhaps idle now. */
	if (!(state & SCHEDULED)) {
		sort_in(slot, state);
		fq_queue_refund(q);
	} else if (!run(slot)) {
		fq_queue_refund(q);
	}
}

/* -- owner: idle calls ------------------------------------------------------------------------- */

/* What is idle now, each once. Not inside itself: nested drains would never find an end. */
static void run_idle_of(struct fq_call_group *group)
{
	for (uint64_t idle = group->idle; idle; idle &= idle - 1) {
		struct fq_call_slot *slot = &group->slot[__builtin_ctzll(idle)];

		if (!(group->idle & bit_of(slot)) || (uint32_t)fq_load_rlx(&slot->runs))
			continue;
		remove_idle(slot);
		(void)run(slot);
	}
}

void fq_calls_run_idle(struct fq_queue *q)
{
	for (struct fq_call_group *group = q->calls.groups; group; group = group->next)
		run_idle_of(group);
}

static void idle_for_long(struct fq_deadline *deadline)
{
	fq_calls_run_idle(fq_container_of(deadline, struct fq_queue, calls.idle_until));
}

void fq_calls_idle_wait(struct fq_queue *q)
{
	if (q->calls.idle && !q->calls.idle_until.at_ns)
		(void)fq_deadline_set(q, &q->calls.idle_until, FQ_CALL_IDLE_NS);
}

/* -- owner: life ------------------------------------------------------------------------------- */

static void put_free(struct fq_calls *calls, struct fq_call_slot *slot)
{
	slot->call = NULL;
	slot->node.next = calls->free ? &calls->free->node : NULL;
	calls->free = slot;
}

static int add_group(struct fq_queue *q)
{
	struct fq_call_group *group = fq_alloc_aligned(sizeof(*group));

	if (!group)
		return -ENOMEM;
	for (unsigned i = FQ_WORD_BITS; i--;) {
		struct fq_call_slot *slot = &group->slot[i];

		slot->index = (uint8_t)i;
		slot->node.run = run_ready;
		fq_relay_begin(&slot->relay);
		put_free(&q->calls, slot);
	}
	group->source.collect = collect;
	group->next = q->calls.groups;
	q->calls.groups = group;
	q->calls.group_count++;
	q->calls.idle_until.run = idle_for_long;
	fq_queue_attach(q, &group->source);
	return 0;
}

/* The first that is not on the stack, where its run may be of a call that has ended in it. */
static struct fq_call_slot *free_slot(struct fq_calls *calls)
{
	struct fq_call_slot *before = NULL, *slot = calls->free;

	while (slot) {
		struct fq_node *next = slot->node.next;
		struct fq_call_slot *after =
			next ? fq_container_of(next, struct fq_call_slot, node) : NULL;

		if (!fq_load_acq(&slot->runs)) { /* C4 */
			if (before)
				before->node.next = next;
			else
				calls->free = after;
			return slot;
		}
		before = slot;
		slot = after;
	}
	return NULL;
}

int fq_call_init(struct fq_call *call, struct fq_queue *q, fq_call_fn *fn)
{
	struct fq_call_slot *slot;
	int err = 0;

	if (!call || !fq_is_alive(q) || !fn)
		return -EINVAL;
	slot = free_slot(&q->calls);
	if (!slot) {
		err = add_group(q);
		slot = err ? NULL : free_slot(&q->calls);
	}
	if (!slot)
		return err;
	*call = (struct fq_call){.run = fn, .slot = slot};
	slot->call = call;
	q->calls.live++;
	fq_debug_born(call);
	return 0;
}

static bool is_node(struct fq_node *node, void *slot)
{
	return node == &((struct fq_call_slot *)slot)->node;
}

int fq_call_fini(struct fq_call *call)
{
	struct fq_call_slot *slot = fq_is_alive(call) ? slot_of(call) : NULL;
	struct fq_queue *q;

	if (!slot)
		return -EINVAL;
	fq_debug_dead(call);
	q = group_of(slot)->source.queue;
	(void)take(slot);
	remove_idle(slot);
	if (slot->ready) {
		slot->ready = false;
		fq_queue_forget(q, is_node, slot);
	}
	put_free(&q->calls, slot);
	q->calls.live--;
	call->slot = NULL;
	return 0;
}

void fq_calls_free(struct fq_queue *q)
{
	struct fq_call_group *group;

	while ((group = q->calls.groups)) {
		q->calls.groups = group->next;
		free(group);
	}
}

/* Who waited is not here. */
void fq_calls_after_fork_child(struct fq_queue *q)
{
	for (struct fq_call_group *group = q->calls.groups; group; group = group->next) {
		for (unsigned i = 0; i < FQ_WORD_BITS; i++) {
			fq_a64 *runs = &group->slot[i].runs;

			fq_store_rlx(runs, (uint32_t)fq_load_rlx(runs));
		}
	}
}
