/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "park.h"
#include "pool_internal.h"

#define IDLE_DEFAULT_NS INT64_C(10000000000)
#define HIRE_AGAIN_NS INT64_C(100000000)

/* -- the steward: under the lock --------------------------------------------------------------- */

/* True: idle workers are to leave, those that were not needed at any time of the window that ends. */
static bool dismiss(struct fq_pool *pool)
{
	uint64_t workers = fq_load_rlx(&pool->workers), surplus;
	int64_t now;

	if (pool->closed || pool->idle_ns < 0 || workers <= pool->min_workers) {
		pool->window_ends_ns = INT64_MAX;
		return pool->closed && fq_load_rlx(&pool->idle);
	}
	now = fq_now();
	if (pool->window_ends_ns != INT64_MAX && now < pool->window_ends_ns)
		return false;
	surplus = pool->window_ends_ns == INT64_MAX ? 0 : pool->least_idle;
	if (surplus > workers - pool->min_workers)
		surplus = workers - pool->min_workers;
	pool->dismissed = (unsigned)surplus;
	pool->least_idle = (unsigned)fq_load_rlx(&pool->idle);
	pool->window_ends_ns = fq_until(pool->idle_ns);
	return surplus;
}

/* A place for a worker that is needed now, or NULL. */
static struct fq_worker *vacancy(struct fq_pool *pool)
{
	struct fq_worker *worker;

	if (pool->short_of && fq_now() >= pool->hire_again_ns)
		pool->short_of = false;
	if (!pool->ready_first || fq_load_rlx(&pool->idle) || !fq_pool_may_hire(pool))
		return NULL;
	worker = pool->vacant;
	if (!worker)
		return NULL; /* the place of one who has left, and is not buried yet */
	pool->vacant = worker->next;
	pool->dismissed = 0;
	pool->starting++;
	fq_pool_set(&pool->workers, fq_load_rlx(&pool->workers) + 1);
	return worker;
}

/* -- the steward ------------------------------------------------------------------------------- */

static int hire(struct fq_pool *pool, struct fq_worker *worker)
{
	int err = fq_pool_thread_start(&worker->thread, pool->stack_size, fq_pool_work, worker);

	if (!err)
		return 0;
	worker->next = pool->vacant;
	pool->vacant = worker;
	fq_pool_lock(pool);
	pool->starting--;
	pool->short_of = true;
	pool->hire_again_ns = fq_until(HIRE_AGAIN_NS);
	fq_pool_set(&pool->workers, fq_load_rlx(&pool->workers) - 1);
	fq_count_owner(&pool->hire_errors, 1);
	fq_pool_unlock(pool);
	return err;
}

static void bury(struct fq_pool *pool, struct fq_worker *left)
{
	while (left) {
		struct fq_worker *worker = left;

		left = worker->next;
		pthread_join(worker->thread, NULL);
		worker->next = pool->vacant;
		pool->vacant = worker;
	}
}

static void complete_all(struct fq_pool *pool, struct fq_work *over)
{
	if (!over)
		return;
	while (over) {
		struct fq_work *work = over;

		over = work->next;
		fq_work_complete(work, -ECANCELED);
	}
	fq_pool_lock(pool);
	pool->completing = false;
	fq_pool_tell_drains(pool);
	fq_pool_unlock(pool);
}

/* One look at everything. False when that was the last. */
static bool look(struct fq_pool *pool, uint64_t seen)
{
	struct fq_worker *left, *wanted;
	struct fq_work *over;
	bool dismissed, last;

	fq_pool_lock(pool);
	fq_pool_take_cancelled(pool);
	if (pool->closed)
		fq_pool_cancel_ready(pool);
	dismissed = dismiss(pool);
	wanted = vacancy(pool);
	left = pool->left;
	pool->left = NULL;
	over = pool->over;
	pool->over = NULL;
	pool->completing = over;
	/* Who ends a pool has kept all others out of it but the workers. */
	last = (seen & FQ_POOL_ENDING) && !fq_load_rlx(&pool->workers);
	fq_pool_unlock(pool);

	if (dismissed)
		fq_pool_knock(&pool->idlers);
	complete_all(pool, over);
	bury(pool, left);
	if (wanted)
		(void)hire(pool, wanted);
	/* Look again: there is a time to keep, or a place to give away. */
	if (wanted || left)
		fq_add_rel(&pool->steward_bell.turn, 1);
	return !last;
}

