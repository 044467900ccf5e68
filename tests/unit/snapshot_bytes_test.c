/* SPDX-License-Identifier: MIT */
/* What save and load refuse: bytes of every wrong kind, devices, hosts, and a lack of memory. */
#define _GNU_SOURCE
#include <errno.h>

#include <fenceq/fenceq.h>

#include "saved.h"
#include "unit.h"

/* -- memory ------------------------------------------------------------------------------------ */

static unsigned fail_at; /* from 1; 0: never */
static bool called;

/* The library has no other way to get memory for contexts and timelines. */
void *aligned_alloc(size_t alignment, size_t size)
{
	void *p = NULL;

	called = true;
	if (fail_at && !--fail_at)
		return NULL;
	return posix_memalign(&p, alignment, size) ? NULL : p;
}

/* -- the snapshot ------------------------------------------------------------------------------ */

static struct host old, new;
static struct fq_fence fence[16];
static struct saved s;
static struct maker maker;

/*
 * Offsets: the global timeline with one fence; context 5 with ring 2 (tokens 8 and 9, the first one
 * signalled, an earlier life up to 6) and ring 4 (failed at 8, nothing retired); context 9, empty;
 * context 10 with ring 0 (no fences, all up to 8 retired). No token of the failed is above 8.
 */
enum {
	SIZE = 16,
	HIGH = 24,
	GLOBAL = 32,
	GLOBAL_FENCE = GLOBAL + 40,
	CTX5 = GLOBAL_FENCE + 24,
	RING2 = CTX5 + 8,
	RING2_FENCE = RING2 + 40,
	RING4 = RING2_FENCE + 2 * 24,
	CTX9 = RING4 + 40,
	CTX10 = CTX9 + 8,
	RING0 = CTX10 + 8,
	END = RING0 + 40,
	/* inside a timeline */
	OPEN = 4,
	BASE = 8,
	MARK = 16,
	SUBMITTED = 24,
	COUNT = 32,
};

static void submit_old(uint32_t ctx_id, uint32_t ring_idx, unsigned from, unsigned count)
{
	submit_all(&old, ctx_id, ring_idx, &fence[from], count);
}

static void setup(void)
{
	memset(fence, 0, sizeof(fence));
	memset(&maker, 0, sizeof(maker));
	host_open(&old, 0);
	host_open(&new, 0);
	submit_old(5, 2, 0, 6);
	cr_assert_eq(fq_ring_fail(old.dev, 5, 2, -EIO), 0); /* high is 6 */
	submit_old(5, 4, 6, 2);
	submit_old(5, 2, 0, 3);
	cr_assert_eq(fq_signal(old.handle, 5, 2, 7), 0);
	cr_assert_eq(fq_context_create(old.dev, 9), 0);
	submit_old(10, 0, 10, 2);
	cr_assert_eq(fq_signal(old.handle, 10, 0, 8), 0);
	cr_assert_eq(fq_queue_drain(old.q, FQ_NO_BUDGET), 3);
	cr_assert_eq(fq_ring_fail(old.dev, 5, 4, -EIO), 0);
	cr_assert_eq(fq_submit_global(old.dev, &fence[12]), 0);
	cr_assert_eq(fq_device_freeze(old.dev), 0);
	cr_assert_eq(fq_signal(old.handle, 5, 2, 8), 0);
	s = save(old.dev);
}

static void teardown(void)
{
	fail_at = 0;
	free(s.bytes);
	if (old.dev)
		host_close(&old);
	if (new.dev)
		host_close(&new);
}

TestSuite(snapshot_bytes, .init = setup, .fini = teardown, .timeout = 60);

static void put(uint8_t *at, uint64_t value, unsigned bytes)
{
	for (; bytes; bytes--, value >>= 8)
		*at++ = (uint8_t)value;
}

static uint64_t get(const uint8_t *at, unsigned bytes)
{
	uint64_t value = 0;

	for (unsigned i = bytes; i--;)
		value = value << 8 | at[i];
	return value;
}

