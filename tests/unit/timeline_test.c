/* SPDX-License-Identifier: MIT */
/* What retires, in which order, and what does not (invariant 4). */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>

#include <fenceq/fenceq.h>

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

TestSuite(timeline, .init = setup, .fini = teardown, .timeout = 60);

static unsigned drain(void)
{
	return fq_queue_drain(host.q, FQ_NO_BUDGET);
}

Test(timeline, a_mark_covers_what_is_below)
{
	submit_all(&host, CTX, RING, fence, 5);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[2].token), 0);
	cr_assert(readable(host.q));
	cr_assert_eq(drain(), 3);
	expect_retired(&host, 0, fence, 3, 0);
	cr_assert_eq(fq_device_pending(host.dev), 2);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[0].token), 0, "covered is no error");
	(void)drain();
	cr_assert_eq(host.count, 3);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[4].token), 0);
	cr_assert_eq(drain(), 2);
	expect_retired(&host, 0, fence, 5, 0);
}

/* Signals all of order[], with a drain after each or only at the end. */
static void permutation(const unsigned order[4], bool drain_each)
{
	unsigned from = host.count, most = 0;

	submit_all(&host, CTX, RING, fence, 4);
	for (unsigned i = 0; i < 4; i++) {
		cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[order[i]].token), 0);
		most = order[i] >= most ? order[i] + 1 : most;
		if (!drain_each)
			continue;
		(void)drain();
		expect_retired(&host, from, fence, most, 0);
	}
	(void)drain();
	expect_retired(&host, from, fence, 4, 0);
	cr_assert_eq(fq_device_pending(host.dev), 0);
}

Test(timeline, any_order_of_signals)
{
	for (unsigned n = 0; n < 256; n++) {
		const unsigned order[4] = {n & 3, n >> 2 & 3, n >> 4 & 3, n >> 6 & 3};

		if ((1u << order[0] | 1u << order[1] | 1u << order[2] | 1u << order[3]) != 15)
			continue;
		permutation(order, false);
		permutation(order, true);
	}
}

/* Trap 2. */
Test(timeline, high_water_regression)
{
	submit_all(&host, CTX, RING, fence, 5);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[4].token), 0);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[1].token), 0);
	cr_assert_eq(drain(), 5);
	expect_retired(&host, 0, fence, 5, 0);
}

struct half {
	unsigned first;
	int err;
};

static void *signal_half(void *arg)
{
	struct half *half = arg;

	for (unsigned i = half->first; i < 64; i += 2)
		half->err |= fq_signal(host.handle, CTX, RING, fence[i].token);
	return NULL;
}

Test(timeline, high_water_regression_two_threads)
{
	for (unsigned round = 0; round < 200; round++) {
		struct half even = {0, 0}, odd = {1, 0};
		pthread_t thread[2];

		submit_all(&host, CTX, RING, fence, 64);
		cr_assert_eq(pthread_create(&thread[0], NULL, signal_half, &even), 0);
		cr_assert_eq(pthread_create(&thread[1], NULL, signal_half, &odd), 0);
		(void)drain();
		pthread_join(thread[0], NULL);
		pthread_join(thread[1], NULL);
		(void)drain();
		cr_assert_eq(even.err | odd.err, 0);
		expect_retired(&host, 64 * round, fence, 64, 0);
	}
}

/* Trap 1: one counter for all timelines, as Linux does; ring 0 of a context is not the global. */
Test(timeline, cross_timeline_retirement)
{
	static const struct {
		uint32_t ctx, ring;
	} key[] = {{0, 0}, {0, 1}, {1, 0}, {1, 63}, {UINT32_MAX, 0}};
	struct fq_device *dev = host.dev;

	cr_assert_eq(fq_submit_global_id(dev, &fence[0], 1), 0);
	for (unsigned i = 0; i < 5; i++)
		cr_assert_eq(fq_submit_id(dev, key[i].ctx, key[i].ring, &fence[i + 1], i + 2), 0);
	cr_assert_eq(fq_submit_global_id(dev, &fence[6], 7), 0);
	for (unsigned i = 5; i-- > 0;) {
		cr_assert_eq(fq_signal(host.handle, key[i].ctx, key[i].ring, i + 2), 0);
		cr_assert_eq(drain(), 1);
		cr_assert_eq(host.log[4 - i].fence, &fence[i + 1]);
	}
	cr_assert_eq(fq_signal_global(host.handle, 7), 0);
	cr_assert_eq(drain(), 2);
	cr_assert_eq(host.log[5].fence, &fence[0]);
	cr_assert_eq(host.log[6].fence, &fence[6]);
}

