/* SPDX-License-Identifier: MIT */
/*
 * The traps that VMMs have fallen into, by their numbers: those that fences and their devices can
 * fall into, seen from a host. Others are tested where their part is; t09 and t10, which need a
 * poster that is stopped inside of the library, in step/trap.
 *
 * Each comment says with which defence taken out of the library it was seen to fail.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "../unit/host.h"
#include "../unit/saved.h"

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

TestSuite(trap, .init = setup, .fini = teardown, .timeout = 60);

static unsigned drain(void)
{
	return fq_queue_drain(host.q, FQ_NO_BUDGET);
}

/* -- t01 --------------------------------------------------------------------------------------- */

#define KEYS 6u

/* Neighbours in every respect; the first is the global timeline. */
static const struct {
	uint32_t ctx_id, ring_idx;
} key[KEYS] = {{0, 0}, {0, 0}, {0, 1}, {1, 0}, {1, 1}, {1u << 16, 0}};

static int submit_key(unsigned k, struct fq_fence *f, uint64_t id)
{
	return k ? fq_submit_id(host.dev, key[k].ctx_id, key[k].ring_idx, f, id)
		 : fq_submit_global_id(host.dev, f, id);
}

static int signal_key(unsigned k, uint64_t id)
{
	return k ? fq_signal(host.handle, key[k].ctx_id, key[k].ring_idx, id)
		 : fq_signal_global(host.handle, id);
}

/*
 * Trap 1: Linux numbers the fences of all timelines from one counter, so an id is above most that
 * are pending elsewhere; and ring 0 of context 0 is not the global timeline. Each timeline in turn
 * is the one that is signalled first, half of it and then the rest.
 *
 * Seen to fail: with find_timeline taking ring 0 for any ring; with fq_signal_global going to ring
 * 0 of context 0; with visit giving a timeline the highest mark it has seen anywhere.
 */
Test(trap, t01_cross_timeline_retirement)
{
	uint64_t id = 0;

	for (unsigned first = 0; first < KEYS; first++) {
		uint64_t last[KEYS];

		host.count = 0;
		for (unsigned i = 0; i < 4 * KEYS; i++) {
			last[i % KEYS] = ++id;
			cr_assert_eq(submit_key(i % KEYS, &fence[i], id), 0);
		}
		for (unsigned n = 0; n < KEYS; n++) {
			const unsigned k = (first + n) % KEYS;

			cr_assert_eq(signal_key(k, last[k] - 2 * KEYS), 0);
			cr_assert_eq(drain(), 2);
			cr_assert_eq(signal_key(k, last[k]), 0);
			cr_assert_eq(drain(), 2);
			for (unsigned i = 0; i < 4; i++)
				cr_assert_eq(host.log[4 * n + i].fence, &fence[k + i * KEYS]);
		}
	}
}

/* -- t02 --------------------------------------------------------------------------------------- */

/*
 * Trap 2: the thread that completed the earlier fence comes last, and again after a drain. (Both at
 * the same time: step/trap.)
 *
 * Seen to fail: with a mark that a later signal overwrites.
 */
Test(trap, t02_high_water_regression)
{
	submit_all(&host, CTX, RING, fence, 5);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[3].token), 0);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[0].token), 0);
	cr_assert_eq(drain(), 4);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[1].token), 0);
	cr_assert_eq(drain(), 0);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[4].token), 0);
	cr_assert_eq(drain(), 1);
	expect_retired(&host, 0, fence, 5, 0);
}

/* -- t03 --------------------------------------------------------------------------------------- */

/*
 * Trap 3: the renderer says no to a fence that was recorded already. The host fails its ring: the
 * guest has its answer at once, from no drain; what was complete is not failed with it; the ring
 * goes on, and the renderer's late words on the failed ones change nothing.
 *
 * Seen to fail: with fq_ring_fail closing the timeline only (nothing is answered); with
 * fq_timeline_close giving its status to fences below the mark, too.
 */
