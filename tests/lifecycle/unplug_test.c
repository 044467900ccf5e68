/* SPDX-License-Identifier: MIT */
/* The end of a device for hosts that must not wait: who frees the memory, and when. */
#define _GNU_SOURCE
#include <errno.h>

#include <fenceq/fenceq.h>

#include "../unit/host.h"
#include "../unit/unit.h"

#define CTX 7u
#define RING 3u

static struct host host, other;
static struct fq_fence fence[32];

struct deferred {
	void (*run)(void *arg);
	void *arg;
	unsigned calls;
};

static struct deferred deferred;

static void setup(void)
{
	memset(fence, 0, sizeof(fence));
	memset(&deferred, 0, sizeof(deferred));
	host_open(&host, 0);
}

static void teardown(void)
{
	if (host.q)
		host_close(&host);
}

TestSuite(unplug, .init = setup, .fini = teardown, .timeout = 60);

static unsigned drain(void)
{
	return fq_queue_drain(host.q, FQ_NO_BUDGET);
}

static void defer(void (*run)(void *arg), void *arg, void *opaque)
{
	struct deferred *d = opaque;

	d->run = run;
	d->arg = arg;
	d->calls++;
}

static void run_deferred(void)
{
	cr_assert_eq(deferred.calls, 1);
	deferred.calls = 0;
	deferred.run(deferred.arg);
}

static void expect_queue_free(void)
{
	host.dev = NULL;
	cr_assert_eq(fq_queue_destroy(host.q), 0);
	host.q = NULL;
}

Test(unplug, retires_and_goes_stale)
{
	const uint64_t gone = process_stats().refused_gone;

	submit_all(&host, CTX, RING, fence, 4);
	cr_assert_eq(fq_submit_global(host.dev, &fence[4]), 0);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[1].token), 0);
	cr_assert_eq(fq_device_unplug(host.dev, defer, &deferred), 0);
	cr_assert_eq(host.count, 5);
	for (unsigned i = 0; i < 5; i++) {
		const struct fq_fence *f = host.log[i].fence;

		cr_assert_eq(host.log[i].status, f == &fence[0] || f == &fence[1] ? 0 : -ENODEV);
	}
	cr_assert_eq(host.flushes, 1);
	cr_assert_eq(deferred.calls, 1, "called before the unplug returned");
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[3].token), -ENODEV);
	cr_assert_eq(fq_signal_global(host.handle, fence[4].token), -ENODEV);
	cr_assert_eq(fq_signal32(host.handle, CTX, RING, (uint32_t)fence[3].token), -ENODEV);
	cr_assert_eq(fq_signal_global32(host.handle, (uint32_t)fence[4].token), -ENODEV);
	cr_assert_eq(process_stats().refused_gone, gone + 4);
	cr_assert_eq(drain(), 0);
	cr_assert_not(readable(host.q));
	cr_assert_eq(fq_queue_destroy(host.q), -EBUSY, "the memory is still there");
	cr_assert_eq(fq_reclaim(), 0, "it is the defer function's");
	run_deferred();
	expect_queue_free();
}

Test(unplug, left_to_reclaim)
{
	submit_all(&host, CTX, RING, fence, 2);
	cr_assert_eq(fq_reclaim(), 0);
	cr_assert_eq(fq_device_unplug(host.dev, NULL, NULL), 0);
	expect_retired(&host, 0, fence, 2, -ENODEV);
	cr_assert_eq(fq_queue_destroy(host.q), -EBUSY);
	host_attach(&other, host.q, 0);
	cr_assert_eq(fq_device_unplug(other.dev, NULL, NULL), 0);
	cr_assert_eq(fq_reclaim(), 2);
	cr_assert_eq(fq_reclaim(), 0);
	expect_queue_free();
}

Test(unplug, bad_input)
{
	cr_assert_eq(fq_device_unplug(NULL, NULL, NULL), -EINVAL);
	cr_assert_eq(fq_device_unplug(NULL, defer, &deferred), -EINVAL);
	cr_assert_eq(deferred.calls, 0);
}

/* A device may come in its place at once, in the same queue, while the memory waits. */
Test(unplug, next_device_at_once)
{
	const fq_handle_t old = host.handle;
	struct fq_queue *q = host.q;
	uint64_t token;

	submit_all(&host, CTX, RING, fence, 1);
	token = fence[0].token;
	cr_assert_eq(fq_device_unplug(host.dev, defer, &deferred), 0);
	host_attach(&host, q, 0);
	cr_assert_neq(host.handle, old);
	submit_all(&host, CTX, RING, fence, 1);
	cr_assert_eq(fq_signal(old, CTX, RING, token), -ENODEV);
	cr_assert_eq(drain(), 0);
	run_deferred();
	cr_assert_eq(fq_signal(old, CTX, RING, token), -ENODEV);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[0].token), 0);
	cr_assert_eq(drain(), 1);
}

/* While its fences are handed back, the device refuses what would begin something new. */
static void use_while_ending(struct host *h, struct fq_fence *f, int status)
{
	struct fq_timeline *tl;

	cr_assert_eq(status, -ENODEV);
	cr_assert_eq(fq_submit(h->dev, CTX, RING, f), -ENODEV);
	cr_assert_eq(fq_submit_global(h->dev, f), -ENODEV);
	cr_assert_eq(fq_submit_id(h->dev, CTX, RING, f, 1000), -ENODEV);
	cr_assert_eq(fq_submit_global_id(h->dev, f, 1000), -ENODEV);
	cr_assert_eq(fq_context_create(h->dev, CTX + 1), -ENODEV);
	cr_assert_eq(fq_device_timeline(h->dev, CTX, RING, &tl), -ENODEV);
	cr_assert_eq(fq_device_reset(h->dev), -ENODEV);
	cr_assert_eq(fq_device_destroy(h->dev), -EBUSY);
	cr_assert_eq(fq_device_unplug(h->dev, defer, &deferred), -EBUSY);
	cr_assert_eq(fq_queue_destroy(h->q), -EBUSY);
	cr_assert_eq(fq_signal(h->handle, CTX, RING, 1), -ENODEV);
	cr_assert_eq(fq_reclaim(), 0);
	(void)fq_queue_drain(h->q, FQ_NO_BUDGET);
}

