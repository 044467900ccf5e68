/* SPDX-License-Identifier: MIT */
#ifndef FQ_ATOMICS_C11_H
#define FQ_ATOMICS_C11_H

/* Back end over C11 <stdatomic.h>. */

#include <stdatomic.h>

#if ATOMIC_LLONG_LOCK_FREE != 2 || ATOMIC_POINTER_LOCK_FREE != 2
#error "fenceq needs lock-free 64-bit atomics"
#endif

typedef struct {
	_Atomic uint64_t v;
} fq_a64;

typedef struct {
	void *_Atomic v;
} fq_aptr;

/* C11 before DR 459 has no load from a const atomic. */
#define FQ_UNCONST(type, p) ((type *)(uintptr_t)(p))

static inline uint64_t fq_load_rlx(const fq_a64 *a)
{
	FQ_STEP();
	return atomic_load_explicit(&FQ_UNCONST(fq_a64, a)->v, memory_order_relaxed);
}

static inline uint64_t fq_load_acq(const fq_a64 *a)
{
	FQ_STEP();
	return atomic_load_explicit(&FQ_UNCONST(fq_a64, a)->v, memory_order_acquire);
}

static inline void fq_store_rlx(fq_a64 *a, uint64_t v)
{
	FQ_STEP();
	atomic_store_explicit(&a->v, v, memory_order_relaxed);
}

static inline void fq_store_rel(fq_a64 *a, uint64_t v)
{
	FQ_STEP();
	atomic_store_explicit(&a->v, v, memory_order_release);
}

static inline bool fq_cas_acqrel(fq_a64 *a, uint64_t *expected, uint64_t desired)
{
	FQ_STEP();
	return atomic_compare_exchange_strong_explicit(&a->v, expected, desired,
						       memory_order_acq_rel, memory_order_acquire);
}

static inline void fq_or_acqrel(fq_a64 *a, uint64_t bits)
{
	FQ_STEP();
	(void)atomic_fetch_or_explicit(&a->v, bits, memory_order_acq_rel);
}

static inline uint64_t fq_add_acqrel(fq_a64 *a, uint64_t n)
{
	FQ_STEP();
	return atomic_fetch_add_explicit(&a->v, n, memory_order_acq_rel);
}

static inline uint64_t fq_add_rel(fq_a64 *a, uint64_t n)
{
	FQ_STEP();
	return atomic_fetch_add_explicit(&a->v, n, memory_order_release);
}

static inline void fq_add_rlx(fq_a64 *a, uint64_t n)
{
	FQ_STEP();
	(void)atomic_fetch_add_explicit(&a->v, n, memory_order_relaxed);
}

static inline uint64_t fq_xchg_acqrel(fq_a64 *a, uint64_t v)
{
	FQ_STEP();
	return atomic_exchange_explicit(&a->v, v, memory_order_acq_rel);
}

static inline void *fq_ptr_load_rlx(const fq_aptr *a)
{
	FQ_STEP();
	return atomic_load_explicit(&FQ_UNCONST(fq_aptr, a)->v, memory_order_relaxed);
}

static inline void *fq_ptr_load_acq(const fq_aptr *a)
{
	FQ_STEP();
	return atomic_load_explicit(&FQ_UNCONST(fq_aptr, a)->v, memory_order_acquire);
}

static inline void fq_ptr_store_rel(fq_aptr *a, void *p)
{
	FQ_STEP();
	atomic_store_explicit(&a->v, p, memory_order_release);
}

static inline bool fq_ptr_cas_acqrel(fq_aptr *a, void **expected, void *desired)
{
	FQ_STEP();
	return atomic_compare_exchange_strong_explicit(&a->v, expected, desired,
						       memory_order_acq_rel, memory_order_acquire);
}

static inline void *fq_ptr_xchg_acqrel(fq_aptr *a, void *p)
{
	FQ_STEP();
	return atomic_exchange_explicit(&a->v, p, memory_order_acq_rel);
}

static inline void fq_full_barrier(void)
{
	FQ_STEP();
	atomic_thread_fence(memory_order_seq_cst);
}

/* Memory shared with somebody who does not run this library (a ring in guest memory). */
#define FQ_SHARED(type, p) FQ_UNCONST(_Atomic type, p)

static inline uint16_t fq_load16_rlx(const uint16_t *p)
{
	FQ_STEP();
	return atomic_load_explicit(FQ_SHARED(uint16_t, p), memory_order_relaxed);
}

static inline uint16_t fq_load16_acq(const uint16_t *p)
{
	FQ_STEP();
	return atomic_load_explicit(FQ_SHARED(uint16_t, p), memory_order_acquire);
}

static inline void fq_store16_rlx(uint16_t *p, uint16_t v)
{
	FQ_STEP();
	atomic_store_explicit(FQ_SHARED(uint16_t, p), v, memory_order_relaxed);
}

static inline void fq_store16_rel(uint16_t *p, uint16_t v)
{
	FQ_STEP();
	atomic_store_explicit(FQ_SHARED(uint16_t, p), v, memory_order_release);
}

static inline uint32_t fq_load32_rlx(const uint32_t *p)
{
	FQ_STEP();
	return atomic_load_explicit(FQ_SHARED(uint32_t, p), memory_order_relaxed);
}

static inline void fq_store32_rlx(uint32_t *p, uint32_t v)
{
	FQ_STEP();
	atomic_store_explicit(FQ_SHARED(uint32_t, p), v, memory_order_relaxed);
}

static inline uint64_t fq_load64_rlx(const uint64_t *p)
{
	FQ_STEP();
	return atomic_load_explicit(FQ_SHARED(uint64_t, p), memory_order_relaxed);
}

#endif /* FQ_ATOMICS_C11_H */
