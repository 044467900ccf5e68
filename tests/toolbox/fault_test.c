/* SPDX-License-Identifier: MIT */
/*
 * What may go wrong around a post or a wait, and what then happens: no descriptors, a full counter, a
 * signal handler in between, a poster that is cancelled, or gone the moment it has posted.
 *
 * Posters stopped for good at each of their steps, the wake-up they are about to make included, are
 * in tests/step (stopped_step.c, event_step.c, pool_step.c), handlers at each step in handler_step.c,
 * use after the end in debug_step.c.
 *
 * Seen to fail, with the defence taken out of a copy of the library:
 *   no_descriptors_...    fq_mux_open() that closes nothing when the timer fails; fq_queue_create()
 *                         that keeps its notifier when the rest fails
 *   full_counter_...      a signal that goes on until the write succeeds (hangs)
 *   interrupted_wait_...  fq_queue_wait() that returns on EINTR without fq_queue_check()
 *                         (with hooks), and one that goes on (without hooks: hangs)
 *   handler_does_not_...  fq_pool_drain() that sleeps once
 *   cancelled_poster_...  fq_notifier_signal() by write(); fq_park_wake() with a cancellation point
 *   cancelled_waiter_...  a sleep that is a cancellation point
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fenceq/fenceq.h>

#include "../unit/host.h"

TestSuite(fault, .timeout = 120);

#define UNTIL(condition)              \
	do {                          \
		while (!(condition))  \
			usleep(1000); \
	} while (0)

/* -- descriptors ------------------------------------------------------------------------------- */

#define FD_LIMIT 128u

struct hoard {
	struct rlimit limit;
	unsigned count;
	int fd[FD_LIMIT];
};

/* Takes every descriptor there is. */
static unsigned hoard_more(struct hoard *h)
{
	unsigned before = h->count;
	int fd;

	while (h->count < FD_LIMIT && (fd = dup(0)) >= 0)
		h->fd[h->count++] = fd;
	cr_assert_lt(h->count, FD_LIMIT);
	return h->count - before;
}

static void hoard_open(struct hoard *h)
{
	struct rlimit low;

	h->count = 0;
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &h->limit), 0);
	low = h->limit;
	low.rlim_cur = FD_LIMIT - 8;
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
	hoard_more(h);
}

static void hoard_release(struct hoard *h, unsigned count)
{
	cr_assert_geq(h->count, count);
	while (count--)
		close(h->fd[--h->count]);
}

static void hoard_close(struct hoard *h)
{
	hoard_release(h, h->count);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &h->limit), 0);
}

/* Every descriptor in turn is the one that is not there; what was opened before it is closed. */
static void create_with_few(unsigned flags, unsigned need)
{
	struct hoard h;

	hoard_open(&h);
	for (unsigned there = 0; there < need; there++) {
		struct fq_queue *q = NULL;

		hoard_release(&h, there);
		cr_expect_eq(fq_queue_create(&q, flags), -EMFILE, "flags %u, %u of %u", flags,
			     there, need);
		cr_expect_null(q);
		cr_expect_eq(hoard_more(&h), there, "flags %u, %u of %u: leaks", flags, there,
			     need);
	}
	hoard_release(&h, need);
	for (unsigned i = 0; i < 2; i++) {
		struct fq_queue *q = NULL;

		cr_expect_eq(fq_queue_create(&q, flags), 0, "flags %u", flags);
		cr_expect_eq(fq_queue_destroy(q), 0);
	}
	cr_expect_eq(hoard_more(&h), need);
	hoard_close(&h);
}

Test(fault, no_descriptors_for_a_queue_and_none_leaks)
{
	create_with_few(0, 1);
	create_with_few(FQ_QUEUE_PIPE, 2);
	create_with_few(FQ_QUEUE_EPOLL, 3);
	create_with_few(FQ_QUEUE_EPOLL | FQ_QUEUE_HOOKS, 3);
	create_with_few(FQ_QUEUE_EPOLL | FQ_QUEUE_PIPE, 4);
}

/* -- the host ---------------------------------------------------------------------------------- */

static atomic_uint arrived;

static void arrive(struct fq_node *node)
{
	(void)node;
	atomic_fetch_add(&arrived, 1);
}

static struct fq_queue *open_queue(unsigned flags)
{
	struct fq_queue *q;

	atomic_store(&arrived, 0);
	cr_assert_eq(fq_queue_create(&q, flags), 0);
	return q;
}

/*
 * The counter of the eventfd as high as it goes: a write would have to wait. Readable is all a
 * post asks for.
 */
