/* SPDX-License-Identifier: MIT */
/*
 * fork, and a child that goes on using the library: it calls the hooks, drains what it inherited,
 * posts with threads of its own, ends inherited devices and makes new ones, and forks again. The
 * parent has posters under way and loses nothing. Children that hang are killed by an alarm.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <urcu/urcu-memb.h>

#include "threads.h"

static bool readable(void)
{
	struct pollfd pfd = {.fd = fq_queue_fd(scene.queue), .events = POLLIN};

	return poll(&pfd, 1, 0) == 1;
}

static void hooks(void)
{
	const int fd = fq_queue_fd(scene.queue);

	fq_after_fork_child();
	CHECK(!fq_queue_after_fork_child(scene.queue), "hook");
	CHECK(fq_queue_fd(scene.queue) == fd, "another fd");
	CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC, "close-on-exec");
	CHECK(readable(), "not readable at first");
}

/* -- a child's life ---------------------------------------------------------------------------- */

struct poster {
	pthread_t thread;
	unsigned number;
	int err;
};

static void *post(void *arg)
{
	struct poster *p = arg;

	if (p->number & 1)
		p->err = fq_thread_register();
	p->err |= scene_signal(p->number);
	if (p->number & 1)
		p->err |= fq_thread_unregister();
	return NULL;
}

static void post_by_threads(unsigned count)
{
	struct poster poster[16];

	scene_submit(count);
	for (unsigned i = 0; i < count; i++) {
		poster[i] = (struct poster){.number = scene.submitted - count + 1 + i};
		CHECK(!pthread_create(&poster[i].thread, NULL, post, &poster[i]), "thread");
	}
	scene_expect(scene.submitted);
	for (unsigned i = 0; i < count; i++) {
		pthread_join(poster[i].thread, NULL);
		CHECK(!poster[i].err, "post: %d", poster[i].err);
	}
}

/* Ends the inherited device, and uses others in every way; leaves one. */
static void use_devices(void)
{
	struct fq_queue *queue = scene.queue;

	CHECK(!fq_device_destroy(scene.device), "destroy");
	scene_attach(queue);
	post_by_threads(4);
	CHECK(!fq_device_unplug(scene.device, NULL, NULL), "unplug");
	CHECK(fq_reclaim() == 1, "reclaim");
	scene_attach(queue);
	post_by_threads(4);
}

static int go_on(void *arg)
{
	const unsigned *generations = arg;
	unsigned left = *generations - 1;

	hooks();
	(void)fq_queue_drain(scene.queue, FQ_NO_BUDGET);
	post_by_threads(16);
	use_devices();
	if (left)
		scene_child("child of child", go_on, &left);
	post_by_threads(8);
	scene_close();
	return 0;
}

static int skip(void *arg)
{
	(void)arg;
	return 0;
}

static int replace(void *arg)
{
	(void)arg;
	execl("/bin/true", "true", (char *)NULL);
	return 1;
}

/* -- a parent whose threads post --------------------------------------------------------------- */

#define POSTERS 4u

static atomic_uint newest; /* token to signal */
static atomic_uint running;
static atomic_bool stop;

static void *post_newest(void *arg)
{
	const bool known = *(const unsigned *)arg & 1;

	if (known)
		CHECK(!fq_thread_register(), "register");
	atomic_fetch_add(&running, 1);
	while (!atomic_load(&stop)) {
		unsigned number = atomic_load(&newest);

		if (number)
			CHECK(!scene_signal(number), "post");
		if (number % 16 == *(const unsigned *)arg)
			sched_yield();
	}
	if (known)
		CHECK(!fq_thread_unregister(), "unregister");
	return NULL;
}

static void submit_more(unsigned count)
{
	scene_submit(count);
	atomic_store(&newest, scene.submitted);
}

static void while_posters_post(unsigned flags)
{
	static unsigned number[POSTERS], generations;
	const unsigned rounds = scene_slow() ? 1 : 12;
	pthread_t thread[POSTERS];

	scene_open(flags);
	atomic_store(&stop, false);
	atomic_store(&running, 0);
	atomic_store(&newest, 0);
	for (unsigned i = 0; i < POSTERS; i++) {
		number[i] = i;
		CHECK(!pthread_create(&thread[i], NULL, post_newest, &number[i]), "thread");
	}
	/* A thread that starts is inside a sanitizer's locks, which a child would inherit locked. */
	while (atomic_load(&running) < POSTERS)
		sched_yield();
	for (unsigned n = 0; n < rounds; n++) {
		submit_more(100);
		generations = n % 10 ? 1 : 3;
		scene_child("while posters post", go_on, &generations);
		submit_more(1);
		scene_child("skips the hooks", skip, NULL);
		scene_child("execs", replace, NULL);
		scene_expect(scene.submitted);
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < POSTERS; i++)
		pthread_join(thread[i], NULL);
	scene_close();
	scene_nothing_left();
}

