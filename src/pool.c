/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <unistd.h>

#include "park.h"
#include "pool_internal.h"

/*
 * The lower half of a work's word is its state, the upper half what `done` will be told.
 *
 *   over      -> queued     (submitter)
 *   queued    -> running    (worker)                these two decide, by one CAS of the same word,
 *   queued    -> cancelled  (canceller, steward)    between a start and a cancel
 *   cancelled -> half       (under the lock)
 *   running, cancelled, half -> finished  (who completes it, on no list any more)
 *   finished  -> over       (owner, before `done`)
 *   queued    -> over       (submitter that is refused)
 * Impossible: running -> cancelled; half -> running; a submit of anything but over.
 *
 * A cancelled work comes to the lock on two ways: by the inbox or the ready list, and from the
 * canceller. Its memory may go only after both; the first of the two leaves it as `half`, unless it
 * can take it off the other's list.
 */
enum {
	OVER,
	QUEUED,
	RUNNING,
	CANCELLED,
	HALF,
	FINISHED,
};

/* Tags of the inbox: who is to be told of a push. */
#define TELL_WORKER 1u
#define TELL_STEWARD 2u
#define CLOSED 4u
#define TAGS 7u

_Static_assert(_Alignof(struct fq_work) > TAGS, "room for the tags");

static __thread const struct fq_pool *worker_of;

static fq_a64 *word_of(struct fq_work *work)
{
	return fq_atomic(&work->word);
}

static unsigned tags_of(const void *head)
{
	return (unsigned)((uintptr_t)head & TAGS);
}

static struct fq_work *untagged(void *head)
{
	return (struct fq_work *)((uintptr_t)head & ~(uintptr_t)TAGS);
}

bool fq_pool_is_own_worker(const struct fq_pool *pool)
{
	return worker_of == pool;
}

/* -- bells ------------------------------------------------------------------------------------- */

/* The last access to the bell; the wake-up goes by its address alone. */
void fq_pool_knock(struct fq_bell *bell)
{
	fq_add_rel(&bell->turn, 1); /* P3: pairs with those who are about to sleep */
	fq_park_wake(&bell->turn);
}

static void knock_one(struct fq_bell *bell)
{
	fq_add_rel(&bell->turn, 1); /* P3 */
	fq_park_wake_one(&bell->turn);
}

/* Any thread, after a change of what the sleepers look at. */
static void ring(struct fq_bell *bell)
{
	uint64_t round;

	if (!fq_relay_untold(&bell->relay, &round))
		return;
	knock_one(bell);
	fq_relay_tell(&bell->relay, round);
}

/* -- any thread -------------------------------------------------------------------------------- */

static bool post(struct fq_pool *pool, struct fq_work *work)
{
	void *old = fq_ptr_load_rlx(&pool->inbox);

	do {
		if (tags_of(old) & CLOSED)
			return false;
		work->next = untagged(old);
		/* P1: release pairs with the acquire of P1 in collect; acquire with its release */
	} while (!fq_ptr_cas_acqrel(&pool->inbox, &old, (void *)((uintptr_t)work | tags_of(old))));
	fq_count(&pool->submitted);
	if (tags_of(old) & TELL_WORKER)
		ring(&pool->idlers);
	else if (tags_of(old) & TELL_STEWARD)
		ring(&pool->steward_bell);
	return true;
}

int fq_pool_submit(struct fq_pool *pool, struct fq_work *work)
{
	struct fq_queue *q = work ? work->queue : NULL;
	uint64_t seen = OVER;

	if (!pool || !q || !work->run || !work->done)
		return -EINVAL;
	if (fq_load_acq(&pool->stopped)) /* P4 */
		return -ESHUTDOWN;
	if (!fq_cas_acqrel(word_of(work), &seen, QUEUED))
		return -EBUSY;
	fq_queue_hold(q);
	if (post(pool, work))
		return 0;
	fq_store_rel(word_of(work), OVER);
	fq_queue_release(q);
	return -ESHUTDOWN;
}

int fq_pool_cancel(struct fq_pool *pool, struct fq_work *work)
{
	void *old = pool ? fq_ptr_load_rlx(&pool->cancelled) : NULL;
	uint64_t seen = QUEUED;

	if (!pool || !work)
		return -EINVAL;
	if (!fq_cas_acqrel(word_of(work), &seen, CANCELLED))
		return seen == RUNNING ? -EBUSY : -EALREADY;
	do {
		work->node.next = old;
		/* P2: release pairs with the acquire in fq_pool_take_cancelled; and as P1 */
	} while (!fq_ptr_cas_acqrel(&pool->cancelled, &old, &work->node));
	ring(&pool->steward_bell);
	return 0;
}

int fq_pool_stop(struct fq_pool *pool)
{
	if (!pool)
		return -EINVAL;
	fq_store_rel(&pool->stopped, 1); /* P4: what is refused comes after it */
	fq_pool_knock(&pool->steward_bell);
	return 0;
}