Test(timeline, global_retires_no_context)
{
	cr_assert_eq(fq_submit(host.dev, 0, 0, &fence[0]), 0);
	cr_assert_eq(fq_submit_global(host.dev, &fence[1]), 0);
	cr_assert_eq(fq_signal_global(host.handle, fence[1].token), 0);
	cr_assert_eq(drain(), 1);
	expect_retired(&host, 0, &fence[1], 1, 0);
}

/* Trap 13: the renderer calls back inside its submit, that is before ours has returned to the loop. */
Test(timeline, signal_from_inside_submit)
{
	for (unsigned i = 0; i < 8; i++) {
		cr_assert_eq(fq_submit(host.dev, CTX, RING, &fence[i]), 0);
		cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[i].token), 0);
	}
	cr_assert_eq(drain(), 8);
	expect_retired(&host, 0, fence, 8, 0);
}

Test(timeline, refused_marks_are_left_alone)
{
	struct fq_timeline *tl;

	cr_assert_eq(fq_device_timeline(host.dev, CTX, RING, &tl), 0);
	cr_assert_eq(fq_timeline_signal(tl, 1), -ERANGE, "nothing was submitted");
	submit_all(&host, CTX, RING, fence, 3);
	cr_assert_eq(fq_timeline_token(tl), fence[2].token);
	cr_assert_eq(fq_timeline_signal(tl, fence[1].token), 0);
	cr_assert_eq(fq_timeline_signal(tl, fence[2].token + 1), -ERANGE);
	cr_assert_eq(fq_timeline_signal(tl, UINT64_MAX), -ERANGE);
	cr_assert_eq(fq_timeline_signal(tl, UINT64_C(1) << 63), -ERANGE);
	cr_assert_eq(fq_timeline_signal(tl, FQ_TOKEN_MAX), -ERANGE);
	cr_assert_eq(fq_timeline_signal(tl, 0), -EINVAL);
	cr_assert_eq(fq_timeline_signal(NULL, 1), -EINVAL);
	cr_assert_eq(device_stats(host.dev).refused_range, 5);
	cr_assert_eq(device_stats(host.dev).refused_invalid, 1);
	cr_assert_eq(drain(), 2);
	expect_retired(&host, 0, fence, 2, 0);
	cr_assert_eq(fq_timeline_pending(tl), 1);
	cr_assert_eq(fq_timeline_signal(tl, fence[2].token), 0);
	cr_assert_eq(drain(), 1);
}

Test(timeline, guests_ids_are_only_carried)
{
	static const uint64_t id[] = {0, UINT64_C(1) << 63, UINT64_MAX, 5, 5, 4, 0};

	for (unsigned i = 0; i < 7; i++) {
		fence[i].fence_id = id[i];
		fence[i].tag = &fence[63 - i];
	}
	submit_all(&host, CTX, RING, fence, 7);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[6].token), 0);
	cr_assert_eq(drain(), 7);
	expect_retired(&host, 0, fence, 7, 0);
	for (unsigned i = 0; i < 7; i++) {
		cr_assert_eq(host.log[i].fence_id, id[i]);
		cr_assert_eq(fence[i].tag, &fence[63 - i]);
	}
}

