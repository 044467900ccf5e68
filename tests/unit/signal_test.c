/* SPDX-License-Identifier: MIT */
/* What posters may get wrong, each with its errno, its counter, and no effect on anybody. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include <fenceq/fenceq.h>

#include "host.h"
#include "unit.h"

#define CTX 7u
#define RING 3u

static struct host host;
static struct fq_fence fence[8], bystander;

/* A fence that nobody ever completes, and one context with one ring. */
static void setup(void)
{
	memset(fence, 0, sizeof(fence));
	memset(&bystander, 0, sizeof(bystander));
	host_open(&host, 0);
	cr_assert_eq(fq_submit(host.dev, CTX, RING, &bystander), 0);
}

/* Whatever a test did: the bystander is still pending, and its own signal still works. */
static void teardown(void)
{
	unsigned retired = host.count;

	if (!host.dev)
		return;
	cr_expect_eq(fq_signal(host.handle, CTX, RING, bystander.token), 0);
	(void)fq_queue_drain(host.q, FQ_NO_BUDGET);
	cr_expect_eq(host.count, retired + 1);
	cr_expect_eq(host.log[retired].fence, &bystander);
	host_close(&host);
}

TestSuite(signal, .init = setup, .fini = teardown, .timeout = 60);

static void expect_silence(void)
{
	cr_assert_not(readable(host.q), "a refused signal woke the owner");
	cr_assert_not(fq_queue_pending(host.q));
	(void)fq_queue_drain(host.q, FQ_NO_BUDGET);
	cr_assert_eq(host.count, 0);
}

/* All four ways to signal by handle. */
static void expect_refused(fq_handle_t handle, int err)
{
	cr_assert_eq(fq_signal(handle, CTX, RING, 1), err, "handle %llx",
		     (unsigned long long)handle);
	cr_assert_eq(fq_signal_global(handle, 1), err);
	cr_assert_eq(fq_signal32(handle, CTX, RING, 1), err);
	cr_assert_eq(fq_signal_global32(handle, 1), err);
}

Test(signal, null_handle)
{
	const uint64_t before = process_stats().refused_handle;

	expect_refused(0, -EINVAL);
	cr_assert_eq(process_stats().refused_handle, before + 4);
	expect_silence();
}

/* Whatever the 64 bits are: refused, counted once, no memory touched that is not ours. */
Test(signal, foreign_handles)
{
	const struct fq_process_stats before = process_stats();
	uint64_t x = 88172645463325252u, tried = 0;
	struct fq_process_stats after;

	for (unsigned i = 0; i < 20000; i++) {
		const uint64_t value = i < 128 ? UINT64_C(1) << (i / 2) : x >> (i % 48);
		const fq_handle_t handle = i & 1 ? value : value - 1;
		int err;

		x ^= x << 13, x ^= x >> 7, x ^= x << 17; /* G. Marsaglia's xorshift, 2003 */
		if (handle == host.handle)
			continue;
		tried++;
		err = fq_signal(handle, CTX, RING, bystander.token);
		cr_assert(err == -EINVAL || err == -ENODEV, "%llx: %d", (unsigned long long)handle,
			  err);
	}
	after = process_stats();
	cr_assert_eq(after.refused_handle + after.refused_gone,
		     before.refused_handle + before.refused_gone + tried);
	expect_silence();
}

Test(signal, right_index_wrong_generation)
{
	const struct fq_process_stats before = process_stats();

	for (unsigned bit = 10; bit < 64; bit++) {
		int err = fq_signal(host.handle ^ UINT64_C(1) << bit, CTX, RING, bystander.token);

		cr_assert(err == -EINVAL || err == -ENODEV, "bit %u: %d", bit, err);
	}
	cr_assert_eq(process_stats().refused_handle + process_stats().refused_gone,
		     before.refused_handle + before.refused_gone + 54);
	expect_silence();
}

Test(signal, stale_handle)
{
	const uint64_t before = process_stats().refused_gone;
	const fq_handle_t stale = host.handle;
	static struct host other;

	host_attach(&other, host.q, 0);
	cr_assert_neq(other.handle, stale);
	cr_assert_eq(fq_device_destroy(other.dev), 0);
	expect_refused(other.handle, -ENODEV);
	cr_assert_eq(process_stats().refused_gone, before + 4);
	expect_silence();
}