Test(fault, full_counter_is_readable_and_loses_nothing)
{
	const uint64_t most = UINT64_MAX - 1;
	struct fq_node node[2] = {{.run = arrive}, {.run = arrive}};
	struct fq_queue *q = open_queue(0);

	cr_assert_eq(write(fq_queue_fd(q), &most, sizeof(most)), sizeof(most));
	cr_assert_eq(write(fq_queue_fd(q), &(uint64_t){1}, sizeof(most)), -1);
	cr_assert_eq(errno, EAGAIN);
	fq_queue_push(q, &node[0]);
	cr_assert_eq(errno, EAGAIN, "errno is kept");
	cr_assert(readable(q));
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 1);
	cr_assert_not(readable(q));
	fq_queue_push(q, &node[1]);
	cr_assert(readable(q));
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 1);
	cr_assert_eq(fq_queue_destroy(q), 0);
}

/* -- signals ----------------------------------------------------------------------------------- */

static atomic_uint handled;

static void do_nothing(int signo)
{
	(void)signo;
	atomic_fetch_add(&handled, 1);
}

static void handle(int signo, void (*handler)(int))
{
	const struct sigaction action = {.sa_handler = handler};

	atomic_store(&handled, 0);
	cr_assert_eq(sigaction(signo, &action, NULL), 0);
}

static pthread_t owner;
static atomic_bool stop;

/* One signal at a time, so that each is handled. */
static void *send_signals(void *count)
{
	for (unsigned i = 0; i < *(unsigned *)count && !atomic_load(&stop); i++) {
		pthread_kill(owner, SIGUSR1);
		while (atomic_load(&handled) == i && !atomic_load(&stop))
			sched_yield();
	}
	return NULL;
}

static void *one_signal_a_while(void *arg)
{
	(void)arg;
	while (!atomic_load(&stop)) {
		pthread_kill(owner, SIGUSR1);
		usleep(500);
	}
	return NULL;
}

/* After an interrupted wait the queue is as it was: not armed with hooks, armed without. */
static void interrupted(unsigned flags)
{
	struct fq_node node[2] = {{.run = arrive}, {.run = arrive}};
	struct fq_queue *q = open_queue(flags);
	pthread_t other;

	handle(SIGUSR1, do_nothing);
	atomic_store(&stop, false);
	owner = pthread_self();
	cr_assert_eq(pthread_create(&other, NULL, one_signal_a_while, NULL), 0);
	cr_assert_eq(fq_queue_wait(q, -1), -EINTR);
	atomic_store(&stop, true);
	pthread_join(other, NULL);
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 0);
	fq_queue_push(q, &node[0]);
	cr_assert_eq(queue_stats(q).notifier_writes, flags & FQ_QUEUE_HOOKS ? 0 : 1);
	cr_assert_eq(fq_queue_wait(q, -1), 1);
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 1);
	cr_assert_eq(fq_queue_wait(q, 0), 0);
	fq_queue_push(q, &node[1]);
	cr_assert_eq(fq_queue_wait(q, -1), 1);
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 1);
	cr_assert_eq(fq_queue_destroy(q), 0);
}

Test(fault, interrupted_wait_leaves_the_queue_as_it_was)
{
	interrupted(0);
	interrupted(FQ_QUEUE_HOOKS);
	interrupted(FQ_QUEUE_EPOLL);
	interrupted(FQ_QUEUE_EPOLL | FQ_QUEUE_HOOKS);
}

static struct fq_event leave;
static atomic_uint works_done;

static int stay(struct fq_work *work)
{
	(void)work;
	return fq_event_wait(&leave, -1, NULL);
}

static void stayed(struct fq_work *work, int status)
{
	(void)work;
	(void)status;
	atomic_fetch_add(&works_done, 1);
}

static int return_at_once(struct fq_work *work)
{
	(void)work;
	return 0;
}

static void *let_go_when_handled(void *arg)
{
	while (atomic_load(&handled) < 5) {
		pthread_kill(owner, SIGUSR1);
		usleep(500);
	}
	(void)fq_event_set(arg, 0);
	return NULL;
}

