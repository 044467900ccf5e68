/* SPDX-License-Identifier: MIT */
/* A device saved, and what another one does that has loaded it. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>

#include <fenceq/fenceq.h>

#include "saved.h"
#include "unit.h"

static struct host old, new;
static struct fq_fence fence[64];
static struct saved s;
static struct maker maker;

static void setup(void)
{
	memset(fence, 0, sizeof(fence));
	memset(&maker, 0, sizeof(maker));
	host_open(&old, 0);
	host_open(&new, 0);
	s = (struct saved){NULL, 0};
}

static void teardown(void)
{
	free(s.bytes);
	if (old.dev)
		host_close(&old);
	if (new.dev)
		host_close(&new);
}

TestSuite(snapshot, .init = setup, .fini = teardown, .timeout = 60);

static unsigned drain(struct host *host)
{
	return fq_queue_drain(host->q, FQ_NO_BUDGET);
}

/* The old device ends with the process; its host answers nothing. */
static void move(void)
{
	cr_assert_eq(fq_device_freeze(old.dev), 0);
	s = save(old.dev);
	host_close(&old);
	cr_assert_eq(load(&new, &s, &maker), 0);
	cr_assert(fq_device_frozen(new.dev));
	expect_saves(&new, &s);
}

static void submit_ids(uint32_t ctx_id, uint32_t ring_idx, unsigned from, unsigned count)
{
	for (unsigned i = from; i < from + count; i++) {
		fence[i].fence_id = UINT64_MAX - i;
		fence[i].tag = (void *)(uintptr_t)(1000 + i);
		cr_assert_eq(fq_submit(old.dev, ctx_id, ring_idx, &fence[i]), 0);
	}
}

/* What was made is fence[0 ..], as the host saved it. */
static void expect_made(unsigned count)
{
	cr_assert_eq(maker.made, count);
	cr_assert_eq(maker.unmade, 0);
	for (unsigned i = 0; i < count; i++) {
		cr_assert_eq(maker.saved[i].token, fence[i].token);
		cr_assert_eq(maker.saved[i].fence_id, fence[i].fence_id);
		cr_assert_eq(maker.saved[i].tag, (uintptr_t)fence[i].tag);
		cr_assert_eq(maker.fence[i].token, fence[i].token);
		cr_assert_eq(maker.fence[i].fence_id, fence[i].fence_id);
	}
}

Test(snapshot, pending_set_moves)
{
	struct fq_device_stats stats;

	for (unsigned i = 0; i < 3; i++) {
		fence[i].fence_id = i ? UINT64_C(1) << 63 : 0;
		cr_assert_eq(fq_submit_global(old.dev, &fence[i]), 0);
	}
	submit_ids(1, 0, 3, 4);
	submit_ids(1, 63, 7, 2);
	submit_ids(UINT32_MAX, 5, 9, 1);
	move();
	expect_made(10);
	cr_assert(maker.saved[2].global);
	cr_assert_not(maker.saved[3].global);
	cr_assert_eq(maker.saved[7].ctx_id, 1);
	cr_assert_eq(maker.saved[7].ring_idx, 63);
	cr_assert_eq(maker.saved[9].ctx_id, UINT32_MAX);
	stats = device_stats(new.dev);
	cr_assert_eq(stats.pending, 10);
	cr_assert_eq(stats.submitted, 10);
	cr_assert_eq(stats.contexts, 2);
	cr_assert_eq(stats.timelines, 4);
	cr_assert_eq(fq_device_thaw(new.dev), 0);
	cr_assert_eq(drain(&new), 0, "nothing was signalled");
	cr_assert_eq(fq_signal_global(new.handle, fence[2].token), 0);
	cr_assert_eq(fq_signal(new.handle, 1, 0, fence[6].token), 0);
	cr_assert_eq(fq_signal(new.handle, 1, 63, fence[8].token), 0);
	cr_assert_eq(fq_signal(new.handle, UINT32_MAX, 5, fence[9].token), 0);
	cr_assert_eq(drain(&new), 10);
	cr_assert_eq(fq_device_pending(new.dev), 0);
}