/* -- a registered thread inside a read side for ever ------------------------------------------- */

static atomic_uint parked;

static void *park(void *arg)
{
	(void)arg;
	CHECK(!fq_thread_register(), "register");
	urcu_memb_read_lock();
	atomic_fetch_add(&parked, 1);
	while (!atomic_load(&stop))
		usleep(1000);
	urcu_memb_read_unlock();
	CHECK(!fq_thread_unregister(), "unregister");
	return NULL;
}

static void while_registered_threads_read(void)
{
	static unsigned generations = 2;
	pthread_t thread[POSTERS];

	scene_open(0);
	atomic_store(&stop, false);
	for (unsigned i = 0; i < POSTERS; i++)
		CHECK(!pthread_create(&thread[i], NULL, park, NULL), "thread");
	while (atomic_load(&parked) < POSTERS)
		sched_yield();
	scene_child("while others read", go_on, &generations);
	atomic_store(&stop, true);
	for (unsigned i = 0; i < POSTERS; i++)
		pthread_join(thread[i], NULL);
	scene_close();
	scene_nothing_left();
}

/* -- what belongs to whom ---------------------------------------------------------------------- */

static struct fq_node node;
static unsigned ran;

static void run_node(struct fq_node *n)
{
	(void)n;
	ran++;
}

static int drain_own(void *arg)
{
	(void)arg;
	hooks();
	(void)fq_queue_drain(scene.queue, FQ_NO_BUDGET);
	CHECK(ran == 1, "what was posted before the fork ran %u times", ran);
	CHECK(scene.retired == 1, "%u retired", scene.retired);
	CHECK(!readable(), "drained, and still readable");
	post_by_threads(2);
	scene_close();
	return 0;
}

/* The child takes no wake-up of the parent's, and gives it none. */
static void fd_is_the_childs_own(unsigned flags)
{
	ran = 0;
	scene_open(flags);
	node = (struct fq_node){.run = run_node};
	scene_submit(1);
	fq_queue_push(scene.queue, &node);
	CHECK(!scene_signal(1), "post");
	CHECK(readable(), "posted");
	scene_child("drains its own", drain_own, NULL);
	CHECK(readable(), "a child took the parent's wake-up");
	(void)fq_queue_drain(scene.queue, FQ_NO_BUDGET);
	CHECK(ran == 1 && scene.retired == 1, "%u, %u", ran, scene.retired);
	CHECK(!readable(), "drained");

	node = (struct fq_node){.run = run_node};
	ran = 0;
	fq_queue_push(scene.queue, &node);
	(void)fq_queue_poll(scene.queue, FQ_NO_BUDGET);
	(void)fq_queue_drain(scene.queue, FQ_NO_BUDGET);
	scene_child("posts to itself", drain_own, NULL);
	CHECK(!readable(), "a child woke the parent");
	scene_close();
}

static int registrations_count(void *arg)
{
	const unsigned calls = scene_liburcu_calls();

	(void)arg;
	hooks();
	CHECK(fq_thread_registered(), "registered in the parent");
	post_by_threads(3);
	CHECK(!fq_thread_unregister() && !fq_thread_unregister(), "unregister");
	CHECK(!fq_thread_registered() && fq_thread_unregister() == -EPERM, "twice too often");
	CHECK(!fq_thread_register() && fq_thread_registered(), "register");
	post_by_threads(3);
	CHECK(!fq_thread_unregister(), "unregister");
	CHECK(scene_liburcu_calls() == calls, "liburcu was told of threads");
	scene_close();
	return 0;
}

static void forked_by_a_registered_thread(void)
{
	scene_open(0);
	CHECK(!fq_thread_register() && !fq_thread_register(), "register");
	scene_child("of a registered thread", registrations_count, NULL);
	post_by_threads(3);
	CHECK(!fq_thread_unregister() && !fq_thread_unregister(), "unregister");
	scene_close();
	scene_nothing_left();
}

static int drain_the_rest(void *arg)
{
	(void)arg;
	hooks();
	scene_expect(2);
	scene_close();
	return 0;
}

static void after_a_budget_stop(void)
{
	scene_open(0);
	scene_submit(2);
	CHECK(!scene_signal(2), "post");
	CHECK(fq_queue_drain(scene.queue, 1) == 1, "drain");
	scene_child("after a budget stop", drain_the_rest, NULL);
	scene_expect(2);
	scene_close();
}

static int reclaim(void *arg)
{
	(void)arg;
	hooks();
	CHECK(fq_reclaim() == 1, "inherited");
	CHECK(!fq_queue_destroy(scene.queue), "queue");
	return 0;
}