Test(trap, t03_failed_creation_is_answered)
{
	submit_all(&host, CTX, RING, fence, 4);
	submit_all(&host, CTX, RING + 1, &fence[8], 1);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[1].token), 0);
	cr_assert_eq(fq_ring_fail(host.dev, CTX, RING, -ENOMEM), 0);
	cr_assert_eq(host.count, 4, "parked: %u answered", host.count);
	for (unsigned i = 0; i < 4; i++) {
		cr_assert_eq(host.log[i].fence, &fence[i]);
		cr_assert_eq(host.log[i].status, i < 2 ? 0 : -ENOMEM);
	}
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[3].token), -ESTALE);
	submit_all(&host, CTX, RING, &fence[4], 2);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[3].token), -ESTALE);
	cr_assert_eq(drain(), 0);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[5].token), 0);
	cr_assert_eq(drain(), 2);
	cr_assert_eq(fq_device_pending(host.dev), 1, "the other ring's");
}

/*
 * ... and what fenceq itself cannot record it has not recorded: the host answers, once.
 *
 * Seen to fail: with append linking the fence before it looks at the token.
 */
Test(trap, t03_failed_submit_records_nothing)
{
	cr_assert_eq(fq_submit_id(host.dev, CTX, RING, &fence[0], FQ_TOKEN_MAX), 0);
	cr_assert_eq(fq_submit(host.dev, CTX, RING, &fence[1]), -EOVERFLOW);
	cr_assert_eq(fq_submit(host.dev, CTX, FQ_RINGS, &fence[1]), -EINVAL);
	cr_assert_eq(fq_device_pending(host.dev), 1);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, FQ_TOKEN_MAX), 0);
	cr_assert_eq(drain(), 1);
	cr_assert_eq(fq_device_reset(host.dev), 0);
	expect_retired(&host, 0, fence, 1, 0);
}

/* -- t11 --------------------------------------------------------------------------------------- */

static int end_context(struct fq_device *dev)
{
	return fq_context_destroy(dev, CTX);
}

static int end_unplug(struct fq_device *dev)
{
	return fq_device_unplug(dev, NULL, NULL);
}

static const struct {
	int (*end)(struct fq_device *dev);
	int status;
	bool gone;
} ending[] = {
	{end_context, -ECANCELED, false},
	{fq_device_reset, -ECONNRESET, false},
	{end_unplug, -ENODEV, true},
	{fq_device_destroy, -ENODEV, true},
};

#define ENDINGS (sizeof(ending) / sizeof(ending[0]))

/* Five are complete, two of them only while the device was suspended; three are not. */
static void suspend_with_fences(void)
{
	memset(fence, 0, sizeof(fence));
	host.count = 0;
	submit_all(&host, CTX, RING, fence, 8);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[2].token), 0);
	cr_assert_eq(fq_device_freeze(host.dev), 0);
	cr_assert_eq(drain(), 0);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[4].token), 0);
	cr_assert_eq(drain(), 0);
}

/*
 * Trap 11: completions dropped while the device is suspended, or at its end. Whatever ends the
 * suspension, and whether or not a drain came in between, complete fences are answered as complete,
 * the others with the reason.
 *
 * Seen to fail: with signals refused while the device is frozen; with collect_bank passing by what
 * is frozen, with a thaw that makes nothing ready or wakes nobody (the first test); with
 * fq_timeline_close going by the mark that the last drain saw (the second).
 */
Test(trap, t11_completions_while_suspended)
{
	suspend_with_fences();
	cr_assert_eq(fq_device_thaw(host.dev), 0);
	cr_assert(readable(host.q), "nobody tells the owner");
	cr_assert_eq(drain(), 5);
	expect_retired(&host, 0, fence, 5, 0);
	cr_assert_eq(fq_device_reset(host.dev), 0);
}

static void end_while_suspended(unsigned n, bool drained)
{
	struct fq_queue *q = host.q;

	suspend_with_fences();
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[5].token), 0);
	if (drained)
		cr_assert_eq(drain(), 0);
	cr_assert_eq(ending[n].end(host.dev), 0);
	cr_assert_eq(host.count, 8, "ending %u left %u behind", n, 8 - host.count);
	for (unsigned i = 0; i < 8; i++) {
		cr_assert_eq(host.log[i].fence, &fence[i]);
		cr_assert_eq(host.log[i].status, i <= 5 ? 0 : ending[n].status,
			     "ending %u, fence %u: %d", n, i, host.log[i].status);
	}
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 0);
	(void)fq_reclaim();
	if (ending[n].gone)
		host_attach(&host, q, 0);
	else
		cr_assert_eq(fq_device_thaw(host.dev), 0);
}

