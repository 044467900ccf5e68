/* SPDX-License-Identifier: MIT */
/* The guest resets the device: what is pending retires, what renderers still say is refused. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>

#include <fenceq/fenceq.h>

#include "../unit/host.h"
#include "../unit/unit.h"

#define CTX 7u
#define RING 3u

static struct host host;
static struct fq_fence fence[32];

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

TestSuite(reset, .init = setup, .fini = teardown, .timeout = 60);

static unsigned drain(void)
{
	return fq_queue_drain(host.q, FQ_NO_BUDGET);
}

/* What the mark covers is complete; the rest never will be. */
Test(reset, retires_everything)
{
	struct fq_device_stats s;

	submit_all(&host, CTX, RING, fence, 6);
	submit_all(&host, CTX, 63, &fence[6], 2);
	submit_all(&host, CTX + 1, 0, &fence[8], 2);
	for (unsigned i = 10; i < 13; i++)
		cr_assert_eq(fq_submit_global(host.dev, &fence[i]), 0);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[1].token), 0);
	cr_assert_eq(fq_signal_global(host.handle, fence[10].token), 0);
	cr_assert_eq(fq_device_reset(host.dev), 0);
	cr_assert_eq(host.count, 13);
	for (unsigned i = 0; i < 13; i++) {
		const struct fq_fence *f = host.log[i].fence;
		bool complete = f == &fence[0] || f == &fence[1] || f == &fence[10];

		cr_assert_eq(host.log[i].status, complete ? 0 : -ECONNRESET);
		cr_assert_null(f->timeline);
	}
	s = device_stats(host.dev);
	cr_assert_eq(s.contexts, 0);
	cr_assert_eq(s.timelines, 0);
	cr_assert_eq(s.pending, 0);
	cr_assert_eq(s.failed, 10);
	cr_assert_eq(host.flushes, 1, "no drain saw to it");
	(void)drain();
	cr_assert_eq(host.count, 13, "once");
	cr_assert_not(readable(host.q));
}

Test(reset, of_nothing)
{
	cr_assert_eq(fq_device_reset(NULL), -EINVAL);
	cr_assert_eq(fq_device_reset(host.dev), 0);
	cr_assert_eq(fq_device_reset(host.dev), 0);
	cr_assert_eq(host.count, 0);
	cr_assert_eq(host.flushes, 0);
	cr_assert_eq(fq_context_destroy(host.dev, CTX), -ENOENT);
}

/* The handle stays good; the earlier life's tokens do not. */
Test(reset, signals_of_the_earlier_life)
{
	uint64_t old[2], global;

	submit_all(&host, CTX, RING, fence, 2);
	cr_assert_eq(fq_submit_global(host.dev, &fence[2]), 0);
	old[0] = fence[0].token;
	old[1] = fence[1].token;
	global = fence[2].token;
	cr_assert_eq(fq_device_reset(host.dev), 0);
	cr_assert_eq(fq_device_handle(host.dev), host.handle);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, old[1]), -ENOENT);
	cr_assert_eq(fq_signal32(host.handle, CTX, RING, (uint32_t)old[1]), -ENOENT);
	cr_assert_eq(fq_signal_global(host.handle, global), -ESTALE);
	cr_assert_eq(fq_signal_global32(host.handle, (uint32_t)global), -ESTALE);
	cr_assert_eq(device_stats(host.dev).refused_unknown, 2);
	cr_assert_eq(device_stats(host.dev).refused_stale, 2);
	cr_assert_not(readable(host.q), "a refused signal woke the owner");
	/* The guest uses the ids again at once. */
	submit_all(&host, CTX, RING, fence, 2);
	cr_assert_eq(fq_submit_global(host.dev, &fence[2]), 0);
	cr_assert_gt(fence[0].token, old[1]);
	for (unsigned i = 0; i < 2; i++)
		cr_assert_eq(fq_signal(host.handle, CTX, RING, old[i]), -ESTALE);
	cr_assert_eq(fq_signal_global(host.handle, global), -ESTALE);
	cr_assert_eq(device_stats(host.dev).refused_stale, 5);
	cr_assert_eq(drain(), 0);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[1].token), 0);
	cr_assert_eq(fq_signal_global(host.handle, fence[2].token), 0);
	cr_assert_eq(drain(), 3);
	for (unsigned i = 3; i < 6; i++)
		cr_assert_eq(host.log[i].status, 0);
}

/* 300 lives in the same ids; what every earlier one left in flight stays without effect. */
Test(reset, over_and_over)
{
	uint64_t old[300][2];

	for (unsigned life = 0; life < 300; life++) {
		submit_all(&host, CTX, RING, fence, 2);
		submit_all(&host, life, life % FQ_RINGS, &fence[2], 1);
		for (unsigned i = 0; i < 2; i++)
			old[life][i] = fence[i].token;
		for (unsigned i = 0; i < life; i++)
			cr_assert_eq(fq_signal(host.handle, CTX, RING, old[i][life & 1]), -ESTALE);
		cr_assert_eq(drain(), 0);
		cr_assert_eq(fq_device_reset(host.dev), 0);
		cr_assert_eq(host.count, 3);
		host.count = 0;
	}
	cr_assert_eq(device_stats(host.dev).refused_stale, 300 * 299 / 2);
	cr_assert_eq(device_stats(host.dev).retired, 900);
}

