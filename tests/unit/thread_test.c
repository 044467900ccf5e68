/* SPDX-License-Identifier: MIT */
/* Threads that the library knows, that it does not know, and that the host has told liburcu of. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include <fenceq/fenceq.h>
#include <urcu/urcu-memb.h>

#include "host.h"
#include "unit.h"

#define CTX 7u
#define RING 3u

static struct host host;
static struct fq_fence fence[64];

static void setup(void)
{
	memset(fence, 0, sizeof(fence));
	host_open(&host, 0);
}

static void teardown(void)
{
	if (host.dev)
		host_close(&host);
}

TestSuite(thread, .init = setup, .fini = teardown, .timeout = 60);

static void run(void *(*f)(void *), void *arg)
{
	pthread_t thread;
	void *failed;

	cr_assert_eq(pthread_create(&thread, NULL, f, arg), 0);
	pthread_join(thread, &failed);
	cr_assert_null(failed, "line %d", (int)(intptr_t)failed);
}

/* Asserts belong to the test's own thread; others return the line. */
#define CHECK(condition)                                   \
	do {                                               \
		if (!(condition))                          \
			return (void *)(intptr_t)__LINE__; \
	} while (0)

static void *nest(void *arg)
{
	(void)arg;
	CHECK(!fq_thread_registered());
	CHECK(fq_thread_unregister() == -EPERM);
	for (unsigned i = 0; i < 3; i++) {
		CHECK(!fq_thread_register());
		CHECK(fq_thread_registered());
	}
	for (unsigned i = 0; i < 3; i++) {
		CHECK(fq_thread_registered());
		CHECK(!fq_thread_unregister());
	}
	CHECK(!fq_thread_registered());
	CHECK(fq_thread_unregister() == -EPERM);
	CHECK(!fq_thread_registered());
	return NULL;
}

Test(thread, registration_nests)
{
	run(nest, NULL);
	run(nest, NULL);
	cr_assert_not(fq_thread_registered(), "another thread's is no business of this one");
}

static int signal_one(const struct fq_fence *f)
{
	return fq_signal(host.handle, CTX, RING, f->token);
}

/* Registered, not yet, and not any more: the same to the poster. */
static void *post_in_every_state(void *arg)
{
	const struct fq_fence *f = arg;

	CHECK(!signal_one(&f[0]));
	CHECK(!fq_thread_register());
	CHECK(!signal_one(&f[1]));
	CHECK(!fq_thread_register());
	CHECK(!signal_one(&f[2]));
	CHECK(!fq_thread_unregister());
	CHECK(!signal_one(&f[3]));
	CHECK(!fq_thread_unregister());
	CHECK(!signal_one(&f[4]));
	CHECK(fq_signal(host.handle, CTX, RING, f[4].token + 1) == -ERANGE);
	CHECK(fq_signal(host.handle + 2048, CTX, RING, 1) == -ENODEV);
	CHECK(!fq_thread_register());
	CHECK(fq_signal(host.handle, CTX, RING, f[4].token + 1) == -ERANGE);
	CHECK(fq_signal(host.handle + 2048, CTX, RING, 1) == -ENODEV);
	CHECK(!fq_thread_unregister());
	return NULL;
}

Test(thread, posts_in_every_state)
{
	const uint64_t before = process_stats().refused_gone;

	submit_all(&host, CTX, RING, fence, 5);
	run(post_in_every_state, fence);
	cr_assert_eq(fq_queue_drain(host.q, FQ_NO_BUDGET), 5);
	expect_retired(&host, 0, fence, 5, 0);
	cr_assert_eq(device_stats(host.dev).refused_range, 2);
	cr_assert_eq(process_stats().refused_gone, before + 2);
}

