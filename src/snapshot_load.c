/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include "device_internal.h"
#include "snapshot_format.h"

/*
 * The bytes are read several times: to see that they are valid, to allocate, to ask the host for its
 * fences. Until then the device has got nothing but empty contexts, and all can be undone; only then
 * are the timelines filled, where nothing can fail.
 */

/* -- read -------------------------------------------------------------------------------------- */

/* Bytes that were found to be there are taken without looking at left again. */
struct reader {
	const uint8_t *at;
	size_t left;
};

static uint64_t get(struct reader *r, unsigned bytes)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < bytes; i++)
		value |= (uint64_t)r->at[i] << (8 * i);
	r->at += bytes;
	r->left -= bytes;
	return value;
}

static uint32_t get32(struct reader *r)
{
	return (uint32_t)get(r, 4);
}

static uint64_t get64(struct reader *r)
{
	return get(r, 8);
}

/* A timeline of the snapshot, and where its fences are. */
struct saved_timeline {
	bool global;
	uint32_t ctx_id;
	uint32_t ring;
	uint32_t next_ring; /* the lowest that the next one here may have */
	uint32_t open;
	uint64_t base;
	uint64_t mark;
	uint64_t submitted;
	uint64_t count;
	struct reader fences;
};

/* Called in the order of the bytes; an error ends the reading. */
struct visitor {
	int (*context)(struct visitor *v, uint32_t ctx_id);
	int (*timeline)(struct visitor *v, const struct saved_timeline *saved);
	uint64_t high;
};

/* As timelines are: see fenceq/snapshot.h. */
static bool timeline_valid(const struct saved_timeline *s, uint64_t high)
{
	if (s->ring < s->next_ring || s->ring >= (s->global ? 1 : FQ_RINGS))
		return false;
	if (s->open > 1 || s->base > s->mark || s->mark > s->submitted || s->base > high)
		return false;
	if (!s->open)
		return !s->count && s->submitted <= high;
	return s->submitted <= FQ_TOKEN_MAX && (s->count || s->mark == s->submitted);
}

static struct fq_saved_fence get_fence(struct reader *r, const struct saved_timeline *s)
{
	struct fq_saved_fence fence = {
		.global = s->global,
		.ctx_id = s->ctx_id,
		.ring_idx = s->ring,
	};

	fence.token = get64(r);
	fence.fence_id = get64(r);
	fence.tag = get64(r);
	fence.signalled = fence.token <= s->mark;
	return fence;
}

static bool fences_valid(const struct saved_timeline *s)
{
	struct reader r = s->fences;
	uint64_t last = s->base;

	for (uint64_t i = 0; i < s->count; i++) {
		uint64_t token = get_fence(&r, s).token;

		if (token <= last)
			return false;
		last = token;
	}
	return !s->count || last == s->submitted;
}

static int read_timeline(struct reader *r, struct saved_timeline *s, struct visitor *v)
{
	if (r->left < FQ_SNAPSHOT_TIMELINE_SIZE)
		return -EINVAL;
	s->ring = get32(r);
	s->open = get32(r);
	s->base = get64(r);
	s->mark = get64(r);
	s->submitted = get64(r);
	s->count = get64(r);
	if (!timeline_valid(s, v->high) || s->count > r->left / FQ_SNAPSHOT_FENCE_SIZE)
		return -EINVAL;
	s->fences = *r;
	r->at += s->count * FQ_SNAPSHOT_FENCE_SIZE;
	r->left -= s->count * FQ_SNAPSHOT_FENCE_SIZE;
	if (!fences_valid(s))
		return -EINVAL;
	s->next_ring = s->ring + 1;
	return v->timeline ? v->timeline(v, s) : 0;
}

/* next_id: the lowest that a context here may have; set for the one after it. */
static int read_context(struct reader *r, uint64_t *next_id, struct visitor *v)
{
	struct saved_timeline saved = {.global = false};
	uint32_t count;
	int err;

	if (r->left < FQ_SNAPSHOT_CONTEXT_SIZE)
		return -EINVAL;
	saved.ctx_id = get32(r);
	count = get32(r);
	if (saved.ctx_id < *next_id)
		return -EINVAL;
	*next_id = (uint64_t)saved.ctx_id + 1;
	err = v->context ? v->context(v, saved.ctx_id) : 0;
	for (uint32_t i = 0; i < count && !err; i++)
		err = read_timeline(r, &saved, v);
	return err;
}

static int read_header(struct reader *r, uint32_t *contexts, uint64_t *high)
{
	const size_t size = r->left;
	uint32_t version;

	if (size < FQ_SNAPSHOT_MAGIC_SIZE + 4 ||
	    memcmp(r->at, FQ_SNAPSHOT_MAGIC, FQ_SNAPSHOT_MAGIC_SIZE))
		return -EINVAL;
	r->at += FQ_SNAPSHOT_MAGIC_SIZE;
	r->left -= FQ_SNAPSHOT_MAGIC_SIZE;
	version = get32(r);
	if (version != FQ_SNAPSHOT_VERSION)
		return -ENOTSUP;
	if (size < FQ_SNAPSHOT_HEADER_SIZE)
		return -EINVAL;
	*contexts = get32(r);
	if (get64(r) != size)
		return -EINVAL;
	*high = get64(r);
	return *high <= FQ_TOKEN_MAX ? 0 : -EINVAL;
}