/* Held timelines stay valid for as long as the device lives, and refuse. */
Test(reset, held_timeline)
{
	struct fq_timeline *tl, *again;

	cr_assert_eq(fq_device_timeline(host.dev, CTX, RING, &tl), 0);
	submit_all(&host, CTX, RING, fence, 1);
	cr_assert_eq(fq_device_reset(host.dev), 0);
	cr_assert_eq(fq_timeline_signal(tl, fence[0].token), -ESTALE);
	cr_assert_eq(fq_timeline_pending(tl), 0);
	submit_all(&host, CTX + 1, RING, fence, 1); /* may be the same memory */
	cr_assert_eq(fq_device_timeline(host.dev, CTX + 1, RING, &again), 0);
	cr_assert_eq(fq_timeline_signal(again, fence[0].token), 0);
	cr_assert_eq(drain(), 1);
}

/* 32-bit ids are widened against the last submitted one, and that is of the new life. */
Test(reset, ids_of_32_bits)
{
	const uint64_t edge = UINT64_C(1) << 32;

	cr_assert_eq(fq_submit_id(host.dev, CTX, RING, &fence[0], edge - 2), 0);
	cr_assert_eq(fq_submit_global_id(host.dev, &fence[1], edge - 1), 0);
	cr_assert_eq(fq_device_reset(host.dev), 0);
	submit_all(&host, CTX, RING, &fence[2], 3);
	cr_assert_eq(fence[2].token, edge, "above every token of an earlier life");
	cr_assert_eq(fq_signal32(host.handle, CTX, RING, UINT32_MAX - 1), -ESTALE);
	cr_assert_eq(fq_signal32(host.handle, CTX, RING, UINT32_MAX), -ESTALE);
	cr_assert_eq(drain(), 0);
	cr_assert_eq(fq_signal32(host.handle, CTX, RING, 1), 0);
	cr_assert_eq(drain(), 2);
	cr_assert_eq(fq_submit_global(host.dev, &fence[5]), 0);
	cr_assert_eq(fq_signal_global32(host.handle, UINT32_MAX), -ESTALE);
	cr_assert_eq(fq_signal_global32(host.handle, (uint32_t)fence[5].token), 0);
	cr_assert_eq(drain(), 1);
	cr_assert_eq(host.count, 5);
	cr_assert_eq(host.log[4].fence, &fence[5]);
}

/*
 * Trap 10: a reset that waits for a thread which waits for the resetting thread. Here the poster
 * cannot go on before the reset has returned, whatever it holds.
 */
static pthread_mutex_t host_lock = PTHREAD_MUTEX_INITIALIZER;

static void *signal_under_the_lock(void *arg)
{
	cr_assert_eq(fq_thread_register(), 0);
	pthread_mutex_lock(&host_lock);
	*(int *)arg = fq_signal(host.handle, CTX, RING, fence[0].token);
	pthread_mutex_unlock(&host_lock);
	cr_assert_eq(fq_thread_unregister(), 0);
	return NULL;
}

Test(reset, trap_10_waits_for_nobody)
{
	pthread_t thread;
	int got = 1;

	submit_all(&host, CTX, RING, fence, 1);
	pthread_mutex_lock(&host_lock);
	cr_assert_eq(pthread_create(&thread, NULL, signal_under_the_lock, &got), 0);
	cr_assert_eq(fq_device_reset(host.dev), 0);
	cr_assert_eq(fq_device_unplug(host.dev, NULL, NULL), 0);
	pthread_mutex_unlock(&host_lock);
	cr_assert_eq(pthread_join(thread, NULL), 0);
	cr_assert_eq(got, -ENODEV);
	expect_retired(&host, 0, fence, 1, -ECONNRESET);
	cr_assert_eq(fq_reclaim(), 1);
	host.dev = NULL;
	cr_assert_eq(fq_queue_destroy(host.q), 0);
}

static void submit_again(struct host *h, struct fq_fence *f, int status)
{
	cr_assert_eq(status, -ECONNRESET);
	h->on_retire = NULL;
	cr_assert_eq(device_stats(h->dev).contexts, 0,
		     "all ids are free before the first callback");
	cr_assert_eq(fq_context_create(h->dev, CTX), 0);
	cr_assert_eq(fq_submit(h->dev, CTX, RING, f), 0);
	cr_assert_eq(fq_signal(h->handle, CTX, RING, f->token), 0);
}

/* What a callback of the reset submits belongs to the next life. */
Test(reset, callback_begins_the_next_life)
{
	submit_all(&host, CTX, RING, fence, 3);
	host.on_retire = submit_again;
	cr_assert_eq(fq_device_reset(host.dev), 0);
	cr_assert_eq(host.count, 3);
	cr_assert_eq(fq_device_pending(host.dev), 1);
	cr_assert(readable(host.q));
	cr_assert_eq(drain(), 1);
	cr_assert_eq(host.log[3].fence, &fence[0]);
	cr_assert_eq(host.log[3].status, 0);
}
