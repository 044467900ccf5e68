/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "vring_internal.h"

/* The split layout (virtio 1.2, 2.7). */

#define DESC_NEXT 1u
#define DESC_WRITE 2u
#define DESC_INDIRECT 4u

#define AVAIL_NO_INTERRUPT 1u
#define USED_NO_NOTIFY 1u

/* Offsets in 16-bit words, the same in both rings. */
enum {
	RING_FLAGS,
	RING_IDX,
	RING_WORDS
};

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

static struct desc desc_from_words(uint64_t first, uint64_t second)
{
	return (struct desc){
		.addr = first,
		.len = (uint32_t)second,
		.flags = (uint16_t)(second >> 32),
		.next = (uint16_t)(second >> 48),
	};
}

static int desc_read(const struct fq_mem *mem, const struct fq_table *table, uint32_t i,
		     struct desc *desc)
{
	uint64_t words[2];
	int r = fq_table_read(mem, table, i, words);

	if (!r)
		*desc = desc_from_words(words[0], words[1]);
	return r;
}

/*
 * Bounded three times: what stands in the ring by the ring's size and what stands in a table by the
 * table's (more is a loop), and all of it by max_chain.
 */
static int chain_walk(const struct fq_vring *vr, struct fq_walk *walk, uint16_t head)
{
	const struct fq_split *s = &vr->split;
	struct fq_table table = {
		.gpa = s->desc_gpa,
		.hva = s->desc,
		.mapped = (uint64_t)vr->size * FQ_DESC_BYTES,
		.count = vr->size,
	};
	uint32_t i = head, here = vr->size, left = vr->max_chain;
	bool indirect = false;

	for (;;) {
		struct desc desc;
		int r = desc_read(vr->mem, &table, i, &desc);

		if (r)
			return r;
		/* WRITE is ignored here, as 2.7.5.3.2 demands. */
		if (desc.flags & DESC_INDIRECT) {
			if (indirect || (desc.flags & DESC_NEXT))
				return -EBADMSG;
			r = fq_table_enter(vr, &table, desc.addr, desc.len);
			if (r)
				return r;
			indirect = true;
			here = table.count;
			i = 0;
			continue;
		}
		if (!here-- || !left--)
			return -ELOOP;
		r = fq_walk_add(vr, walk, desc.addr, desc.len, desc.flags & DESC_WRITE);
		if (r || !(desc.flags & DESC_NEXT))
			return r;
		if (desc.next >= table.count)
			return -EBADMSG;
		i = desc.next;
	}
}

/* The driver's index is only read again when all that it showed is taken. */
static int available(struct fq_vring *vr)
{
	struct fq_split *s = &vr->split;

	if (s->avail_seen != vr->avail)
		return 1;

	/* V2: pairs with the driver's release of the available index. */
	uint16_t idx = fq_le16(fq_load16_acq(&s->avail[RING_IDX]));

	if (idx == vr->avail)
		return 0;
	if ((uint16_t)(idx - vr->avail) > vr->size)
		return -EPROTO;
	s->avail_seen = idx;
	return 1;
}

static int split_pop(struct fq_vring *vr, struct fq_vring_chain *chain, uint16_t *id)
{
	struct fq_split *s = &vr->split;
	struct fq_walk walk = {.chain = chain};
	int r = available(vr);

	if (r <= 0)
		return r;

	uint32_t slot = vr->avail & (vr->size - 1);
	uint16_t head = fq_le16(fq_load16_rlx(&s->avail[RING_WORDS + slot]));

	if (head >= vr->size || fq_head_busy(vr, head))
		return -EPROTO;
	r = chain_walk(vr, &walk, head);
	if (r)
		return r;
	if (walk.pieces > chain->iov_max)
		return -E2BIG;
	vr->avail++;
	*id = head;
	return 1;
}

static void split_put(struct fq_vring *vr, uint16_t id, uint32_t len, uint32_t descs)
{
	uint32_t *element = &vr->split.elements[2 * (vr->used & (vr->size - 1))];

	(void)descs;
	fq_store32_rlx(&element[0], fq_le32(id));
	fq_store32_rlx(&element[1], fq_le32(len));
}

/*
 * Has the index passed used_event since it was last looked at? How far it went is not cut to 16
 * bits: a batch of 2^16 or more would have passed every used_event there is. Measured from the last
 * look and not from the last interrupt: after a lap of the index without interrupts (the driver
 * polled) that distance would say nothing any more.
 */