Test(snapshot, signals_around_the_freeze)
{
	submit_ids(7, 3, 0, 6);
	cr_assert_eq(fq_signal(old.handle, 7, 3, fence[0].token), 0);
	cr_assert_eq(drain(&old), 1);
	cr_assert_eq(fq_signal(old.handle, 7, 3, fence[1].token), 0); /* not drained */
	cr_assert_eq(fq_device_freeze(old.dev), 0);
	cr_assert_eq(fq_signal(old.handle, 7, 3, fence[2].token), 0);
	cr_assert_eq(drain(&old), 0);
	cr_assert_eq(fq_signal(old.handle, 7, 3, fence[3].token), 0); /* drained by nobody */
	s = save(old.dev);
	cr_assert_eq(fq_signal(old.handle, 7, 3, fence[4].token), 0); /* too late */
	host_close(&old);
	cr_assert_eq(load(&new, &s, &maker), 0);
	cr_assert_eq(maker.made, 5);
	cr_assert(maker.saved[2].signalled);
	cr_assert_not(maker.saved[3].signalled);
	cr_assert_eq(drain(&new), 0, "frozen");
	cr_assert_eq(fq_device_thaw(new.dev), 0);
	cr_assert(readable(new.q), "the thaw wakes the owner");
	cr_assert_eq(drain(&new), 3);
	expect_retired(&new, 0, maker.fence, 3, 0);
	cr_assert_eq(fq_signal(new.handle, 7, 3, fence[5].token), 0);
	cr_assert_eq(drain(&new), 2);
	expect_retired(&new, 0, maker.fence, 5, 0);
}

Test(snapshot, signal_between_load_and_thaw)
{
	submit_ids(7, 3, 0, 3);
	move();
	cr_assert_eq(fq_signal(new.handle, 7, 3, fence[1].token), 0);
	cr_assert_eq(fq_device_thaw(new.dev), 0);
	cr_assert_eq(drain(&new), 2);
	expect_retired(&new, 0, maker.fence, 2, 0);
	cr_assert_eq(fq_signal32(new.handle, 7, 3, (uint32_t)fence[2].token), 0);
	cr_assert_eq(drain(&new), 1);
}

Test(snapshot, tokens_go_on)
{
	struct fq_fence *more = &fence[20], *again = &fence[21];

	submit_ids(7, 3, 0, 4);
	cr_assert_eq(fq_signal(old.handle, 7, 3, fence[3].token), 0);
	cr_assert_eq(drain(&old), 4);
	submit_ids(8, 0, 4, 2);
	cr_assert_eq(fq_context_destroy(old.dev, 8), 0);
	move();
	expect_made(0);
	cr_assert_eq(fq_device_thaw(new.dev), 0);
	cr_assert_eq(fq_submit(new.dev, 7, 3, more), 0);
	cr_assert_eq(more->token, fence[3].token + 1);
	cr_assert_eq(fq_signal(new.handle, 7, 3, fence[3].token), 0, "covered, as it was");
	cr_assert_eq(drain(&new), 0);
	cr_assert_eq(fq_signal(new.handle, 8, 0, fence[5].token), -ENOENT);
	cr_assert_eq(fq_submit(new.dev, 8, 0, again), 0);
	cr_assert_gt(again->token, fence[5].token, "an earlier life's token, given out again");
	cr_assert_eq(fq_signal(new.handle, 8, 0, fence[5].token), -ESTALE);
}

Test(snapshot, stale_stays_stale)
{
	submit_ids(7, 3, 0, 2);
	submit_ids(7, 4, 2, 2);
	cr_assert_eq(fq_ring_fail(old.dev, 7, 3, -EIO), 0);
	cr_assert_eq(fq_ring_fail(old.dev, 7, 4, -EIO), 0);
	cr_assert_eq(fq_global_fail(old.dev, -EIO), 0);
	submit_ids(7, 4, 4, 1);
	move();
	cr_assert_eq(maker.made, 1);
	cr_assert_eq(device_stats(new.dev).timelines, 1);
	cr_assert_eq(fq_signal(new.handle, 7, 3, fence[1].token), -ESTALE);
	cr_assert_eq(fq_signal(new.handle, 7, 4, fence[3].token), -ESTALE);
	cr_assert_eq(fq_signal(new.handle, 7, 4, fence[4].token + 1), -ERANGE);
	cr_assert_eq(fq_signal_global(new.handle, 1), -ESTALE);
	cr_assert_eq(fq_signal(new.handle, 7, 5, 1), -ENOENT);
	cr_assert_eq(fq_signal(new.handle, 7, 4, fence[4].token), 0);
	cr_assert_eq(fq_device_thaw(new.dev), 0);
	cr_assert_eq(drain(&new), 1);
	submit_all(&new, 7, 3, fence + 10, 1);
	cr_assert_gt(fence[10].token, fence[3].token);
	cr_assert_eq(fq_submit_global(new.dev, &fence[11]), 0);
	cr_assert_gt(fence[11].token, fence[3].token);
}

