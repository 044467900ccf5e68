/* SPDX-License-Identifier: MIT */
#ifndef FQ_ATOMICS_AO_H
#define FQ_ATOMICS_AO_H

/* Back end over libatomic_ops (and liburcu's exchange, which libatomic_ops 7.6 does not have). */

#define AO_REQUIRE_CAS
#include <atomic_ops.h>
#include <urcu/uatomic.h>

_Static_assert(sizeof(AO_t) == 8, "build with FQ_ATOMICS_C11 where AO_t is not 64 bits wide");

typedef struct {
	AO_t v;
} fq_a64;

typedef struct {
	AO_t v;
} fq_aptr;

static inline uint64_t fq_load_rlx(const fq_a64 *a)
{
	FQ_STEP();
	return AO_load(&a->v);
}

static inline uint64_t fq_load_acq(const fq_a64 *a)
{
	FQ_STEP();
	return AO_load_acquire(&a->v);
}

static inline void fq_store_rlx(fq_a64 *a, uint64_t v)
{
	FQ_STEP();
	AO_store(&a->v, v);
}

static inline void fq_store_rel(fq_a64 *a, uint64_t v)
{
	FQ_STEP();
	AO_store_release(&a->v, v);
}

/* On failure *expected is what was found. Never fails spuriously. */
static inline bool fq_cas_acqrel(fq_a64 *a, uint64_t *expected, uint64_t desired)
{
	FQ_STEP();
	AO_t found = AO_fetch_compare_and_swap_full(&a->v, *expected, desired);
	bool done = found == *expected;

	*expected = found;
	return done;
}

static inline void fq_or_acqrel(fq_a64 *a, uint64_t bits)
{
	FQ_STEP();
	AO_or_full(&a->v, bits);
}

static inline uint64_t fq_add_acqrel(fq_a64 *a, uint64_t n)
{
	FQ_STEP();
	return AO_fetch_and_add_full(&a->v, n);
}

static inline uint64_t fq_add_rel(fq_a64 *a, uint64_t n)
{
	FQ_STEP();
	return AO_fetch_and_add_release(&a->v, n);
}

static inline void fq_add_rlx(fq_a64 *a, uint64_t n)
{
	FQ_STEP();
	(void)AO_fetch_and_add(&a->v, n);
}

/* liburcu's exchange is inline assembly, which ThreadSanitizer cannot see. */
static inline AO_t fq_exchange_word(volatile AO_t *a, AO_t v)
{
	FQ_STEP();
#ifdef FQ_TSAN
	return __atomic_exchange_n(a, v, __ATOMIC_ACQ_REL);
#else
	return uatomic_xchg((AO_t *)a, v);
#endif
}

static inline uint64_t fq_xchg_acqrel(fq_a64 *a, uint64_t v)
{
	return fq_exchange_word(&a->v, v);
}

static inline void *fq_ptr_load_rlx(const fq_aptr *a)
{
	FQ_STEP();
	return (void *)AO_load(&a->v);
}

static inline void *fq_ptr_load_acq(const fq_aptr *a)
{
	FQ_STEP();
	return (void *)AO_load_acquire(&a->v);
}

static inline void fq_ptr_store_rel(fq_aptr *a, void *p)
{
	FQ_STEP();
	AO_store_release(&a->v, (AO_t)p);
}

static inline bool fq_ptr_cas_acqrel(fq_aptr *a, void **expected, void *desired)
{
	FQ_STEP();
	AO_t found = AO_fetch_compare_and_swap_full(&a->v, (AO_t)*expected, (AO_t)desired);
	bool done = found == (AO_t)*expected;

	*expected = (void *)found;
	return done;
}

static inline void *fq_ptr_xchg_acqrel(fq_aptr *a, void *p)
{
	return (void *)fq_exchange_word(&a->v, (AO_t)p);
}

static inline void fq_full_barrier(void)
{
	FQ_STEP();
	AO_nop_full();
}

/* Memory shared with somebody who does not run this library (a ring in guest memory). */
static inline uint16_t fq_load16_rlx(const uint16_t *p)
{
	FQ_STEP();
	return AO_short_load(p);
}

static inline uint16_t fq_load16_acq(const uint16_t *p)
{
	FQ_STEP();
	return AO_short_load_acquire(p);
}

static inline void fq_store16_rlx(uint16_t *p, uint16_t v)
{
	FQ_STEP();
	AO_short_store(p, v);
}

static inline void fq_store16_rel(uint16_t *p, uint16_t v)
{
	FQ_STEP();
	AO_short_store_release(p, v);
}

static inline uint32_t fq_load32_rlx(const uint32_t *p)
{
	FQ_STEP();
	return AO_int_load(p);
}

static inline void fq_store32_rlx(uint32_t *p, uint32_t v)
{
	FQ_STEP();
	AO_int_store(p, v);
}

static inline uint64_t fq_load64_rlx(const uint64_t *p)
{
	FQ_STEP();
	return AO_load((const AO_t *)p);
}

#endif /* FQ_ATOMICS_AO_H */
