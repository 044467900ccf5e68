/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "vring_internal.h"

/*
 * The packed layout (virtio 1.2, 2.8). Driver and device write the same descriptors; whose one is, is
 * in two bits of its flags, read against a counter that flips each time round.
 *
 * What a chain was is read once, at the pop: by the time it is put, its descriptors may have been
 * overwritten by the used elements of others. They never go further than what has been popped, since
 * an element moves on by as many descriptors as its chain had then, whatever the ring says now.
 *
 * The driver looks at one place, that of the next element. So the flags of the first hidden element
 * hide all behind it, and are what publish writes.
 */

#define DESC_NEXT 1u
#define DESC_WRITE 2u
#define DESC_INDIRECT 4u
#define DESC_AVAIL (1u << 7)
#define DESC_USED (1u << 15)

#define EVENT_ENABLE 0u
#define EVENT_DISABLE 1u
#define EVENT_DESC 2u
#define EVENT_MASK 3u

#define WRAP (1u << 15)

/* Both event suppression structures, in 16-bit words. */
enum {
	EVENT_AT,
	EVENT_FLAGS
};

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t id;
};

static uint32_t offset_of(uint16_t at)
{
	return at & ~WRAP;
}

/* By at most the ring's size. */
static uint16_t advance(const struct fq_vring *vr, uint16_t at, uint32_t descs)
{
	uint32_t offset = offset_of(at) + descs, wrap = at & WRAP;

	if (offset >= vr->size) {
		offset -= vr->size;
		wrap ^= WRAP;
	}
	return (uint16_t)(offset | wrap);
}

/* How far it is on to there, below twice the size. */
static uint32_t distance(const struct fq_vring *vr, uint16_t from, uint16_t to)
{
	uint32_t far = offset_of(to) + 2 * vr->size - offset_of(from);

	if ((from ^ to) & WRAP)
		far += vr->size;
	while (far >= 2 * vr->size)
		far -= 2 * vr->size;
	return far;
}

static uint64_t *desc_addr(const struct fq_vring *vr, uint16_t at)
{
	return (void *)(vr->packed.desc + offset_of(at) * FQ_DESC_BYTES);
}

static uint32_t *desc_len(const struct fq_vring *vr, uint16_t at)
{
	return (void *)(vr->packed.desc + offset_of(at) * FQ_DESC_BYTES + 8);
}

static uint16_t *desc_id(const struct fq_vring *vr, uint16_t at)
{
	return (void *)(vr->packed.desc + offset_of(at) * FQ_DESC_BYTES + 12);
}

static uint16_t *desc_flags(const struct fq_vring *vr, uint16_t at)
{
	return (void *)(vr->packed.desc + offset_of(at) * FQ_DESC_BYTES + 14);
}

static bool is_available(uint16_t flags, uint16_t at)
{
	return (flags & (DESC_AVAIL | DESC_USED)) == (at & WRAP ? DESC_AVAIL : DESC_USED);
}

/* But for its flags, which have been read. */
static struct desc desc_read(const struct fq_vring *vr, uint16_t at)
{
	return (struct desc){
		.addr = fq_le64(fq_load64_rlx(desc_addr(vr, at))),
		.len = fq_le32(fq_load32_rlx(desc_len(vr, at))),
		.id = fq_le16(fq_load16_rlx(desc_id(vr, at))),
	};
}

/* All of a table is the chain; of the flags in it only WRITE means anything (2.8.7). */
static int walk_table(const struct fq_vring *vr, struct fq_walk *walk, const struct desc *desc)
{
	struct fq_table table;
	int r = fq_table_enter(vr, &table, desc->addr, desc->len);

	if (r)
		return r;
	if (table.count > vr->max_chain)
		return -ELOOP;
	for (uint32_t i = 0; i < table.count; i++) {
		uint64_t words[2];

		r = fq_table_read(vr->mem, &table, i, words);
		if (!r)
			r = fq_walk_add(vr, walk, words[0], (uint32_t)words[1],
					words[1] >> 48 & DESC_WRITE);
		if (r)
			return r;
	}
	return 0;
}

