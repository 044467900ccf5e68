/* SPDX-License-Identifier: MIT */
#include "ring.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

int ring_init(struct ring *r, const struct machine *m)
{
	uint8_t *ram = machine_map(m);

	if (!ram)
		return -ENOMEM;
	*r = (struct ring){
		.machine = m,
		.desc = (struct vring_desc *)(ram + m->desc),
		.avail = (struct avail_ring *)(ram + m->avail),
		.used = (struct used_ring *)(ram + m->used),
		.slots = (struct slot *)(ram + m->slots),
	};
	r->used_event = (_Atomic uint16_t *)&r->avail->entry[m->ring_size];
	r->avail_event = (_Atomic uint16_t *)&r->used->entry[m->ring_size];
	return 0;
}

void ring_queue(struct ring *r, uint16_t slot, const struct virtio_gpu_ctrl_hdr *request)
{
	struct slot *s = &r->slots[slot];
	uint64_t gpa = MACHINE_RAM_GPA + r->machine->slots + slot * sizeof(*s);

	s->request = *request;
	memset(&s->response, 0, sizeof(s->response));
	s->table[0] = (struct vring_desc){
		.addr = gpa + offsetof(struct slot, request),
		.len = sizeof(s->request),
		.flags = VRING_DESC_F_NEXT,
		.next = 1,
	};
	s->table[1] = (struct vring_desc){
		.addr = gpa + offsetof(struct slot, response),
		.len = sizeof(s->response),
		.flags = VRING_DESC_F_WRITE,
	};
	r->desc[slot] = (struct vring_desc){
		.addr = gpa + offsetof(struct slot, table),
		.len = sizeof(s->table),
		.flags = VRING_DESC_F_INDIRECT,
	};
	r->avail->entry[r->avail_idx & (r->machine->ring_size - 1)] = slot;
	/* Whoever sees the index sees the entry and the command behind it. */
	atomic_store_explicit(&r->avail->idx, ++r->avail_idx, memory_order_release);
}

void ring_kick(struct ring *r)
{
	uint16_t old = r->avail_kicked, event;

	if (r->avail_idx == old)
		return;
	/* The device writes avail_event, then looks at the index: one of us sees the other. */
	atomic_thread_fence(memory_order_seq_cst);
	event = atomic_load_explicit(r->avail_event, memory_order_relaxed);
	if (vring_need_event(event, r->avail_idx, old))
		eventfd_write(r->machine->kick_fd, 1);
	r->avail_kicked = r->avail_idx;
}

uint16_t ring_used(const struct ring *r)
{
	uint16_t idx = atomic_load_explicit(&r->used->idx, memory_order_acquire);

	return (uint16_t)(idx - r->used_idx);
}

struct vring_used_elem ring_take(struct ring *r)
{
	return r->used->entry[r->used_idx++ & (r->machine->ring_size - 1)];
}

void ring_sleep(struct ring *r)
{
	eventfd_t ignored;

	atomic_store_explicit(r->used_event, r->used_idx, memory_order_relaxed);
	/* As in ring_kick(), with the parts exchanged. */
	atomic_thread_fence(memory_order_seq_cst);
	if (ring_used(r) == 0)
		eventfd_read(r->machine->call_fd, &ignored);
}