Test(fault, handler_does_not_end_a_drain_of_a_pool)
{
	const struct fq_pool_config config = {.max_workers = 1};
	struct fq_queue *q = open_queue(0);
	struct fq_work work = {.run = stay, .done = stayed, .queue = q};
	struct fq_pool *pool;
	pthread_t other;

	fq_event_init(&leave);
	handle(SIGUSR1, do_nothing);
	owner = pthread_self();
	cr_assert_eq(fq_pool_create(&pool, &config), 0);
	cr_assert_eq(fq_pool_submit(pool, &work), 0);
	cr_assert_eq(pthread_create(&other, NULL, let_go_when_handled, &leave), 0);
	cr_assert_eq(fq_pool_drain(pool, -1), 0);
	cr_assert(fq_event_is_set(&leave), "it has returned before the work could");
	pthread_join(other, NULL);
	cr_assert_geq(atomic_load(&handled), 5);
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 1);
	cr_assert_eq(fq_pool_destroy(pool), 0);
	cr_assert_eq(fq_queue_destroy(q), 0);
}

#define POSTS 500u

static struct {
	struct fq_queue *q;
	struct fq_pool *pool;
	fq_handle_t handle;
	struct fq_node node[POSTS];
	struct fq_fence fence[POSTS];
	struct fq_event event[POSTS];
	struct fq_work work[POSTS];
	atomic_uint errors;
} in_handler;

static void post_all(int signo)
{
	unsigned i = atomic_load(&handled);
	int saved = errno;

	(void)signo;
	errno = EXDEV;
	fq_queue_push(in_handler.q, &in_handler.node[i]);
	if (fq_signal(in_handler.handle, 7, 3, in_handler.fence[i].token))
		atomic_fetch_add(&in_handler.errors, 1);
#ifndef FQ_PARK_MUTEX
	if (fq_event_set(&in_handler.event[i], 0) ||
	    fq_pool_submit(in_handler.pool, &in_handler.work[i]))
		atomic_fetch_add(&in_handler.errors, 1);
#endif
	if (errno != EXDEV)
		atomic_fetch_add(&in_handler.errors, 1);
	errno = saved;
	atomic_store(&handled, i + 1);
}

/*
 * The owner's own handler posts, at whatever instruction of a wait, a drain or a post of the owner's
 * it comes.
 */
static void posts_in_handler(unsigned flags)
{
	const struct fq_pool_config config = {.max_workers = 2};
	unsigned works = 0, count = POSTS;
	static struct fq_node own[POSTS];
	static struct host host;
	unsigned pushed = 0;
	pthread_t other;

	host_open(&host, flags);
	atomic_store(&arrived, 0);
	atomic_store(&works_done, 0);
	atomic_store(&stop, false);
	in_handler.q = host.q;
	in_handler.handle = host.handle;
	cr_assert_eq(fq_pool_create(&in_handler.pool, &config), 0);
	for (unsigned i = 0; i < POSTS; i++) {
		in_handler.node[i].run = own[i].run = arrive;
		in_handler.work[i] =
			(struct fq_work){.run = return_at_once, .done = stayed, .queue = host.q};
		fq_event_init(&in_handler.event[i]);
		in_handler.fence[i] = (struct fq_fence){.fence_id = i};
#ifndef FQ_PARK_MUTEX
		works++;
#endif
	}
	submit_all(&host, 7, 3, in_handler.fence, POSTS);
	handle(SIGUSR1, post_all);
	owner = pthread_self();
	cr_assert_eq(pthread_create(&other, NULL, send_signals, &count), 0);
	while (atomic_load(&arrived) < 2 * POSTS || host.count < POSTS ||
	       atomic_load(&works_done) < works) {
		int got;

		/* A push of its own, for a handler to come in between. */
		if (pushed < POSTS)
			fq_queue_push(host.q, &own[pushed++]);
		got = fq_queue_wait(host.q, INT64_C(60000000000));

		cr_assert(got == 1 || got == -EINTR, "wait: %d, arrived %u, retired %u, done %u",
			  got, atomic_load(&arrived), host.count, atomic_load(&works_done));
		(void)fq_queue_drain(host.q, FQ_NO_BUDGET);
	}
	atomic_store(&stop, true);
	pthread_join(other, NULL);
	cr_assert_eq(atomic_load(&in_handler.errors), 0);
#ifndef FQ_PARK_MUTEX
	for (unsigned i = 0; i < POSTS; i++)
		cr_assert(fq_event_is_set(&in_handler.event[i]));
#endif
	expect_retired(&host, 0, in_handler.fence, POSTS, 0);
	cr_assert_eq(fq_pool_destroy(in_handler.pool), 0);
	host_close(&host);
}

Test(fault, handler_that_posts_while_its_owner_waits)
{
	posts_in_handler(0);
	posts_in_handler(FQ_QUEUE_HOOKS);
	posts_in_handler(FQ_QUEUE_EPOLL);
}

/* -- posters that are cancelled, or gone ------------------------------------------------------- */

