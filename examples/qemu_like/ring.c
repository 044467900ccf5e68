/* SPDX-License-Identifier: MIT */
#include "ring.h"

#include <string.h>

void ring_init(struct ring *r, struct guest_ring *mem, unsigned index)
{
	memset(mem, 0, sizeof(*mem));
	*r = (struct ring){.mem = mem, .index = index};
}

void ring_queue(struct ring *r, uint16_t slot, const struct request *request)
{
	struct guest_ring *mem = r->mem;
	uint16_t head = (uint16_t)(2 * slot);

	mem->request[slot] = *request;
	memset(&mem->response[slot], 0, sizeof(mem->response[slot]));
	mem->desc[head] = (struct vring_desc){
		.addr = RING_GPA(r->index, request) + slot * sizeof(struct request),
		.len = sizeof(struct request),
		.flags = VRING_DESC_F_NEXT,
		.next = (uint16_t)(head + 1),
	};
	mem->desc[head + 1] = (struct vring_desc){
		.addr = RING_GPA(r->index, response) + slot * sizeof(struct response),
		.len = sizeof(struct response),
		.flags = VRING_DESC_F_WRITE,
	};
	mem->avail.entry[r->avail_idx % RING_SIZE] = head;
	/* Whoever sees the index sees the entry and the command behind it. */
	atomic_store_explicit(&mem->avail.idx, ++r->avail_idx, memory_order_release);
}

bool ring_take(struct ring *r, uint32_t *slot, uint32_t *len)
{
	struct vring_used_elem used;

	if (atomic_load_explicit(&r->mem->used.idx, memory_order_acquire) == r->used_idx)
		return false;
	used = r->mem->used.entry[r->used_idx++ % RING_SIZE];
	*slot = used.id / 2;
	*len = used.len;
	return true;
}
