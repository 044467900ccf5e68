/* SPDX-License-Identifier: MIT */
#ifndef PACKED_DRIVER_H
#define PACKED_DRIVER_H

/*
 * The driver's half of a packed virtqueue over plain memory, written from the specification (virtio
 * 1.2, 2.8): what a guest would run, and what notices when the device does what it must not.
 *
 *	pdrv_init(&drv, hva, gpa, size, event_idx);	pdrv_bytes(size) of it are the ring's
 *	id = pdrv_chain(&drv, bufs, count);		or pdrv_chain_indirect()
 *	pdrv_show(&drv);				everything queued, at once
 *	if (pdrv_kick_wanted(&drv))
 *		write the kick fd
 *	while (pdrv_take(&drv, &id, &len))		the chain's descriptors are free again
 *		...
 *	if (!pdrv_ask_interrupt(&drv))			true: more came meanwhile
 *		sleep on the call fd
 *
 * With drv.in_order set (before the first chain) one used element may stand for several chains:
 * pdrv_take() gives them one by one. What the device must not do is written down in drv.fault, the
 * first of it.
 *
 * For one thread. Labels V5 .. V8 are those of the device's half; where that has a full barrier
 * between its store and its load, here both are sequentially consistent.
 */

#include "split_driver.h"

#define PDRV_AVAIL (1u << 7)
#define PDRV_USED (1u << 15)
#define PDRV_WRAP (1u << 15)

#define PDRV_ENABLE 0u
#define PDRV_DISABLE 1u
#define PDRV_DESC 2u

struct pdrv_ring {
	uint64_t desc_gpa, driver_gpa, device_gpa;
	char *desc;
	uint16_t *driver; /* ours: place, mode */
	uint16_t *device; /* the device's */
	uint32_t size;
	bool event_idx;
	bool in_order;
	uint16_t avail;       /* place of the next chain: offset, and the wrap counter in bit 15 */
	uint16_t used;        /* place of the next used element */
	uint16_t kick_looked; /* avail when last asked whether to kick */
	uint32_t free_count;  /* descriptors */
	bool hidden;          /* of what is queued, the first flags are not written */
	uint16_t hidden_at;
	uint16_t hidden_flags;
	uint16_t free_id;
	uint16_t *next_id;
	uint16_t *length;   /* of the chain with this id, in descriptors of the ring; 0: none */
	uint32_t *writable; /* its bytes */
	struct drv_order order;
	const char *fault;
};

static inline uint64_t pdrv_bytes(uint32_t size)
{
	return 16 * (uint64_t)size + 8;
}

/* The memory is zero, and aligned to 16 bytes. @return false without memory for the private part. */
static inline bool pdrv_init(struct pdrv_ring *drv, void *hva, uint64_t gpa, uint32_t size,
			     bool event_idx)
{
	uint64_t events = 16 * (uint64_t)size;

	*drv = (struct pdrv_ring){
		.desc_gpa = gpa,
		.driver_gpa = gpa + events,
		.device_gpa = gpa + events + 4,
		.desc = hva,
		.driver = (uint16_t *)((char *)hva + events),
		.device = (uint16_t *)((char *)hva + events) + 2,
		.size = size,
		.event_idx = event_idx,
		.avail = PDRV_WRAP,
		.used = PDRV_WRAP,
		.kick_looked = PDRV_WRAP,
		.free_count = size,
		.writable = calloc(size, sizeof(uint32_t) + 3 * sizeof(uint16_t)),
	};
	if (!drv->writable)
		return false;
	drv->next_id = (uint16_t *)(drv->writable + size);
	drv->length = drv->next_id + size;
	drv->order = (struct drv_order){.id = drv->length + size, .size = size};
	for (uint32_t i = 0; i < size; i++)
		drv->next_id[i] = (uint16_t)(i + 1);
	return true;
}

static inline void pdrv_fini(struct pdrv_ring *drv)
{
	free(drv->writable);
}

/* How far that is from there, going on; below twice the size. */
static inline uint32_t pdrv_distance(const struct pdrv_ring *drv, uint16_t from, uint16_t to)
{
	uint32_t lap[2] = {from & PDRV_WRAP ? 0 : drv->size, to & PDRV_WRAP ? 0 : drv->size};

	return ((to & 0x7fffu) + lap[1] + 2 * drv->size - (from & 0x7fffu) - lap[0]) %
	       (2 * drv->size);
}

static inline uint16_t pdrv_plus(const struct pdrv_ring *drv, uint16_t at, uint32_t descs)
{
	uint32_t far = (at & 0x7fffu) + descs;
	unsigned wrap = at & PDRV_WRAP;

	for (; far >= drv->size; far -= drv->size)
		wrap ^= PDRV_WRAP;
	return (uint16_t)(far | wrap);
}

