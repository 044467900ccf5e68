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
 *
 *   Packed; flags are those of a descriptor, a mode and a place those of an event suppression.
 *   V5  device: used elements, answers and the last look at a chain, then the flags of the first
 *       element (release)
 *       driver: flags (acquire), then the elements, the answers and reuse of the chain
 *   V6  driver: descriptors and requests, then the flags of the first descriptor (release)
 *       device: flags (acquire), then the descriptors and the requests
 *   V7  device: flags of the first element; full barrier; does the driver want an interrupt?
 *       driver: asks for an interrupt; full barrier; flags where the next element will be
 *   V8  device: asks for a kick; full barrier; flags where the next chain will be
 *       driver: flags of the first descriptor; full barrier; does the device want a kick?
 */

#include <stdbool.h>
#include <stdint.h>

#include <fenceq/mem.h>
#include <fenceq/vring.h>

#include "bytes.h"
#include "mem_internal.h"

struct fq_vring;

struct fq_vring_ops {
	/*
	 * 1: *id is the chain's, how many descriptors of the ring it takes is in that head, what the
	 * pieces are is in chain; 0: nothing available; negative: nothing taken, and but for -E2BIG the
	 * ring is malformed.
	 */
	int (*pop)(struct fq_vring *vr, struct fq_vring_chain *chain, uint16_t *id);
	/*
	 * Writes the element with number vr->used, hidden: of one chain, or of the last of a batch;
	 * descs is what the chain, or the batch, takes of the ring.
	 */
	void (*put)(struct fq_vring *vr, uint16_t id, uint32_t len, uint32_t descs);
	/*
	 * Shows every element before vr->used, the first of them with that number. Does the driver want
	 * an interrupt for them?
	 */
	bool (*publish)(struct fq_vring *vr, uint64_t from);
	void (*disable_kick)(struct fq_vring *vr);
	bool (*enable_kick)(struct fq_vring *vr);
	/* In the dirty log: what kicks are asked for with. */
	void (*mark_hints)(const struct fq_vring *vr);
	/* Where the next element goes, as fq_vring_used_idx() reports it. */
	uint16_t (*used_idx)(const struct fq_vring *vr);
};

struct fq_vring_head {
	uint64_t put_at;   /* number of the used element that covers it; or the ones below */
	uint32_t len;      /* put and not written yet: what the device wrote ... */
	uint32_t writable; /* ... of this many bytes */
	uint16_t tag;      /* of the last pop: an old buffer cannot complete a new chain */
	uint16_t next;     /* in vr->line */
	uint16_t descs;    /* packed: descriptors of the ring that the chain takes */
};

/*
 * put_at of a head:   free -> IN_FLIGHT (pop) -> number (put; shown when vr->shown has come there)
 *                     IN_FLIGHT -> KEPT (put of a stopped ring, or IN_ORDER) -> number (fq_line_write)
 * From a number to IN_FLIGHT only when it is shown. Never from KEPT or IN_FLIGHT back to free, and a
 * number never changes.
 */
#define FQ_IN_FLIGHT UINT64_MAX
#define FQ_KEPT (UINT64_MAX - 1)

/* Heads that wait for their turn: for the ring to be started, or (IN_ORDER) for those before them. */
struct fq_line {
	uint16_t first, last;
	uint32_t count;
};

/* Guest memory as words: each is loaded once, whole, wherever it is read. */
struct fq_split {
	const void *desc;
	uint16_t *avail;       /* flags, idx, ring[size], used_event */
	uint16_t *used;        /* flags, idx */
	uint32_t *elements;    /* size times id, len */
	uint16_t *avail_event; /* after them */
	uint64_t desc_gpa;
	uint64_t used_gpa;
	uint64_t checked; /* vr->used when suppression was last looked at */
	bool has_checked;
	uint16_t avail_seen; /* the driver's index when last read */
};

/*
 * Positions are as vhost-user writes them down: an offset, and in bit 15 the wrap counter there. They
 * go round twice the size; vr->avail is one, too. From shown to used to avail it is never further
 * than the size.
 */
struct fq_packed {
	uint64_t desc_gpa;
	uint64_t device_gpa;
	char *desc;             /* size descriptors */
	const uint16_t *driver; /* the driver's event suppression: offset and wrap, flags */
	uint16_t *device;       /* ours */
	uint16_t used;          /* where the next element goes */
	uint16_t shown; /* where the first one goes that is hidden: its flags are not written */
	uint16_t hidden_flags; /* and these are what they will be */
	bool has_checked;      /* suppression was looked at since this vring was created */
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
	uint32_t max_chain; /* descriptors */
	uint32_t in_flight;
	uint16_t avail; /* next available index to read */
	bool stopped;   /* ring memory may be gone */
	struct fq_line line;
	uint64_t used;  /* chains with an element; split: starts at config.used_idx, is the index */
	uint64_t shown; /* of those: published */
	union {
		struct fq_split split;
		struct fq_packed packed;
	};

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

/*
 * Translates one buffer of a chain. @return 0; -EBADMSG readable after writable, or more than 2^32 bytes
 * in all; -EFAULT.
 */
int fq_walk_add(const struct fq_vring *vr, struct fq_walk *walk, uint64_t gpa, uint32_t len,
		bool writable);

#define FQ_DESC_BYTES 16u

/* Where descriptors stand: a ring, or an indirect table. */
struct fq_table {
	uint64_t gpa;
	const char *hva;
	uint64_t mapped; /* bytes at hva; the rest, if any, lies in other regions */
	uint32_t count;
};

/*
 * Two loads, so that no field can change between its check and its use. @return 0; -EFAULT.
 */
int fq_table_read(const struct fq_mem *mem, const struct fq_table *table, uint32_t i,
		  uint64_t words[2]);

/* The table that an INDIRECT descriptor points to. @return 0; -EBADMSG not negotiated, a length of 0
 * or no multiple of 16; -EFAULT. */
int fq_table_enter(const struct fq_vring *vr, struct fq_table *table, uint64_t gpa, uint32_t len);

/* One part of a ring, all in one region. @return 0; -EINVAL misaligned; -EFAULT. */
int fq_ring_part(const struct fq_mem *mem, uint64_t gpa, uint64_t len, unsigned align, void **out);

/* The call fd. Raising is counted; neither errno nor a pending cancellation learns of it. */
void fq_call_set(struct fq_call_fd *call, int fd);
bool fq_call_raise(struct fq_vring *vr);

/* The line. Writing goes as far as the first head that has not been put. */
void fq_line_add(struct fq_vring *vr, uint16_t id);
void fq_line_write(struct fq_vring *vr);

/* The layouts. @return 0; -EINVAL, -EFAULT as fq_vring_create(). */
int fq_split_init(struct fq_vring *vr, const struct fq_vring_config *config);
int fq_packed_init(struct fq_vring *vr, const struct fq_vring_config *config);

#endif /* FQ_VRING_INTERNAL_H */