static void reign(struct fq_pool *pool)
{
	for (;;) {
		uint64_t seen = fq_load_acq(&pool->steward_bell.turn); /* P3: before the look */
		int64_t until;

		fq_relay_begin(&pool->steward_bell.relay);
		if (!look(pool, seen))
			return;
		until = pool->window_ends_ns;
		if (pool->short_of && pool->hire_again_ns < until)
			until = pool->hire_again_ns;
		(void)fq_park_wait(&pool->steward_bell.turn, (uint32_t)seen, until);
	}
}

/* Tries each CPU that a worker will be bound to; workers start with the steward's own set. */
static int take_places(struct fq_pool *pool)
{
	int err = 0;

	for (unsigned i = 0; pool->pin && i < pool->cpu_count && !err; i++)
		err = fq_pool_thread_bind(&pool->cpus[i], 1);
	if (pool->cpu_count && !err)
		err = fq_pool_thread_bind(pool->cpus, pool->cpu_count);
	return err;
}

static int hire_first(struct fq_pool *pool)
{
	int err = 0;

	for (unsigned i = 0; i < pool->min_workers && !err; i++) {
		struct fq_worker *worker = pool->vacant;

		pool->vacant = worker->next;
		fq_pool_lock(pool);
		pool->starting++;
		fq_pool_set(&pool->workers, i + 1);
		fq_pool_unlock(pool);
		err = hire(pool, worker);
	}
	return err;
}

static void release(struct fq_pool *pool)
{
	free(pool->cpus);
	free(pool);
}

static void *steward_main(void *arg)
{
	struct fq_pool *pool = arg;
	struct fq_queue *q;
	struct fq_node *node;
	int err;

	fq_pool_thread_name(pool->name, -1);
	err = take_places(pool);
	if (!err)
		err = hire_first(pool);
	if (err) {
		/* fq_pool_create() waits, and cleans up: nobody else knows of the pool. */
		(void)fq_pool_stop(pool);
		fq_add_rel(&pool->steward_bell.turn, FQ_POOL_ENDING);
		reign(pool);
		(void)fq_event_set(pool->created, err);
		return NULL;
	}
	(void)fq_event_set(pool->created, 0);
	reign(pool);
	q = pool->end_queue;
	node = pool->end_node;
	if (!node)
		return NULL; /* fq_pool_destroy() waits */
	pthread_detach(pthread_self());
	release(pool);
	fq_queue_push(q, node);
	fq_queue_release(q);
	return NULL;
}

/* -- a pool's life ----------------------------------------------------------------------------- */

static bool valid(const struct fq_pool_config *c)
{
	return c->max_workers && c->max_workers <= FQ_POOL_WORKERS_MAX &&
	       c->min_workers <= c->max_workers && !(c->flags & ~FQ_POOL_PIN) &&
	       !c->cpus == !c->cpu_count && (c->cpus || !(c->flags & FQ_POOL_PIN)) &&
	       c->stack_size <= SIZE_MAX;
}

static struct fq_pool *allocate(const struct fq_pool_config *c)
{
	struct fq_pool *pool =
		fq_alloc_aligned(sizeof(*pool) + c->max_workers * sizeof(struct fq_worker));

	if (!pool || !c->cpu_count)
		return pool;
	pool->cpus = calloc(c->cpu_count, sizeof(*c->cpus));
	if (!pool->cpus) {
		free(pool);
		return NULL;
	}
	memcpy(pool->cpus, c->cpus, c->cpu_count * sizeof(*c->cpus));
	return pool;
}