Test(snapshot_bytes, layout)
{
	cr_assert_eq(s.size, END);
	cr_assert_arr_eq(s.bytes, "fenceq\r\n\1\0\0\0\3\0\0\0", 16);
	cr_assert_eq(get(s.bytes + SIZE, 8), END);
	cr_assert_eq(get(s.bytes + HIGH, 8), 8);
	cr_assert_eq(get(s.bytes + GLOBAL_FENCE, 8), 1);
	cr_assert_eq(get(s.bytes + CTX5, 8), 2 * (UINT64_C(1) << 32) + 5);
	cr_assert_eq(get(s.bytes + RING2, 8), (UINT64_C(1) << 32) + 2);
	cr_assert_eq(get(s.bytes + RING2 + BASE, 8), 6);
	cr_assert_eq(get(s.bytes + RING2 + MARK, 8), 8);
	cr_assert_eq(get(s.bytes + RING2 + SUBMITTED, 8), 9);
	cr_assert_eq(get(s.bytes + RING2 + COUNT, 8), 2);
	cr_assert_eq(get(s.bytes + RING4, 8), 4);
	cr_assert_eq(get(s.bytes + CTX9, 8), 9);
	cr_assert_eq(get(s.bytes + CTX10, 8), (UINT64_C(1) << 32) + 10);
	cr_assert_eq(get(s.bytes + RING0 + SUBMITTED, 8), 8);
}

/* -- wrong bytes ------------------------------------------------------------------------------- */

#define PATCHES 5

struct patch {
	unsigned at;
	unsigned bytes;
	uint64_t value;
};

/* Each breaks one rule, and no other where that can be. */
static const struct wrong {
	const char *what;
	int err;
	struct patch patch[PATCHES];
} wrong[] = {
	{"magic", -EINVAL, {{0, 1, 'F'}}},
	{"magic, its end", -EINVAL, {{7, 1, '\r'}}},
	{"version 0", -ENOTSUP, {{8, 4, 0}}},
	{"version 2", -ENOTSUP, {{8, 4, 2}}},
	{"version 2^16 + 1", -ENOTSUP, {{8, 4, 0x10001}}},
	{"size one less", -EINVAL, {{SIZE, 8, END - 1}}},
	{"size one more", -EINVAL, {{SIZE, 8, END + 1}}},
	{"size, high half", -EINVAL, {{SIZE, 8, END + (UINT64_C(1) << 32)}}},
	{"high too high", -EINVAL, {{HIGH, 8, FQ_TOKEN_MAX + 1}}},
	{"a context less", -EINVAL, {{12, 4, 2}}},
	{"a context more", -EINVAL, {{12, 4, 4}}},
	{"contexts without number", -EINVAL, {{12, 4, UINT32_MAX}}},
	{"global timeline with a ring", -EINVAL, {{GLOBAL, 4, 1}}},
	{"neither open nor closed", -EINVAL, {{RING2 + OPEN, 4, 2}}},
	{"mark below base", -EINVAL, {{RING4 + BASE, 8, 7}}},
	{"mark above submitted", -EINVAL, {{RING2 + MARK, 8, 10}}},
	{"base above high",
	 -EINVAL,
	 {{RING2 + BASE, 8, 9},
	  {RING2 + MARK, 8, 10},
	  {RING2 + SUBMITTED, 8, 12},
	  {RING2_FENCE, 8, 11},
	  {RING2_FENCE + 24, 8, 12}}},
	{"failed, with fences", -EINVAL, {{RING2 + OPEN, 4, 0}, {HIGH, 8, 9}}},
	{"failed, with a token above high", -EINVAL, {{RING4 + SUBMITTED, 8, 9}}},
	{"a token too high",
	 -EINVAL,
	 {{RING0 + MARK, 8, FQ_TOKEN_MAX + 1}, {RING0 + SUBMITTED, 8, FQ_TOKEN_MAX + 1}}},
	{"no fence, not all retired", -EINVAL, {{RING0 + MARK, 8, 7}}},
	{"a fence less", -EINVAL, {{RING2 + COUNT, 8, 1}}},
	{"a fence more", -EINVAL, {{RING2 + COUNT, 8, 3}}},
	{"a fence behind the end", -EINVAL, {{RING0 + COUNT, 8, 1}}},
	{"2^61 fences: the size wraps to 0", -EINVAL, {{RING0 + COUNT, 8, UINT64_C(1) << 61}}},
	{"2^64 - 1 fences", -EINVAL, {{RING0 + COUNT, 8, UINT64_MAX}}},
	{"token of an earlier life", -EINVAL, {{RING2_FENCE, 8, 6}}},
	{"token 0", -EINVAL, {{GLOBAL_FENCE, 8, 0}, {GLOBAL + SUBMITTED, 8, 0}}},
	{"a token twice", -EINVAL, {{RING2_FENCE, 8, 9}}},
	{"tokens falling", -EINVAL, {{RING2_FENCE, 8, 10}}},
	{"last token below submitted", -EINVAL, {{RING2 + SUBMITTED, 8, 10}}},
	{"last token above submitted", -EINVAL, {{RING2_FENCE + 24, 8, 10}}},
	{"a ring twice", -EINVAL, {{RING2, 4, 4}}},
	{"rings falling", -EINVAL, {{RING2, 4, 5}}},
	{"ring 64", -EINVAL, {{RING4, 4, 64}}},
	{"ring 2^32 - 1", -EINVAL, {{RING4, 4, UINT32_MAX}}},
	{"a timeline less", -EINVAL, {{CTX10 + 4, 4, 0}}},
	{"a timeline more", -EINVAL, {{CTX10 + 4, 4, 2}}},
	{"2^32 - 1 timelines", -EINVAL, {{CTX10 + 4, 4, UINT32_MAX}}},
	{"a context twice", -EINVAL, {{CTX9, 4, 5}}},
	{"contexts falling", -EINVAL, {{CTX9, 4, 11}}},
	{"a context above the highest", -EINVAL, {{CTX9, 4, UINT32_MAX}}},
};

