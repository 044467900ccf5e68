/* SPDX-License-Identifier: MIT */
#ifndef FENCEQ_BASE_H
#define FENCEQ_BASE_H

/**
 * @file base.h
 * @brief Version and the attributes every other header uses.
 *
 * Conventions of the whole library
 * - A function that can fail returns 0 (or a count) or a negative errno; `bool` answers "did it
 *   happen?". `errno` itself is never read by callers and is left as it was by every function that
 *   may be called on a foreign thread.
 * - **Owner** means the thread that drains a queue. Several threads may take that part if the host
 *   serialises them (a big lock); "owner" below then means "whoever holds that lock".
 * - **Poster** means any thread at all, known to the library or not.
 * - Times are int64_t nanoseconds; a negative time-out means "for ever".
 */

#include <stdint.h>

#define FQ_VERSION_MAJOR 0
#define FQ_VERSION_MINOR 1
#define FQ_VERSION_PATCH 0

#if defined(__GNUC__) || defined(__clang__)
#define FQ_API __attribute__((visibility("default")))
#define FQ_MUST_USE __attribute__((warn_unused_result))
#else
#define FQ_API
#define FQ_MUST_USE
#endif

#ifdef __cplusplus
#define FQ_BEGIN_DECLS extern "C" {
#define FQ_END_DECLS }
#else
#define FQ_BEGIN_DECLS
#define FQ_END_DECLS
#endif

FQ_BEGIN_DECLS

/**
 * A word that several threads change, inside an object of the host's memory: the library's alone.
 * Zero is its initial state.
 */
struct fq_word {
#if defined(__GNUC__) || defined(__clang__)
	__attribute__((aligned(8)))
#endif
	uint64_t opaque;
};

/** Version of the library linked in, as (major << 16 | minor << 8 | patch). Any thread. */
FQ_API unsigned fq_version(void);

FQ_END_DECLS

#endif /* FENCEQ_BASE_H */
