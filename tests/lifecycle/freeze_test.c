/* SPDX-License-Identifier: MIT */
/* Between freeze and thaw nothing retires, nothing is lost, and no loop spins. */
#define _GNU_SOURCE
#include <errno.h>

#include <fenceq/fenceq.h>

#include "../unit/host.h"
#include "../unit/unit.h"

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

TestSuite(freeze, .init = setup, .fini = teardown, .timeout = 60);

static unsigned drain(void)
{
	return fq_queue_drain(host.q, FQ_NO_BUDGET);
}

/* A loop that polls the fd would turn how often? Once, not for ever. */
static void expect_quiet(void)
{
	if (readable(host.q))
		cr_assert_eq(drain(), 0);
	cr_assert_not(readable(host.q));
	cr_assert_not(fq_queue_pending(host.q));
}

Test(freeze, bad_input)
{
	cr_assert_eq(fq_device_freeze(NULL), -EINVAL);
	cr_assert_eq(fq_device_thaw(NULL), -EINVAL);
}

Test(freeze, idempotent)
{
	cr_assert_not(fq_device_frozen(host.dev));
	for (unsigned i = 0; i < 2; i++) {
		cr_assert_eq(fq_device_freeze(host.dev), 0);
		cr_assert(fq_device_frozen(host.dev));
	}
	for (unsigned i = 0; i < 2; i++) {
		cr_assert_eq(fq_device_thaw(host.dev), 0);
		cr_assert_not(fq_device_frozen(host.dev));
	}
	expect_quiet();
}

/* Trap 11: completions dropped while the device is suspended. */
Test(freeze, trap_11_nothing_is_lost)
{
	submit_all(&host, CTX, RING, fence, 40);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[2].token), 0);
	cr_assert_eq(fq_device_freeze(host.dev), 0);
	expect_quiet();
	for (unsigned i = 3; i < 30; i++) {
		cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[i].token), 0);
		cr_assert(readable(host.q), "a post wakes as ever");
		expect_quiet();
	}
	cr_assert_eq(host.count, 0);
	cr_assert_eq(host.flushes, 0);
	cr_assert_eq(fq_device_pending(host.dev), 40);
	cr_assert_eq(fq_device_thaw(host.dev), 0);
	cr_assert(readable(host.q), "nobody told the owner what is due");
	cr_assert_eq(drain(), 30);
	expect_retired(&host, 0, fence, 30, 0);
	cr_assert_not(readable(host.q));
}

/* What was submitted in between waits with the rest, each timeline in order. */
Test(freeze, submits_meanwhile)
{
	unsigned next[2] = {0, 32};

	submit_all(&host, CTX, RING, fence, 10);
	cr_assert_eq(fq_device_freeze(host.dev), 0);
	submit_all(&host, CTX, RING, &fence[10], 10);
	submit_all(&host, CTX + 1, 63, &fence[32], 20);
	cr_assert_eq(fq_signal(host.handle, CTX + 1, 63, fence[51].token), 0);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[19].token), 0);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[12].token), 0);
	expect_quiet();
	cr_assert_eq(fq_device_thaw(host.dev), 0);
	cr_assert_eq(drain(), 40);
	for (unsigned i = 0; i < 40; i++) {
		const struct fq_fence *f = host.log[i].fence;

		cr_assert_eq(f, &fence[next[f >= &fence[32]]++], "out of order at %u", i);
		cr_assert_eq(host.log[i].status, 0);
	}
}

/* Thawed between a signal and the drain: as if nothing had been. */
Test(freeze, thawed_before_the_drain)
{
	submit_all(&host, CTX, RING, fence, 2);
	cr_assert_eq(fq_device_freeze(host.dev), 0);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[1].token), 0);
	cr_assert_eq(fq_device_thaw(host.dev), 0);
	cr_assert(readable(host.q));
	cr_assert_eq(drain(), 2);
	expect_quiet();
}

