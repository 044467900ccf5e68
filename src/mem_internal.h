/* SPDX-License-Identifier: MIT */
#ifndef FQ_MEM_INTERNAL_H
#define FQ_MEM_INTERNAL_H

#include <fenceq/mem.h>

#include "atomics.h"

/*
 * The dirty log. Two bitmaps, of which bit 32 of the word says which one is in use: whoever marks pages
 * counts himself in that very word, so whoever is not counted came after the last change.
 *
 *   bits 0 .. 30   threads that are marking
 *   bit 31         there is a log
 *   bits 32 ..     changes; the lowest of them is the bitmap in use
 *
 *   off  -> on    fq_mem_set_log(bitmap): bitmap filled in, then the word
 *   on   -> on    the same with another one; on -> off with none
 *   The bitmap not in use is written only when the count was 0 at some time since the last change, or
 *   there was no log before that. The count never goes below 0, and changes never back.
 */
#define FQ_LOG_COUNT UINT64_C(0x7fffffff)
#define FQ_LOG_ON (UINT64_C(1) << 31)
#define FQ_LOG_CHANGE (UINT64_C(1) << 32)

struct fq_log_bitmap {
	fq_a64 *words;
	uint64_t count;
};

struct fq_log {
	fq_a64 word;
	bool clean; /* nobody can be marking in the bitmap that is not in use */
	struct fq_log_bitmap bitmap[2];
};

struct fq_mem {
	size_t count;
	struct fq_log *log;
	struct fq_mem_region regions[]; /* by gpa, disjoint */
};

/* To be asked behind a full barrier behind what may have to be marked. */
static inline bool fq_mem_is_logged(const struct fq_mem *mem)
{
	return fq_load_rlx(&mem->log->word) & FQ_LOG_ON;
}

#endif /* FQ_MEM_INTERNAL_H */
