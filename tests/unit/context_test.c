/* SPDX-License-Identifier: MIT */
/* Contexts come and go; the ids of one life mean nothing in the next. */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>

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

TestSuite(context, .init = setup, .fini = teardown, .timeout = 120);

static unsigned drain(void)
{
	return fq_queue_drain(host.q, FQ_NO_BUDGET);
}

Test(context, create_and_destroy)
{
	cr_assert_eq(fq_context_create(NULL, CTX), -EINVAL);
	cr_assert_eq(fq_context_destroy(NULL, CTX), -EINVAL);
	cr_assert_eq(fq_context_destroy(host.dev, CTX), -ENOENT);
	cr_assert_eq(fq_context_create(host.dev, CTX), 0);
	cr_assert_eq(fq_context_create(host.dev, CTX), -EEXIST);
	cr_assert_eq(device_stats(host.dev).contexts, 1);
	cr_assert_eq(device_stats(host.dev).timelines, 1);
	cr_assert_eq(fq_context_destroy(host.dev, CTX), 0);
	cr_assert_eq(fq_context_destroy(host.dev, CTX), -ENOENT);
	cr_assert_eq(device_stats(host.dev).contexts, 0);
	submit_all(&host, CTX, RING, fence, 1);
	cr_assert_eq(fq_context_create(host.dev, CTX), -EEXIST, "its first submit created it");
	cr_assert_eq(device_stats(host.dev).timelines, 2);
}

/* The global timeline has no context. */
Test(context, global_is_none)
{
	cr_assert_eq(fq_submit_global(host.dev, &fence[0]), 0);
	cr_assert_eq(fq_context_destroy(host.dev, 0), -ENOENT);
	cr_assert_eq(fq_context_destroy(host.dev, UINT32_MAX), -ENOENT);
	cr_assert_eq(host.count, 0);
	cr_assert_eq(fq_signal_global(host.handle, fence[0].token), 0);
	cr_assert_eq(drain(), 1);
}

Test(context, too_many)
{
	struct fq_queue *q = host.q;
	struct fq_timeline *tl;

	cr_assert_eq(fq_device_destroy(host.dev), 0);
	host_attach(&host, q, 3);
	submit_all(&host, 1, RING, fence, 2);
	cr_assert_eq(fq_context_create(host.dev, 2), 0);
	cr_assert_eq(fq_submit(host.dev, 3, RING, &fence[2]), 0);
	cr_assert_eq(fq_context_create(host.dev, 4), -ENOSPC);
	cr_assert_eq(fq_submit(host.dev, 4, RING, &fence[3]), -ENOSPC);
	cr_assert_eq(fq_submit_id(host.dev, 4, RING, &fence[3], 99), -ENOSPC);
	cr_assert_eq(fq_device_timeline(host.dev, 4, RING, &tl), -ENOSPC);
	cr_assert_eq(device_stats(host.dev).submit_errors, 2);
	cr_assert_eq(fq_submit_global(host.dev, &fence[3]), 0, "needs no context");
	cr_assert_eq(fq_context_create(host.dev, 2), -EEXIST);
	cr_assert_eq(fq_context_destroy(host.dev, 2), 0);
	cr_assert_eq(fq_submit(host.dev, 4, RING, &fence[4]), 0);
	cr_assert_eq(device_stats(host.dev).contexts, 3);
}

/* What the mark covers is complete, whatever happened since; the rest never will be. */
Test(context, destroy_retires)
{
	submit_all(&host, CTX, RING, fence, 6);
	cr_assert_eq(fq_submit(host.dev, CTX, 63, &fence[6]), 0);
	cr_assert_eq(fq_submit(host.dev, CTX + 1, RING, &fence[7]), 0);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[0].token), 0);
	cr_assert_eq(drain(), 1);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[2].token), 0);
	cr_assert_eq(fq_context_destroy(host.dev, CTX), 0);
	cr_assert_eq(host.count, 7);
	for (unsigned i = 0; i < 7; i++) {
		cr_assert_eq(host.log[i].fence, &fence[i]);
		cr_assert_eq(host.log[i].status, i < 3 ? 0 : -ECANCELED);
		cr_assert_null(fence[i].timeline);
	}
	cr_assert_eq(host.flushes, 2, "no drain saw to it");
	cr_assert_eq(device_stats(host.dev).failed, 4);
	cr_assert_eq(device_stats(host.dev).timelines, 2);
	(void)drain();
	cr_assert_eq(host.count, 7, "once");
	cr_assert_eq(fq_device_pending(host.dev), 1, "the other context's");
	cr_assert_eq(fq_signal(host.handle, CTX + 1, RING, fence[7].token), 0);
	cr_assert_eq(drain(), 1);
}

Test(context, signals_after_its_end)
{
	struct fq_timeline *tl;

	cr_assert_eq(fq_device_timeline(host.dev, CTX, RING, &tl), 0);
	submit_all(&host, CTX, RING, fence, 2);
	cr_assert_eq(fq_context_destroy(host.dev, CTX), 0);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[1].token), -ENOENT);
	cr_assert_eq(device_stats(host.dev).refused_unknown, 1);
	/* Held timelines stay valid. */
	cr_assert_eq(fq_timeline_signal(tl, fence[1].token), -ESTALE);
	cr_assert_eq(fq_timeline_signal(tl, fence[1].token + 1), -ESTALE);
	cr_assert_eq(device_stats(host.dev).refused_stale, 2);
	cr_assert_not(readable(host.q));
}