static void unplugged_before(void)
{
	scene_open(0);
	CHECK(!fq_device_unplug(scene.device, NULL, NULL), "unplug");
	scene_child("reclaims", reclaim, NULL);
	CHECK(fq_reclaim() == 1, "the parent's own");
	CHECK(!fq_queue_destroy(scene.queue), "queue");
}

static int no_fds(void *arg)
{
	struct rlimit limit, none = {.rlim_cur = 0};

	(void)arg;
	fq_after_fork_child();
	CHECK(!getrlimit(RLIMIT_NOFILE, &limit), "getrlimit");
	none.rlim_max = limit.rlim_max;
	CHECK(!setrlimit(RLIMIT_NOFILE, &none), "setrlimit");
	CHECK(fq_queue_after_fork_child(scene.queue) == -EMFILE, "no fds");
	CHECK(fq_queue_poll(scene.queue, FQ_NO_BUDGET) == 1, "poll");
	CHECK(!setrlimit(RLIMIT_NOFILE, &limit), "setrlimit");
	hooks();
	post_by_threads(2);
	scene_close();
	CHECK(fq_queue_after_fork_child(NULL) == -EINVAL, "NULL");
	return 0;
}

static void without_fds(unsigned flags)
{
	scene_open(flags);
	scene_submit(1);
	CHECK(!scene_signal(1), "post");
	scene_child("without fds", no_fds, NULL);
	CHECK(readable(), "the parent's wake-up");
	scene_expect(1);
	scene_close();
}

/* -- in the midst of a drain, and of another thread's sleep ------------------------------------ */

static pid_t forked = -1;

static void fork_in_handler(struct fq_node *n)
{
	(void)n;
	forked = fork();
	CHECK(forked >= 0, "fork");
	if (!forked) {
		alarm(60);
		hooks();
	}
}

static void inside_a_drain(unsigned flags)
{
	int status;

	scene_open(flags);
	scene_submit(3);
	node = (struct fq_node){.run = fork_in_handler};
	fq_queue_push(scene.queue, &node);
	CHECK(!scene_signal(2), "post");
	(void)fq_queue_drain(scene.queue, FQ_NO_BUDGET);
	CHECK(scene.retired == 2, "%u retired by the drain that forked", scene.retired);
	post_by_threads(5);
	scene_close();
	if (!forked)
		_exit(0);
	CHECK(waitpid(forked, &status, 0) == forked && !status, "child: %#x", (unsigned)status);
}

static pthread_mutex_t big_lock = PTHREAD_MUTEX_INITIALIZER;

static void *sleep_and_drain(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&big_lock);
	while (!atomic_load(&stop)) {
		struct pollfd pfd = {.fd = fq_queue_fd(scene.queue), .events = POLLIN};
		struct fq_waiter waiter = {false};

		if (fq_queue_prepare(scene.queue, &waiter)) {
			atomic_fetch_add(&parked, 1);
			pthread_mutex_unlock(&big_lock);
			(void)poll(&pfd, 1, -1);
			pthread_mutex_lock(&big_lock);
			fq_queue_check(scene.queue, &waiter);
		}
		(void)fq_queue_drain(scene.queue, FQ_NO_BUDGET);
	}
	pthread_mutex_unlock(&big_lock);
	return NULL;
}

static void while_the_loop_sleeps(void)
{
	static unsigned generations = 2;
	pthread_t thread;

	scene_open(FQ_QUEUE_HOOKS);
	atomic_store(&stop, false);
	atomic_store(&parked, 0);
	CHECK(!pthread_create(&thread, NULL, sleep_and_drain, NULL), "thread");
	while (!atomic_load(&parked))
		sched_yield();
	pthread_mutex_lock(&big_lock);
	scene_child("while the loop sleeps", go_on, &generations);
	atomic_store(&stop, true);
	scene_submit(1);
	CHECK(!scene_signal(1), "post");
	pthread_mutex_unlock(&big_lock);
	pthread_join(thread, NULL);
	scene_close();
}

int main(void)
{
	static const unsigned flags[] = {0, FQ_QUEUE_HOOKS, FQ_QUEUE_PIPE};

	if (WATCHED_BY_TSAN) {
		/* glibc gives threads of a child the stacks of threads it does not have. */
		puts("ThreadSanitizer dies of it: not tried");
		return SKIPPED;
	}
	for (unsigned i = 0; i < 3; i++) {
		while_posters_post(flags[i]);
		without_fds(flags[i] & FQ_QUEUE_PIPE);
		inside_a_drain(flags[i]);
	}
	fd_is_the_childs_own(0);
	fd_is_the_childs_own(FQ_QUEUE_PIPE);
	while_registered_threads_read();
	forked_by_a_registered_thread();
	after_a_budget_stop();
	unplugged_before();
	while_the_loop_sleeps();
	puts("ok");
	return 0;
}
