/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

void *fq_alloc_aligned(size_t size)
{
	size_t rounded = (size + FQ_CACHELINE - 1) & ~(size_t)(FQ_CACHELINE - 1);
	void *p = aligned_alloc(FQ_CACHELINE, rounded);

	return p ? memset(p, 0, rounded) : NULL;
}

int fq_queue_create(struct fq_queue **out, unsigned flags)
{
	struct fq_queue *q;
	int err;

	if (!out || (flags & ~(FQ_QUEUE_HOOKS | FQ_QUEUE_PIPE | FQ_QUEUE_EPOLL)))
		return -EINVAL;
	q = fq_alloc_aligned(sizeof(*q));
	if (!q)
		return -ENOMEM;
	err = fq_notifier_init(&q->notifier, flags & FQ_QUEUE_PIPE ? FQ_NOTIFIER_PIPE : 0);
	q->epoll_fd = q->timer_fd = -1;
	if (!err && (flags & FQ_QUEUE_EPOLL)) {
		err = fq_mux_open(q);
		if (err)
			fq_notifier_fini(&q->notifier);
	}
	if (err) {
		free(q);
		return err;
	}
	q->ready_last = &q->ready_first;
	q->flush_last = &q->flush_first;
	q->hooks = flags & FQ_QUEUE_HOOKS;
	fq_queue_set_owner(q);
	if (!q->hooks) {
		q->sleepers = 1; /* somebody polls the fd, whenever no drain runs */
		fq_relay_begin(&q->wake);
		fq_ptr_store_rel(&q->head, (void *)(uintptr_t)FQ_ARMED);
		fq_store_rel(&q->dirty, FQ_ARMED);
	}
	fq_debug_born(q);
	*out = q;
	return 0;
}

static bool has_armed_tag(const void *head)
{
	return (uintptr_t)head & FQ_ARMED;
}

static struct fq_node *untagged(void *head)
{
	return (struct fq_node *)((uintptr_t)head & ~(uintptr_t)FQ_ARMED);
}

int fq_queue_destroy(struct fq_queue *q)
{
	if (!q)
		return 0;
	if (!fq_is_alive(q))
		return -EINVAL;
	/* A late poster may have left the bit of a source that is gone; it means nothing any more. */
	if (q->attached != q->calls.group_count || q->calls.live || q->depth ||
	    fq_load_acq(&q->held) || /* U1 */
	    q->ready_first || untagged(fq_ptr_load_rlx(&q->head)))
		return -EBUSY;
	fq_debug_dead(q);
	fq_calls_free(q);
	fq_mux_close(q);
	fq_notifier_fini(&q->notifier);
	free(q);
	return 0;
}

int fq_queue_fd(const struct fq_queue *q)
{
	return q->epoll_fd >= 0 ? q->epoll_fd : q->notifier.rfd;
}

void fq_queue_set_owner(struct fq_queue *q)
{
	fq_ptr_store_rel(&q->owner, fq_thread_self());
}

bool fq_queue_is_owner(const struct fq_queue *q)
{
	return fq_ptr_load_rlx(&q->owner) == fq_thread_self();
}

/* -- posters ----------------------------------------------------------------------------------- */

/* Called by a poster that saw the armed mark in its own post. */
static void wake(struct fq_queue *q)
{
	uint64_t round;

	if (!fq_relay_untold(&q->wake, &round))
		return;
	fq_count(&q->notifier_writes);
	fq_notifier_signal(&q->notifier);
	fq_relay_tell(&q->wake, round);
}

static void push(struct fq_queue *q, struct fq_node *top, struct fq_node *bottom)
{
	void *old = fq_ptr_load_rlx(&q->head);
	void *new;

	do {
		bottom->next = untagged(old);
		new = (void *)((uintptr_t)top | has_armed_tag(old));
		/* Q1: release pairs with the acquire of Q1 in collect; acquire with Q2 in arm */
	} while (!fq_ptr_cas_acqrel(&q->head, &old, new));
	if (has_armed_tag(old))
		wake(q);
}

void fq_queue_push(struct fq_queue *q, struct fq_node *node)
{
	push(q, node, node);
}

static struct fq_node *reversed(struct fq_node *node)
{
	struct fq_node *top = NULL;

	while (node) {
		struct fq_node *next = node->next;

		node->next = top;
		top = node;
		node = next;
	}
	return top;
}