/* The host uses liburcu itself, on the same thread. */
static void *host_registered(void *arg)
{
	const struct fq_fence *f = arg;

	urcu_memb_register_thread();
	CHECK(!fq_thread_registered());
	CHECK(!signal_one(&f[0]));
	CHECK(!fq_thread_register());
	CHECK(!signal_one(&f[1]));
	CHECK(!fq_thread_unregister());
	/* Still the host's. */
	urcu_memb_read_lock();
	CHECK(urcu_memb_read_ongoing());
	CHECK(!signal_one(&f[2]));
	CHECK(!fq_thread_register());
	CHECK(!signal_one(&f[3]));
	CHECK(urcu_memb_read_ongoing());
	urcu_memb_read_unlock();
	CHECK(!urcu_memb_read_ongoing());
	CHECK(!fq_thread_unregister());
	urcu_memb_unregister_thread();
	return NULL;
}

Test(thread, registered_with_liburcu_by_the_host)
{
	submit_all(&host, CTX, RING, fence, 4);
	run(host_registered, fence);
	cr_assert_eq(fq_queue_drain(host.q, FQ_NO_BUDGET), 4);
	expect_retired(&host, 0, fence, 4, 0);
}

/* As many at once as there are cache lines for readers, and then some. */
static void *post_64(void *arg)
{
	const bool known = *(const bool *)arg;

	if (known)
		CHECK(!fq_thread_register());
	for (unsigned i = 0; i < 64; i++)
		CHECK(!signal_one(&fence[i]));
	if (known)
		CHECK(!fq_thread_unregister());
	return NULL;
}

Test(thread, known_and_unknown_together)
{
	static const bool known[2] = {false, true};
	pthread_t thread[20];

	submit_all(&host, CTX, RING, fence, 64);
	for (unsigned i = 0; i < 20; i++)
		cr_assert_eq(pthread_create(&thread[i], NULL, post_64, (void *)&known[i & 1]), 0);
	while (host.count < 64) {
		cr_assert_eq(fq_queue_wait(host.q, -1), 1);
		(void)fq_queue_drain(host.q, 5);
	}
	for (unsigned i = 0; i < 20; i++) {
		void *failed;

		pthread_join(thread[i], &failed);
		cr_assert_null(failed, "line %d", (int)(intptr_t)failed);
	}
	(void)fq_queue_drain(host.q, FQ_NO_BUDGET);
	expect_retired(&host, 0, fence, 64, 0);
}

/* Trap 9: destroy waits for readers of both kinds; none of them gets in after it. */
static atomic_bool running;
static fq_handle_t doomed;

static void *post_until_gone(void *arg)
{
	int err = 0;

	if (*(const bool *)arg)
		CHECK(!fq_thread_register());
	while (err != -ENODEV) {
		err = fq_signal(doomed, CTX, RING, 1);
		CHECK(!err || err == -ESTALE || err == -ENODEV); /* stale: inside when it closed */
		atomic_store(&running, true);
	}
	if (*(const bool *)arg)
		CHECK(!fq_thread_unregister());
	return NULL;
}

static void destroy_under(const bool *known)
{
	struct fq_queue *q = host.q;
	pthread_t thread[2];

	atomic_store(&running, false);
	doomed = host.handle;
	submit_all(&host, CTX, RING, fence, 1);
	for (unsigned i = 0; i < 2; i++)
		cr_assert_eq(pthread_create(&thread[i], NULL, post_until_gone, (void *)known), 0);
	while (!atomic_load(&running))
		(void)fq_queue_drain(q, FQ_NO_BUDGET);
	cr_assert_eq(fq_device_destroy(host.dev), 0);
	cr_assert_eq(host.count, 1);
	for (unsigned i = 0; i < 2; i++) {
		void *failed;

		pthread_join(thread[i], &failed);
		cr_assert_null(failed, "line %d", (int)(intptr_t)failed);
	}
	host_attach(&host, q, 0);
}

Test(thread, destroy_under_posters)
{
	static const bool known[2] = {false, true};

	for (unsigned i = 0; i < 40; i++)
		destroy_under(&known[i & 1]);
}
