/* SPDX-License-Identifier: MIT */
/* What is pending, for how long, and where: walk, oldest, dump. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include <fenceq/fenceq.h>

#include "../unit/host.h"
#include "../unit/unit.h"

#define CTX 7u
#define RING 3u
#define SHOWN 256u

static struct host host;
static struct fq_fence fence[200];
static struct fq_pending shown[SHOWN];
static unsigned shown_count, shown_max;
static char text[16][200];
static unsigned lines;

static void setup(void)
{
	memset(fence, 0, sizeof(fence));
	shown_count = lines = 0;
	shown_max = SHOWN;
	host_open(&host, 0);
}

static void teardown(void)
{
	if (host.dev)
		host_close(&host);
}

TestSuite(watchdog, .init = setup, .fini = teardown, .timeout = 60);

static bool show(const struct fq_pending *p, void *opaque)
{
	cr_assert_eq(opaque, &host);
	cr_assert_lt(shown_count, SHOWN);
	shown[shown_count++] = *p;
	return shown_count < shown_max;
}

static uint64_t walk(void)
{
	shown_count = 0;
	return fq_device_walk(host.dev, show, &host);
}

static void take_line(const char *line, void *opaque)
{
	cr_assert_eq(opaque, &host);
	cr_assert_null(strchr(line, '\n'));
	cr_assert_lt(lines, 16);
	snprintf(text[lines++], sizeof(text[0]), "%s", line);
}

Test(watchdog, nothing_pending)
{
	struct fq_pending oldest;

	cr_assert_eq(walk(), 0);
	cr_assert_not(fq_device_oldest(host.dev, &oldest));
	cr_assert_eq(fq_device_dump(host.dev, 0, take_line, &host), 0);
	submit_all(&host, CTX, RING, fence, 1);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[0].token), 0);
	cr_assert_eq(fq_queue_drain(host.q, FQ_NO_BUDGET), 1);
	cr_assert_eq(walk(), 0);
	cr_assert_not(fq_device_oldest(host.dev, &oldest));
}

/* The global timeline first, each timeline in order, with its key and what its mark covers. */
Test(watchdog, walk_shows_all)
{
	submit_all(&host, CTX, RING, fence, 4);
	submit_all(&host, UINT32_MAX, 63, &fence[4], 2);
	cr_assert_eq(fq_submit_global(host.dev, &fence[6]), 0);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[1].token), 0);
	cr_assert_eq(walk(), 7);
	cr_assert(shown[0].global);
	cr_assert_eq(shown[0].fence, &fence[6]);
	for (unsigned i = 1, seen[2] = {0, 4}; i < 7; i++) {
		const struct fq_pending *p = &shown[i];
		bool second = p->ctx_id == UINT32_MAX;

		cr_assert_not(p->global);
		cr_assert_eq(p->ctx_id, second ? UINT32_MAX : CTX);
		cr_assert_eq(p->ring_idx, second ? 63 : RING);
		cr_assert_eq(p->fence, &fence[seen[second]], "out of order");
		cr_assert_eq(p->signalled, seen[second] < 2);
		cr_assert_geq(p->age_ns, 0);
		seen[second]++;
	}
}

Test(watchdog, walk_ends_when_told)
{
	submit_all(&host, CTX, RING, fence, 10);
	shown_max = 4;
	cr_assert_eq(walk(), 4);
	shown_max = 1;
	cr_assert_eq(fq_submit_global(host.dev, &fence[10]), 0);
	cr_assert_eq(walk(), 1);
	cr_assert_eq(shown[0].fence, &fence[10]);
}

/* More contexts than one group of banks holds; the global timeline still comes first. */
Test(watchdog, walk_over_many_contexts)
{
	bool seen[150] = {false};

	for (uint32_t i = 0; i < 150; i++)
		submit_all(&host, i, i % FQ_RINGS, &fence[i], 1);
	cr_assert_eq(fq_submit_global(host.dev, &fence[150]), 0);
	cr_assert_eq(walk(), 151);
	cr_assert(shown[0].global);
	for (unsigned i = 1; i < 151; i++) {
		cr_assert_lt(shown[i].ctx_id, 150);
		cr_assert_not(seen[shown[i].ctx_id], "shown twice");
		seen[shown[i].ctx_id] = true;
		cr_assert_eq(shown[i].fence, &fence[shown[i].ctx_id]);
	}
}

/* In the tests' own hands: how old a fence is. */
static void make_older(struct fq_fence *f, int64_t ms)
{
	f->submitted_ns -= ms * 1000000;
}

