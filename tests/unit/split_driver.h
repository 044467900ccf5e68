/* SPDX-License-Identifier: MIT */
#ifndef SPLIT_DRIVER_H
#define SPLIT_DRIVER_H

/*
 * The driver's half of a split virtqueue over plain memory: what a guest would run.
 *
 *	drv_init(&drv, hva, gpa, size, event_idx);	drv_bytes(size) of it are the ring's
 *	head = drv_chain(&drv, bufs, count);		or drv_chain_indirect()
 *	drv_offer(&drv, head);
 *	drv_show(&drv);					everything offered, at once
 *	if (drv_kick_wanted(&drv))
 *		write the kick fd
 *	while (drv_take(&drv, &head, &len))		the chain's descriptors are free again
 *		...
 *	if (!drv_ask_interrupt(&drv))			true: more came meanwhile
 *		sleep on the call fd
 *
 * With drv.in_order set (before the first chain) descriptors are taken and freed in the order of the
 * ring, and one used element may stand for several chains: drv_take() gives them one by one. What the
 * device must not do is written down in drv.fault, the first of it.
 *
 * For one thread. Labels V1 .. V4 are those of the device's half; where that has a full barrier
 * between its store and its load, here both are sequentially consistent, which gives the same and
 * which ThreadSanitizer understands.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#define DRV_NEXT 1u
#define DRV_WRITE 2u
#define DRV_INDIRECT 4u

struct drv_buf {
	uint64_t gpa;
	uint32_t len;
	bool writable;
};

/* Chains in the order in which they were offered. */
struct drv_order {
	uint16_t *id;
	uint32_t size;
	uint32_t first;
	uint32_t count;
	uint32_t passed; /* of the first ones: used, and not given to the caller yet */
	uint32_t len;    /* of the last of these; of the others, what they have room for */
};

struct drv_ring {
	uint64_t desc_gpa, avail_gpa, used_gpa;
	uint64_t *desc;  /* two words each */
	uint16_t *avail; /* flags, idx, ring[size], used_event */
	uint16_t *used;  /* flags, idx, size elements of four, avail_event */
	uint32_t size;
	bool event_idx;
	uint16_t free_head;
	uint32_t free_count;
	uint16_t *next;       /* private copies of what the device cannot be trusted with */
	uint16_t *length;     /* of the chain at this head */
	uint16_t avail_idx;   /* offered, perhaps not shown yet */
	uint16_t kick_looked; /* avail_idx when last asked whether to kick */
	uint16_t used_idx;    /* next to take */
	bool in_order;
	uint16_t free_last;
	uint32_t *writable; /* bytes of the chain at this head */
	struct drv_order order;
	const char *fault;
};

static inline void drv_order_add(struct drv_order *order, unsigned id)
{
	order->id[(order->first + order->count++) % order->size] = (uint16_t)id;
}

static inline uint16_t drv_order_take(struct drv_order *order)
{
	uint16_t id = order->id[order->first];

	order->first = (order->first + 1) % order->size;
	order->count--;
	return id;
}

/* @return how many chains, from the oldest on, end with that one; 0: it is not among them. */
static inline uint32_t drv_order_until(const struct drv_order *order, uint32_t id)
{
	for (uint32_t n = 0; n < order->count; n++) {
		if (order->id[(order->first + n) % order->size] == id)
			return n + 1;
	}
	return 0;
}

static inline uint32_t drv_writable(const struct drv_buf *bufs, uint32_t count)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < count; i++)
		sum += bufs[i].writable ? bufs[i].len : 0;
	return sum;
}

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define DRV_LE(bits, v) __builtin_bswap##bits(v)
#else
#define DRV_LE(bits, v) ((uint##bits##_t)(v))
#endif

#define DRV_ATOMIC(bits, p) ((_Atomic uint##bits##_t *)(p))

static inline uint16_t drv_get16(uint16_t *p, memory_order order)
{
	return DRV_LE(16, atomic_load_explicit(DRV_ATOMIC(16, p), order));
}

static inline void drv_set16(uint16_t *p, unsigned v, memory_order order)
{
	atomic_store_explicit(DRV_ATOMIC(16, p), DRV_LE(16, (uint16_t)v), order);
}

static inline uint64_t drv_used_offset(uint32_t size)
{
	return (16 * (uint64_t)size + 6 + 2 * size + 3) & ~UINT64_C(3);
}