/* Into a new device, which stays one. */
static void expect_refused(const struct saved *bytes, int err, const char *what)
{
	int got = load(&new, bytes, &maker);

	cr_assert_eq(got, err, "%s: %d", what, got);
	cr_assert_eq(maker.made, 0, "%s: asked for fences", what);
	expect_new(&new);
}

Test(snapshot_bytes, wrong)
{
	struct saved t = {.bytes = malloc(s.size), .size = s.size};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		memcpy(t.bytes, s.bytes, s.size);
		for (unsigned n = 0; n < PATCHES; n++) {
			const struct patch *p = &wrong[i].patch[n];

			put(t.bytes + p->at, p->value, p->bytes);
		}
		expect_refused(&t, wrong[i].err, wrong[i].what);
	}
	free(t.bytes);
	cr_assert_eq(load(&new, &s, &maker), 0, "right after all that is wrong");
	expect_saves(&new, &s);
}

/* At most as long as the snapshot, or with something behind it; the header says so. */
Test(snapshot_bytes, cut_and_longer)
{
	for (size_t size = 0; size <= END + 9; size++) {
		struct saved t = {.bytes = calloc(1, size ? size : 1), .size = size};

		memcpy(t.bytes, s.bytes, size < END ? size : END);
		if (size >= SIZE + 8)
			put(t.bytes + SIZE, size, 8);
		if (size != END)
			expect_refused(&t, -EINVAL, "cut or longer");
		free(t.bytes);
	}
}