Test(timeline, submit_twice)
{
	cr_assert_eq(fq_submit(host.dev, CTX, RING, &fence[0]), 0);
	cr_assert_eq(fq_submit(host.dev, CTX, RING, &fence[0]), -EBUSY);
	cr_assert_eq(fq_submit(host.dev, CTX, RING + 1, &fence[0]), -EBUSY);
	cr_assert_eq(fq_submit_global(host.dev, &fence[0]), -EBUSY);
	cr_assert_eq(fq_submit_global_id(host.dev, &fence[0], 9), -EBUSY);
	cr_assert_eq(device_stats(host.dev).submit_errors, 4);
	cr_assert_eq(device_stats(host.dev).submitted, 1);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[0].token), 0);
	cr_assert_eq(drain(), 1);
	cr_assert_eq(fq_submit(host.dev, CTX, RING, &fence[0]), 0, "it is the host's again");
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[0].token), 0);
	cr_assert_eq(drain(), 1);
}

Test(timeline, ids_of_the_hosts_choice)
{
	struct fq_device *dev = host.dev;

	cr_assert_eq(fq_submit_id(dev, CTX, RING, &fence[0], 0), -ERANGE);
	cr_assert_eq(fq_submit_id(dev, CTX, RING, &fence[0], FQ_TOKEN_MAX + 1), -ERANGE);
	cr_assert_eq(fq_submit_id(dev, CTX, RING, &fence[0], UINT64_MAX), -ERANGE);
	cr_assert_eq(fq_submit_id(dev, CTX, RING, &fence[0], 10), 0);
	cr_assert_eq(fence[0].token, 10);
	cr_assert_eq(fq_submit_id(dev, CTX, RING, &fence[1], 10), -ERANGE);
	cr_assert_eq(fq_submit_id(dev, CTX, RING, &fence[1], 9), -ERANGE);
	cr_assert_eq(fq_submit(dev, CTX, RING, &fence[1]), 0);
	cr_assert_eq(fence[1].token, 11);
	cr_assert_eq(fq_submit_id(dev, CTX, RING, &fence[2], FQ_TOKEN_MAX), 0);
	cr_assert_eq(fq_submit(dev, CTX, RING, &fence[3]), -EOVERFLOW);
	cr_assert_eq(fq_submit_global_id(dev, &fence[3], 0), -ERANGE);
	cr_assert_eq(device_stats(dev).submit_errors, 7);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, FQ_TOKEN_MAX), 0);
	cr_assert_eq(drain(), 3);
	expect_retired(&host, 0, fence, 3, 0);
}

/* An id between two submitted ones completes those below it. */
Test(timeline, ids_with_gaps)
{
	for (unsigned i = 0; i < 4; i++)
		cr_assert_eq(fq_submit_id(host.dev, CTX, RING, &fence[i], 10 * (i + 1)), 0);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, 9), 0);
	(void)drain();
	cr_assert_eq(host.count, 0);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, 29), 0);
	cr_assert_eq(drain(), 2);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, 41), -ERANGE);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, 40), 0);
	cr_assert_eq(drain(), 2);
	expect_retired(&host, 0, fence, 4, 0);
}

Test(timeline, tokens_beyond_32_bits)
{
	const uint64_t start = (UINT64_C(1) << 32) - 2;

	cr_assert_eq(fq_submit_id(host.dev, CTX, RING, &fence[0], start), 0);
	submit_all(&host, CTX, RING, &fence[1], 5);
	cr_assert_eq(fence[5].token, start + 5);
	for (unsigned i = 0; i < 6; i++) {
		cr_assert_eq(fq_signal(host.handle, CTX, RING, start + i), 0);
		cr_assert_eq(drain(), 1);
	}
	expect_retired(&host, 0, fence, 6, 0);
}

/* Invariant 10: timelines in turn. */
Test(timeline, budget_of_one_alternates)
{
	submit_all(&host, CTX, 0, fence, 8);
	submit_all(&host, CTX + 1, 63, &fence[8], 8);
	cr_assert_eq(fq_signal(host.handle, CTX, 0, fence[7].token), 0);
	cr_assert_eq(fq_signal(host.handle, CTX + 1, 63, fence[15].token), 0);
	for (unsigned i = 0; i < 16; i++) {
		cr_assert_eq(fq_queue_drain(host.q, 1), 1);
		cr_assert(i == 15 || readable(host.q));
	}
	for (unsigned i = 1; i < 16; i++)
		cr_assert_neq(host.log[i].fence < &fence[8], host.log[i - 1].fence < &fence[8],
			      "one had two turns at %u", i);
}

