/* SPDX-License-Identifier: MIT */
#ifndef FENCEQ_MEM_H
#define FENCEQ_MEM_H

/**
 * @file mem.h
 * @brief Guest memory: a table of regions, the only way from a guest address to a pointer, and the log
 * of what has been written.
 *
 * Overview
 *   The host describes guest memory as regions (as vhost-user's SET_MEM_TABLE does); virtqueues
 *   translate every guest address through the table, each access checked once, for its whole length.
 *
 *   For live migration, pages that have been written are marked in a bitmap that is shared with
 *   whoever copies them (vhost's F_LOG, vhost-user's SET_LOG_BASE). Virtqueues mark what they write of
 *   their rings by themselves. What else is written, answers and what renderers draw, is marked by
 *   those who write it, after they have: fq_mem_mark(), or fq_mem_mark_iov() with the pieces of a
 *   chain, before the put that says they are written, or the signal that leads to it.
 *
 * Guarantees
 *   | function                                | who   | progress                 | barriers              |
 *   |-----------------------------------------|-------|--------------------------|-----------------------|
 *   | fq_mem_at, fq_mem_piece                 | any   | wait-free O(log regions) | none                  |
 *   | fq_mem_mark                             | any   | lock-free O(pages)       | one full; log: 2 RMWs |
 *   | fq_mem_mark_iov                         | any   | lock-free O(regions)     | the same              |
 *   | fq_mem_set_log, fq_mem_log_idle         | owner | wait-free                | one RMW               |
 *
 *   - The regions never change after creation. Nothing is read from or written to guest memory here,
 *     no system call is made, nothing is allocated after creation. Marking is async-signal-safe.
 *   - A page that was written before it was marked is copied by whoever takes its bit (or had switched
 *     the log on) and reads the page after that.
 *   - A marker that is stopped for ever blocks nobody; but the log it has seen can never be unmapped.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <fenceq/base.h>

FQ_BEGIN_DECLS

struct fq_mem;

/** Guest-physical [gpa, gpa + size) lies at @p hva in this process. */
struct fq_mem_region {
	uint64_t gpa;
	uint64_t size;
	void *hva;
};

/**
 * Copies the table; the regions may come in any order. No regions at all is a table too.
 * @return 0; -EINVAL NULL (a region's hva included), an empty region, one that wraps round either
 *         address space, or two that overlap in guest-physical addresses; -ENOMEM. *out is NULL
 *         then.
 */
FQ_API FQ_MUST_USE int fq_mem_create(struct fq_mem **out, const struct fq_mem_region *regions,
				     size_t count);

/** Frees the table, not the memory it describes. No vring may use it any more. NULL is allowed. */
FQ_API void fq_mem_destroy(struct fq_mem *mem);

/**
 * @return the pointer to @p len bytes at @p gpa, NULL unless all of them (and @p gpa itself, for
 *         none) lie in one region.
 */
FQ_API void *fq_mem_at(const struct fq_mem *mem, uint64_t gpa, uint64_t len);

/**
 * The start of [gpa, gpa + len), as far as it lies in one region: for ranges that cross regions.
 * @param[in,out] len wanted; what the piece has.
 * @return NULL (and *len = 0) when @p gpa itself is not in guest memory.
 */
FQ_API void *fq_mem_piece(const struct fq_mem *mem, uint64_t gpa, uint64_t *len);

/** Guest memory for each bit of a log. Bit n of byte m is page 8 m + n. */
#define FQ_LOG_PAGE 4096u

/**
 * Sets the dirty log, or replaces it, or (NULL, 0) ends it. Owner. The bitmap is the host's; pages
 * beyond its end are not marked. The one before may still be marked by threads that are in the middle
 * of it: keep it mapped until fq_mem_log_idle().
 * @param bitmap 8-byte aligned; shared with whoever takes bits from it by atomic operations.
 * @param bytes a multiple of 8.
 * @return 0; -EINVAL NULL or a misaligned bitmap; -EBUSY a thread may be in the middle of the one
 *         before the present one (fq_mem_log_idle() is false): try again.
 */
FQ_API FQ_MUST_USE int fq_mem_set_log(struct fq_mem *mem, void *bitmap, uint64_t bytes);

/** True when nobody can be marking the log that was set before the present one. Owner. */
FQ_API FQ_MUST_USE bool fq_mem_log_idle(struct fq_mem *mem);

/** Marks what lies at [gpa, gpa + len) as written: after it was. Any thread. */
FQ_API void fq_mem_mark(const struct fq_mem *mem, uint64_t gpa, uint64_t len);

/**
 * The same for the first @p len bytes of these pieces of guest memory (a chain's writable ones), at all
 * guest addresses at which they lie. Any thread.
 */
FQ_API void fq_mem_mark_iov(const struct fq_mem *mem, const struct iovec *iov, size_t count,
			    uint64_t len);

FQ_END_DECLS

#endif /* FENCEQ_MEM_H */