/* The outermost values that a device can come to. */
Test(snapshot_bytes, limits)
{
	struct fq_fence more = {0};

	put(s.bytes + HIGH, FQ_TOKEN_MAX, 8);
	put(s.bytes + RING4 + SUBMITTED, FQ_TOKEN_MAX, 8);
	put(s.bytes + RING0 + MARK, FQ_TOKEN_MAX, 8);
	put(s.bytes + RING0 + SUBMITTED, FQ_TOKEN_MAX, 8);
	put(s.bytes + RING4, 63, 4);
	put(s.bytes + CTX10, UINT32_MAX, 4);
	put(s.bytes + RING2_FENCE + 8, UINT64_MAX, 8);
	put(s.bytes + RING2_FENCE + 16, UINT64_MAX, 8);
	cr_assert_eq(load(&new, &s, &maker), 0);
	cr_assert_eq(maker.saved[1].fence_id, UINT64_MAX);
	cr_assert_eq(maker.saved[1].tag, UINT64_MAX);
	cr_assert_eq(fq_submit(new.dev, UINT32_MAX, 0, &more), -EOVERFLOW);
	cr_assert_eq(fq_submit(new.dev, 5, 63, &more), -EOVERFLOW);
	cr_assert_eq(fq_signal(new.handle, UINT32_MAX, 0, FQ_TOKEN_MAX), 0);
}

/* -- a buffer too small, devices not fit for it ------------------------------------------------ */

Test(snapshot_bytes, buffer_too_small)
{
	uint8_t buf[END], untouched[END];

	memset(buf, 0x5a, sizeof(buf));
	memset(untouched, 0x5a, sizeof(untouched));
	for (size_t size = 0; size < END; size++) {
		cr_assert_eq(fq_device_save(old.dev, tag_of, NULL, buf, size), END);
		cr_assert_arr_eq(buf, untouched, END);
	}
	cr_assert_eq(fq_device_save(old.dev, tag_of, NULL, buf, END), END);
	cr_assert_arr_eq(buf, s.bytes, END);
	cr_assert_eq(fq_device_save(old.dev, NULL, NULL, buf, END), END, "without tags");
}

Test(snapshot_bytes, arguments)
{
	uint8_t byte;

	cr_assert_eq(fq_device_save(NULL, NULL, NULL, NULL, 0), -EINVAL);
	cr_assert_eq(fq_device_save(old.dev, NULL, NULL, NULL, 1), -EINVAL);
	cr_assert_eq(fq_device_load(NULL, &byte, 1, make_one, NULL, NULL), -EINVAL);
	cr_assert_eq(fq_device_load(new.dev, NULL, 64, make_one, NULL, NULL), -EINVAL);
	cr_assert_eq(fq_device_load(new.dev, s.bytes, s.size, NULL, NULL, NULL), -EINVAL);
	cr_assert_eq(fq_device_thaw(old.dev), 0);
	cr_assert_eq(fq_device_save(old.dev, NULL, NULL, NULL, 0), -EBUSY, "not frozen");
}

static void expect_busy(void)
{
	cr_assert_eq(load(&new, &s, &maker), -EBUSY);
	cr_assert_eq(maker.made, 0);
	cr_assert_not(fq_device_frozen(new.dev));
}

Test(snapshot_bytes, device_with_a_context)
{
	cr_assert_eq(fq_context_create(new.dev, 1), 0);
	expect_busy();
	cr_assert_eq(fq_context_destroy(new.dev, 1), 0);
	cr_assert_eq(load(&new, &s, &maker), 0, "nothing was submitted to it");
	expect_saves(&new, &s);
}

Test(snapshot_bytes, device_that_was_used)
{
	cr_assert_eq(fq_submit_global(new.dev, &fence[13]), 0);
	expect_busy();
	cr_assert_eq(fq_device_reset(new.dev), 0);
	expect_busy();
}

