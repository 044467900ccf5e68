/* SPDX-License-Identifier: MIT */
/* A dead renderer, a lost context: one ring, one context or the device fails, and goes on. */
#define _GNU_SOURCE
#include <errno.h>

#include <fenceq/fenceq.h>

#include "../unit/host.h"
#include "../unit/unit.h"

#define CTX 7u
#define RING 3u

static struct host host;
static struct fq_fence fence[32];

/* Two fences on each of: two rings of one context, the same ring of another, the global timeline. */
static void setup(void)
{
	memset(fence, 0, sizeof(fence));
	host_open(&host, 0);
	submit_all(&host, CTX, RING, fence, 2);
	submit_all(&host, CTX, RING + 1, &fence[2], 2);
	submit_all(&host, CTX + 1, RING, &fence[4], 2);
	for (unsigned i = 6; i < 8; i++)
		cr_assert_eq(fq_submit_global(host.dev, &fence[i]), 0);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[0].token), 0);
}

static void teardown(void)
{
	if (host.dev)
		host_close(&host);
}

TestSuite(fail, .init = setup, .fini = teardown, .timeout = 60);

static int signal_fence(unsigned i)
{
	if (i >= 6)
		return fq_signal_global(host.handle, fence[i].token);
	return fq_signal(host.handle, i < 4 ? CTX : CTX + 1, i / 2 == 1 ? RING + 1 : RING,
			 fence[i].token);
}

/* Fences [from, to) have failed, and only they; fence 0 was signalled before. */
static void expect_failed(unsigned from, unsigned to, int status)
{
	cr_assert_eq(host.count, to - from);
	for (unsigned i = 0; i < host.count; i++) {
		const struct host_entry *e = &host.log[i];

		cr_assert_eq(e->status, e->fence == &fence[0] ? 0 : status);
		cr_assert(e->fence >= &fence[from] && e->fence < &fence[to]);
	}
	cr_assert_eq(host.flushes, 1);
	cr_assert_eq(device_stats(host.dev).contexts, 2, "a failure ends no context");
	for (unsigned i = from; i < to; i++)
		cr_assert_eq(signal_fence(i), -ESTALE);
	cr_assert_eq(device_stats(host.dev).refused_stale, to - from);
	cr_assert_eq(fq_device_pending(host.dev), 8 - (to - from));
}

/* The others are as before; the failed ones open anew, and their old tokens mean nothing. */
static void expect_life_goes_on(unsigned from, unsigned to)
{
	static struct fq_fence anew[4];
	uint64_t old = fence[1].token;

	memset(anew, 0, sizeof(anew));
	for (unsigned i = 0; i < 8; i++) {
		if (i < from || i >= to)
			cr_assert_eq(signal_fence(i), 0);
	}
	(void)fq_queue_drain(host.q, FQ_NO_BUDGET);
	cr_assert_eq(host.count, 8);
	submit_all(&host, CTX, RING, anew, 2);
	cr_assert_gt(anew[0].token, old);
	cr_assert_eq(fq_submit_global(host.dev, &anew[2]), 0);
	cr_assert_gt(anew[2].token, fence[7].token);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, old), from == 0 ? -ESTALE : 0);
	cr_assert_eq(fq_queue_drain(host.q, FQ_NO_BUDGET), 0);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, anew[1].token), 0);
	cr_assert_eq(fq_signal_global(host.handle, anew[2].token), 0);
	cr_assert_eq(fq_queue_drain(host.q, FQ_NO_BUDGET), 3);
}

Test(fail, one_ring)
{
	cr_assert_eq(fq_ring_fail(host.dev, CTX, RING, -EIO), 0);
	expect_failed(0, 2, -EIO);
	expect_life_goes_on(0, 2);
}

Test(fail, one_context)
{
	cr_assert_eq(fq_context_fail(host.dev, CTX, -EOWNERDEAD), 0);
	expect_failed(0, 4, -EOWNERDEAD);
	expect_life_goes_on(0, 4);
}

Test(fail, global_timeline)
{
	cr_assert_eq(fq_global_fail(host.dev, -EIO), 0);
	expect_failed(6, 8, -EIO);
	expect_life_goes_on(6, 8);
}

Test(fail, whole_device)
{
	cr_assert_eq(fq_device_fail(host.dev, -EIO), 0);
	expect_failed(0, 8, -EIO);
	expect_life_goes_on(0, 8);
}

/* Nothing pending, nothing submitted since: no callback, no flush, no second status. */
Test(fail, twice)
{
	cr_assert_eq(fq_device_fail(host.dev, -EIO), 0);
	cr_assert_eq(fq_device_fail(host.dev, -EPIPE), 0);
	cr_assert_eq(fq_context_fail(host.dev, CTX, -EPIPE), 0);
	cr_assert_eq(fq_ring_fail(host.dev, CTX, RING, -EPIPE), 0);
	cr_assert_eq(fq_global_fail(host.dev, -EPIPE), 0);
	expect_failed(0, 8, -EIO);
}