/* Which life does an id belong to? */
Test(context, stale_tokens_of_a_reused_id)
{
	uint64_t old[3];

	for (unsigned life = 1; life <= 20; life++) {
		submit_all(&host, CTX, RING, fence, 3);
		for (unsigned i = 0; life > 1 && i < 3; i++) {
			cr_assert_gt(fence[0].token, old[i]);
			cr_assert_eq(fq_signal(host.handle, CTX, RING, old[i]), -ESTALE);
		}
		cr_assert_eq(device_stats(host.dev).refused_stale, 3 * (life - 1));
		(void)drain();
		cr_assert_eq(host.count, 3 * (life - 1), "a fence of this life was retired");
		for (unsigned i = 0; i < 3; i++)
			old[i] = fence[i].token;
		if (life & 1) /* pending to the end, or signalled */
			cr_assert_eq(fq_signal(host.handle, CTX, RING, old[2]), 0);
		cr_assert_eq(fq_context_destroy(host.dev, CTX), 0);
		expect_retired(&host, 3 * (life - 1), fence, 3, life & 1 ? 0 : -ECANCELED);
	}
}

/* A renderer's ids do not start again at 1 in a context that another one's memory serves. */
Test(context, stale_tokens_across_contexts)
{
	uint64_t old;

	submit_all(&host, CTX, RING, fence, 5);
	old = fence[4].token;
	cr_assert_eq(fq_context_destroy(host.dev, CTX), 0);
	cr_assert_eq(fq_submit_id(host.dev, CTX + 1, RING, &fence[0], old), -ERANGE);
	submit_all(&host, CTX + 1, RING, fence, 1);
	cr_assert_gt(fence[0].token, old);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, old), -ENOENT);
	cr_assert_eq(fq_signal(host.handle, CTX + 1, RING, old), -ESTALE);
	(void)drain();
	cr_assert_eq(fq_device_pending(host.dev), 1);
	cr_assert_eq(fq_signal(host.handle, CTX + 1, RING, fence[0].token), 0);
	cr_assert_eq(drain(), 1);
	cr_assert_eq(host.log[5].status, 0);
}

/* "Nothing was ever submitted on that ring" holds for a ring whose memory served another context. */
Test(context, recycled_ring_is_new)
{
	submit_all(&host, CTX, RING, fence, 1);
	cr_assert_eq(fq_context_destroy(host.dev, CTX), 0);
	cr_assert_eq(fq_context_create(host.dev, CTX + 1), 0);
	cr_assert_eq(fq_signal(host.handle, CTX + 1, RING, 1), -ENOENT);
	cr_assert_eq(device_stats(host.dev).refused_unknown, 1);
}

/* A submit that fails leaves nothing behind, a context neither. */
Test(context, failed_submit_creates_none)
{
	submit_all(&host, CTX, RING, fence, 1);
	cr_assert_eq(fq_submit(host.dev, CTX + 1, 0, &fence[0]), -EBUSY);
	cr_assert_eq(fq_submit_id(host.dev, CTX + 2, 0, &fence[1], 0), -ERANGE);
	cr_assert_eq(device_stats(host.dev).contexts, 1);
	cr_assert_eq(device_stats(host.dev).timelines, 2);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

#ifdef SANITIZED
size_t __sanitizer_get_current_allocated_bytes(void);
#endif

static size_t allocated(void)
{
#ifdef SANITIZED
	return __sanitizer_get_current_allocated_bytes();
#else
	return mallinfo2().uordblks;
#endif
}

/* 40 alive at a time, with ids that never come again. */
static void churn(uint32_t from, uint32_t count)
{
	for (uint32_t i = from; i < from + count; i++) {
		struct fq_fence *f = &fence[i % 40];
		const uint32_t id = i * 2654435761u;

		if (f->timeline) {
			const uint32_t last = (i - 40) * 2654435761u;

			if (i & 1)
				cr_assert_eq(fq_signal(host.handle, last, i % 2, f->token), 0);
			cr_assert_eq(fq_context_destroy(host.dev, last), 0);
		}
		cr_assert_eq(fq_submit(host.dev, id, i % 2, f), 0);
		host.count = 0;
	}
}

Test(context, tens_of_thousands_leave_nothing_behind)
{
	size_t before;

	churn(1, 2000);
	before = allocated();
	churn(2001, 40000);
	cr_assert_eq(allocated(), before, "%zu bytes more", allocated() - before);
	cr_assert_eq(device_stats(host.dev).contexts, 40);
	cr_assert_eq(device_stats(host.dev).submitted, 42000);
	cr_assert_eq(device_stats(host.dev).retired, 42000 - 40);
}

/* 128 contexts of 64 rings: as many timelines as there are fences. */
Test(context, eight_thousand_timelines)
{
	static struct fq_fence many[128 * FQ_RINGS];
	struct fq_device_stats s;

	memset(many, 0, sizeof(many));
	for (uint32_t c = 0; c < 128; c++)
		for (uint32_t r = 0; r < FQ_RINGS; r++)
			submit_all(&host, c * 0x10001u, r, &many[c * FQ_RINGS + r], 1);
	for (uint32_t i = 128 * FQ_RINGS; i-- > 0;)
		cr_assert_eq(fq_signal(host.handle, i / FQ_RINGS * 0x10001u, i % FQ_RINGS,
				       many[i].token),
			     0);
	cr_assert_eq(queue_stats(host.q).notifier_writes, 1);
	cr_assert_eq(drain(), 8192);
	for (uint32_t i = 0; i < 128 * FQ_RINGS; i++)
		cr_assert_null(many[i].timeline, "fence %u was not retired", i);
	s = device_stats(host.dev);
	cr_assert_eq(s.contexts, 128);
	cr_assert_eq(s.timelines, 8193);
	cr_assert_eq(s.retired, 8192);
	cr_assert_eq(s.batches, 1);
	cr_assert_eq(host.flushes, 1);
}