/* Nothing pending in it, no context: but it is what another device was. */
Test(snapshot_bytes, device_that_was_loaded)
{
	const struct patch high[] = {{HIGH, 8, 8}, {GLOBAL + SUBMITTED, 8, 0}};
	const struct patch used[] = {{HIGH, 8, 0}, {GLOBAL + SUBMITTED, 8, 8}};
	struct saved t = {.bytes = calloc(1, GLOBAL_FENCE), .size = GLOBAL_FENCE};

	memcpy(t.bytes, "fenceq\r\n\1", 9);
	put(t.bytes + SIZE, t.size, 8);
	put(t.bytes + GLOBAL + OPEN, 1, 4);
	for (unsigned i = 0; i < 2; i++) {
		put(t.bytes + HIGH, (i ? used : high)[0].value, 8);
		put(t.bytes + GLOBAL + MARK, (i ? used : high)[1].value, 8);
		put(t.bytes + GLOBAL + SUBMITTED, (i ? used : high)[1].value, 8);
		cr_assert_eq(load(&new, &t, &maker), 0);
		expect_saves(&new, &t);
		cr_assert_eq(load(&new, &s, &maker), -EBUSY);
		host_close(&new);
		host_open(&new, 0);
	}
	free(t.bytes);
}

/* Machines reset their devices before they load them. */
Test(snapshot_bytes, new_device_after_reset)
{
	cr_assert_eq(fq_device_reset(new.dev), 0);
	cr_assert_eq(load(&new, &s, &maker), 0);
	expect_saves(&new, &s);
	cr_assert_eq(device_stats(new.dev).timelines, 3);
}

Test(snapshot_bytes, too_many_contexts)
{
	struct fq_queue *q = new.q;

	cr_assert_eq(fq_device_destroy(new.dev), 0);
	host_attach(&new, q, 2);
	expect_refused(&s, -ENOSPC, "two contexts");
	cr_assert_eq(fq_device_destroy(new.dev), 0);
	host_attach(&new, q, 3);
	cr_assert_eq(load(&new, &s, &maker), 0);
}

/* -- hosts that refuse, and no memory ---------------------------------------------------------- */

Test(snapshot_bytes, host_refuses)
{
	for (unsigned n = 1; n <= 3; n++) {
		maker.refuse_at = n;
		cr_assert_eq(load(&new, &s, &maker), -ECANCELED);
		cr_assert_eq(maker.made, n - 1);
		cr_assert_eq(maker.unmade, n - 1);
		expect_new(&new);
		cr_assert_eq(fq_signal(new.handle, 5, 2, 8), -ENOENT);
	}
	cr_assert_eq(fq_device_load(new.dev, s.bytes, s.size, make_one, NULL, &maker), -ECANCELED);
	expect_new(&new);
	maker.refuse_at = 0;
	cr_assert_eq(load(&new, &s, &maker), 0);
	expect_saves(&new, &s);
}

static struct fq_fence *make_same(const struct fq_saved_fence *saved, void *opaque)
{
	(void)saved;
	return opaque;
}

Test(snapshot_bytes, fence_pending_already)
{
	struct fq_fence same = {0};

	cr_assert_eq(fq_device_load(new.dev, s.bytes, s.size, make_same, NULL, &same), -EBUSY);
	cr_assert_null(same.timeline);
	expect_new(&new);
	cr_assert_eq(fq_device_load(new.dev, s.bytes, s.size, make_same, NULL, &fence[12]), -EBUSY);
	cr_assert_not_null(fence[12].timeline, "it is the other device's");
	expect_new(&new);
}

/* A device made for each, as what a failed load has allocated is kept for the next. */
Test(snapshot_bytes, no_memory)
{
	unsigned n;

	if (!called)
		cr_skip_test("memcheck puts its own aligned_alloc in the place of this one");
	for (n = 1; n < 100; n++) {
		fail_at = n;
		int err = load(&new, &s, &maker);

		if (!err)
			break;
		fail_at = 0;
		cr_assert_eq(err, -ENOMEM);
		cr_assert_eq(maker.made, 0);
		expect_new(&new);
		cr_assert_eq(load(&new, &s, &maker), 0);
		expect_saves(&new, &s);
		host_close(&new);
		host_open(&new, 0);
	}
	cr_assert_eq(n, 7, "three contexts, three timelines");
	fail_at = 1;
	cr_assert_eq(fq_device_save(old.dev, tag_of, NULL, s.bytes, s.size), (int64_t)s.size,
		     "a save needs none");
}