Test(signal, ring_too_high)
{
	static const uint32_t ring[] = {64, 65, 255, 256 + RING, UINT32_MAX};

	for (unsigned i = 0; i < 5; i++) {
		cr_assert_eq(fq_signal(host.handle, CTX, ring[i], 1), -EINVAL);
		cr_assert_eq(fq_signal32(host.handle, CTX, ring[i], 1), -EINVAL);
		cr_assert_eq(fq_submit(host.dev, CTX, ring[i], &fence[0]), -EINVAL);
	}
	cr_assert_eq(device_stats(host.dev).refused_invalid, 10);
	cr_assert_eq(device_stats(host.dev).submit_errors, 5);
	cr_assert_eq(device_stats(host.dev).submitted, 1);
	expect_silence();
}

Test(signal, unknown_context)
{
	static const uint32_t ctx[] = {0, CTX - 1, CTX + 1, CTX << 16, UINT32_MAX};

	for (unsigned i = 0; i < 5; i++) {
		cr_assert_eq(fq_signal(host.handle, ctx[i], RING, 1), -ENOENT);
		cr_assert_eq(fq_signal32(host.handle, ctx[i], RING, 1), -ENOENT);
	}
	cr_assert_eq(device_stats(host.dev).refused_unknown, 10);
	cr_assert_eq(device_stats(host.dev).contexts, 1, "a signal creates nothing");
	expect_silence();
}

Test(signal, ring_never_submitted)
{
	for (uint32_t ring = 0; ring < FQ_RINGS; ring++) {
		if (ring != RING)
			cr_assert_eq(fq_signal(host.handle, CTX, ring, 1), -ENOENT);
	}
	cr_assert_eq(device_stats(host.dev).refused_unknown, 63);
	cr_assert_eq(device_stats(host.dev).timelines, 2);
	cr_assert_eq(fq_signal_global(host.handle, 1), -ERANGE);
	cr_assert_eq(device_stats(host.dev).refused_range, 1);
	expect_silence();
}

Test(signal, bad_tokens)
{
	cr_assert_eq(fq_signal(host.handle, CTX, RING, 0), -EINVAL);
	cr_assert_eq(fq_signal_global(host.handle, 0), -EINVAL);
	cr_assert_eq(fq_signal32(host.handle, CTX, RING, 0), -EINVAL);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, bystander.token + 1), -ERANGE);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, UINT64_C(1) << 63), -ERANGE);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, UINT64_MAX), -ERANGE);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, bystander.token | UINT64_C(1) << 63),
		     -ERANGE);
	cr_assert_eq(fq_signal32(host.handle, CTX, RING, UINT32_MAX), -ERANGE);
	cr_assert_eq(device_stats(host.dev).refused_invalid, 3);
	cr_assert_eq(device_stats(host.dev).refused_range, 5);
	expect_silence();
}

Test(signal, bad_submits)
{
	struct fq_timeline *tl;

	cr_assert_eq(fq_submit(NULL, CTX, RING, &fence[0]), -EINVAL);
	cr_assert_eq(fq_submit(host.dev, CTX, RING, NULL), -EINVAL);
	cr_assert_eq(fq_submit_id(NULL, CTX, RING, &fence[0], 5), -EINVAL);
	cr_assert_eq(fq_submit_id(host.dev, CTX, RING, NULL, 5), -EINVAL);
	cr_assert_eq(fq_submit_global(NULL, &fence[0]), -EINVAL);
	cr_assert_eq(fq_submit_global(host.dev, NULL), -EINVAL);
	cr_assert_eq(fq_submit_global_id(NULL, &fence[0], 5), -EINVAL);
	cr_assert_eq(fq_submit_global_id(host.dev, NULL, 5), -EINVAL);
	cr_assert_eq(fq_device_timeline(NULL, CTX, RING, &tl), -EINVAL);
	cr_assert_eq(fq_device_timeline(host.dev, CTX, RING, NULL), -EINVAL);
	cr_assert_eq(fq_device_timeline(host.dev, CTX, FQ_RINGS, &tl), -EINVAL);
	cr_assert_eq(device_stats(host.dev).submitted, 1);
	expect_silence();
}

