/* SPDX-License-Identifier: MIT */
#ifndef FQ_ATOMICS_H
#define FQ_ATOMICS_H

/*
 * Every atomic operation of the library. The order is in the name: _rlx, _acq, _rel, _acqrel.
 * fq_full_barrier() is for store->load only.
 *
 * Two back ends, chosen when the library is built: libatomic_ops (the default where AO_t has 64
 * bits) and C11 <stdatomic.h> (FQ_ATOMICS_C11; every other platform, and tools that read C11).
 *
 * FQ_STEP() marks each operation as a place where a test may stop or switch threads; it is nothing
 * outside of the test build (FQ_TEST_STEPS).
 */

#include <stdbool.h>
#include <stdint.h>

#ifdef FQ_TEST_STEPS
extern void (*fq_step_hook)(void);
static inline void fq_step(void)
{
	if (fq_step_hook)
		fq_step_hook();
}
#define FQ_STEP() fq_step()
#else
#define FQ_STEP() ((void)0)
#endif

#if defined(__SANITIZE_THREAD__)
#define FQ_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FQ_TSAN 1
#endif
#endif

#ifdef FQ_ATOMICS_C11
#include "atomics_c11.h"
#else
#include "atomics_ao.h"
#endif

/* A counter that several threads add to; nobody orders anything by it. */
static inline void fq_count(fq_a64 *counter)
{
	fq_add_rlx(counter, 1);
}

/* A counter with one writer (the owner): a plain addition that any thread may read. */
static inline void fq_count_owner(fq_a64 *counter, uint64_t n)
{
	fq_store_rlx(counter, fq_load_rlx(counter) + n);
}

#endif /* FQ_ATOMICS_H */
