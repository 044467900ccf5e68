/* SPDX-License-Identifier: MIT */
#ifndef RING_DRIVER_H
#define RING_DRIVER_H

/* The driver's half of a virtqueue of either layout, for what does not care which it is. */

#include <fenceq/vring.h>

#include "packed_driver.h"

struct ring_driver {
	bool packed;
	struct drv_ring s;
	struct pdrv_ring p;
};

static inline uint64_t ring_driver_bytes(uint32_t size)
{
	return drv_bytes(size); /* a packed ring takes less */
}

/* Features are FQ_VRING_*. @return as drv_init() */
static inline bool ring_driver_init(struct ring_driver *d, void *hva, uint64_t gpa, uint32_t size,
				    uint32_t features)
{
	bool event_idx = features & FQ_VRING_EVENT_IDX;

	*d = (struct ring_driver){.packed = features & FQ_VRING_PACKED};
	if (!(d->packed ? pdrv_init(&d->p, hva, gpa, size, event_idx)
			: drv_init(&d->s, hva, gpa, size, event_idx)))
		return false;
	d->s.in_order = d->p.in_order = features & FQ_VRING_IN_ORDER;
	return true;
}

static inline void ring_driver_fini(struct ring_driver *d)
{
	if (d->packed)
		pdrv_fini(&d->p);
	else
		drv_fini(&d->s);
}

/* As if that many chains of one descriptor had come and gone. @return the same place, for the device. */
static inline uint16_t ring_driver_start_at(struct ring_driver *d, uint16_t idx)
{
	if (!d->packed) {
		drv_start_at(&d->s, idx);
		return idx;
	}
	idx = pdrv_plus(&d->p, PDRV_WRAP, idx);
	pdrv_start_at(&d->p, idx);
	return idx;
}

/* Where it lies. */
static inline void ring_driver_locate(const struct ring_driver *d, struct fq_vring_config *config)
{
	config->desc = d->packed ? d->p.desc_gpa : d->s.desc_gpa;
	config->driver = d->packed ? d->p.driver_gpa : d->s.avail_gpa;
	config->device = d->packed ? d->p.device_gpa : d->s.used_gpa;
	config->size = d->packed ? d->p.size : d->s.size;
}

/* Descriptors. */
static inline uint32_t ring_driver_free(const struct ring_driver *d)
{
	return d->packed ? d->p.free_count : d->s.free_count;
}

/* What the next chain will be known by. */
static inline uint16_t ring_driver_next_id(const struct ring_driver *d)
{
	return d->packed ? d->p.free_id : d->s.free_head;
}

/* Queued, to be shown with all others. @return its id; -1 when there is no room. */
static inline int ring_driver_queue(struct ring_driver *d, const struct drv_buf *bufs,
				    uint32_t count)
{
	int id = d->packed ? pdrv_chain(&d->p, bufs, count) : drv_chain(&d->s, bufs, count);

	if (!d->packed && id >= 0)
		drv_offer(&d->s, id);
	return id;
}

static inline int ring_driver_queue_indirect(struct ring_driver *d, const struct drv_buf *bufs,
					     uint32_t count, uint64_t *table, uint64_t gpa)
{
	int id;

	if (d->packed)
		return pdrv_chain_indirect(&d->p, bufs, count, table, gpa);
	id = drv_chain_indirect(&d->s, bufs, count, table, gpa);
	if (id >= 0)
		drv_offer(&d->s, id);
	return id;
}

static inline void ring_driver_show(struct ring_driver *d)
{
	if (d->packed)
		pdrv_show(&d->p);
	else
		drv_show(&d->s);
}

static inline bool ring_driver_kick_wanted(struct ring_driver *d)
{
	return d->packed ? pdrv_kick_wanted(&d->p) : drv_kick_wanted(&d->s);
}

static inline bool ring_driver_used_pending(struct ring_driver *d, memory_order order)
{
	return d->packed ? pdrv_used_pending(&d->p, order) : drv_used_pending(&d->s, order);
}

static inline bool ring_driver_take(struct ring_driver *d, uint32_t *id, uint32_t *len)
{
	return d->packed ? pdrv_take(&d->p, id, len) : drv_take(&d->s, id, len);
}

static inline bool ring_driver_ask_interrupt(struct ring_driver *d)
{
	return d->packed ? pdrv_ask_interrupt(&d->p) : drv_ask_interrupt(&d->s);
}

static inline void ring_driver_stop_interrupts(struct ring_driver *d)
{
	if (d->packed)
		pdrv_stop_interrupts(&d->p);
	else
		drv_stop_interrupts(&d->s);
}

/* What the device has done that it must not; NULL: nothing. */
static inline const char *ring_driver_fault(const struct ring_driver *d)
{
	return d->packed ? d->p.fault : d->s.fault;
}

#endif /* RING_DRIVER_H */