Test(watchdog, oldest)
{
	struct fq_pending p;

	submit_all(&host, CTX, RING, fence, 2);
	submit_all(&host, CTX + 1, RING + 1, &fence[2], 2);
	make_older(&fence[0], 60000);
	make_older(&fence[2], 90000);
	cr_assert(fq_device_oldest(host.dev, &p));
	cr_assert_eq(p.fence, &fence[2]);
	cr_assert_eq(p.ctx_id, CTX + 1);
	cr_assert_eq(p.ring_idx, RING + 1);
	cr_assert_not(p.global);
	cr_assert_not(p.signalled);
	cr_assert_geq(p.age_ns, INT64_C(90000000000));
	cr_assert_eq(fq_signal(host.handle, CTX + 1, RING + 1, fence[2].token), 0);
	cr_assert(fq_device_oldest(host.dev, &p));
	cr_assert(p.signalled, "pending until a drain");
	cr_assert_eq(fq_queue_drain(host.q, FQ_NO_BUDGET), 1);
	cr_assert(fq_device_oldest(host.dev, &p));
	cr_assert_eq(p.fence, &fence[0]);
	cr_assert_eq(fq_submit_global(host.dev, &fence[4]), 0);
	make_older(&fence[4], 120000);
	cr_assert(fq_device_oldest(host.dev, &p));
	cr_assert(p.global);
	cr_assert_eq(p.fence, &fence[4]);
}

/* A guest's ids are only carried: 2^63 and 2^64 - 1, the same twice, downwards. */
Test(watchdog, dump)
{
	static const uint64_t id[] = {UINT64_C(1) << 63, UINT64_MAX, UINT64_MAX, 5, 4};
	char part[64];

	for (unsigned i = 0; i < 5; i++)
		fence[i].fence_id = id[i];
	submit_all(&host, CTX, RING, fence, 4);
	cr_assert_eq(fq_submit_global(host.dev, &fence[4]), 0);
	make_older(&fence[0], 5000);
	make_older(&fence[1], 3000);
	make_older(&fence[4], 4000);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[0].token), 0);
	cr_assert_eq(fq_device_dump(host.dev, INT64_C(2000000000), take_line, &host), 3);
	cr_assert_eq(lines, 3);
	cr_assert_not_null(strstr(text[0], "global timeline: fence 4 "));
	cr_assert_not_null(strstr(text[1], "context 7 ring 3: fence 9223372036854775808 "));
	cr_assert_not_null(strstr(text[1], ", signalled"));
	cr_assert_not_null(strstr(text[2], "fence 18446744073709551615 "));
	cr_assert_not_null(strstr(text[2], ", not signalled"));
	snprintf(part, sizeof(part), "(token %" PRIu64 ")", fence[1].token);
	cr_assert_not_null(strstr(text[2], part));
	cr_assert_eq(fq_device_dump(host.dev, INT64_C(3600000000000), take_line, &host), 0);
	lines = 0;
	cr_assert_eq(fq_device_dump(host.dev, INT64_MIN, take_line, &host), 5);
}

/* Frozen, failed, reset: what is shown is what is pending. */
Test(watchdog, through_a_disturbed_life)
{
	submit_all(&host, CTX, RING, fence, 4);
	submit_all(&host, CTX + 1, RING, &fence[4], 4);
	cr_assert_eq(fq_device_freeze(host.dev), 0);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[1].token), 0);
	(void)fq_queue_drain(host.q, FQ_NO_BUDGET);
	cr_assert_eq(walk(), 8);
	cr_assert_eq(fq_context_fail(host.dev, CTX, -EIO), 0);
	cr_assert_eq(walk(), 4);
	cr_assert_eq(fq_device_reset(host.dev), 0);
	cr_assert_eq(walk(), 0);
}

/*
 * While a context's fences are handed back, its id and its memory serve others; what is still
 * pending of it is shown as its own.
 */
static void begin_another(struct host *h, struct fq_fence *f, int status)
{
	unsigned own = 0;

	(void)f;
	cr_assert_eq(status, -ECANCELED);
	h->on_retire = NULL;
	submit_all(h, CTX + 1, RING, &fence[10], 2);
	cr_assert_eq(walk(), 5);
	for (unsigned i = 0; i < 5; i++) {
		bool mine = shown[i].fence < &fence[10];

		cr_assert_eq(shown[i].ctx_id, mine ? CTX : CTX + 1);
		own += mine;
	}
	cr_assert_eq(own, 3);
}

Test(watchdog, walk_from_a_callback)
{
	host.on_retire = begin_another;
	submit_all(&host, CTX, RING, fence, 4);
	cr_assert_eq(fq_context_destroy(host.dev, CTX), 0);
	cr_assert_eq(host.count, 4);
	cr_assert_eq(walk(), 2);
}