Test(fail, bad_input)
{
	static const int status[] = {0, 1, EIO, INT32_MAX};

	for (unsigned i = 0; i < 4; i++) {
		cr_assert_eq(fq_ring_fail(host.dev, CTX, RING, status[i]), -EINVAL);
		cr_assert_eq(fq_global_fail(host.dev, status[i]), -EINVAL);
		cr_assert_eq(fq_context_fail(host.dev, CTX, status[i]), -EINVAL);
		cr_assert_eq(fq_device_fail(host.dev, status[i]), -EINVAL);
	}
	cr_assert_eq(fq_ring_fail(NULL, CTX, RING, -EIO), -EINVAL);
	cr_assert_eq(fq_global_fail(NULL, -EIO), -EINVAL);
	cr_assert_eq(fq_context_fail(NULL, CTX, -EIO), -EINVAL);
	cr_assert_eq(fq_device_fail(NULL, -EIO), -EINVAL);
	cr_assert_eq(fq_ring_fail(host.dev, CTX, 64, -EIO), -EINVAL);
	cr_assert_eq(fq_ring_fail(host.dev, CTX, UINT32_MAX, -EIO), -EINVAL);
	cr_assert_eq(fq_ring_fail(host.dev, CTX, RING + 2, -EIO), -ENOENT);
	cr_assert_eq(fq_ring_fail(host.dev, CTX + 2, RING, -EIO), -ENOENT);
	cr_assert_eq(fq_context_fail(host.dev, CTX + 2, -EIO), -ENOENT);
	cr_assert_eq(host.count, 0);
	cr_assert_eq(fq_device_pending(host.dev), 8);
	cr_assert_eq(device_stats(host.dev).contexts, 2, "a refused failure creates nothing");
}

/* Any negative number is the host's to choose. */
Test(fail, status_is_carried)
{
	cr_assert_eq(fq_ring_fail(host.dev, CTX + 1, RING, INT32_MIN), 0);
	expect_retired(&host, 0, &fence[4], 2, INT32_MIN);
}

/* Trap 3: a fence whose creation failed in the renderer is answered, not parked for ever. */
Test(fail, trap_3_creation_failed)
{
	struct fq_pending oldest;

	cr_assert_eq(fq_submit(host.dev, CTX + 2, 0, &fence[8]), 0);
	/* ... the renderer says no ... */
	cr_assert_eq(fq_ring_fail(host.dev, CTX + 2, 0, -ENOMEM), 0);
	expect_retired(&host, 0, &fence[8], 1, -ENOMEM);
	cr_assert_eq(fq_device_fail(host.dev, -EIO), 0);
	cr_assert_not(fq_device_oldest(host.dev, &oldest));
}

/* The drain that had begun with a timeline goes on with what is left: nothing. */
static void fail_own_ring(struct host *h, struct fq_fence *f, int status)
{
	(void)f;
	(void)status;
	h->on_retire = NULL;
	cr_assert_eq(fq_ring_fail(h->dev, CTX, RING, -EIO), 0);
	cr_assert_eq(h->count, 20);
}

Test(fail, from_its_own_callback)
{
	submit_all(&host, CTX, RING, &fence[8], 18);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[10].token), 0);
	host.on_retire = fail_own_ring;
	cr_assert_eq(fq_queue_drain(host.q, FQ_NO_BUDGET), 1);
	for (unsigned i = 0; i < 20; i++) {
		const struct fq_fence *f = i < 2 ? &fence[i] : &fence[6 + i];

		cr_assert_eq(host.log[i].fence, f);
		cr_assert_eq(host.log[i].status, i < 5 ? 0 : -EIO);
	}
	cr_assert_eq(fq_queue_drain(host.q, FQ_NO_BUDGET), 0);
	cr_assert_eq(host.flushes, 1);
}

/* A new life that is failed in turn while the fences of the old one are still being handed back. */
static void next_life_fails_too(struct host *h, struct fq_fence *f, int status)
{
	(void)f;
	(void)status;
	h->on_retire = NULL;
	submit_all(h, CTX, RING, &fence[8], 3);
	cr_assert_eq(fq_signal(h->handle, CTX, RING, fence[8].token), 0);
	cr_assert_eq(fq_ring_fail(h->dev, CTX, RING, -EPIPE), 0);
	cr_assert_eq(h->count, 5, "what is older comes first");
}

Test(fail, each_life_has_its_status)
{
	static const int expected[] = {0, -EIO, 0, -EPIPE, -EPIPE};

	host.on_retire = next_life_fails_too;
	cr_assert_eq(fq_ring_fail(host.dev, CTX, RING, -EIO), 0);
	cr_assert_eq(host.count, 5);
	for (unsigned i = 0; i < 5; i++) {
		cr_assert_eq(host.log[i].fence, i < 2 ? &fence[i] : &fence[6 + i]);
		cr_assert_eq(host.log[i].status, expected[i]);
	}
}
