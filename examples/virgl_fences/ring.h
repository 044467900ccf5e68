/* SPDX-License-Identifier: MIT */
#ifndef RING_H
#define RING_H

/*
 * The driver's half of a split virtqueue, as a guest has it: INDIRECT and EVENT_IDX negotiated, one
 * ring entry for each command. Not part of fenceq, which is the other half. One thread.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "machine.h"

struct avail_ring {
	_Atomic uint16_t flags;
	_Atomic uint16_t idx;
	uint16_t entry[];
};

struct used_ring {
	_Atomic uint16_t flags;
	_Atomic uint16_t idx;
	struct vring_used_elem entry[];
};

struct ring {
	const struct machine *machine;
	struct vring_desc *desc;
	struct avail_ring *avail;
	struct used_ring *used;
	struct slot *slots;
	_Atomic uint16_t *used_event;  /* ours: interrupt when the used index passes this */
	_Atomic uint16_t *avail_event; /* the device's: kick when the available index passes this */
	uint16_t avail_idx;            /* next to write */
	uint16_t avail_kicked;         /* index at the last look at avail_event */
	uint16_t used_idx;             /* next to read */
};

/* @return 0 or -errno. */
int ring_init(struct ring *r, const struct machine *m);

/* Makes a command available in a slot that is free; the device may see it at once. */
void ring_queue(struct ring *r, uint16_t slot, const struct virtio_gpu_ctrl_hdr *request);

/* Tells the device about what was queued since the last call, if it wants to be told. */
void ring_kick(struct ring *r);

/* How many used entries wait. */
uint16_t ring_used(const struct ring *r);

/* Takes one of those. */
struct vring_used_elem ring_take(struct ring *r);

/* Asks for an interrupt, and sleeps until there is one unless used entries wait. */
void ring_sleep(struct ring *r);

#endif /* RING_H */
