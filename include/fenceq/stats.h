/* SPDX-License-Identifier: MIT */
#ifndef FENCEQ_STATS_H
#define FENCEQ_STATS_H

/**
 * @file stats.h
 * @brief Counters of every part.
 *
 * Guarantees
 *   A snapshot may be taken by any thread that knows the object to be alive, at any time, without
 *   stopping anybody: wait-free, no system call. Each counter is exact and never goes back; counters
 *   of one snapshot may be a few events apart. A successful post counts nothing (that would be an
 *   atomic operation on its hot path): what was posted is what the owner ran and retired.
 */

#include <stdint.h>

#include <fenceq/base.h>

FQ_BEGIN_DECLS

struct fq_device;
struct fq_pool;
struct fq_queue;
struct fq_vring;

struct fq_queue_stats {
	uint64_t completions;  /**< nodes run and fences retired by drains */
	uint64_t drains;       /**< drains and polls */
	uint64_t empty_drains; /**< of those: found nothing (spurious wake-ups, idle polls) */
	uint64_t budget_stops; /**< of those: left work behind at their budget */
	uint64_t arms;         /**< times the queue was armed */
	uint64_t
		notifier_writes; /**< writes to the fd, by posters and by the owner for leftovers */
	uint64_t notifier_clears; /**< reads of the fd that found it readable */
	uint64_t reserved[9];
};

struct fq_device_stats {
	uint64_t submitted;       /**< fences recorded */
	uint64_t retired;         /**< fences handed back, with whatever status */
	uint64_t failed;          /**< of those: with a status other than 0 */
	uint64_t pending;         /**< submitted - retired */
	uint64_t contexts;        /**< alive now */
	uint64_t timelines;       /**< alive now, the global one included */
	uint64_t batches;         /**< drains that retired at least one fence */
	uint64_t refused_unknown; /**< signals: -ENOENT */
	uint64_t refused_invalid; /**< signals: -EINVAL (ring_idx, token 0) */
	uint64_t refused_range;   /**< signals: -ERANGE */
	uint64_t refused_stale;   /**< signals: -ESTALE */
	uint64_t submit_errors;   /**< submits that failed */
	uint64_t reserved[12];
};

struct fq_vring_stats {
	uint64_t popped;      /**< chains taken */
	uint64_t put;         /**< chains given back */
	uint64_t publishes;   /**< index updates */
	uint64_t interrupts;  /**< raised */
	uint64_t suppressed;  /**< publishes the driver wanted no interrupt for */
	uint64_t call_errors; /**< writes to the call fd that failed (a full counter is none) */
	uint64_t errors;      /**< malformed chains and refused puts */
	uint64_t broken;      /**< 1 when the ring is marked broken */
	uint64_t reserved[8];
};

struct fq_pool_stats {
	uint64_t workers;     /**< there now, the steward not counted */
	uint64_t idle;        /**< of those: waiting for work */
	uint64_t peak;        /**< most workers there have been */
	uint64_t submitted;   /**< works accepted */
	uint64_t started;     /**< works whose run was called */
	uint64_t completed;   /**< of those: run has returned */
	uint64_t cancelled;   /**< works that completed without a run */
	uint64_t hire_errors; /**< threads that the system refused */
	uint64_t reserved[8];
};

/** What no device can be charged with. */
struct fq_process_stats {
	uint64_t refused_handle; /**< signals: -EINVAL, not a handle */
	uint64_t refused_gone;   /**< signals: -ENODEV, the device is gone */
	uint64_t reserved[6];
};

FQ_API void fq_queue_get_stats(const struct fq_queue *q, struct fq_queue_stats *out);
FQ_API void fq_device_get_stats(const struct fq_device *dev, struct fq_device_stats *out);
FQ_API void fq_pool_get_stats(const struct fq_pool *pool, struct fq_pool_stats *out);
FQ_API void fq_vring_get_stats(const struct fq_vring *vr, struct fq_vring_stats *out);
FQ_API void fq_process_get_stats(struct fq_process_stats *out);

FQ_END_DECLS

#endif /* FENCEQ_STATS_H */