Test(snapshot, life_goes_on_after_it)
{
	submit_ids(7, 3, 0, 3);
	move();
	cr_assert_eq(fq_device_thaw(new.dev), 0);
	cr_assert_eq(fq_ring_fail(new.dev, 7, 3, -EIO), 0);
	expect_retired(&new, 0, maker.fence, 3, -EIO);
	submit_all(&new, 7, 3, fence + 3, 1);
	cr_assert_gt(fence[3].token, fence[2].token);
	cr_assert_eq(fq_device_reset(new.dev), 0);
	cr_assert_eq(new.log[3].status, -ECONNRESET);
	cr_assert_eq(fq_device_pending(new.dev), 0);
}

Test(snapshot, of_an_empty_device)
{
	cr_assert_eq(fq_device_freeze(old.dev), 0);
	s = save(old.dev);
	cr_assert_eq(load(&new, &s, &maker), 0);
	cr_assert_eq(load(&new, &s, &maker), 0, "it is as good as new");
	expect_saves(&new, &s);
	cr_assert_eq(fq_device_thaw(new.dev), 0);
	expect_new(&new);
	submit_all(&new, 7, 3, fence, 1);
	cr_assert_eq(fence[0].token, 1);
}

Test(snapshot, contexts_without_fences)
{
	struct fq_timeline *tl;

	cr_assert_eq(fq_context_create(old.dev, 5), 0);
	cr_assert_eq(fq_device_timeline(old.dev, 6, 1, &tl), 0);
	move();
	cr_assert_eq(fq_context_create(new.dev, 5), -EEXIST);
	cr_assert_eq(fq_context_create(new.dev, 6), -EEXIST);
	cr_assert_eq(fq_signal(new.handle, 5, 0, 1), -ENOENT);
	cr_assert_eq(fq_signal(new.handle, 6, 1, 1), -ERANGE);
	cr_assert_eq(device_stats(new.dev).timelines, 2);
}

/* The same contents give the same bytes, whatever the contexts' order and history. */
Test(snapshot, bytes_know_no_history)
{
	for (uint32_t i = 0; i < 1000; i++)
		cr_assert_eq(fq_context_create(old.dev, i * 0x9e3779b1u), 0);
	for (uint32_t i = 1000; i--;) {
		cr_assert_eq(fq_context_create(new.dev, 77), 0);
		cr_assert_eq(fq_context_create(new.dev, i * 0x9e3779b1u), 0);
		cr_assert_eq(fq_context_destroy(new.dev, 77), 0);
	}
	cr_assert_eq(fq_device_freeze(old.dev), 0);
	cr_assert_eq(fq_device_freeze(new.dev), 0);
	s = save(old.dev);
	expect_saves(&new, &s);
}

/* A context's memory, used again, shows nothing of the context before. */
Test(snapshot, recycled_context_is_empty)
{
	struct saved t;

	submit_ids(7, 3, 0, 1);
	cr_assert_eq(fq_context_destroy(old.dev, 7), 0);
	cr_assert_eq(fq_device_freeze(old.dev), 0);
	s = save(old.dev);
	cr_assert_eq(fq_context_create(old.dev, 8), 0);
	t = save(old.dev);
	cr_assert_eq(t.size, s.size + 8);
	free(t.bytes);
}

/* -- from inside callbacks --------------------------------------------------------------------- */

static void save_inside(struct host *host, struct fq_fence *f, int status)
{
	(void)f;
	(void)status;
	if (host->count > 1)
		return;
	submit_all(host, 7, 3, &fence[10], 1);
	s = save(host->dev);
}