/* Shows what the bytes hold, as far as it is valid. */
static int read_all(struct reader r, struct visitor *v)
{
	struct saved_timeline global = {.global = true};
	uint64_t next_id = 0;
	uint32_t contexts;
	int err = read_header(&r, &contexts, &v->high);

	if (!err)
		err = read_timeline(&r, &global, v);
	for (uint32_t i = 0; i < contexts && !err; i++)
		err = read_context(&r, &next_id, v);
	return err ? err : r.left ? -EINVAL : 0;
}

/* -- load -------------------------------------------------------------------------------------- */

struct load {
	struct visitor visitor;
	struct fq_device *dev;
	fq_make_fn *make;
	fq_unmake_fn *unmake;
	void *opaque;
	struct fq_fence *first; /* made, in the order of the bytes */
	struct fq_fence **last;
};

static struct load *load_of(struct visitor *v)
{
	return fq_container_of(v, struct load, visitor);
}

static int reserve_context(struct visitor *v, uint32_t ctx_id)
{
	return fq_context_create(load_of(v)->dev, ctx_id);
}

static int reserve_timeline(struct visitor *v, const struct saved_timeline *saved)
{
	struct fq_timeline *tl;

	if (saved->global)
		return 0;
	return fq_device_open_timeline(load_of(v)->dev, saved->ctx_id, saved->ring, &tl);
}

static int release_context(struct visitor *v, uint32_t ctx_id)
{
	(void)fq_context_destroy(load_of(v)->dev, ctx_id); /* reserving may not have come so far */
	return 0;
}

static int make_fence(struct load *load, const struct fq_saved_fence *saved)
{
	struct fq_fence *fence = load->make(saved, load->opaque);

	if (!fence)
		return -ECANCELED;
	if (fence->timeline)
		return -EBUSY;
	fence->token = saved->token;
	fence->fence_id = saved->fence_id;
	fence->timeline = load->dev->global; /* any: taken */
	fence->next = NULL;
	*load->last = fence;
	load->last = &fence->next;
	return 0;
}

static int make_fences(struct visitor *v, const struct saved_timeline *saved)
{
	struct reader r = saved->fences;
	int err = 0;

	for (uint64_t i = 0; i < saved->count && !err; i++) {
		struct fq_saved_fence fence = get_fence(&r, saved);

		err = make_fence(load_of(v), &fence);
	}
	return err;
}

static void unmake_fences(struct load *load)
{
	struct fq_fence *fence;

	while ((fence = load->first)) {
		load->first = fence->next;
		fence->next = NULL;
		fence->timeline = NULL;
		if (load->unmake)
			load->unmake(fence, load->opaque);
	}
}

/* Posters are refused until the last step, which shows them the timeline as it was. */
static int fill_timeline(struct visitor *v, const struct saved_timeline *saved)
{
	struct load *load = load_of(v);
	struct fq_device *dev = load->dev;
	struct fq_bank *bank = saved->global ? NULL : fq_table_find(&dev->contexts, saved->ctx_id);
	struct fq_timeline *tl = bank ? fq_bank_timeline(bank, saved->ring) : dev->global;

	fq_device_close_timeline(dev, tl, 0);
	for (uint64_t i = 0; i < saved->count; i++) {
		struct fq_fence *fence = load->first;

		load->first = fence->next;
		fq_timeline_append(tl, fence, fence->token);
		fence->submitted_ns = fq_now_coarse();
	}
	fq_count_owner(&dev->submitted, saved->count);
	fq_timeline_restore(tl, saved->base, saved->mark, saved->submitted);
	fq_count_owner(&dev->live_timelines, 1);
	if (!saved->open)
		fq_device_close_timeline(dev, tl, 0);
	return 0;
}

/* Whatever was submitted is either in one of these or, with its timeline closed, below high. */
static bool is_new(const struct fq_device *dev)
{
	return !fq_load_rlx(&dev->live_contexts) && !fq_load_rlx(&dev->global->submitted) &&
	       !dev->high;
}

static int load(struct load *load, struct reader bytes)
{
	struct visitor *v = &load->visitor;
	int err;

	*v = (struct visitor){.context = reserve_context, .timeline = reserve_timeline};
	err = read_all(bytes, v);
	*v = (struct visitor){.timeline = make_fences};
	if (!err)
		err = read_all(bytes, v);
	if (err) {
		unmake_fences(load);
		*v = (struct visitor){.context = release_context};
		(void)read_all(bytes, v);
		return err;
	}
	load->dev->sink.frozen = true;
	*v = (struct visitor){.timeline = fill_timeline};
	(void)read_all(bytes, v);
	load->dev->high = v->high;
	return 0;
}

int fq_device_load(struct fq_device *dev, const void *buf, size_t size, fq_make_fn *make,
		   fq_unmake_fn *unmake, void *opaque)
{
	const struct reader bytes = {.at = buf, .left = size};
	struct load l = {.dev = dev, .make = make, .unmake = unmake, .opaque = opaque};
	struct visitor check = {.context = NULL};
	int err;

	if (!fq_is_alive(dev) || !buf || !make)
		return -EINVAL;
	if (dev->closing)
		return -ENODEV;
	if (!is_new(dev))
		return -EBUSY;
	err = read_all(bytes, &check);
	if (err)
		return err;
	l.last = &l.first;
	return load(&l, bytes);
}
