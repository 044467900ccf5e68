/* SPDX-License-Identifier: MIT */
/* Bad input of guests and renderers over a device's life: refused, counted, without effect. */
#define _GNU_SOURCE
#include <errno.h>

#include <fenceq/fenceq.h>

#include "../unit/host.h"
#include "../unit/unit.h"

#define CTX 7u
#define RING 3u

static struct host host;
static struct fq_fence fence[32], bystander;

static void setup(void)
{
	memset(fence, 0, sizeof(fence));
	memset(&bystander, 0, sizeof(bystander));
	host_open(&host, 0);
}

static void teardown(void)
{
	if (host.dev)
		host_close(&host);
}

TestSuite(stale, .init = setup, .fini = teardown, .timeout = 60);

static unsigned drain(void)
{
	return fq_queue_drain(host.q, FQ_NO_BUDGET);
}

/* How a life may end while renderers still hold its tokens. */
static int end_ring(void)
{
	return fq_ring_fail(host.dev, CTX, RING, -EIO);
}

static int end_context_work(void)
{
	return fq_context_fail(host.dev, CTX, -EIO);
}

static int end_device_work(void)
{
	return fq_device_fail(host.dev, -EIO);
}

static int end_context(void)
{
	return fq_context_destroy(host.dev, CTX);
}

static int end_life(void)
{
	return fq_device_reset(host.dev);
}

static int (*const end[])(void) = {end_ring, end_context_work, end_device_work, end_context,
				   end_life};
#define ENDS (sizeof(end) / sizeof(end[0]))

/* Every variant of the signal, for every token of the life that ended; each refused, each counted. */
static void signal_old(const uint64_t *old, unsigned count, int expected)
{
	struct fq_device_stats before = device_stats(host.dev), after;

	for (unsigned i = 0; i < count; i++) {
		cr_assert_eq(fq_signal(host.handle, CTX, RING, old[i]), expected);
		cr_assert_eq(fq_signal32(host.handle, CTX, RING, (uint32_t)old[i]), expected);
	}
	after = device_stats(host.dev);
	cr_assert_eq(after.refused_unknown + after.refused_stale,
		     before.refused_unknown + before.refused_stale + 2 * count);
	cr_assert_not(readable(host.q), "a refused signal woke the owner");
	cr_assert_eq(drain(), 0);
}

Test(stale, after_every_end)
{
	uint64_t old[4];

	for (unsigned round = 0; round < 3 * ENDS; round++) {
		bool gone = round % ENDS >= 3;
		unsigned from;

		submit_all(&host, CTX, RING, fence, 4);
		for (unsigned i = 0; i < 4; i++)
			old[i] = fence[i].token;
		if (round & 1)
			cr_assert_eq(fq_signal(host.handle, CTX, RING, old[1]), 0);
		cr_assert_eq(end[round % ENDS](), 0);
		(void)drain();
		signal_old(old, 4, gone ? -ENOENT : -ESTALE);
		/* The guest uses the ids again at once. */
		from = host.count;
		submit_all(&host, CTX, RING, fence, 2);
		signal_old(old, 4, -ESTALE);
		cr_assert_eq(host.count, from);
		cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[1].token), 0);
		cr_assert_eq(drain(), 2);
		expect_retired(&host, from, fence, 2, 0);
		signal_old(old, 4, -ESTALE);
	}
}

/* The library only carries the guest's ids: any, twice, downwards, over every end. */
Test(stale, guest_ids_of_any_kind)
{
	static const uint64_t id[] = {UINT64_C(1) << 63, UINT64_MAX, 0, UINT64_C(1) << 63, 5, 4, 4,
				      UINT64_MAX - 1};

	for (unsigned round = 0; round < ENDS; round++) {
		unsigned from = host.count;

		for (unsigned i = 0; i < 8; i++)
			fence[i].fence_id = id[i];
		submit_all(&host, CTX, RING, fence, 8);
		cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[3].token), 0);
		cr_assert_eq(drain(), 4);
		cr_assert_eq(end[round](), 0);
		for (unsigned i = 0; i < 8; i++) {
			cr_assert_eq(host.log[from + i].fence_id, id[i]);
			cr_assert_eq(host.log[from + i].status == 0, i < 4);
		}
	}
}

/* ... but as tokens of the host's choice they must grow, stay below 2^62, and never come again. */
Test(stale, chosen_ids)
{
	static const uint64_t bad[] = {0, FQ_TOKEN_MAX + 1, UINT64_C(1) << 63, UINT64_MAX};

	for (unsigned i = 0; i < 4; i++) {
		cr_assert_eq(fq_submit_id(host.dev, CTX, RING, &fence[0], bad[i]), -ERANGE);
		cr_assert_eq(fq_submit_global_id(host.dev, &fence[0], bad[i]), -ERANGE);
	}
	cr_assert_eq(fq_submit_id(host.dev, CTX, RING, &fence[0], 100), 0);
	cr_assert_eq(fq_submit_id(host.dev, CTX, RING, &fence[1], 100), -ERANGE);
	cr_assert_eq(fq_submit_id(host.dev, CTX, RING, &fence[1], 99), -ERANGE);
	cr_assert_eq(fq_submit_id(host.dev, CTX, RING, &fence[0], 101), -EBUSY);
	for (unsigned round = 0; round < ENDS; round++) {
		cr_assert_eq(end[round](), 0);
		cr_assert_null(fence[0].timeline);
		cr_assert_eq(fq_submit_id(host.dev, CTX, RING, &fence[0], 100 + round), -ERANGE);
		cr_assert_eq(fq_submit_id(host.dev, CTX, RING, &fence[0], 101 + round), 0);
	}
	cr_assert_eq(host.count, ENDS);
	cr_assert_eq(device_stats(host.dev).submit_errors, 8 + 3 + ENDS);
}