/* Memory of a ring, which must be aligned to 16 bytes. */
static inline uint64_t drv_bytes(uint32_t size)
{
	return drv_used_offset(size) + 6 + 8 * (uint64_t)size;
}

/* The memory is zero. @return false without memory for the private part. */
static inline bool drv_init(struct drv_ring *drv, void *hva, uint64_t gpa, uint32_t size,
			    bool event_idx)
{
	*drv = (struct drv_ring){
		.desc_gpa = gpa,
		.avail_gpa = gpa + 16 * (uint64_t)size,
		.used_gpa = gpa + drv_used_offset(size),
		.desc = hva,
		.avail = (uint16_t *)((char *)hva + 16 * (uint64_t)size),
		.used = (uint16_t *)((char *)hva + drv_used_offset(size)),
		.size = size,
		.event_idx = event_idx,
		.free_count = size,
		.writable = calloc(size, sizeof(uint32_t) + 3 * sizeof(uint16_t)),
		.free_last = (uint16_t)(size - 1),
	};
	if (!drv->writable)
		return false;
	drv->next = (uint16_t *)(drv->writable + size);
	drv->length = drv->next + size;
	drv->order = (struct drv_order){.id = drv->length + size, .size = size};
	for (uint32_t i = 0; i < size; i++)
		drv->next[i] = (uint16_t)(i + 1);
	return true;
}

static inline void drv_fini(struct drv_ring *drv)
{
	free(drv->writable);
}

/* As if that many chains had come and gone. Before the device's half is created. */
static inline void drv_start_at(struct drv_ring *drv, uint16_t idx)
{
	drv->avail_idx = drv->kick_looked = drv->used_idx = idx;
	drv_set16(&drv->avail[1], idx, memory_order_relaxed);
	drv_set16(&drv->used[1], idx, memory_order_relaxed);
}

static inline void drv_set_desc(uint64_t *table, uint32_t i, uint64_t addr, uint32_t len,
				unsigned flags, unsigned next)
{
	uint64_t second = len | (uint64_t)flags << 32 | (uint64_t)next << 48;

	atomic_store_explicit(DRV_ATOMIC(64, &table[2 * i]), DRV_LE(64, addr),
			      memory_order_relaxed);
	atomic_store_explicit(DRV_ATOMIC(64, &table[2 * i + 1]), DRV_LE(64, second),
			      memory_order_relaxed);
}

/* @return the head; -1 when the ring has not enough free descriptors. */
static inline int drv_chain(struct drv_ring *drv, const struct drv_buf *bufs, uint32_t count)
{
	uint16_t head = drv->free_head, i = head;

	if (!count || count > drv->free_count)
		return -1;
	for (uint32_t n = 0; n < count; n++) {
		unsigned flags =
			(bufs[n].writable ? DRV_WRITE : 0) | (n + 1 < count ? DRV_NEXT : 0);

		drv_set_desc(drv->desc, i, bufs[n].gpa, bufs[n].len, flags, drv->next[i]);
		i = drv->next[i];
	}
	drv->free_head = i;
	drv->free_count -= count;
	drv->length[head] = (uint16_t)count;
	drv->writable[head] = drv_writable(bufs, count);
	return head;
}

/* The same through a table of its own, at @p table here and @p gpa for the device. */
static inline int drv_chain_indirect(struct drv_ring *drv, const struct drv_buf *bufs,
				     uint32_t count, uint64_t *table, uint64_t gpa)
{
	const struct drv_buf whole = {.gpa = gpa, .len = 16 * count};
	int head = drv_chain(drv, &whole, 1);

	if (head < 0)
		return -1;
	for (uint32_t n = 0; n < count; n++) {
		unsigned flags =
			(bufs[n].writable ? DRV_WRITE : 0) | (n + 1 < count ? DRV_NEXT : 0);

		drv_set_desc(table, n, bufs[n].gpa, bufs[n].len, flags, n + 1);
	}
	drv->writable[head] = drv_writable(bufs, count);
	drv_set_desc(drv->desc, (uint32_t)head, gpa, 16 * count, DRV_INDIRECT, 0);
	return head;
}

static inline void drv_offer(struct drv_ring *drv, int head)
{
	drv_set16(&drv->avail[2 + drv->avail_idx % drv->size], (unsigned)head,
		  memory_order_relaxed);
	drv->avail_idx++;
	if (drv->in_order)
		drv_order_add(&drv->order, (unsigned)head);
}

static inline void drv_show(struct drv_ring *drv)
{
	/* V2: pairs with the device's acquire of the available index. */
	drv_set16(&drv->avail[1], drv->avail_idx, memory_order_seq_cst);
}

