/* SPDX-License-Identifier: MIT */
#include "machine.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t reserve(struct machine *m, size_t bytes)
{
	size_t at = m->ram_size;

	m->ram_size = (at + bytes + 4095) & ~(size_t)4095;
	return at;
}

int machine_init(struct machine *m, uint32_t ring_size)
{
	/* Each ring ends in the index at which the other side wants to be told (EVENT_IDX). */
	size_t ring_head = 2 * sizeof(uint16_t), event = sizeof(uint16_t);

	*m = (struct machine){.ring_size = ring_size};
	m->desc = reserve(m, ring_size * sizeof(struct vring_desc));
	m->avail = reserve(m, ring_head + ring_size * sizeof(uint16_t) + event);
	m->used = reserve(m, ring_head + ring_size * sizeof(struct vring_used_elem) + event);
	m->slots = reserve(m, ring_size * sizeof(struct slot));

	m->ram_fd = memfd_create("guest-ram", MFD_CLOEXEC);
	m->kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	m->call_fd = eventfd(0, EFD_CLOEXEC);
	if (m->ram_fd < 0 || m->kick_fd < 0 || m->call_fd < 0)
		return -errno;
	return ftruncate(m->ram_fd, (off_t)m->ram_size) ? -errno : 0;
}

void *machine_map(const struct machine *m)
{
	void *ram = mmap(NULL, m->ram_size, PROT_READ | PROT_WRITE, MAP_SHARED, m->ram_fd, 0);

	return ram == MAP_FAILED ? NULL : ram;
}