/* Trap 12: the low halves of tokens, on both sides of 2^32. */
static void widen_across(uint64_t start, int (*signal)(uint32_t))
{
	unsigned from = host.count;

	for (unsigned i = 0; i < 6; i++) {
		cr_assert_eq(fence[i].token, start + i);
		cr_assert_eq(signal((uint32_t)(start + i)), 0);
		cr_assert_eq(fq_queue_drain(host.q, FQ_NO_BUDGET), 1);
		cr_assert_eq(host.log[from + i].fence, &fence[i]);
		/* Never given out: at most covered by chance, by 2^32 ids below. */
		(void)signal((uint32_t)(start + 6));
		cr_assert_eq(fq_queue_drain(host.q, FQ_NO_BUDGET), 0);
	}
}

static int signal_ring32(uint32_t token)
{
	return fq_signal32(host.handle, CTX, RING + 1, token);
}

static int signal_global32(uint32_t token)
{
	return fq_signal_global32(host.handle, token);
}

Test(signal, narrow_ids_are_widened)
{
	static const uint64_t start[] = {(UINT64_C(1) << 32) - 3, (UINT64_C(3) << 32) - 1,
					 (UINT64_C(5) << 32) - 2, (UINT64_C(1) << 61) - 4};
	struct fq_device *dev = host.dev;

	for (unsigned s = 0; s < 4; s++) {
		cr_assert_eq(fq_submit_id(dev, CTX, RING + 1, &fence[0], start[s]), 0);
		submit_all(&host, CTX, RING + 1, &fence[1], 5);
		widen_across(start[s], signal_ring32);
		cr_assert_eq(host.count, 6 * (s + 1));
	}
	cr_assert_eq(fq_submit_global_id(dev, &fence[0], start[0]), 0);
	for (unsigned i = 1; i < 6; i++)
		cr_assert_eq(fq_submit_global(dev, &fence[i]), 0);
	widen_across(start[0], signal_global32);
	host.count = 0;
}

Test(signal, errno_is_kept)
{
	cr_assert_eq(fq_submit_global(host.dev, &fence[0]), 0);
	errno = EXDEV;
	cr_assert_eq(fq_signal(0, 1, 1, 1), -EINVAL);
	cr_assert_eq(errno, EXDEV);
	cr_assert_eq(fq_signal(host.handle, 1, 1, 1), -ENOENT);
	cr_assert_eq(errno, EXDEV);
	cr_assert_eq(fq_signal_global(host.handle, fence[0].token), 0); /* writes the fd */
	cr_assert_eq(errno, EXDEV);
	cr_assert_eq(fq_signal_global(host.handle, fence[0].token), 0);
	cr_assert_eq(errno, EXDEV);
	cr_assert(readable(host.q));
	cr_assert_eq(fq_queue_drain(host.q, FQ_NO_BUDGET), 1);
	host.count = 0;
}

static atomic_bool doomed, signalled;

static void *signal_while_doomed(void *arg)
{
	(void)arg;
	while (!atomic_load(&doomed))
		;
	if (!fq_signal(host.handle, CTX, RING + 1, fence[0].token))
		atomic_store(&signalled, true);
	pthread_testcancel();
	return NULL;
}

Test(signal, no_cancellation_point)
{
	pthread_t thread;
	void *end;

	atomic_store(&doomed, false);
	atomic_store(&signalled, false);
	cr_assert_eq(fq_submit(host.dev, CTX, RING + 1, &fence[0]), 0);
	cr_assert_eq(pthread_create(&thread, NULL, signal_while_doomed, NULL), 0);
	cr_assert_eq(pthread_cancel(thread), 0);
	atomic_store(&doomed, true);
	pthread_join(thread, &end);
	cr_assert_eq(end, PTHREAD_CANCELED);
	cr_assert(atomic_load(&signalled), "cancelled inside");
	cr_assert(readable(host.q));
	cr_assert_eq(fq_queue_drain(host.q, FQ_NO_BUDGET), 1);
	host.count = 0;
}
