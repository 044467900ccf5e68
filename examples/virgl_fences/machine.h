/* SPDX-License-Identifier: MIT */
#ifndef MACHINE_H
#define MACHINE_H

/*
 * The hardware between driver and device: guest memory (a memfd that each side maps for itself, as
 * a VMM and its vhost-user backend do) with one virtqueue in it, and the two doorbells.
 */

#include <stddef.h>
#include <stdint.h>

#include <linux/virtio_gpu.h>
#include <linux/virtio_ring.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
	       "virtio is little-endian, and this example leaves out the conversions");

#define MACHINE_RAM_GPA 0x40000000u

/* One command: its two descriptors, what the device reads, what it writes. */
struct slot {
	struct vring_desc table[2];
	struct virtio_gpu_ctrl_hdr request;
	struct virtio_gpu_ctrl_hdr response;
};

struct machine {
	int ram_fd;
	int kick_fd; /* driver to device */
	int call_fd; /* device to driver; blocking: the driver sleeps in its read */
	uint32_t ring_size;
	size_t ram_size;
	size_t desc; /* offsets into guest memory */
	size_t avail;
	size_t used;
	size_t slots; /* one for each descriptor */
};

/* @return 0 or -errno. The fds live as long as the process. */
int machine_init(struct machine *m, uint32_t ring_size);

/* A mapping of guest memory, NULL when there is no room for it. */
void *machine_map(const struct machine *m);

#endif /* MACHINE_H */
