/* SPDX-License-Identifier: MIT */
#ifndef FENCEQ_MEM_H
#define FENCEQ_MEM_H

/**
 * @file mem.h
 * @brief Guest memory: a table of regions, and the only way from a guest address to a pointer.
 *
 * Overview
 *   The host describes guest memory as regions (as vhost-user's SET_MEM_TABLE does); virtqueues
 *   translate every guest address through the table, each access checked once, for its whole length.
 *
 * Guarantees
 *   A table is immutable after creation, so any thread may translate; progress wait-free,
 *   O(log regions). Nothing is read from or written to guest memory here.
 */

#include <stddef.h>
#include <stdint.h>

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

FQ_END_DECLS

#endif /* FENCEQ_MEM_H */