static inline uint64_t *pdrv_addr(const struct pdrv_ring *drv, uint16_t at)
{
	return (uint64_t *)(void *)(drv->desc + 16 * (at & 0x7fffu));
}

static inline uint32_t *pdrv_len(const struct pdrv_ring *drv, uint16_t at)
{
	return (uint32_t *)(void *)(drv->desc + 16 * (at & 0x7fffu) + 8);
}

static inline uint16_t *pdrv_id(const struct pdrv_ring *drv, uint16_t at)
{
	return (uint16_t *)(void *)(drv->desc + 16 * (at & 0x7fffu) + 12);
}

static inline uint16_t *pdrv_flags(const struct pdrv_ring *drv, uint16_t at)
{
	return (uint16_t *)(void *)(drv->desc + 16 * (at & 0x7fffu) + 14);
}

/* As if the ring had been used up to there (new: PDRV_WRAP). Before the device's half is created. */
static inline void pdrv_start_at(struct pdrv_ring *drv, uint16_t at)
{
	drv->avail = drv->used = drv->kick_looked = at;
	for (uint32_t i = 0; i < drv->size; i++) {
		bool odd_lap = at & PDRV_WRAP, passed = i < (at & 0x7fffu);

		drv_set16(pdrv_flags(drv, (uint16_t)i),
			  odd_lap == passed ? PDRV_AVAIL | PDRV_USED : 0, memory_order_relaxed);
	}
}

static inline void pdrv_set32(uint32_t *p, uint32_t v)
{
	atomic_store_explicit(DRV_ATOMIC(32, p), DRV_LE(32, v), memory_order_relaxed);
}

static inline void pdrv_fault(struct pdrv_ring *drv, const char *what)
{
	if (!drv->fault)
		drv->fault = what;
}

/* AVAIL and USED as the driver writes them at that place. */
static inline unsigned pdrv_available(uint16_t at)
{
	return at & PDRV_WRAP ? PDRV_AVAIL : PDRV_USED;
}

/* One descriptor where the next one goes, all but (of the first that is hidden) its flags. */
static inline void pdrv_put_desc(struct pdrv_ring *drv, uint64_t gpa, uint32_t len, unsigned id,
				 unsigned flags)
{
	uint16_t at = drv->avail;

	atomic_store_explicit(DRV_ATOMIC(64, pdrv_addr(drv, at)), DRV_LE(64, gpa),
			      memory_order_relaxed);
	pdrv_set32(pdrv_len(drv, at), len);
	drv_set16(pdrv_id(drv, at), id, memory_order_relaxed);
	flags |= pdrv_available(at);
	if (drv->hidden) {
		drv_set16(pdrv_flags(drv, at), flags, memory_order_relaxed);
	} else {
		drv->hidden = true;
		drv->hidden_at = at;
		drv->hidden_flags = (uint16_t)flags;
	}
	drv->avail = pdrv_plus(drv, at, 1);
}

static inline int pdrv_take_id(struct pdrv_ring *drv, uint32_t descs, uint32_t writable)
{
	uint16_t id = drv->free_id;

	if (!descs || descs > drv->free_count)
		return -1;
	drv->free_id = drv->next_id[id];
	drv->free_count -= descs;
	drv->length[id] = (uint16_t)descs;
	drv->writable[id] = writable;
	if (drv->in_order)
		drv_order_add(&drv->order, id);
	return id;
}

/* @return the id; -1 when the ring has not enough free descriptors. */
static inline int pdrv_chain(struct pdrv_ring *drv, const struct drv_buf *bufs, uint32_t count)
{
	int id = pdrv_take_id(drv, count, drv_writable(bufs, count));

	for (uint32_t n = 0; id >= 0 && n < count; n++) {
		unsigned flags =
			(bufs[n].writable ? DRV_WRITE : 0) | (n + 1 < count ? DRV_NEXT : 0);

		/* Only the last one's id means anything. */
		pdrv_put_desc(drv, bufs[n].gpa, bufs[n].len, n + 1 < count ? 0xffff : (unsigned)id,
			      flags);
	}
	return id;
}

/* The same through a table of its own, at @p table here and @p gpa for the device. */
static inline int pdrv_chain_indirect(struct pdrv_ring *drv, const struct drv_buf *bufs,
				      uint32_t count, uint64_t *table, uint64_t gpa)
{
	int id = pdrv_take_id(drv, 1, drv_writable(bufs, count));

	if (id < 0)
		return -1;
	for (uint32_t n = 0; n < count; n++)
		/* split: flags before the last field; packed: after */
		drv_set_desc(table, n, bufs[n].gpa, bufs[n].len, 0,
			     bufs[n].writable ? DRV_WRITE : 0);
	pdrv_put_desc(drv, gpa, 16 * count, (unsigned)id, DRV_INDIRECT);
	return id;
}