enum kind {
	PUSH,
	SIGNAL,
	EVENT,
	SUBMIT,
	CANCEL,
	KINDS
};

static const char *const kinds[KINDS] = {"push", "signal", "event", "submit", "cancel"};

static struct {
	enum kind kind;
	struct host host;
	struct fq_pool *pool;
	struct fq_node node;
	struct fq_fence fence;
	struct fq_event event;
	struct fq_work work;
	struct fq_work occupant;
	int err;
	atomic_bool ready, cancelled, returned;
} scene;

static int post(void)
{
	switch (scene.kind) {
	case PUSH:
		fq_queue_push(scene.host.q, &scene.node);
		return 0;
	case SIGNAL:
		return fq_signal(scene.host.handle, 7, 3, scene.fence.token);
	case EVENT:
		return fq_event_set(&scene.event, 0);
	case SUBMIT:
		return fq_pool_submit(scene.pool, &scene.work);
	default:
		return fq_pool_cancel(scene.pool, &scene.work);
	}
}

/* A cancellation is pending before the post; the first cancellation point is after it. */
static void *post_cancelled(void *arg)
{
	atomic_store(&scene.ready, true);
	while (!atomic_load(&scene.cancelled))
		;
	scene.err = post();
	atomic_store(&scene.returned, true);
	pthread_testcancel();
	return arg;
}

static void *wait_for_event(void *arg)
{
	return (void *)(intptr_t)fq_event_wait(arg, -1, NULL);
}

static struct fq_pool_stats pool_stats(void)
{
	struct fq_pool_stats s;

	fq_pool_get_stats(scene.pool, &s);
	return s;
}

static void set_scene(enum kind kind)
{
	const struct fq_pool_config config = {.min_workers = 1, .max_workers = 1};

	memset(&scene, 0, sizeof(scene));
	scene.kind = kind;
	atomic_store(&arrived, 0);
	atomic_store(&works_done, 0);
	fq_event_init(&leave);
	host_open(&scene.host, 0);
	cr_assert_eq(fq_pool_create(&scene.pool, &config), 0);
	UNTIL(pool_stats().idle == 1);
	scene.node.run = arrive;
	scene.work = (struct fq_work){.run = return_at_once, .done = stayed, .queue = scene.host.q};
	scene.occupant = (struct fq_work){.run = stay, .done = stayed, .queue = scene.host.q};
	if (kind == SIGNAL)
		submit_all(&scene.host, 7, 3, &scene.fence, 1);
	if (kind == CANCEL) {
		cr_assert_eq(fq_pool_submit(scene.pool, &scene.occupant), 0);
		UNTIL(pool_stats().started == 1);
		cr_assert_eq(fq_pool_submit(scene.pool, &scene.work), 0);
	}
}

/* The post did what it is for, the wake-up included. */
static void expect_posted(void)
{
	if (scene.kind == EVENT)
		return; /* its waiter has been joined */
	UNTIL(readable(scene.host.q));
	fq_queue_drain(scene.host.q, FQ_NO_BUDGET);
	cr_assert_eq(atomic_load(&arrived), scene.kind == PUSH);
	cr_assert_eq(scene.host.count, scene.kind == SIGNAL);
	cr_assert_eq(atomic_load(&works_done), scene.kind >= SUBMIT);
}

Test(fault, cancelled_poster_has_posted_and_woken)
{
	for (enum kind kind = 0; kind < KINDS; kind++) {
		pthread_t poster, waiter;
		void *result;

		set_scene(kind);
		if (kind == EVENT) {
			cr_assert_eq(pthread_create(&waiter, NULL, wait_for_event, &scene.event),
				     0);
			/* Somebody has slept on it, so there is a wake-up to make. */
			cr_assert_eq(fq_event_wait(&scene.event, 1, NULL), -ETIMEDOUT);
		}
		cr_assert_eq(pthread_create(&poster, NULL, post_cancelled, NULL), 0);
		UNTIL(atomic_load(&scene.ready));
		cr_assert_eq(pthread_cancel(poster), 0);
		atomic_store(&scene.cancelled, true);
		pthread_join(poster, &result);
		cr_assert_eq(result, PTHREAD_CANCELED, "%s", kinds[kind]);
		cr_assert(atomic_load(&scene.returned), "%s: cancelled inside", kinds[kind]);
		cr_assert_eq(scene.err, 0, "%s", kinds[kind]);
		if (kind == EVENT)
			pthread_join(waiter, NULL);
		expect_posted();
		(void)fq_event_set(&leave, 0);
		cr_assert_eq(fq_pool_destroy(scene.pool), 0);
		fq_queue_drain(scene.host.q, FQ_NO_BUDGET);
		host_close(&scene.host);
	}
}