/*
 * The chain at vr->avail, whose first flags these are. At most room descriptors of the ring: the
 * driver has no others. @return how many it takes; negative errno.
 */
static int chain_walk(const struct fq_vring *vr, struct fq_walk *walk, uint16_t flags,
		      uint32_t room, uint16_t *id)
{
	uint16_t at = vr->avail;

	for (uint32_t n = 1;; n++) {
		struct desc desc = desc_read(vr, at);
		int r;

		*id = desc.id; /* the last one's counts */
		if (!(flags & DESC_INDIRECT))
			r = fq_walk_add(vr, walk, desc.addr, desc.len, flags & DESC_WRITE);
		else if (n > 1 || (flags & DESC_NEXT))
			r = -EBADMSG;
		else
			r = walk_table(vr, walk, &desc);
		if (r)
			return r;
		if (!(flags & DESC_NEXT))
			return (int)n;
		if (n >= room || n >= vr->max_chain)
			return -ELOOP;
		at = advance(vr, at, 1);
		flags = fq_le16(fq_load16_rlx(desc_flags(vr, at)));
		/* The first of a list is made available last. */
		if (!is_available(flags, at))
			return -EBADMSG;
	}
}

static int packed_pop(struct fq_vring *vr, struct fq_vring_chain *chain, uint16_t *id)
{
	struct fq_walk walk = {.chain = chain};
	/* V6: pairs with the driver's release of the first descriptor's flags. */
	uint16_t flags = fq_le16(fq_load16_acq(desc_flags(vr, vr->avail)));
	uint32_t room = vr->size - distance(vr, vr->packed.shown, vr->avail);
	int n;

	if (!is_available(flags, vr->avail))
		return 0;
	/* The ring is ours, all of it. */
	if (!room)
		return -EPROTO;
	n = chain_walk(vr, &walk, flags, room, id);
	if (n < 0)
		return n;
	if (*id >= vr->size || fq_head_busy(vr, *id))
		return -EPROTO;
	if (walk.pieces > chain->iov_max)
		return -E2BIG;
	vr->heads[*id].descs = (uint16_t)n;
	vr->avail = advance(vr, vr->avail, (uint32_t)n);
	return 1;
}

/* WRITE in a used element: there is a length. */
static void packed_put(struct fq_vring *vr, uint16_t id, uint32_t len, uint32_t descs)
{
	struct fq_packed *p = &vr->packed;
	uint16_t flags =
		(uint16_t)((p->used & WRAP ? DESC_AVAIL | DESC_USED : 0) | (len ? DESC_WRITE : 0));

	fq_store32_rlx(desc_len(vr, p->used), fq_le32(len));
	fq_store16_rlx(desc_id(vr, p->used), fq_le16(id));
	if (p->used == p->shown)
		p->hidden_flags = flags;
	else
		fq_store16_rlx(desc_flags(vr, p->used), fq_le16(flags));
	p->used = advance(vr, p->used, descs);
}

/*
 * From what was hidden up to here, was the driver's place among it? Mode and place are two words and
 * may be of two times; whichever is old, the driver wrote it after our barrier (V7), and it will see the
 * elements itself. What makes no sense (a place
 * outside the ring, a mode that is reserved) is answered with an interrupt.
 */
static bool event_wanted(struct fq_vring *vr, uint16_t from)
{
	struct fq_packed *p = &vr->packed;
	uint16_t mode = fq_le16(fq_load16_rlx(&p->driver[EVENT_FLAGS])) & EVENT_MASK;
	bool first = !p->has_checked;
	uint16_t at;

	p->has_checked = true;
	if (mode == EVENT_DISABLE)
		return false;
	if (mode != EVENT_DESC || !(vr->features & FQ_VRING_EVENT_IDX))
		return true;
	at = fq_le16(fq_load16_rlx(&p->driver[EVENT_AT]));
	/* What was shown before this vring existed may still be waiting for its interrupt. */
	return first || offset_of(at) >= vr->size ||
	       distance(vr, from, at) < distance(vr, from, p->used);
}