/* A budget that is just enough leaves nothing behind. */
Test(timeline, budget_that_is_just_enough)
{
	submit_all(&host, CTX, RING, fence, 32);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[31].token), 0);
	cr_assert_eq(fq_queue_drain(host.q, 32), 32);
	cr_assert_not(fq_queue_pending(host.q));
	cr_assert_eq(queue_stats(host.q).budget_stops, 0);
	cr_assert_not(readable(host.q));
}

Test(timeline, a_long_one_does_not_starve_the_others)
{
	static struct fq_fence many[400];

	memset(many, 0, sizeof(many));
	submit_all(&host, CTX, 0, many, 400);
	cr_assert_eq(fq_signal(host.handle, CTX, 0, many[399].token), 0);
	cr_assert_eq(fq_queue_drain(host.q, 1), 1);
	submit_all(&host, CTX, 1, fence, 1);
	cr_assert_eq(fq_signal(host.handle, CTX, 1, fence[0].token), 0);
	cr_assert_eq(fq_queue_drain(host.q, 100), 100);
	cr_assert_null(fence[0].timeline, "still waiting after 100 of the other");
	cr_assert_eq(drain(), 300);
}

Test(timeline, held_by_a_poster)
{
	struct fq_timeline *tl, *same;

	cr_assert_eq(fq_device_timeline(host.dev, CTX, RING, &tl), 0);
	cr_assert_eq(fq_device_timeline(host.dev, CTX, RING, &same), 0);
	cr_assert_eq(tl, same);
	cr_assert_eq(fq_timeline_token(tl), 0);
	submit_all(&host, CTX, RING, fence, 3);
	cr_assert_eq(fq_timeline_pending(tl), 3);
	cr_assert_eq(fq_timeline_signal(tl, fence[2].token), 0);
	cr_assert_eq(drain(), 3);
	cr_assert_eq(fq_timeline_pending(tl), 0);
	cr_assert_eq(fq_timeline_token(tl), fence[2].token);
	cr_assert_not_null(fq_device_global(host.dev));
	cr_assert_eq(fq_submit_global(host.dev, &fence[3]), 0);
	cr_assert_eq(fq_timeline_signal(fq_device_global(host.dev), fence[3].token), 0);
	cr_assert_eq(drain(), 1);
}

/* One write for a whole arm, whatever is signalled. */
Test(timeline, one_write_per_arm)
{
	for (unsigned round = 1; round <= 10; round++) {
		for (unsigned i = 0; i < 32; i++)
			cr_assert_eq(fq_submit(host.dev, i % 4, i % 8, &fence[i]), 0);
		for (unsigned i = 0; i < 32; i++)
			cr_assert_eq(fq_signal(host.handle, i % 4, i % 8, fence[i].token), 0);
		cr_assert_eq(queue_stats(host.q).notifier_writes, round);
		cr_assert_eq(drain(), 32);
		cr_assert_not(readable(host.q));
	}
}

static unsigned payload;

static void *publish(void *arg)
{
	payload = *(unsigned *)arg;
	return (void *)(intptr_t)fq_signal(host.handle, CTX, RING, fence[0].token);
}

/* What the poster wrote before its signal is there for the retire callback. */
Test(timeline, signal_publishes)
{
	for (unsigned i = 1; i <= 50; i++) {
		pthread_t thread;
		void *err;

		cr_assert_eq(fq_submit(host.dev, CTX, RING, &fence[0]), 0);
		cr_assert_eq(pthread_create(&thread, NULL, publish, &i), 0);
		while (host.count < i) {
			cr_assert_eq(fq_queue_wait(host.q, -1), 1);
			(void)drain();
		}
		cr_assert_eq(payload, i);
		pthread_join(thread, &err);
		cr_assert_null(err);
	}
}