static inline void pdrv_show(struct pdrv_ring *drv)
{
	if (!drv->hidden)
		return;
	drv->hidden = false;
	/* V6: pairs with the device's acquire of the flags. */
	drv_set16(pdrv_flags(drv, drv->hidden_at), drv->hidden_flags, memory_order_seq_cst);
}

/* After pdrv_show(). */
static inline bool pdrv_kick_wanted(struct pdrv_ring *drv)
{
	/* V8: pairs with the device's full barrier before its last look at the flags. */
	uint16_t mode = drv_get16(&drv->device[1], memory_order_seq_cst), from = drv->kick_looked;
	uint16_t at = drv_get16(&drv->device[0], memory_order_relaxed);

	drv->kick_looked = drv->avail;
	if (mode > PDRV_DESC || (mode == PDRV_DESC && !drv->event_idx))
		pdrv_fault(drv, "a mode of suppression that there is not");
	if (mode != PDRV_DESC)
		return mode != PDRV_DISABLE;
	if ((at & 0x7fffu) >= drv->size)
		pdrv_fault(drv, "a place outside the ring");
	return pdrv_distance(drv, from, at) < pdrv_distance(drv, from, drv->avail);
}

static inline bool pdrv_used_pending(struct pdrv_ring *drv, memory_order order)
{
	unsigned flags = drv_get16(pdrv_flags(drv, drv->used), order);

	return (flags & (PDRV_AVAIL | PDRV_USED)) ==
	       (drv->used & PDRV_WRAP ? PDRV_AVAIL | PDRV_USED : 0);
}

static inline void pdrv_release(struct pdrv_ring *drv, uint16_t id)
{
	drv->free_count += drv->length[id];
	drv->used = pdrv_plus(drv, drv->used, drv->length[id]);
	drv->length[id] = 0;
	drv->next_id[id] = drv->free_id;
	drv->free_id = id;
}

static inline bool pdrv_take_passed(struct pdrv_ring *drv, uint32_t *id, uint32_t *len)
{
	if (!drv->order.passed)
		return false;
	drv->order.passed--;
	*id = drv_order_take(&drv->order);
	*len = drv->order.passed ? drv->writable[*id] : drv->order.len;
	pdrv_release(drv, (uint16_t)*id);
	return true;
}

/* @return false when there is none, or a fault. */
static inline bool pdrv_take(struct pdrv_ring *drv, uint32_t *id, uint32_t *len)
{
	unsigned flags;

	if (pdrv_take_passed(drv, id, len))
		return true;
	/* V5: pairs with the device's release of the flags. */
	if (!pdrv_used_pending(drv, memory_order_acquire))
		return false;
	flags = drv_get16(pdrv_flags(drv, drv->used), memory_order_relaxed);
	*id = drv_get16(pdrv_id(drv, drv->used), memory_order_relaxed);
	*len = DRV_LE(32, atomic_load_explicit(DRV_ATOMIC(32, pdrv_len(drv, drv->used)),
					       memory_order_relaxed));
	if (!(flags & DRV_WRITE) != !*len)
		pdrv_fault(drv, "WRITE of a used element does not say whether there is a length");
	if (*id >= drv->size || !drv->length[*id]) {
		pdrv_fault(drv, "an element for a chain that is not in flight");
		return false;
	}
	if (!drv->in_order) {
		pdrv_release(drv, (uint16_t)*id);
		return true;
	}
	drv->order.passed = drv_order_until(&drv->order, *id);
	drv->order.len = *len;
	return pdrv_take_passed(drv, id, len);
}

static inline void pdrv_set_event(struct pdrv_ring *drv, uint16_t at, unsigned mode)
{
	drv_set16(&drv->driver[0], at, memory_order_relaxed);
	drv_set16(&drv->driver[1], mode, memory_order_seq_cst);
}

/* An interrupt for whatever is used from now on. @return true: there is something already. */
static inline bool pdrv_ask_interrupt(struct pdrv_ring *drv)
{
	pdrv_set_event(drv, drv->used, drv->event_idx ? PDRV_DESC : PDRV_ENABLE);
	/* V7: pairs with the device's full barrier before it looks whether we want one. */
	return pdrv_used_pending(drv, memory_order_seq_cst);
}

/* A hint. */
static inline void pdrv_stop_interrupts(struct pdrv_ring *drv)
{
	drv_set16(&drv->driver[1], PDRV_DISABLE, memory_order_relaxed);
}

#endif /* PACKED_DRIVER_H */