static void packed_mark_hints(const struct fq_vring *vr)
{
	fq_mem_mark(vr->mem, vr->packed.device_gpa, 4);
}

/* A batch has only some of its descriptors written; the others do no harm. */
static void mark_written(const struct fq_vring *vr, uint16_t from, uint16_t to)
{
	uint64_t gpa = vr->packed.desc_gpa, first = offset_of(from), count = distance(vr, from, to);
	uint64_t run = count < vr->size - first ? count : vr->size - first;

	fq_mem_mark(vr->mem, gpa + FQ_DESC_BYTES * first, FQ_DESC_BYTES * run);
	fq_mem_mark(vr->mem, gpa, FQ_DESC_BYTES * (count - run));
}

static bool packed_publish(struct fq_vring *vr, uint64_t number)
{
	struct fq_packed *p = &vr->packed;
	uint16_t from = p->shown;

	(void)number;
	/* V5: pairs with the driver's acquire of the flags of its next used element. */
	fq_store16_rel(desc_flags(vr, from), fq_le16(p->hidden_flags));
	p->shown = p->used;
	/* V7: pairs with the driver's full barrier before its last look at those flags. */
	fq_full_barrier();
	if (fq_mem_is_logged(vr->mem))
		mark_written(vr, from, p->used);
	return event_wanted(vr, from);
}

static void packed_disable_kick(struct fq_vring *vr)
{
	fq_store16_rlx(&vr->packed.device[EVENT_FLAGS], fq_le16(EVENT_DISABLE));
}

static bool packed_enable_kick(struct fq_vring *vr)
{
	uint16_t *device = vr->packed.device;

	if (vr->features & FQ_VRING_EVENT_IDX) {
		fq_store16_rlx(&device[EVENT_AT], fq_le16(vr->avail));
		fq_store16_rlx(&device[EVENT_FLAGS], fq_le16(EVENT_DESC));
	} else {
		fq_store16_rlx(&device[EVENT_FLAGS], fq_le16(EVENT_ENABLE));
	}
	/* V8: pairs with the driver's full barrier before it looks whether a kick is wanted. */
	fq_full_barrier();
	if (fq_mem_is_logged(vr->mem))
		packed_mark_hints(vr);
	/* One that the driver has no right to offer is "available" as well: pop tells. */
	return is_available(fq_le16(fq_load16_rlx(desc_flags(vr, vr->avail))), vr->avail);
}

static uint16_t packed_used_idx(const struct fq_vring *vr)
{
	return vr->packed.used;
}

static const struct fq_vring_ops packed_ops = {
	.pop = packed_pop,
	.put = packed_put,
	.publish = packed_publish,
	.disable_kick = packed_disable_kick,
	.enable_kick = packed_enable_kick,
	.mark_hints = packed_mark_hints,
	.used_idx = packed_used_idx,
};

int fq_packed_init(struct fq_vring *vr, const struct fq_vring_config *config)
{
	struct fq_packed *p = &vr->packed;
	void *desc, *driver, *device;
	int r;

	if (offset_of(config->avail_idx) >= vr->size || offset_of(config->used_idx) >= vr->size ||
	    distance(vr, config->used_idx, config->avail_idx) > vr->size)
		return -EINVAL;
	r = fq_ring_part(config->mem, config->desc, (uint64_t)vr->size * FQ_DESC_BYTES,
			 FQ_DESC_BYTES, &desc);
	if (!r)
		r = fq_ring_part(config->mem, config->driver, 4, 4, &driver);
	if (!r)
		r = fq_ring_part(config->mem, config->device, 4, 4, &device);
	if (r)
		return r;
	p->desc = desc;
	p->desc_gpa = config->desc;
	p->device_gpa = config->device;
	p->driver = driver;
	p->device = device;
	p->used = p->shown = config->used_idx;
	vr->ops = &packed_ops;
	return 0;
}