static void set_up(struct fq_pool *pool, const struct fq_pool_config *c)
{
	pool->ready_last = &pool->ready_first;
	pool->window_ends_ns = INT64_MAX;
	pool->pid = getpid();
	pool->min_workers = c->min_workers;
	pool->max_workers = c->max_workers;
	pool->idle_ns = c->idle_ns ? c->idle_ns : IDLE_DEFAULT_NS;
	pool->stack_size = (size_t)c->stack_size;
	pool->cpu_count = c->cpu_count;
	pool->pin = c->flags & FQ_POOL_PIN;
	strncpy(pool->name, c->name ? c->name : "fenceq", sizeof(pool->name) - 1);
	for (unsigned i = c->max_workers; i--;) {
		pool->worker[i].pool = pool;
		pool->worker[i].index = i;
		pool->worker[i].next = pool->vacant;
		pool->vacant = &pool->worker[i];
	}
	fq_pool_lock(pool);
	fq_pool_collect(pool); /* the tag for what comes first */
	fq_pool_unlock(pool);
}

int fq_pool_create(struct fq_pool **out, const struct fq_pool_config *config)
{
	struct fq_event created = FQ_EVENT_INIT;
	struct fq_pool *pool;
	int err, status = 0;

	if (!out || !config || !valid(config))
		return -EINVAL;
	pool = allocate(config);
	if (!pool)
		return -ENOMEM;
	set_up(pool, config);
	pool->created = &created;
	err = fq_pool_thread_start(&pool->steward, pool->stack_size, steward_main, pool);
	if (!err) {
		(void)fq_event_wait(&created, -1, &status);
		err = status;
		if (err)
			pthread_join(pool->steward, NULL);
	}
	if (err) {
		release(pool);
		return err;
	}
	fq_debug_born(pool);
	*out = pool;
	return 0;
}

/* The caller's last access to the pool, unless he joins the steward. */
static void tell_of_end(struct fq_pool *pool)
{
	fq_store_rel(&pool->stopped, 1);                                    /* P4 */
	fq_add_rel(&pool->steward_bell.turn, FQ_POOL_ENDING | UINT64_C(1)); /* P3 */
	fq_park_wake(&pool->steward_bell.turn);
}

static bool claim_end(struct fq_pool *pool)
{
	uint64_t seen = 0;

	return fq_cas_acqrel(&pool->ending, &seen, 1);
}

int fq_pool_destroy(struct fq_pool *pool)
{
	if (!pool)
		return 0;
	if (!fq_is_alive(pool))
		return -EINVAL;
	if (fq_pool_is_own_worker(pool))
		return -EDEADLK;
	if (!claim_end(pool))
		return -EALREADY;
	fq_debug_dead(pool);
	if (pool->pid == getpid()) {
		tell_of_end(pool);
		pthread_join(pool->steward, NULL);
	}
	release(pool);
	return 0;
}

int fq_pool_end(struct fq_pool *pool, struct fq_queue *queue, struct fq_node *node)
{
	if (!fq_is_alive(pool) || !queue || !node || !node->run)
		return -EINVAL;
	if (!claim_end(pool))
		return -EALREADY;
	fq_debug_dead(pool);
	if (pool->pid != getpid()) {
		release(pool);
		fq_queue_push(queue, node);
		return 0;
	}
	fq_queue_hold(queue);
	pool->end_queue = queue;
	pool->end_node = node;
	tell_of_end(pool);
	return 0;
}

void fq_pool_get_stats(const struct fq_pool *pool, struct fq_pool_stats *out)
{
	*out = (struct fq_pool_stats){
		.workers = fq_load_rlx(&pool->workers),
		.idle = fq_load_rlx(&pool->idle),
		.peak = fq_load_rlx(&pool->peak),
		.submitted = fq_load_rlx(&pool->submitted),
		.started = fq_load_rlx(&pool->started),
		.completed = fq_load_rlx(&pool->completed),
		.cancelled = fq_load_rlx(&pool->cancels),
		.hire_errors = fq_load_rlx(&pool->hire_errors),
	};
}