void fq_queue_push_batch(struct fq_queue *q, struct fq_node *first)
{
	if (first)
		push(q, reversed(first), first);
}

void fq_source_tell(struct fq_source *source)
{
	struct fq_queue *q = source->queue;
	uint64_t round;

	if (!fq_relay_untold(&source->relay, &round))
		return;
	/* Q3: release pairs with the acquire of Q3 in collect; acquire with Q4 in arm */
	fq_or_acqrel(&q->dirty, source->bit);
	/*
	 * The same word again, so at least as new as the line above left it: if it was armed there
	 * and is not here, the owner has taken the bit in between.
	 */
	if (fq_load_acq(&q->dirty) & FQ_ARMED) /* Q4 */
		wake(q);
	fq_relay_tell(&source->relay, round);
}

/* -- owner: what is ready ---------------------------------------------------------------------- */

static struct fq_node *take_ready(struct fq_queue *q)
{
	struct fq_node *node = q->ready_first;

	if (node) {
		q->ready_first = node->next;
		if (!q->ready_first)
			q->ready_last = &q->ready_first;
	}
	return node;
}

void fq_queue_forget(struct fq_queue *q, bool (*match)(struct fq_node *, void *), void *arg)
{
	struct fq_node **link = &q->ready_first;

	while (*link) {
		if (match(*link, arg))
			*link = (*link)->next;
		else
			link = &(*link)->next;
	}
	q->ready_last = link;
}

/* Takes all that was posted to the ready list. True when the queue was armed until now. */
static bool collect(struct fq_queue *q)
{
	void *head = fq_ptr_xchg_acqrel(&q->head, NULL); /* Q1 */
	uint64_t dirty = fq_xchg_acqrel(&q->dirty, 0);   /* Q3 */
	struct fq_node *last = untagged(head);

	if (last) {
		*q->ready_last = reversed(last);
		q->ready_last = &last->next;
	}
	for (uint64_t bits = dirty & ~(uint64_t)FQ_ARMED; bits; bits &= bits - 1) {
		struct fq_source *s = q->sources[__builtin_ctzll(bits) - 1];

		for (; s; s = s->next)
			s->collect(s);
	}
	return has_armed_tag(head) || (dirty & FQ_ARMED);
}

static bool posted(const struct fq_queue *q)
{
	return untagged(fq_ptr_load_rlx(&q->head)) ||
	       (fq_load_rlx(&q->dirty) & ~(uint64_t)FQ_ARMED);
}

bool fq_queue_pending(const struct fq_queue *q)
{
	return q->ready_first || posted(q);
}

/* Only with an empty ready list. False when something was posted; half an arm does no harm. */
static bool arm(struct fq_queue *q)
{
	void *head = NULL;
	uint64_t dirty = 0;

	if (posted(q))
		return false;
	/* The number of the arm comes before the mark: a poster that sees the mark sees it. */
	fq_relay_begin(&q->wake);
	if (!fq_ptr_cas_acqrel(&q->head, &head, (void *)(uintptr_t)FQ_ARMED) && /* Q2 */
	    head != (void *)(uintptr_t)FQ_ARMED)
		return false;
	return fq_cas_acqrel(&q->dirty, &dirty, FQ_ARMED) || dirty == FQ_ARMED; /* Q4 */
}

static void clear_fd(struct fq_queue *q)
{
	q->kicked = false;
	if (fq_notifier_clear(&q->notifier))
		fq_count_owner(&q->notifier_clears, 1);
}

static void kick(struct fq_queue *q)
{
	if (q->kicked)
		return;
	q->kicked = true;
	fq_count(&q->notifier_writes);
	fq_notifier_signal(&q->notifier);
}

static bool is_armed(const struct fq_queue *q)
{
	return has_armed_tag(fq_ptr_load_rlx(&q->head)) || (fq_load_rlx(&q->dirty) & FQ_ARMED);
}

/*
 * A handler may sleep on the fd, in a loop of its own; so while somebody may be asleep the fd is
 * readable for as long as handlers run, or armed. It costs nothing: the write that began the drain
 * is left where it is until the end. told: nobody has cleared the fd since this arm.
 */
static void take_posted(struct fq_queue *q)
{
	bool was_armed = collect(q);

	if (!q->sleepers || !q->ready_first)
		return;
	if (was_armed && fq_load_acq(&q->wake.told) == fq_load_rlx(&q->wake.round)) /* R2 */
		q->kicked = true;
	else
		kick(q);
}