/* The last token there is: afterwards submits are refused, and everything else works. */
Test(stale, tokens_run_out)
{
	cr_assert_eq(fq_submit_id(host.dev, CTX, RING, &fence[0], FQ_TOKEN_MAX), 0);
	cr_assert_eq(fq_submit(host.dev, CTX, RING, &fence[1]), -EOVERFLOW);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, FQ_TOKEN_MAX + 1), -ERANGE);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, UINT64_MAX), -ERANGE);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, FQ_TOKEN_MAX), 0);
	cr_assert_eq(drain(), 1);
	cr_assert_eq(fq_device_reset(host.dev), 0);
	cr_assert_eq(fq_submit(host.dev, CTX, RING, &fence[1]), -EOVERFLOW);
	cr_assert_eq(fq_submit_global(host.dev, &fence[1]), -EOVERFLOW);
	cr_assert_eq(fq_device_reset(host.dev), 0);
	cr_assert_eq(fq_device_pending(host.dev), 0);
	cr_assert_eq(host.count, 1);
}

/* Ids going backwards: a mark is a maximum, and what a lower one says is true already. */
Test(stale, signals_go_backwards)
{
	submit_all(&host, CTX, RING, fence, 10);
	for (unsigned i = 10; i-- > 5;)
		cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[i].token), 0);
	cr_assert_eq(drain(), 10);
	for (unsigned i = 10; i-- > 0;)
		cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[i].token), 0);
	cr_assert_eq(drain(), 0);
	expect_retired(&host, 0, fence, 10, 0);
}

/* Contexts twice, contexts that are not there, in every state of the device. */
Test(stale, contexts_of_every_kind)
{
	for (unsigned round = 0; round < 3; round++) {
		if (round == 1)
			cr_assert_eq(fq_device_freeze(host.dev), 0);
		if (round == 2)
			cr_assert_eq(fq_device_reset(host.dev), 0);
		cr_assert_eq(fq_context_destroy(host.dev, CTX), -ENOENT);
		cr_assert_eq(fq_context_fail(host.dev, CTX, -EIO), -ENOENT);
		cr_assert_eq(fq_context_create(host.dev, CTX), 0);
		cr_assert_eq(fq_context_create(host.dev, CTX), -EEXIST);
		cr_assert_eq(fq_ring_fail(host.dev, CTX, RING, -EIO), -ENOENT);
		submit_all(&host, CTX, RING, fence, 1);
		cr_assert_eq(fq_context_create(host.dev, CTX), -EEXIST);
		cr_assert_eq(fq_context_fail(host.dev, CTX, -EIO), 0);
		cr_assert_eq(fq_context_create(host.dev, CTX), -EEXIST,
			     "it failed, it is not gone");
		cr_assert_eq(fq_context_destroy(host.dev, CTX), 0);
		cr_assert_eq(fq_context_destroy(host.dev, CTX), -ENOENT);
		cr_assert_eq(host.count, round + 1);
	}
}

/* A refused submit leaves the fence the host's, in every state, and what was pending as it was. */
Test(stale, refused_submits)
{
	submit_all(&host, CTX, RING, &bystander, 1);
	for (unsigned round = 0; round < 2; round++) {
		cr_assert_eq(fq_submit(host.dev, CTX, RING, &bystander), -EBUSY);
		cr_assert_eq(fq_submit_global(host.dev, &bystander), -EBUSY);
		cr_assert_eq(fq_submit(host.dev, CTX, FQ_RINGS, &fence[0]), -EINVAL);
		cr_assert_eq(fq_submit(host.dev, CTX, RING, NULL), -EINVAL);
		cr_assert_eq(fq_submit(NULL, CTX, RING, &fence[0]), -EINVAL);
		cr_assert_null(fence[0].timeline);
		cr_assert_eq(fq_device_freeze(host.dev), 0);
	}
	cr_assert_eq(fq_device_pending(host.dev), 1);
	cr_assert_eq(fq_device_thaw(host.dev), 0);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, bystander.token), 0);
	cr_assert_eq(drain(), 1);
	expect_retired(&host, 0, &bystander, 1, 0);
}

/* Ids above the highest submitted, in each state: refused, and the mark left alone. */
Test(stale, ids_never_submitted)
{
	for (unsigned round = 0; round < ENDS; round++) {
		unsigned from = host.count;

		submit_all(&host, CTX, RING, fence, 2);
		cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[1].token + 1), -ERANGE);
		cr_assert_eq(fq_signal(host.handle, CTX, RING, UINT64_C(1) << 63), -ERANGE);
		cr_assert_eq(fq_signal(host.handle, CTX, RING, 0), -EINVAL);
		cr_assert_eq(fq_signal(host.handle, CTX, RING + 1, 1), -ENOENT);
		cr_assert_eq(drain(), 0);
		cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[0].token), 0);
		cr_assert_eq(drain(), 1);
		cr_assert_eq(end[round](), 0);
		cr_assert_eq(host.count, from + 2);
		cr_assert_lt(host.log[from + 1].status, 0);
	}
	cr_assert_eq(device_stats(host.dev).refused_range, 2 * ENDS);
}