Test(unplug, what_is_refused_meanwhile)
{
	host.on_retire = use_while_ending;
	submit_all(&host, CTX, RING, fence, 5);
	cr_assert_eq(fq_device_unplug(host.dev, defer, &deferred), 0);
	expect_retired(&host, 0, fence, 5, -ENODEV);
	run_deferred();
	expect_queue_free();
}

/* From inside a callback: everything retires at once, the memory goes when the last call ends. */
static void unplug_inside(struct host *h, struct fq_fence *f, int status)
{
	(void)f;
	(void)status;
	h->on_retire = NULL;
	cr_assert_eq(fq_device_unplug(h->dev, defer, &deferred), 0);
	cr_assert_eq(deferred.calls, 0, "the drain still looks at the device");
	cr_assert_eq(fq_device_pending(h->dev), 0);
}

Test(unplug, from_a_callback_of_a_drain)
{
	host.on_retire = unplug_inside;
	submit_all(&host, CTX, RING, fence, 8);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[3].token), 0);
	cr_assert_eq(drain(), 1, "the rest was retired by the unplug");
	cr_assert_eq(host.count, 8);
	for (unsigned i = 0; i < 8; i++) {
		cr_assert_eq(host.log[i].fence, &fence[i]);
		cr_assert_eq(host.log[i].status, i < 4 ? 0 : -ENODEV);
	}
	run_deferred();
	expect_queue_free();
}

Test(unplug, from_a_callback_of_a_reset)
{
	host.on_retire = unplug_inside;
	submit_all(&host, CTX, RING, fence, 3);
	submit_all(&host, CTX + 1, RING, &fence[3], 3);
	cr_assert_eq(fq_device_reset(host.dev), 0);
	cr_assert_eq(host.count, 6);
	for (unsigned i = 0; i < 6; i++)
		cr_assert_eq(host.log[i].status, -ECONNRESET);
	run_deferred();
	expect_queue_free();
}

static void unplug_in_flush(struct host *h)
{
	h->on_flush = NULL;
	unplug_inside(h, NULL, 0);
}

Test(unplug, from_a_flush)
{
	host.on_flush = unplug_in_flush;
	submit_all(&host, CTX, RING, fence, 3);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[0].token), 0);
	cr_assert_eq(drain(), 1);
	cr_assert_eq(host.count, 3);
	run_deferred();
	expect_queue_free();
}

/* Two devices on a queue, each ends the other one from its callback. */
static void unplug_the_other(struct host *h, struct fq_fence *f, int status)
{
	struct host *victim = h == &host ? &other : &host;

	(void)f;
	(void)status;
	if (victim->dev) {
		struct fq_device *dev = victim->dev;

		victim->dev = NULL;
		cr_assert_eq(fq_device_unplug(dev, NULL, NULL), 0);
		cr_assert_eq(fq_reclaim(), 0, "not inside a drain");
	}
}

Test(unplug, each_other)
{
	host_attach(&other, host.q, 0);
	host.on_retire = other.on_retire = unplug_the_other;
	submit_all(&host, CTX, RING, fence, 3);
	submit_all(&other, CTX, RING, &fence[3], 3);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[1].token), 0);
	cr_assert_eq(fq_signal(other.handle, CTX, RING, fence[4].token), 0);
	(void)drain();
	cr_assert_eq(host.count, 3);
	cr_assert_eq(other.count, 3);
	for (unsigned i = 0; i < 3; i++) {
		cr_assert_eq(host.log[i].fence, &fence[i]);
		cr_assert_eq(host.log[i].status, i < 2 ? 0 : -ENODEV);
		cr_assert_eq(other.log[i].fence, &fence[3 + i]);
		cr_assert_eq(other.log[i].status, i < 2 ? 0 : -ENODEV);
	}
	cr_assert_null(host.dev);
	cr_assert_null(other.dev);
	cr_assert_eq(fq_reclaim(), 2);
	expect_queue_free();
}

/* Slots come round; a handle of each of 3000 lives stays refused. */
Test(unplug, handles_never_come_back)
{
	static fq_handle_t old[3000];
	struct fq_queue *q = host.q;

	for (unsigned i = 0; i < 3000; i++) {
		old[i] = host.handle;
		cr_assert_eq(fq_submit_global(host.dev, &fence[0]), 0);
		cr_assert_eq(fq_device_unplug(host.dev, NULL, NULL), 0);
		if (i % 100 == 0)
			cr_assert_gt(fq_reclaim(), 0);
		host_attach(&host, q, 0);
		cr_assert_eq(fq_submit_global(host.dev, &fence[0]), 0);
		cr_assert_eq(fq_signal_global(old[i], fence[0].token), -ENODEV);
		cr_assert_eq(fq_signal_global(old[i * 7919 % (i + 1)], 1), -ENODEV);
		cr_assert_eq(fq_device_fail(host.dev, -EIO), 0);
	}
	(void)fq_reclaim();
	cr_assert_eq(drain(), 0);
}