Test(trap, t11_completions_at_the_end_of_a_suspended_device)
{
	for (unsigned n = 0; n < ENDINGS; n++) {
		end_while_suspended(n, false);
		end_while_suspended(n, true);
	}
}

/*
 * ... and a snapshot carries them to the next process.
 *
 * Seen to fail: with fq_device_load beginning at the base instead of the mark.
 */
Test(trap, t11_completions_travel_in_a_snapshot)
{
	static struct maker maker;
	static struct host new;
	struct saved s;

	memset(&maker, 0, sizeof(maker));
	host_open(&new, 0);
	suspend_with_fences();
	s = save(host.dev);
	cr_assert_eq(load(&new, &s, &maker), 0);
	cr_assert_eq(fq_device_thaw(new.dev), 0);
	cr_assert_eq(fq_queue_drain(new.q, FQ_NO_BUDGET), 5);
	expect_retired(&new, 0, maker.fence, 5, 0);
	cr_assert_eq(fq_signal(new.handle, CTX, RING, fence[7].token), 0);
	cr_assert_eq(fq_queue_drain(new.q, FQ_NO_BUDGET), 3);
	free(s.bytes);
	host_close(&new);
}

/* -- t12 --------------------------------------------------------------------------------------- */

/* As virglrenderer has it; the way in, virgl_renderer_create_fence(), takes an int. */
static int write_fence(uint32_t id)
{
	return fq_signal_global32(host.handle, id);
}

/*
 * Trap 12: ids of 32 bits. Across 2^31, where they become negative on their way through an int, and
 * 2^32, where they start again, each callback retires its own fence; and the last ones of before,
 * coming once more after the edge, do not retire those that happen to be near.
 *
 * Seen to fail: with a callback whose id is taken for the token; with widen without the step back
 * over the edge.
 */
Test(trap, t12_ids_of_32_bits)
{
	static const uint64_t edge[] = {UINT64_C(1) << 31, UINT64_C(1) << 32, UINT64_C(5) << 32};

	for (unsigned e = 0; e < 3; e++) {
		host.count = 0;
		cr_assert_eq(fq_submit_global_id(host.dev, &fence[0], edge[e] - 4), 0);
		for (unsigned i = 1; i < 8; i++)
			cr_assert_eq(fq_submit_global(host.dev, &fence[i]), 0);
		for (unsigned i = 0; i < 8; i++) {
			const int narrow = (int)(uint32_t)fence[i].token;

			cr_assert_eq(write_fence((uint32_t)narrow), 0);
			cr_assert_eq(drain(), 1, "edge %u, fence %u", e, i);
			cr_assert_eq(host.log[i].fence, &fence[i]);
			/* Again, and one from before it: covered. */
			cr_assert_eq(write_fence((uint32_t)narrow), 0);
			cr_assert_eq(write_fence((uint32_t)fence[0].token), 0);
			cr_assert_eq(drain(), 0);
		}
	}
}

/* A callback's argument as one ABI has it; another one reads ring_idx as 32 bits. */
struct abi_fence {
	uint32_t flags;
	uint32_t pad;
	uint64_t fence_id;
	uint32_t ctx_id;
	uint8_t ring_idx;
	uint8_t padding[3];
};

/*
 * ... and the ring's index, of 8 bits in one ABI and 32 in another: what the padding holds is
 * refused, and counted, and never taken for one of the 64 rings by its low bits.
 *
 * Seen to fail: with ring_idx cut down to its low 8 or 6 bits instead of compared.
 */
