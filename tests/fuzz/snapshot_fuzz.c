/* SPDX-License-Identifier: MIT */
/*
 * Bytes as a snapshot: what is refused leaves the device new; what is not makes one that gives the
 * same bytes again and retires each fence once and in order, like any other.
 */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include <fenceq/fenceq.h>

#include "fuzz.h"

#define MAX_CONTEXTS 512u

unsigned long fuzz_accepted;
const char fuzz_name[] = "snapshot";

struct item {
	struct fq_fence fence;
	struct fq_saved_fence saved;
	bool retired;
};

struct run {
	struct fq_device *dev;
	size_t refuse_at; /* from 0 */
	size_t made;
	size_t unmade;
	size_t retired;
	struct item *item;
};

static bool same_timeline(const struct fq_saved_fence *a, const struct fq_saved_fence *b)
{
	return a->global == b->global && a->ctx_id == b->ctx_id && a->ring_idx == b->ring_idx;
}

static void retire(struct fq_fence *fence, int status, void *opaque)
{
	struct run *run = opaque;
	struct item *item = (struct item *)fence; /* its first member */

	if (!fence->tag)
		return; /* not from the snapshot */
	FUZZ_CHECK(item >= run->item && item < run->item + run->made);
	FUZZ_CHECK(!item->retired && !status && fence->token == item->saved.token);
	if (item > run->item && same_timeline(&item[-1].saved, &item->saved))
		FUZZ_CHECK(item[-1].retired);
	item->retired = true;
	run->retired++;
}

static struct fq_fence *make(const struct fq_saved_fence *saved, void *opaque)
{
	struct run *run = opaque;
	struct item *item = &run->item[run->made];

	if (run->made == run->refuse_at)
		return NULL;
	run->made++;
	*item = (struct item){.fence.tag = item, .saved = *saved};
	return &item->fence;
}

static void unmake(struct fq_fence *fence, void *opaque)
{
	struct run *run = opaque;

	FUZZ_CHECK(fence == &run->item[run->unmade].fence);
	run->unmade++;
}

static struct fq_queue *queue(void)
{
	static struct fq_queue *q;

	if (!q)
		FUZZ_CHECK(!fq_queue_create(&q, 0));
	return q;
}

static struct fq_device *device(struct run *run)
{
	const struct fq_device_config config = {
		.queue = queue(),
		.retire = retire,
		.opaque = run,
		.max_contexts = MAX_CONTEXTS,
	};
	struct fq_device *dev;

	FUZZ_CHECK(!fq_device_create(&dev, &config));
	return dev;
}

static uint64_t tag(const struct fq_fence *fence, void *opaque)
{
	(void)opaque;
	return ((const struct item *)fence)->saved.tag;
}

static bool saves_as(struct fq_device *dev, const uint8_t *data, size_t size)
{
	uint8_t *bytes = malloc(size);
	bool same;

	FUZZ_CHECK(bytes);
	same = fq_device_save(dev, tag, NULL, bytes, size) == (int64_t)size &&
	       !memcmp(bytes, data, size);
	free(bytes);
	return same;
}

static void check_new(struct fq_device *dev)
{
	struct fq_device_stats s;

	fq_device_get_stats(dev, &s);
	FUZZ_CHECK(!s.submitted && !s.retired && !s.contexts && s.timelines == 1);
	FUZZ_CHECK(!fq_device_frozen(dev));
	FUZZ_CHECK(!fq_timeline_token(fq_device_global(dev)));
}

/* The host refuses at one fence or another. */
static void load_in_vain(struct run *run, const uint8_t *data, size_t size)
{
	int err;

	run->made = run->unmade = 0;
	run->refuse_at = size / 8 % 5;
	err = fq_device_load(run->dev, data, size, make, unmake, run);
	run->refuse_at = SIZE_MAX;
	if (!err)
		return;
	FUZZ_CHECK(err == -EINVAL || err == -ENOTSUP || err == -ENOSPC || err == -ECANCELED);
	FUZZ_CHECK(run->made == run->unmade && (err == -ECANCELED || !run->made));
	check_new(run->dev);
}

static int signal_item(struct fq_device *dev, const struct fq_saved_fence *saved)
{
	if (saved->global)
		return fq_signal_global(fq_device_handle(dev), saved->token);
	return fq_signal(fq_device_handle(dev), saved->ctx_id, saved->ring_idx, saved->token);
}

/* The next token of a fence's timeline is the one after its last. */
static void submit_after(struct fq_device *dev, const struct fq_saved_fence *last)
{
	static struct fq_fence more;
	int err;

	if (last->global)
		err = fq_submit_global(dev, &more);
	else
		err = fq_submit(dev, last->ctx_id, last->ring_idx, &more);
	if (last->token == FQ_TOKEN_MAX)
		FUZZ_CHECK(err == -EOVERFLOW);
	else
		FUZZ_CHECK(!err && more.token == last->token + 1);
}