static void *wait_cancelled(void *arg)
{
	atomic_store(&scene.ready, true);
	scene.err = fq_event_wait(arg, -1, NULL);
	if (!scene.err)
		scene.err = fq_pool_drain(scene.pool, -1);
	atomic_store(&scene.returned, true);
	pthread_testcancel();
	return arg;
}

/* Cancelled in the middle of a sleep, it would leave an event, or a pool's lock, as it stands. */
Test(fault, cancelled_waiter_waits_to_the_end)
{
	pthread_t waiter;
	void *result;

	set_scene(CANCEL);
	cr_assert_eq(pthread_create(&waiter, NULL, wait_cancelled, &scene.event), 0);
	UNTIL(atomic_load(&scene.ready));
	usleep(2000);
	cr_assert_eq(pthread_cancel(waiter), 0);
	usleep(2000);
	cr_assert_not(atomic_load(&scene.returned));
	cr_assert_eq(fq_event_set(&scene.event, 0), 0);
	usleep(2000);
	cr_assert_not(atomic_load(&scene.returned), "it waits for the pool");
	cr_assert_eq(fq_event_set(&leave, 0), 0);
	pthread_join(waiter, &result);
	cr_assert_eq(result, PTHREAD_CANCELED);
	cr_assert(atomic_load(&scene.returned));
	cr_assert_eq(scene.err, 0);
	cr_assert_eq(fq_pool_destroy(scene.pool), 0);
	fq_queue_drain(scene.host.q, FQ_NO_BUDGET);
	cr_assert_eq(atomic_load(&works_done), 2);
	host_close(&scene.host);
}

#define POSTERS 100u

struct farewell {
	struct host *host;
	struct fq_pool *pool;
	struct fq_node node;
	struct fq_work work;
	struct fq_fence *fence;
	bool registered;
};

/* Its stack, and whatever the library keeps of a thread, go with it. */
static void *post_and_go(void *arg)
{
	struct farewell *f = arg;

	if (f->registered)
		(void)fq_thread_register();
	(void)fq_signal(f->host->handle, 7, 3, f->fence->token);
	if (fq_pool_submit(f->pool, &f->work))
		abort();
	fq_queue_push(f->host->q, &f->node);
	if (f->registered)
		(void)fq_thread_unregister();
	return NULL;
}

Test(fault, poster_that_is_gone_the_moment_it_has_posted)
{
	const struct fq_pool_config config = {.max_workers = 2};
	static struct farewell farewell[POSTERS];
	static struct fq_fence fence[POSTERS];
	static struct host host;
	pthread_t thread[POSTERS];
	struct fq_pool *pool;

	host_open(&host, 0);
	atomic_store(&arrived, 0);
	atomic_store(&works_done, 0);
	cr_assert_eq(fq_pool_create(&pool, &config), 0);
	submit_all(&host, 7, 3, fence, POSTERS);
	for (unsigned i = 0; i < POSTERS; i++) {
		farewell[i] = (struct farewell){
			.host = &host,
			.pool = pool,
			.node = {.run = arrive},
			.work = {.run = return_at_once, .done = stayed, .queue = host.q},
			.fence = &fence[i],
			.registered = i % 2,
		};
		cr_assert_eq(pthread_create(&thread[i], NULL, post_and_go, &farewell[i]), 0);
	}
	while (atomic_load(&arrived) < POSTERS || atomic_load(&works_done) < POSTERS) {
		cr_assert_eq(fq_queue_wait(host.q, INT64_C(60000000000)), 1);
		fq_queue_drain(host.q, FQ_NO_BUDGET);
	}
	expect_retired(&host, 0, fence, POSTERS, 0);
	cr_assert_eq(fq_pool_destroy(pool), 0);
	for (unsigned i = 0; i < POSTERS; i++)
		pthread_join(thread[i], NULL);
	host_close(&host);
}

/* A notifier that is closed: no harm, and nothing to wait for. */
Test(fault, notifier_after_its_end)
{
	struct fq_notifier n;

	cr_assert_eq(fq_notifier_init(&n, 0), 0);
	fq_notifier_fini(&n);
	errno = EXDEV;
	fq_notifier_signal(&n);
	cr_assert_not(fq_notifier_clear(&n));
	cr_assert_eq(errno, EXDEV);
	cr_assert_eq(fq_notifier_wait(&n, 0), 0);
	cr_assert_eq(fq_notifier_after_fork_child(&n), -EINVAL);
}