Test(trap, t12_padding_read_as_data)
{
	struct abi_fence sent;
	uint32_t wide;

	memset(&sent, 0xa5, sizeof(sent));
	submit_all(&host, CTX, RING, fence, 1);
	sent.ctx_id = CTX;
	sent.ring_idx = RING;
	sent.fence_id = fence[0].token;
	memcpy(&wide, (const char *)&sent + offsetof(struct abi_fence, ring_idx), sizeof(wide));
	cr_assert_eq(fq_signal(host.handle, sent.ctx_id, wide, sent.fence_id), -EINVAL);
	cr_assert_eq(fq_signal32(host.handle, sent.ctx_id, wide, (uint32_t)sent.fence_id), -EINVAL);
	cr_assert_eq(fq_submit(host.dev, sent.ctx_id, wide, &fence[1]), -EINVAL);
	cr_assert_eq(device_stats(host.dev).refused_invalid, 2);
	cr_assert_eq(drain(), 0);
	cr_assert_eq(fq_signal(host.handle, sent.ctx_id, sent.ring_idx, sent.fence_id), 0);
	cr_assert_eq(drain(), 1);
}

/* -- t13 --------------------------------------------------------------------------------------- */

/* A renderer that is done before its create_fence() returns: on this thread or one of its own. */
struct creation {
	uint32_t ctx_id;
	uint32_t ring_idx;
	uint64_t token;
	int err;
};

static void *call_back(void *arg)
{
	struct creation *c = arg;

	c->err = fq_signal(host.handle, c->ctx_id, c->ring_idx, c->token);
	return NULL;
}

static int create_fence(uint32_t ctx_id, uint32_t ring_idx, uint64_t token, bool on_a_thread)
{
	struct creation c = {ctx_id, ring_idx, token, 1};
	pthread_t thread;

	if (on_a_thread) {
		cr_assert_eq(pthread_create(&thread, NULL, call_back, &c), 0);
		pthread_join(thread, NULL);
	} else {
		call_back(&c);
	}
	return c.err;
}

static int submit_and_create(uint32_t ctx_id, uint32_t ring_idx, struct fq_fence *f, bool thread)
{
	int err = fq_submit(host.dev, ctx_id, ring_idx, f);

	return err ? err : create_fence(ctx_id, ring_idx, f->token, thread);
}

/*
 * Trap 13: the callback comes inside of submit. It counts, also for the very first fence of a
 * context, which makes context and timeline; the fence is retired by a drain, not under the feet of
 * whoever submits.
 *
 * Seen to fail: with fq_timeline_append that leaves the token of a first fence to be stored later.
 */
Test(trap, t13_callback_inside_submit)
{
	for (unsigned i = 0; i < 32; i++) {
		cr_assert_eq(submit_and_create(i, i, &fence[i], i & 1), 0);
		cr_assert_eq(submit_and_create(i, i, &fence[32 + i], i & 1), 0);
		cr_assert_eq(host.count, 0, "retired inside of submit");
	}
	cr_assert(readable(host.q));
	cr_assert_eq(drain(), 64);
}

/* The callback submits the next one, and that is done before its own submit returns. */
static void submit_next(struct host *h, struct fq_fence *f, int status)
{
	cr_assert_eq(status, 0);
	if (f != &fence[15])
		cr_assert_eq(submit_and_create(CTX, RING, f + 1, (f - fence) & 1), 0);
	else
		h->on_retire = NULL;
}

Test(trap, t13_callback_inside_a_submit_inside_a_retire)
{
	host.on_retire = submit_next;
	cr_assert_eq(submit_and_create(CTX, RING, &fence[0], false), 0);
	while (host.count < 16)
		cr_assert_gt(drain(), 0, "lost after %u", host.count);
	expect_retired(&host, 0, fence, 16, 0);
	cr_assert_not(fq_queue_pending(host.q));
}

/*
 * ... which is why a host records first: a callback ahead of its fence is refused and counted, and
 * does not complete that fence when it comes.
 *
 * Seen to fail: with signals above the highest token accepted.
 */
Test(trap, t13_callback_before_submit_is_refused)
{
	submit_all(&host, CTX, RING, fence, 1);
	cr_assert_eq(create_fence(CTX, RING, fence[0].token + 1, false), -ERANGE);
	cr_assert_eq(create_fence(CTX + 1, RING, 1, false), -ENOENT);
	submit_all(&host, CTX, RING, &fence[1], 1);
	submit_all(&host, CTX + 1, RING, &fence[2], 1);
	cr_assert_eq(drain(), 0);
	cr_assert_eq(device_stats(host.dev).refused_range, 1);
	cr_assert_eq(device_stats(host.dev).refused_unknown, 1);
}