/* -- owner: drain ------------------------------------------------------------------------------ */

static void run_ready(struct fq_queue *q)
{
	for (;;) {
		struct fq_node *node;

		if (!q->ready_first && posted(q))
			take_posted(q);
		if (!q->ready_first || !fq_queue_spend(q))
			return;
		node = take_ready(q);
		node->run(node);
	}
}

static void flush_now(struct fq_queue *q)
{
	struct fq_later *flush;

	while ((flush = q->flush_first)) {
		q->flush_first = flush->next;
		if (!q->flush_first)
			q->flush_last = &q->flush_first;
		flush->listed = false;
		flush->run(flush);
	}
}

void fq_queue_bury_later(struct fq_queue *q, struct fq_later *burial)
{
	burial->next = q->burials;
	q->burials = burial;
}

void fq_queue_enter(struct fq_queue *q)
{
	q->depth++;
}

static void leave(struct fq_queue *q)
{
	while (q->depth == 1 && q->burials) {
		struct fq_later *burial = q->burials;

		q->burials = burial->next;
		burial->run(burial);
	}
	/* A callback may have thawed a device where no drain comes by on its own. */
	if (!--q->depth)
		fq_queue_wake_owner(q);
}

void fq_queue_leave(struct fq_queue *q)
{
	/* Inside a drain, the drain sees to it. */
	if (q->depth == 1)
		flush_now(q);
	leave(q);
}

void fq_queue_wake_owner(struct fq_queue *q)
{
	if (q->ready_first && q->sleepers)
		kick(q);
}

void fq_queue_wake_sleepers(struct fq_queue *q)
{
	if (q->hooks && q->sleepers)
		kick(q);
}

void fq_queue_hold(struct fq_queue *q)
{
	fq_add_rlx(&q->held, 1);
}

void fq_queue_release(struct fq_queue *q)
{
	fq_add_rel(&q->held, (uint64_t)-1); /* U1: the last touch of the queue */
}

/*
 * Nothing is left: clears the fd, unless that has been done, and arms. False when something was posted.
 * A write for the last arm may be cleared only together with what it was for.
 */
static bool settle(struct fq_queue *q, bool *clear)
{
	if (*clear) {
		if (is_armed(q))
			take_posted(q);
		if (q->ready_first)
			return false;
		clear_fd(q);
		/* Once: against a flood, a spurious wake-up is cheaper than a read for each try. */
		*clear = false;
	}
	return arm(q);
}

/* All there is, as far as the budget goes. True when it ended armed. */
static bool run_all(struct fq_queue *q, unsigned budget, bool busy, bool clear)
{
	for (;;) {
		run_ready(q);
		if (!busy && q->left == budget && q->calls.idle && !fq_queue_pending(q)) {
			busy = true;
			fq_calls_run_idle(q);
			continue;
		}
		if (!q->sleepers || q->ready_first)
			return false;
		if (settle(q, &clear))
			return true;
		if (!q->left)
			return false;
	}
}

/*
 * While somebody may be asleep a drain ends armed, or with the fd readable. It arms before it
 * flushes, so that it need not flush twice when something is posted at the last moment.
 */
static unsigned drain(struct fq_queue *q, unsigned budget, bool busy, bool clear)
{
	unsigned outer = q->left;
	bool armed;
	unsigned done;

	q->left = budget;
	q->depth++;
	for (struct fq_turn *turn = q->turn; turn; turn = turn->outer)
		turn->resume(turn);
	if (fq_deadlines_run(q))
		busy = true;
	armed = run_all(q, budget, busy, clear);
	done = budget - q->left;
	if (!armed && !q->left && fq_queue_pending(q)) {
		fq_count_owner(&q->budget_stops, 1);
		if (q->sleepers)
			kick(q);
	}
	flush_now(q);
	fq_calls_idle_wait(q);
	q->left = outer;
	fq_count_owner(&q->drains, 1);
	if (done)
		fq_count_owner(&q->completions, done);
	else
		fq_count_owner(&q->empty_drains, 1);
	leave(q);
	return done;
}

