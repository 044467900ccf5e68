/* SPDX-License-Identifier: MIT */
/* What a host may do inside its retire callback, and what is refused there. */
#define _GNU_SOURCE
#include <errno.h>

#include <fenceq/fenceq.h>

#include "host.h"
#include "unit.h"

#define CTX 7u
#define RING 3u

static struct host host;
static struct fq_fence fence[64];
static unsigned left; /* for hooks that act a number of times */
static unsigned at;   /* for hooks that act once: when so many are retired */
static int got;

static void setup(void)
{
	memset(fence, 0, sizeof(fence));
	left = 0;
	got = 1;
	host_open(&host, 0);
}

static void teardown(void)
{
	if (host.dev)
		host_close(&host);
}

TestSuite(callback, .init = setup, .fini = teardown, .timeout = 60);

static unsigned drain(void)
{
	return fq_queue_drain(host.q, FQ_NO_BUDGET);
}

/* Submits the fence anew and completes it, as a renderer does that answers inside submit. */
static void submit_and_signal(struct host *h, struct fq_fence *f, int status)
{
	(void)status;
	if (!left)
		return;
	left--;
	cr_assert_eq(fq_submit(h->dev, CTX, RING, f), 0);
	cr_assert_eq(fq_signal(h->handle, CTX, RING, f->token), 0);
}

Test(callback, submits_and_signals)
{
	host.on_retire = submit_and_signal;
	left = 100;
	submit_all(&host, CTX, RING, fence, 1);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[0].token), 0);
	cr_assert_eq(drain(), 101);
	cr_assert_eq(host.count, 101);
	cr_assert_eq(host.flushes, 1);
	cr_assert_not(readable(host.q));
}

/* Other timelines have their turn, and the budget holds. */
Test(callback, endless_submits_starve_nobody)
{
	host.on_retire = submit_and_signal;
	left = 1;
	submit_all(&host, CTX, RING, fence, 1);
	submit_all(&host, CTX, RING + 1, &fence[1], 1);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[0].token), 0);
	cr_assert_eq(fq_queue_drain(host.q, 1), 1); /* fence 0, which is submitted again */
	cr_assert_eq(fq_signal(host.handle, CTX, RING + 1, fence[1].token), 0);
	left = 10000;
	cr_assert_eq(fq_queue_drain(host.q, 50), 50);
	cr_assert(readable(host.q));
	left = 0;
	(void)drain();
	for (unsigned i = 1; i < 51; i++) {
		if (host.log[i].fence == &fence[1])
			return;
	}
	cr_assert_fail("the other timeline waited for ever");
}

static void drain_inside(struct host *h, struct fq_fence *f, int status)
{
	(void)f;
	(void)status;
	if (h->count == at)
		got = (int)fq_queue_drain(h->q, left);
}

static void nested(unsigned when, unsigned inner, unsigned expected)
{
	unsigned outer;

	host.count = 0;
	host.on_retire = drain_inside;
	at = when;
	left = inner;
	submit_all(&host, CTX, RING, fence, 40);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[39].token), 0);
	outer = drain();
	cr_assert_eq(got, (int)expected);
	cr_assert_eq(outer, 40 - expected, "each counted once");
	expect_retired(&host, 0, fence, 40, 0);
	/* An inner drain that stopped at its budget made the fd readable; a spurious wake-up now. */
	cr_assert_eq(drain(), 0);
	cr_assert_not(readable(host.q));
}

/* In order and once each, although the inner drain is in the midst of the same timeline. */
Test(callback, drains)
{
	nested(1, FQ_NO_BUDGET, 39);
	nested(3, FQ_NO_BUDGET, 37);
	nested(16, FQ_NO_BUDGET, 24); /* the last of a turn */
	nested(40, FQ_NO_BUDGET, 0);
	nested(3, 5, 5);
	nested(1, 20, 20);
	nested(39, 1, 1);
}

static void poll_inside(struct host *h, struct fq_fence *f, int status)
{
	(void)f;
	(void)status;
	if (h->count == 1)
		got = (int)fq_queue_poll(h->q, FQ_NO_BUDGET);
}

/* What is left of the timeline that the handler came from is there for an inner poll. */
Test(callback, polls)
{
	host.on_retire = poll_inside;
	submit_all(&host, CTX, RING, fence, 3);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[2].token), 0);
	cr_assert_eq(drain(), 1);
	cr_assert_eq(got, 2);
	expect_retired(&host, 0, fence, 3, 0);
}

