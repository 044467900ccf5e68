/* SPDX-License-Identifier: MIT */
#ifndef FQ_UNIT_SAVED_H
#define FQ_UNIT_SAVED_H

/* A snapshot in memory of exactly its size, and a host that loads one. */

#include <stdlib.h>

#include "host.h"

#define MADE_MAX 256u

struct saved {
	uint8_t *bytes;
	size_t size;
};

/* What make was asked for and gave, and what it got back. */
struct maker {
	unsigned made;
	unsigned unmade;
	unsigned refuse_at; /* from 1; 0: never */
	struct fq_saved_fence saved[MADE_MAX];
	struct fq_fence fence[MADE_MAX];
};

static inline uint64_t tag_of(const struct fq_fence *fence, void *opaque)
{
	(void)opaque;
	return (uintptr_t)fence->tag;
}

static inline struct saved save(struct fq_device *dev)
{
	int64_t need = fq_device_save(dev, tag_of, NULL, NULL, 0);
	struct saved s = {.size = (size_t)need};

	cr_assert_gt(need, 0, "save: %d", (int)need);
	s.bytes = malloc(s.size);
	cr_assert_not_null(s.bytes);
	cr_assert_eq(fq_device_save(dev, tag_of, NULL, s.bytes, s.size), need);
	return s;
}

static inline struct fq_fence *make_one(const struct fq_saved_fence *saved, void *opaque)
{
	struct maker *maker = opaque;
	struct fq_fence *fence = &maker->fence[maker->made];

	cr_assert_lt(maker->made, MADE_MAX);
	if (maker->made + 1 == maker->refuse_at)
		return NULL;
	maker->saved[maker->made++] = *saved;
	memset(fence, 0, sizeof(*fence));
	fence->tag = (void *)(uintptr_t)saved->tag;
	return fence;
}

static inline void unmake_one(struct fq_fence *fence, void *opaque)
{
	struct maker *maker = opaque;

	cr_assert_eq(fence, &maker->fence[maker->unmade], "unmade out of order");
	cr_assert_null(fence->timeline);
	maker->unmade++;
}

static inline int load(struct host *host, const struct saved *s, struct maker *maker)
{
	maker->made = maker->unmade = 0;
	return fq_device_load(host->dev, s->bytes, s->size, make_one, unmake_one, maker);
}

static inline bool equal(const struct saved *a, const struct saved *b)
{
	return a->size == b->size && !memcmp(a->bytes, b->bytes, a->size);
}

/* A device that has loaded @p s gives the same bytes. */
static inline void expect_saves(const struct host *host, const struct saved *s)
{
	struct saved again = save(host->dev);

	cr_assert(equal(&again, s), "saved again, the bytes differ");
	free(again.bytes);
}

/* Nothing of a snapshot is in the device. */
static inline void expect_new(const struct host *host)
{
	struct fq_device_stats s = device_stats(host->dev);

	cr_assert_eq(s.submitted, 0);
	cr_assert_eq(s.retired, 0);
	cr_assert_eq(s.pending, 0);
	cr_assert_eq(s.contexts, 0);
	cr_assert_eq(s.timelines, 1);
	cr_assert_not(fq_device_frozen(host->dev));
	cr_assert_eq(fq_timeline_token(fq_device_global(host->dev)), 0);
	cr_assert_eq(host->count, 0);
}

#endif /* FQ_UNIT_SAVED_H */