static void go_on(struct run *run)
{
	size_t signalled = 0;
	unsigned drained;

	FUZZ_CHECK(fq_device_frozen(run->dev) && fq_device_pending(run->dev) == run->made);
	FUZZ_CHECK(!fq_queue_drain(queue(), FQ_NO_BUDGET));
	FUZZ_CHECK(!fq_device_thaw(run->dev));
	drained = fq_queue_drain(queue(), FQ_NO_BUDGET);
	FUZZ_CHECK(drained == run->retired);
	for (size_t i = 0; i < run->made; i++) {
		FUZZ_CHECK(run->item[i].retired == run->item[i].saved.signalled);
		signalled += run->item[i].saved.signalled;
	}
	FUZZ_CHECK(signalled == run->retired);
	for (size_t i = run->made; i--;)
		FUZZ_CHECK(!signal_item(run->dev, &run->item[i].saved));
	(void)fq_queue_drain(queue(), FQ_NO_BUDGET);
	FUZZ_CHECK(run->retired == run->made && !fq_device_pending(run->dev));
	if (run->made)
		submit_after(run->dev, &run->item[run->made - 1].saved);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct run run = {.refuse_at = SIZE_MAX};
	int err = 0;

	run.item = calloc(size / 24 + 1, sizeof(*run.item));
	FUZZ_CHECK(run.item);
	run.dev = device(&run);
	load_in_vain(&run, data, size);
	if (!fq_device_frozen(run.dev)) {
		run.made = 0;
		err = fq_device_load(run.dev, data, size, make, unmake, &run);
	}
	if (err) {
		check_new(run.dev);
	} else {
		fuzz_accepted++;
		FUZZ_CHECK(saves_as(run.dev, data, size));
		go_on(&run);
	}
	FUZZ_CHECK(!fq_device_destroy(run.dev));
	free(run.item);
	return 0;
}

/* The size in the header is that of the input: mutations lie deeper. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
	size = LLVMFuzzerMutate(data, size, max);
	if (size >= 24 && seed % 8) {
		for (unsigned i = 0; i < 8; i++)
			data[16 + i] = (uint8_t)((uint64_t)size >> (8 * i));
	}
	return size;
}

/* -- a device with a past ---------------------------------------------------------------------- */

#define POOL 48u

static void submit_somewhere(struct fq_device *dev, struct item *item, uint64_t r)
{
	static const uint32_t ctx[] = {0, 1, 7, UINT32_MAX}, ring[] = {0, 1, 17, 63};
	int err;

	item->fence.fence_id = r;
	item->saved.tag = ~r;
	if (r % 5 == 0)
		err = fq_submit_global(dev, &item->fence);
	else if (r % 5 == 1)
		err = fq_submit_id(dev, ctx[r / 8 % 4], ring[r / 32 % 4], &item->fence,
				   r >> (r / 256 % 62 + 2));
	else
		err = fq_submit(dev, ctx[r / 8 % 4], ring[r / 32 % 4], &item->fence);
	FUZZ_CHECK(!err || err == -EBUSY || err == -ERANGE || err == -EOVERFLOW);
}

static void disturb(struct fq_device *dev, uint64_t r)
{
	switch (r % 8) {
	case 0:
		(void)fq_context_create(dev, (uint32_t)(r >> 8));
		break;
	case 1:
		(void)fq_context_destroy(dev, (uint32_t)(r / 8 % 8));
		break;
	case 2:
		(void)fq_ring_fail(dev, (uint32_t)(r / 8 % 8), 17, -EIO);
		break;
	case 3:
		(void)fq_global_fail(dev, -EIO);
		break;
	default:
		(void)fq_queue_drain(queue(), FQ_NO_BUDGET);
	}
}

static bool signal_one(const struct fq_pending *p, void *opaque)
{
	uint64_t *state = opaque;
	struct fq_timeline *tl = p->fence->timeline;

	if (fuzz_random(state) % 4)
		return true;
	FUZZ_CHECK(!fq_timeline_signal(tl, p->fence->token));
	return fuzz_random(state) % 8;
}

size_t fuzz_seed(uint64_t seed, uint8_t *data, size_t max)
{
	static struct item pool[POOL];
	struct run run = {.item = pool, .made = POOL};
	struct fq_device *dev = device(&run);
	uint64_t state = seed;
	int64_t size;

	memset(pool, 0, sizeof(pool));
	for (uint64_t n = fuzz_random(&state) % 100; n; n--) {
		uint64_t r = fuzz_random(&state);

		if (r % 4)
			submit_somewhere(dev, &pool[r / 4 % POOL], fuzz_random(&state));
		else if (r / 4 % 2)
			disturb(dev, r / 8);
		else
			(void)fq_device_walk(dev, signal_one, &state);
	}
	FUZZ_CHECK(!fq_device_freeze(dev));
	(void)fq_device_walk(dev, signal_one, &state);
	size = fq_device_save(dev, tag, NULL, data, max);
	FUZZ_CHECK(size > 0 && (size_t)size <= max);
	FUZZ_CHECK(!fq_device_destroy(dev));
	(void)fq_queue_drain(queue(), FQ_NO_BUDGET);
	return (size_t)size;
}