static unsigned refused, flushed;

/* An inner loop with hooks, which asks whether it may sleep before it drains. */
static void sleep_inside(struct host *h, struct fq_fence *f, int status)
{
	struct fq_waiter waiter = {false};

	(void)f;
	(void)status;
	if (h->count != 1)
		return;
	for (; refused < 8 && !fq_queue_prepare(h->q, &waiter); refused++) {
		cr_assert(fq_queue_pending(h->q));
		(void)fq_queue_drain(h->q, 1);
	}
	flushed = h->flushes;
	fq_queue_check(h->q, &waiter);
}

static void expect_refused(unsigned fences, unsigned times)
{
	struct host h;

	host_open(&h, FQ_QUEUE_HOOKS);
	cr_assert_eq(fq_context_create(h.dev, CTX), 0);
	h.on_retire = sleep_inside;
	refused = flushed = 0;
	submit_all(&h, CTX, RING, fence, fences);
	cr_assert_eq(fq_signal(h.handle, CTX, RING, fence[fences - 1].token), 0);
	(void)fq_queue_drain(h.q, FQ_NO_BUDGET);
	expect_retired(&h, 0, fence, fences, 0);
	cr_assert_eq(refused, times, "%u", refused);
	cr_assert_gt(flushed, 0, "asleep, and what has retired is not published");
	host_close(&h);
}

/* It sleeps when all is retired that was signalled, and the guest has been told of it. */
Test(callback, sleeps_when_all_is_done)
{
	expect_refused(3, 2);
	expect_refused(1, 1);
}

static void destroy_own_context(struct host *h, struct fq_fence *f, int status)
{
	(void)f;
	(void)status;
	if (h->count == 3)
		got = fq_context_destroy(h->dev, CTX);
}

Test(callback, destroys_its_own_context)
{
	host.on_retire = destroy_own_context;
	submit_all(&host, CTX, RING, fence, 20);
	cr_assert_eq(fq_submit(host.dev, CTX + 1, RING, &fence[20]), 0);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[9].token), 0);
	cr_assert_eq(drain(), 3);
	cr_assert_eq(got, 0);
	cr_assert_eq(host.count, 20);
	for (unsigned i = 0; i < 20; i++) {
		cr_assert_eq(host.log[i].fence, &fence[i]);
		cr_assert_eq(host.log[i].status, i < 10 ? 0 : -ECANCELED);
	}
	cr_assert_eq(host.flushes, 1, "inside a drain the drain sees to it");
	cr_assert_eq(fq_device_pending(host.dev), 1);
}

/* ... and uses its id again at once, in the same memory. */
static void begin_new_life(struct host *h, struct fq_fence *f, int status)
{
	if (h->count != 3)
		return;
	destroy_own_context(h, f, status);
	submit_all(h, CTX, RING, &fence[30], 4);
	cr_assert_eq(fq_signal(h->handle, CTX, RING, fence[31].token), 0);
}

Test(callback, begins_a_new_life)
{
	host.on_retire = begin_new_life;
	submit_all(&host, CTX, RING, fence, 10);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[9].token), 0);
	(void)drain();
	cr_assert_eq(host.count, 12);
	for (unsigned i = 0; i < 12; i++) {
		cr_assert_eq(host.log[i].fence, i < 10 ? &fence[i] : &fence[20 + i]);
		cr_assert_eq(host.log[i].status, 0);
	}
	cr_assert_eq(fq_device_pending(host.dev), 2);
}

/* The id is free before the first callback of its destruction runs. */
static void submit_to_the_same(struct host *h, struct fq_fence *f, int status)
{
	(void)f;
	if (h->count == 1) {
		cr_assert_eq(status, -ECANCELED);
		cr_assert_eq(fq_context_create(h->dev, CTX), 0);
		submit_all(h, CTX, RING, &fence[30], 1);
	}
}

Test(callback, reuses_a_context_being_destroyed)
{
	host.on_retire = submit_to_the_same;
	submit_all(&host, CTX, RING, fence, 3);
	cr_assert_eq(fq_context_destroy(host.dev, CTX), 0);
	expect_retired(&host, 0, fence, 3, -ECANCELED);
	cr_assert_eq(device_stats(host.dev).contexts, 1);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[2].token), -ESTALE);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[30].token), 0);
	cr_assert_eq(drain(), 1);
	cr_assert_eq(host.log[3].fence, &fence[30]);
	cr_assert_eq(host.log[3].status, 0);
}

