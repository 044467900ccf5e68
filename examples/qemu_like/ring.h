/* SPDX-License-Identifier: MIT */
#ifndef RING_H
#define RING_H

/*
 * Guest memory, and the driver's half of the virtqueue in it: a split ring without optional
 * features, every command a chain of two descriptors. One thread, that of the ring's vCPU.
 */

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/virtio_gpu.h>
#include <linux/virtio_ring.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
	       "virtio is little-endian, and this example leaves out the conversions");

#define VCPUS 2u
#define SLOTS 64u /* commands that one vCPU has in flight */
#define RING_SIZE (2 * SLOTS)
#define RAM_GPA 0x40000000u
#define RAM_SIZE (VCPUS * sizeof(struct guest_ring))

struct request {
	struct virtio_gpu_ctrl_hdr hdr;
	uint64_t input;
};

struct response {
	struct virtio_gpu_ctrl_hdr hdr;
	uint64_t output; /* render() of the input, when the header says success */
};

struct guest_ring {
	alignas(4096) struct vring_desc desc[RING_SIZE];
	struct {
		_Atomic uint16_t flags;
		_Atomic uint16_t idx;
		uint16_t entry[RING_SIZE];
	} avail;
	struct {
		alignas(4) _Atomic uint16_t flags;
		_Atomic uint16_t idx;
		struct vring_used_elem entry[RING_SIZE];
	} used;
	struct request request[SLOTS];
	struct response response[SLOTS];
};

/* Where something in a guest_ring lies in guest memory. */
#define RING_GPA(index, member) \
	(RAM_GPA + (index) * sizeof(struct guest_ring) + offsetof(struct guest_ring, member))

struct ring {
	struct guest_ring *mem;
	unsigned index;
	uint16_t avail_idx; /* next to write */
	uint16_t used_idx;  /* next to read */
};

void ring_init(struct ring *r, struct guest_ring *mem, unsigned index);

/* Makes a command available in a slot that is free; the device may see it at once. */
void ring_queue(struct ring *r, uint16_t slot, const struct request *request);

/* The next used entry, as slot and response; false when there is none. */
bool ring_take(struct ring *r, uint32_t *slot, uint32_t *len);

#endif /* RING_H */