static bool event_passed(struct fq_vring *vr)
{
	struct fq_split *s = &vr->split;
	uint16_t event = fq_le16(fq_load16_rlx(&s->avail[RING_WORDS + vr->size]));
	bool passed = (uint16_t)(vr->used - event - 1) < vr->used - s->checked;

	/* What was shown before this vring existed may still be waiting for its interrupt. */
	passed |= !s->has_checked;
	s->has_checked = true;
	s->checked = vr->used;
	return passed;
}

/* Flags, index and these elements; the flags have been written at some time before. */
static void mark_written(const struct fq_vring *vr, uint64_t from, uint64_t to)
{
	uint64_t gpa = vr->split.used_gpa, first = from & (vr->size - 1), count = to - from;
	uint64_t run = count < vr->size - first ? count : vr->size - first;

	fq_mem_mark(vr->mem, gpa, 4);
	fq_mem_mark(vr->mem, gpa + 4 + 8 * first, 8 * run);
	fq_mem_mark(vr->mem, gpa + 4, 8 * (count - run));
}

static bool split_publish(struct fq_vring *vr, uint64_t from)
{
	struct fq_split *s = &vr->split;

	/* V1: pairs with the driver's acquire of the used index. */
	fq_store16_rel(&s->used[RING_IDX], fq_le16((uint16_t)vr->used));
	/* V3: pairs with the driver's full barrier before its last look at the used index. */
	fq_full_barrier();
	if (fq_mem_is_logged(vr->mem))
		mark_written(vr, from, vr->used);
	if (vr->features & FQ_VRING_EVENT_IDX)
		return event_passed(vr);
	return !(fq_le16(fq_load16_rlx(&s->avail[RING_FLAGS])) & AVAIL_NO_INTERRUPT);
}

static void split_mark_hints(const struct fq_vring *vr)
{
	fq_mem_mark(vr->mem, vr->split.used_gpa, 2);
	if (vr->features & FQ_VRING_EVENT_IDX)
		fq_mem_mark(vr->mem, vr->split.used_gpa + 4 + 8 * vr->size, 2);
}

/* With EVENT_IDX the flag means nothing, and an avail_event that has been passed asks for nothing. */
static void split_disable_kick(struct fq_vring *vr)
{
	if (!(vr->features & FQ_VRING_EVENT_IDX))
		fq_store16_rlx(&vr->split.used[RING_FLAGS], fq_le16(USED_NO_NOTIFY));
}

static bool split_enable_kick(struct fq_vring *vr)
{
	struct fq_split *s = &vr->split;

	if (vr->features & FQ_VRING_EVENT_IDX)
		fq_store16_rlx(s->avail_event, fq_le16(vr->avail));
	else
		fq_store16_rlx(&s->used[RING_FLAGS], 0);
	/* V4: pairs with the driver's full barrier before it looks whether a kick is wanted. */
	fq_full_barrier();
	if (fq_mem_is_logged(vr->mem))
		split_mark_hints(vr);
	/* An index that makes no sense is "available" as well: pop tells what is wrong with it. */
	return fq_le16(fq_load16_rlx(&s->avail[RING_IDX])) != vr->avail;
}

static uint16_t split_used_idx(const struct fq_vring *vr)
{
	return (uint16_t)vr->used;
}

static const struct fq_vring_ops split_ops = {
	.pop = split_pop,
	.put = split_put,
	.publish = split_publish,
	.disable_kick = split_disable_kick,
	.enable_kick = split_enable_kick,
	.mark_hints = split_mark_hints,
	.used_idx = split_used_idx,
};

int fq_split_init(struct fq_vring *vr, const struct fq_vring_config *config)
{
	struct fq_split *s = &vr->split;
	uint64_t size = config->size;
	uint64_t event = config->features & FQ_VRING_EVENT_IDX ? 2 : 0;
	void *desc, *driver, *device;
	int r;

	if (size & (size - 1))
		return -EINVAL;
	r = fq_ring_part(config->mem, config->desc, size * FQ_DESC_BYTES, FQ_DESC_BYTES, &desc);
	if (!r)
		r = fq_ring_part(config->mem, config->driver, 4 + 2 * size + event, 2, &driver);
	if (!r)
		r = fq_ring_part(config->mem, config->device, 4 + 8 * size + event, 4, &device);
	if (r)
		return r;
	s->desc = desc;
	s->desc_gpa = config->desc;
	s->used_gpa = config->device;
	s->avail = driver;
	s->used = device;
	s->elements = (uint32_t *)device + 1;
	s->avail_event = (uint16_t *)(s->elements + 2 * size);
	s->avail_seen = config->avail_idx;
	vr->ops = &split_ops;
	return 0;
}