unsigned fq_queue_drain(struct fq_queue *q, unsigned budget)
{
	unsigned done;
	bool busy;

	if (!fq_is_alive(q))
		return 0;
	if (!q->sleepers) {
		if (collect(q) || q->kicked)
			clear_fd(q);
	} else if (posted(q)) {
		take_posted(q); /* now, to share this budget with what the last one left */
	}
	fq_queue_enter(q);
	busy = q->watches && fq_watches_run(q);
	done = drain(q, budget, busy, true);
	leave(q);
	return done;
}

unsigned fq_queue_poll(struct fq_queue *q, unsigned budget)
{
	if (!fq_is_alive(q))
		return 0;
	if (!fq_queue_pending(q) && !q->deadlines && !q->timer_at_ns) {
		fq_count_owner(&q->drains, 1);
		fq_count_owner(&q->empty_drains, 1);
		return 0;
	}
	return drain(q, budget, false, false);
}

/* -- owner: sleep ------------------------------------------------------------------------------ */

bool fq_queue_prepare(struct fq_queue *q, struct fq_waiter *w)
{
	fq_calls_idle_wait(q);
	if (q->ready_first || (q->deadlines && !fq_queue_timeout(q)) || !arm(q))
		return false;
	if (!w->asleep) {
		w->asleep = true;
		q->sleepers++;
	}
	return true;
}

void fq_queue_check(struct fq_queue *q, struct fq_waiter *w)
{
	if (!w->asleep)
		return;
	w->asleep = false;
	/* Another sleeper relies on the arm: the drain that follows will renew it. */
	if (--q->sleepers)
		return;
	collect(q);
	clear_fd(q);
}

/* 1 when the fd is readable, or a deadline is due. */
static int wait_for_fd(struct fq_queue *q, int64_t timeout_ns)
{
	const struct fq_notifier fd = {.rfd = fq_queue_fd(q), .wfd = -1};
	int64_t deadline_ns = fq_queue_timeout(q);
	int got;

	if (deadline_ns < 0 || (timeout_ns >= 0 && timeout_ns < deadline_ns))
		return fq_notifier_wait(&fd, timeout_ns);
	got = fq_notifier_wait(&fd, deadline_ns);
	return got ? got : 1;
}

int fq_queue_wait(struct fq_queue *q, int64_t timeout_ns)
{
	struct fq_waiter w = {false};
	int got;

	if (!q->hooks)
		return wait_for_fd(q, timeout_ns);
	if (!fq_queue_prepare(q, &w))
		return 1;
	got = wait_for_fd(q, timeout_ns);
	fq_queue_check(q, &w);
	return got;
}

/* -- owner: sources ---------------------------------------------------------------------------- */

void fq_queue_attach(struct fq_queue *q, struct fq_source *source)
{
	unsigned slot = q->next_slot++ % FQ_DIRTY_BITS;

	fq_relay_begin(&source->relay);
	source->queue = q;
	source->bit = UINT64_C(2) << slot;
	source->next = q->sources[slot];
	q->sources[slot] = source;
	q->attached++;
}

void fq_queue_detach(struct fq_queue *q, struct fq_source *source)
{
	struct fq_source **link = &q->sources[__builtin_ctzll(source->bit) - 1];

	while (*link != source)
		link = &(*link)->next;
	*link = source->next;
	q->attached--;
}

/* -- fork -------------------------------------------------------------------------------------- */

static int renew_fd(struct fq_queue *q)
{
	int err = fq_notifier_after_fork_child(&q->notifier);

	return err || q->epoll_fd < 0 ? err : fq_mux_after_fork_child(q);
}

int fq_queue_after_fork_child(struct fq_queue *q)
{
	int err = q ? renew_fd(q) : -EINVAL;

	if (err)
		return err;
	fq_calls_after_fork_child(q);
	/* What was written, or was about to be, was the parent's: be woken, and look. */
	q->kicked = false;
	kick(q);
	return 0;
}

void fq_queue_get_stats(const struct fq_queue *q, struct fq_queue_stats *out)
{
	*out = (struct fq_queue_stats){
		.completions = fq_load_rlx(&q->completions),
		.drains = fq_load_rlx(&q->drains),
		.empty_drains = fq_load_rlx(&q->empty_drains),
		.budget_stops = fq_load_rlx(&q->budget_stops),
		.arms = fq_load_rlx(&q->wake.round),
		.notifier_writes = fq_load_rlx(&q->notifier_writes),
		.notifier_clears = fq_load_rlx(&q->notifier_clears),
	};
}