/* Once: what it retires comes to the same callback. */
static void destroy_device(struct host *h, struct fq_fence *f, int status)
{
	(void)f;
	(void)status;
	h->on_retire = NULL;
	got = fq_device_destroy(h->dev);
	cr_assert_eq(fq_device_destroy(h->dev), -EBUSY, "it lies in its grave until we return");
}

static void expect_gone(unsigned retired)
{
	cr_assert_eq(got, 0);
	cr_assert_eq(host.count, retired);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[1].token), -ENODEV);
	host.dev = NULL;
	cr_assert_eq(fq_queue_destroy(host.q), 0, "nothing of it is left on the queue");
	host.q = NULL;
}

Test(callback, destroys_the_device)
{
	host.on_retire = destroy_device;
	submit_all(&host, CTX, RING, fence, 2);
	submit_all(&host, CTX + 1, RING, fence + 2, 2);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[0].token), 0);
	cr_assert_eq(fq_signal(host.handle, CTX + 1, RING, fence[2].token), 0);
	cr_assert_eq(drain(), 1, "the other was retired by the destroy, not by the drain");
	for (unsigned i = 0; i < 4; i++) {
		const struct host_entry *e = &host.log[i];

		cr_assert_eq(e->status,
			     e->fence == &fence[0] || e->fence == &fence[2] ? 0 : -ENODEV);
	}
	expect_gone(4);
}

/* A callback outside of a drain is one, too. */
Test(callback, destroys_the_device_from_a_context)
{
	host.on_retire = destroy_device;
	submit_all(&host, CTX, RING, fence, 2);
	cr_assert_eq(fq_context_destroy(host.dev, CTX), 0);
	cr_assert_eq(host.log[0].status, -ECANCELED);
	cr_assert_eq(host.log[1].status, -ECANCELED);
	expect_gone(2);
}

static void flush_destroys(struct host *h)
{
	h->on_flush = NULL;
	got = fq_device_destroy(h->dev);
}

Test(callback, flush_destroys_the_device)
{
	host.on_flush = flush_destroys;
	submit_all(&host, CTX, RING, fence, 2);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[0].token), 0);
	cr_assert_eq(drain(), 1);
	cr_assert_eq(host.log[1].status, -ENODEV);
	expect_gone(2);
}

static void use_while_closing(struct host *h, struct fq_fence *f, int status)
{
	(void)status;
	cr_assert_eq(fq_submit(h->dev, CTX, RING, f), -ENODEV);
	cr_assert_eq(fq_submit_global(h->dev, f), -ENODEV);
	cr_assert_eq(fq_context_create(h->dev, CTX + 1), -ENODEV);
	cr_assert_eq(fq_signal_global(h->handle, 1), -ENODEV);
	(void)fq_queue_drain(h->q, FQ_NO_BUDGET);
}

Test(callback, device_that_is_being_destroyed)
{
	host.on_retire = use_while_closing;
	submit_all(&host, CTX, RING, fence, 5);
	submit_all(&host, CTX + 1, RING, &fence[5], 5);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[4].token), 0);
	cr_assert_eq(fq_device_destroy(host.dev), 0);
	cr_assert_eq(host.count, 10);
	host.dev = NULL;
	cr_assert_eq(fq_queue_destroy(host.q), 0);
}

/* A callback may pass a fence's memory on: here, to the next device's submit. */
static struct host second;

static void pass_on(struct host *h, struct fq_fence *f, int status)
{
	(void)h;
	cr_assert_eq(status, 0);
	cr_assert_eq(fq_submit_global(second.dev, f), 0);
	cr_assert_eq(fq_signal_global(second.handle, f->token), 0);
}

Test(callback, passes_a_fence_on)
{
	host_attach(&second, host.q, 0);
	host.on_retire = pass_on;
	submit_all(&host, CTX, RING, fence, 30);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[29].token), 0);
	cr_assert_eq(drain(), 60);
	expect_retired(&host, 0, fence, 30, 0);
	expect_retired(&second, 0, fence, 30, 0);
	cr_assert_eq(fq_device_destroy(second.dev), 0);
}