/* What a drain left behind at its budget is not retired either, and does not keep the fd readable. */
Test(freeze, after_a_budget_stop)
{
	submit_all(&host, CTX, RING, fence, 20);
	submit_all(&host, CTX, RING + 1, &fence[20], 20);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[19].token), 0);
	cr_assert_eq(fq_signal(host.handle, CTX, RING + 1, fence[39].token), 0);
	cr_assert_eq(fq_queue_drain(host.q, 7), 7);
	cr_assert(readable(host.q));
	cr_assert_eq(fq_device_freeze(host.dev), 0);
	expect_quiet();
	cr_assert_eq(host.count, 7);
	cr_assert_eq(fq_device_thaw(host.dev), 0);
	cr_assert(readable(host.q));
	for (unsigned left = 33; left; left--) {
		cr_assert(readable(host.q));
		cr_assert_eq(fq_queue_drain(host.q, 1), 1);
	}
	expect_quiet();
	cr_assert_eq(host.count, 40);
}

/* The other devices of the queue run on. */
Test(freeze, one_of_two_devices)
{
	static struct host other;

	host_attach(&other, host.q, 0);
	submit_all(&host, CTX, RING, fence, 2);
	submit_all(&other, CTX, RING, &fence[2], 2);
	cr_assert_eq(fq_device_freeze(host.dev), 0);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[1].token), 0);
	cr_assert_eq(fq_signal(other.handle, CTX, RING, fence[3].token), 0);
	cr_assert_eq(drain(), 2);
	expect_retired(&other, 0, &fence[2], 2, 0);
	cr_assert_eq(host.count, 0);
	cr_assert_eq(fq_device_destroy(other.dev), 0);
	cr_assert_eq(fq_device_thaw(host.dev), 0);
	cr_assert_eq(drain(), 2);
}

/* Failures go through; the mark that came in while frozen counts. */
static void frozen_with(unsigned submitted, unsigned signalled)
{
	submit_all(&host, CTX, RING, fence, submitted);
	cr_assert_eq(fq_device_freeze(host.dev), 0);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[signalled - 1].token), 0);
	expect_quiet();
}

static void expect_failed(unsigned complete, int status)
{
	cr_assert_eq(host.count, 10);
	for (unsigned i = 0; i < 10; i++) {
		cr_assert_eq(host.log[i].fence, &fence[i]);
		cr_assert_eq(host.log[i].status, i < complete ? 0 : status);
	}
	cr_assert_eq(host.flushes, 1);
}

Test(freeze, ring_fails)
{
	frozen_with(10, 4);
	cr_assert_eq(fq_ring_fail(host.dev, CTX, RING, -EIO), 0);
	expect_failed(4, -EIO);
	cr_assert(fq_device_frozen(host.dev));
	submit_all(&host, CTX, RING, &fence[10], 1);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[10].token), 0);
	expect_quiet();
	cr_assert_eq(fq_device_thaw(host.dev), 0);
	cr_assert_eq(drain(), 1);
}

Test(freeze, context_and_device_fail)
{
	frozen_with(10, 3);
	cr_assert_eq(fq_submit_global(host.dev, &fence[10]), 0);
	cr_assert_eq(fq_context_fail(host.dev, CTX, -EIO), 0);
	expect_failed(3, -EIO);
	cr_assert_eq(fq_device_fail(host.dev, -EPIPE), 0);
	expect_retired(&host, 10, &fence[10], 1, -EPIPE);
	expect_quiet();
}

Test(freeze, context_is_destroyed)
{
	frozen_with(10, 9);
	cr_assert_eq(fq_context_destroy(host.dev, CTX), 0);
	expect_failed(9, -ECANCELED);
	cr_assert(fq_device_frozen(host.dev));
}

Test(freeze, reset_thaws)
{
	frozen_with(10, 5);
	cr_assert_eq(fq_device_reset(host.dev), 0);
	expect_failed(5, -ECONNRESET);
	cr_assert_not(fq_device_frozen(host.dev));
	submit_all(&host, CTX, RING, fence, 1);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[0].token), 0);
	cr_assert_eq(drain(), 1);
}

Test(freeze, unplug)
{
	frozen_with(10, 5);
	cr_assert_eq(fq_device_unplug(host.dev, NULL, NULL), 0);
	expect_failed(5, -ENODEV);
	cr_assert_eq(fq_reclaim(), 1);
	host.dev = NULL;
	cr_assert_eq(fq_queue_destroy(host.q), 0);
}