/* -- completion -------------------------------------------------------------------------------- */

static void completed(struct fq_node *node)
{
	struct fq_work *work = fq_container_of(node, struct fq_work, node);
	int status = (int)(fq_load_rlx(word_of(work)) >> 32);

	fq_store_rel(word_of(work), OVER);
	work->done(work, status);
}

void fq_work_complete(struct fq_work *work, int status)
{
	struct fq_queue *q = work->queue;

	fq_store_rel(word_of(work), (uint64_t)(uint32_t)status << 32 | FINISHED);
	work->node.run = completed;
	fq_queue_push(q, &work->node); /* the work may be gone from here on */
	fq_queue_release(q);
}

/* -- under the lock ---------------------------------------------------------------------------- */

/* Only the library's own threads, and fq_pool_drain(): those who may sleep. */
void fq_pool_lock(struct fq_pool *pool)
{
	uint64_t seen = 0;

	if (fq_cas_acqrel(&pool->lock, &seen, 1)) /* P5: pairs with fq_pool_unlock */
		return;
	while (fq_xchg_acqrel(&pool->lock, 2)) /* P5 */
		(void)fq_park_wait(&pool->lock, 2, INT64_MAX);
}

bool fq_pool_may_hire(const struct fq_pool *pool)
{
	return !pool->closed && !pool->starting && !pool->short_of &&
	       fq_load_rlx(&pool->workers) < pool->max_workers;
}

void fq_pool_unlock(struct fq_pool *pool)
{
	bool more = pool->ready_first;
	bool idle = fq_load_rlx(&pool->idle);
	bool hire = fq_pool_may_hire(pool);

	if (fq_xchg_acqrel(&pool->lock, 0) == 2) /* P5 */
		fq_park_wake_one(&pool->lock);
	/* One wakes the next: a submitter wakes one in all, whatever was submitted meanwhile. */
	if (more && idle)
		knock_one(&pool->idlers);
	else if (more && hire)
		fq_pool_knock(&pool->steward_bell);
}

static unsigned whom_to_tell(const struct fq_pool *pool)
{
	if (pool->closed)
		return CLOSED;
	if (fq_load_rlx(&pool->idle))
		return TELL_WORKER;
	return fq_load_rlx(&pool->workers) < pool->max_workers ? TELL_STEWARD : 0;
}

static void append(struct fq_pool *pool, struct fq_work *work)
{
	work->number = ++pool->last_number;
	work->next = NULL;
	work->link = pool->ready_last;
	*pool->ready_last = work;
	pool->ready_last = &work->next;
}

static void unlink_work(struct fq_pool *pool, struct fq_work *work)
{
	*work->link = work->next;
	if (work->next)
		work->next->link = work->link;
	else
		pool->ready_last = work->link;
	work->link = NULL;
}

/* What was submitted, to the ready list; from here on whoever submits tells whom it says now. */
void fq_pool_collect(struct fq_pool *pool)
{
	struct fq_work *work, *oldest = NULL;

	pool->closed |= fq_load_acq(&pool->stopped) != 0; /* P4 */
	fq_relay_begin(&pool->idlers.relay);
	work = untagged(
		fq_ptr_xchg_acqrel(&pool->inbox, (void *)(uintptr_t)whom_to_tell(pool))); /* P1 */
	while (work) {
		struct fq_work *next = work->next;

		work->next = oldest;
		oldest = work;
		work = next;
	}
	while (oldest) {
		work = oldest;
		oldest = work->next;
		append(pool, work);
	}
}

static void is_over(struct fq_pool *pool, struct fq_work *work)
{
	work->next = pool->over;
	pool->over = work;
	fq_count_owner(&pool->cancels, 1);
}

/* A cancelled work has come on one of its two ways. */
static void half(struct fq_pool *pool, struct fq_work *work)
{
	if (fq_load_rlx(word_of(work)) == HALF) {
		pool->limbo--;
		is_over(pool, work);
	} else {
		pool->limbo++;
		fq_store_rel(word_of(work), HALF);
	}
}

void fq_pool_take_cancelled(struct fq_pool *pool)
{
	struct fq_node *node = fq_ptr_xchg_acqrel(&pool->cancelled, NULL); /* P2 */

	/* Cancelled after its submit had returned, a work is now in no inbox. */
	fq_pool_collect(pool);
	while (node) {
		struct fq_work *work = fq_container_of(node, struct fq_work, node);

		node = node->next;
		if (work->link) {
			unlink_work(pool, work);
			is_over(pool, work);
		} else {
			half(pool, work);
		}
	}
}

static struct fq_work *take(struct fq_pool *pool, uint64_t as)
{
	struct fq_work *work;