/* What a fail is about to retire is not pending any more; what its callback submits is. */
Test(snapshot, from_inside_a_fail)
{
	submit_ids(7, 3, 0, 4);
	submit_ids(7, 4, 4, 2);
	cr_assert_eq(fq_device_freeze(old.dev), 0);
	old.on_retire = save_inside;
	cr_assert_eq(fq_ring_fail(old.dev, 7, 3, -EIO), 0);
	cr_assert_eq(old.count, 4);
	cr_assert_eq(load(&new, &s, &maker), 0);
	cr_assert_eq(maker.made, 3);
	cr_assert_eq(maker.saved[0].token, fence[10].token);
	cr_assert_eq(maker.saved[1].token, fence[4].token);
	expect_saves(&new, &s);
}

/* Failed, and not used again: all that is left there is about to be retired. */
static void save_only(struct host *host, struct fq_fence *f, int status)
{
	(void)f;
	(void)status;
	if (host->count == 1)
		s = save(host->dev);
}

Test(snapshot, of_a_timeline_being_failed)
{
	submit_ids(7, 3, 0, 4);
	cr_assert_eq(fq_device_freeze(old.dev), 0);
	old.on_retire = save_only;
	cr_assert_eq(fq_ring_fail(old.dev, 7, 3, -EIO), 0);
	cr_assert_eq(load(&new, &s, &maker), 0);
	cr_assert_eq(maker.made, 0);
	expect_saves(&new, &s);
}

static void save_while_ending(struct host *host, struct fq_fence *f, int status)
{
	(void)f;
	cr_assert_eq(status, -ENODEV);
	cr_assert_eq(fq_device_save(host->dev, NULL, NULL, NULL, 0), -ENODEV);
	cr_assert_eq(load(host, &s, &maker), -ENODEV);
}

Test(snapshot, not_of_a_device_being_destroyed)
{
	cr_assert_eq(fq_device_freeze(old.dev), 0);
	s = save(old.dev);
	submit_ids(7, 3, 0, 1);
	old.on_retire = save_while_ending;
	cr_assert_eq(fq_device_destroy(old.dev), 0);
	cr_assert_eq(old.count, 1);
	old.dev = NULL;
	host_close(&old);
}

/* -- posters ----------------------------------------------------------------------------------- */

static unsigned result; /* plain: published by the signal */

static void *signal_once(void *arg)
{
	result = 42;
	return fq_signal(old.handle, 7, 3, fence[0].token) ? NULL : arg;
}

/* For race detectors: save shows a mark only with what came before it. */
Test(snapshot, mark_brings_its_data)
{
	pthread_t poster;
	void *ok;

	submit_ids(7, 3, 0, 1);
	cr_assert_eq(fq_device_freeze(old.dev), 0);
	cr_assert_eq(pthread_create(&poster, NULL, signal_once, &old), 0);
	do {
		free(s.bytes);
		s = save(old.dev);
	} while (!s.bytes[s.size - 48]); /* the mark, before submitted, count and a fence */
	cr_assert_eq(result, 42);
	cr_assert_eq(pthread_join(poster, &ok), 0);
	cr_assert_not_null(ok);
}

static void *signal_until_taken(void *arg)
{
	int err;

	do
		err = fq_signal(new.handle, 7, 3, fence[2].token);
	while (err == -ENOENT || err == -ERANGE || err == -ESTALE);
	return err ? NULL : arg;
}

/* A renderer that has the handle too early is refused until the timeline is complete. */
Test(snapshot, poster_during_load)
{
	pthread_t poster;
	void *ok;

	submit_ids(7, 3, 0, 3);
	cr_assert_eq(fq_device_freeze(old.dev), 0);
	s = save(old.dev);
	cr_assert_eq(pthread_create(&poster, NULL, signal_until_taken, &new), 0);
	cr_assert_eq(load(&new, &s, &maker), 0);
	cr_assert_eq(fq_device_thaw(new.dev), 0);
	cr_assert_eq(pthread_join(poster, &ok), 0);
	cr_assert_not_null(ok);
	(void)drain(&new);
	expect_retired(&new, 0, maker.fence, 3, 0);
}
