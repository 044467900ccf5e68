/* SPDX-License-Identifier: MIT */
#ifndef FQ_VRING_INTERNAL_H
#define FQ_VRING_INTERNAL_H

/*
 * What vring.c (everything no layout cares about) and the layouts share. A layout is a table of
 * operations, chosen once by fq_vring_create(); its part of struct fq_vring is its own.
 *
 * Ordering. The other end of each edge is the driver; its half in the tests carries the same labels.
 *   V1  device: used elements, answers and the last look at a chain, then the used index (release)
 *       driver: used index (acquire), then the elements, the answers and reuse of the chain
 *   V2  driver: descriptors, requests and the available ring, then the available index (release)
 *       device: available index (acquire), then the ring, the descriptors and the requests
 *   V3  device: used index; full barrier; does the driver want an interrupt?
 *       driver: asks for an interrupt; full barrier; used index
 *   V4  device: asks for a kick; full barrier; available index
 *       driver: available index; full barrier; does the device want a kick?
 */

#include <stdbool.h>
#include <stdint.h>

#include <fenceq/mem.h>
#include <fenceq/vring.h>

#include "atomics.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
static inline uint16_t fq_le16(uint16_t v)
{
	return (uint16_t)(v << 8 | v >> 8);
}

static inline uint32_t fq_le32(uint32_t v)
{
	return (uint32_t)fq_le16((uint16_t)v) << 16 | fq_le16((uint16_t)(v >> 16));
}

static inline uint64_t fq_le64(uint64_t v)
{
	return (uint64_t)fq_le32((uint32_t)v) << 32 | fq_le32((uint32_t)(v >> 32));
}
#else
static inline uint16_t fq_le16(uint16_t v)
{
	return v;
}

static inline uint32_t fq_le32(uint32_t v)
{
	return v;
}

static inline uint64_t fq_le64(uint64_t v)
{
	return v;
}
#endif

struct fq_vring;

struct fq_vring_ops {
	/*
	 * 1: *id is the chain's, what the pieces are is in chain; 0: nothing available; negative:
	 * nothing taken, and but for -E2BIG the ring is malformed.
	 */
	int (*pop)(struct fq_vring *vr, struct fq_vring_chain *chain, uint16_t *id);
	/* Writes the element with number vr->used. */
	void (*put)(struct fq_vring *vr, uint16_t id, uint32_t len);
	/* Shows every element before vr->used. Does the driver want an interrupt for them? */
	bool (*publish)(struct fq_vring *vr);
	void (*disable_kick)(struct fq_vring *vr);
	bool (*enable_kick)(struct fq_vring *vr);
};

struct fq_vring_head {
	uint64_t put_at;    /* vr->used after the last put; FQ_IN_FLIGHT between pop and put */
	uint16_t tag;       /* of the last pop: an old buffer cannot complete a new chain */
	uint16_t kept_next; /* put while the ring was stopped: the one put after it */
	uint32_t kept_len;
};

#define FQ_IN_FLIGHT UINT64_MAX
#define FQ_KEPT (UINT64_MAX - 1)

/* Guest memory as words: each is loaded once, whole, wherever it is read. */
struct fq_split {
	const void *desc;
	uint16_t *avail;       /* flags, idx, ring[size], used_event */
	uint16_t *used;        /* flags, idx */
	uint32_t *elements;    /* size times id, len */
	uint16_t *avail_event; /* after them */
	uint64_t desc_gpa;
	uint64_t checked; /* vr->used when suppression was last looked at */
	bool has_checked;
	uint16_t avail_seen; /* the driver's index when last read */
};

struct fq_call_fd {
	int fd;
	bool blocking; /* a write could wait for the reader */
	bool sigpipe;  /* a write could raise SIGPIPE */
};

struct fq_vring {
	const struct fq_vring_ops *ops;
	const struct fq_mem *mem;
	uint32_t size;
	uint32_t features;
	uint32_t in_flight;
	uint16_t avail; /* next available index to read */
	bool stopped;   /* ring memory may be gone */
	uint16_t kept_first, kept_last;
	uint32_t kept;  /* puts to be written when the ring is started again */
	uint64_t used;  /* elements put; starts at config.used_idx, its low 16 bits are the index */
	uint64_t shown; /* of those: published */
	struct fq_split split;

	fq_vring_interrupt_fn *interrupt;
	void *opaque;
	struct fq_call_fd call;

	fq_a64 popped, put, publishes, interrupts, suppressed, call_errors, errors, broken;

	struct fq_vring_head heads[];
};

/*
 * Not the driver's to offer: in flight, or put and not shown yet. Each head being busy at most once
 * is also what bounds a batch by the ring's size.
 */
static inline bool fq_head_busy(const struct fq_vring *vr, uint16_t id)
{
	return vr->heads[id].put_at > vr->shown;
}

/* A chain on its way into struct fq_vring_chain. Pieces past iov_max are counted, not stored. */
struct fq_walk {
	struct fq_vring_chain *chain;
	uint32_t pieces;
	bool writing;
};

/* Translates one buffer of a chain. @return 0; -EBADMSG readable after writable; -EFAULT. */
int fq_walk_add(const struct fq_vring *vr, struct fq_walk *walk, uint64_t gpa, uint32_t len,
		bool writable);

/* The layouts. @return 0; -EINVAL, -EFAULT as fq_vring_create(). */
int fq_split_init(struct fq_vring *vr, const struct fq_vring_config *config);

#endif /* FQ_VRING_INTERNAL_H */