	while ((work = pool->ready_first)) {
		uint64_t seen = QUEUED;

		unlink_work(pool, work);
		if (fq_cas_acqrel(word_of(work), &seen, as))
			return work;
		half(pool, work);
	}
	return NULL;
}

void fq_pool_cancel_ready(struct fq_pool *pool)
{
	struct fq_work *work;

	while ((work = take(pool, CANCELLED)))
		is_over(pool, work);
}

void fq_pool_tell_drains(struct fq_pool *pool)
{
	if (!pool->drains)
		return;
	fq_add_rel(&pool->turn_of_drain, 1);
	fq_park_wake(&pool->turn_of_drain);
}

/* -- workers ----------------------------------------------------------------------------------- */

static void run(struct fq_worker *worker, struct fq_work *work)
{
	struct fq_pool *pool = worker->pool;
	uint64_t idle = fq_load_rlx(&pool->idle);

	if (idle < pool->least_idle)
		pool->least_idle = (unsigned)idle;
	worker->number = work->number;
	fq_count_owner(&pool->started, 1);
	fq_pool_unlock(pool);
	fq_work_complete(work, work->run(work));
	fq_pool_lock(pool);
	worker->number = 0;
	fq_count_owner(&pool->completed, 1);
	fq_pool_tell_drains(pool);
}

static void sleep_idle(struct fq_pool *pool)
{
	uint64_t seen;

	fq_pool_set(&pool->idle, fq_load_rlx(&pool->idle) + 1);
	seen = fq_load_acq(&pool->idlers.turn); /* P3: before the look */
	fq_pool_collect(pool);
	if (!pool->ready_first) {
		fq_pool_unlock(pool);
		(void)fq_park_wait(&pool->idlers.turn, (uint32_t)seen, INT64_MAX);
		fq_pool_lock(pool);
	}
	fq_pool_set(&pool->idle, fq_load_rlx(&pool->idle) - 1);
}

static void begin(struct fq_worker *worker)
{
	struct fq_pool *pool = worker->pool;

	worker_of = pool;
	fq_pool_thread_name(pool->name, (int)worker->index);
	/* The steward has tried them all; one that has gone since is no reason not to work. */
	if (pool->pin)
		(void)fq_pool_thread_bind(&pool->cpus[worker->index % pool->cpu_count], 1);
	(void)fq_thread_register();
	fq_pool_lock(pool);
	pool->starting--;
	if (fq_load_rlx(&pool->workers) > fq_load_rlx(&pool->peak))
		fq_pool_set(&pool->peak, fq_load_rlx(&pool->workers));
}

static void end(struct fq_worker *worker)
{
	struct fq_pool *pool = worker->pool;

	(void)fq_thread_unregister();
	worker->next = pool->left;
	pool->left = worker;
	if (pool->dismissed)
		pool->dismissed--;
	fq_pool_set(&pool->workers, fq_load_rlx(&pool->workers) - 1);
	fq_pool_collect(pool); /* there is one less to be told */
	fq_pool_unlock(pool);
	/* Joined by the steward, so the pool is still there. */
	fq_pool_knock(&pool->steward_bell);
}

void *fq_pool_work(void *arg)
{
	struct fq_worker *worker = arg;
	struct fq_pool *pool = worker->pool;

	begin(worker);
	for (;;) {
		struct fq_work *work;

		fq_pool_collect(pool);
		work = pool->closed ? NULL : take(pool, RUNNING);
		if (work)
			run(worker, work);
		else if (pool->closed || pool->dismissed)
			break;
		else
			sleep_idle(pool);
	}
	end(worker);
	return NULL;
}

/* -- waiting for them -------------------------------------------------------------------------- */

static bool unfinished(const struct fq_pool *pool, uint64_t last)
{
	if (pool->limbo || pool->over || pool->completing ||
	    (pool->ready_first && pool->ready_first->number <= last))
		return true;
	for (unsigned i = 0; i < pool->max_workers; i++) {
		if (pool->worker[i].number && pool->worker[i].number <= last)
			return true;
	}
	return false;
}

int fq_pool_drain(struct fq_pool *pool, int64_t timeout_ns)
{
	int64_t until = fq_until(timeout_ns);
	uint64_t last;
	int err = 0;

	if (!fq_is_alive(pool))
		return -EINVAL;
	if (fq_pool_is_own_worker(pool))
		return -EDEADLK;
	if (pool->pid != getpid())
		return -ESHUTDOWN;
	fq_pool_lock(pool);
	fq_pool_collect(pool);
	last = pool->last_number;
	pool->drains++;
	while (unfinished(pool, last) && !err) {
		uint64_t seen = fq_load_acq(&pool->turn_of_drain);

		fq_pool_unlock(pool);
		err = fq_park_wait(&pool->turn_of_drain, (uint32_t)seen, until);
		fq_pool_lock(pool);
	}
	pool->drains--;
	err = unfinished(pool, last) ? err : 0;
	fq_pool_unlock(pool);
	return err;
}