/* After drv_show(). */
static inline bool drv_kick_wanted(struct drv_ring *drv)
{
	uint16_t fresh = (uint16_t)(drv->avail_idx - drv->kick_looked), event;

	/* V4: pairs with the device's full barrier before its last look at the available index. */
	if (!drv->event_idx)
		return !(drv_get16(&drv->used[0], memory_order_seq_cst) & 1);
	event = drv_get16(&drv->used[2 + 4 * drv->size], memory_order_seq_cst);
	drv->kick_looked = drv->avail_idx;
	return (uint16_t)(drv->avail_idx - event - 1) < fresh;
}

static inline bool drv_used_pending(struct drv_ring *drv, memory_order order)
{
	return drv_get16(&drv->used[1], order) != drv->used_idx;
}

static inline void drv_release(struct drv_ring *drv, uint16_t id)
{
	uint32_t count = drv->length[id];
	uint16_t last = id;

	drv->length[id] = 0;
	for (uint32_t n = 1; n < count; n++)
		last = drv->next[last];
	if (!drv->in_order || !drv->free_count) {
		drv->next[last] = drv->free_head;
		drv->free_head = id;
		if (!drv->free_count)
			drv->free_last = last;
	} else {
		drv->next[drv->free_last] = id;
		drv->free_last = last;
	}
	drv->free_count += count;
}

/* The element at used_idx stands for all up to this id. */
static inline void drv_take_batch(struct drv_ring *drv, uint32_t id, uint32_t len)
{
	uint16_t idx = drv_get16(&drv->used[1], memory_order_relaxed);
	uint32_t count = drv_order_until(&drv->order, id);

	if (!count)
		drv->fault = "an element for a chain that is not in flight";
	else if (count > (uint16_t)(idx - drv->used_idx))
		drv->fault = "a batch goes on behind the used index";
	drv->order.passed = count;
	drv->order.len = len;
	drv->used_idx = (uint16_t)(drv->used_idx + count);
}

static inline bool drv_take_passed(struct drv_ring *drv, uint32_t *id, uint32_t *len)
{
	if (!drv->order.passed)
		return false;
	drv->order.passed--;
	*id = drv_order_take(&drv->order);
	*len = drv->order.passed ? drv->writable[*id] : drv->order.len;
	drv_release(drv, (uint16_t)*id);
	return true;
}

/* @return false when there is none. An id that is not a head's is the caller's to notice. */
static inline bool drv_take(struct drv_ring *drv, uint32_t *id, uint32_t *len)
{
	uint32_t *element = (uint32_t *)(drv->used + 2) + 2 * (drv->used_idx % drv->size);

	if (drv_take_passed(drv, id, len))
		return true;
	/* V1: pairs with the device's release of the used index. */
	if (!drv_used_pending(drv, memory_order_acquire))
		return false;
	*id = DRV_LE(32, atomic_load_explicit(DRV_ATOMIC(32, &element[0]), memory_order_relaxed));
	*len = DRV_LE(32, atomic_load_explicit(DRV_ATOMIC(32, &element[1]), memory_order_relaxed));
	if (drv->in_order) {
		drv_take_batch(drv, *id, *len);
		return drv_take_passed(drv, id, len);
	}
	drv->used_idx++;
	if (*id >= drv->size || !drv->length[*id])
		drv->fault = "an element for a chain that is not in flight";
	else
		drv_release(drv, (uint16_t)*id);
	return true;
}

/* An interrupt for whatever is used from now on. @return true: there is something already. */
static inline bool drv_ask_interrupt(struct drv_ring *drv)
{
	if (drv->event_idx)
		drv_set16(&drv->avail[2 + drv->size], drv->used_idx, memory_order_seq_cst);
	else
		drv_set16(&drv->avail[0], 0, memory_order_seq_cst);
	/* V3: pairs with the device's full barrier before it looks whether we want one. */
	return drv_used_pending(drv, memory_order_seq_cst);
}

/* A hint. With EVENT_IDX the used index has to lap an event that lies behind it. */
static inline void drv_stop_interrupts(struct drv_ring *drv)
{
	if (drv->event_idx)
		drv_set16(&drv->avail[2 + drv->size], (uint16_t)(drv->used_idx - 1),
			  memory_order_relaxed);
	else
		drv_set16(&drv->avail[0], 1, memory_order_relaxed);
}

#endif /* SPLIT_DRIVER_H */