Test(freeze, destroy)
{
	frozen_with(10, 5);
	cr_assert_eq(fq_device_destroy(host.dev), 0);
	expect_failed(5, -ENODEV);
	host.dev = NULL;
	cr_assert_eq(fq_queue_destroy(host.q), 0);
}

/* From inside a retire callback it takes effect with the next fence. */
static void freeze_inside(struct host *h, struct fq_fence *f, int status)
{
	(void)f;
	(void)status;
	if (h->count == 3)
		cr_assert_eq(fq_device_freeze(h->dev), 0);
}

Test(freeze, from_a_callback)
{
	host.on_retire = freeze_inside;
	submit_all(&host, CTX, RING, fence, 10);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[9].token), 0);
	cr_assert_eq(drain(), 3);
	expect_quiet();
	cr_assert_eq(fq_device_thaw(host.dev), 0);
	cr_assert_eq(drain(), 7);
	expect_retired(&host, 0, fence, 10, 0);
}

/*
 * Thawed where no drain will come by on its own: the owner is told all the same, when the call that
 * the callback belongs to ends.
 */
static void thaw_inside(struct host *h, struct fq_fence *f, int status)
{
	(void)f;
	(void)status;
	cr_assert_eq(fq_device_thaw(h->dev), 0);
}

Test(freeze, thawed_by_a_callback_outside_of_a_drain)
{
	submit_all(&host, CTX, RING, fence, 2);
	submit_all(&host, CTX + 1, RING, &fence[2], 1);
	cr_assert_eq(fq_device_freeze(host.dev), 0);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[1].token), 0);
	expect_quiet();
	host.on_retire = thaw_inside;
	cr_assert_eq(fq_context_destroy(host.dev, CTX + 1), 0);
	cr_assert(readable(host.q), "what is due waits for ever");
	cr_assert_eq(drain(), 2);
	expect_quiet();
}

static struct host thawer;

static void thaw_the_other(struct host *h)
{
	(void)h;
	cr_assert_eq(fq_device_thaw(host.dev), 0);
}

Test(freeze, thawed_by_a_flush)
{
	host_attach(&thawer, host.q, 0);
	submit_all(&host, CTX, RING, fence, 2);
	submit_all(&thawer, CTX, RING, &fence[2], 1);
	cr_assert_eq(fq_device_freeze(host.dev), 0);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[1].token), 0);
	expect_quiet();
	thawer.on_flush = thaw_the_other;
	cr_assert_eq(fq_signal(thawer.handle, CTX, RING, fence[2].token), 0);
	cr_assert_eq(drain(), 1);
	cr_assert(readable(host.q), "what is due waits for ever");
	cr_assert_eq(drain(), 2);
	expect_quiet();
	cr_assert_eq(fq_device_destroy(thawer.dev), 0);
}

/* A loop with hooks must not go to sleep on what the thaw made due. */
Test(freeze, thaw_with_hooks)
{
	struct fq_waiter w = {false};
	struct fq_queue *q;

	host_close(&host);
	cr_assert_eq(fq_queue_create(&q, FQ_QUEUE_HOOKS), 0);
	host_attach(&host, q, 0);
	submit_all(&host, CTX, RING, fence, 10);
	cr_assert_eq(fq_device_freeze(host.dev), 0);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[9].token), 0);
	cr_assert_not(fq_queue_prepare(q, &w), "something was posted");
	cr_assert_eq(fq_queue_poll(q, FQ_NO_BUDGET), 0);
	cr_assert(fq_queue_prepare(q, &w), "nothing is due");
	cr_assert_eq(fq_device_thaw(host.dev), 0);
	cr_assert(readable(q), "another thread thawed it under the host's lock");
	fq_queue_check(q, &w);
	cr_assert_not(fq_queue_prepare(q, &w));
	cr_assert_eq(fq_queue_poll(q, FQ_NO_BUDGET), 10);
	expect_retired(&host, 0, fence, 10, 0);
}
