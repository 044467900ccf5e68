/* SPDX-License-Identifier: MIT */
#ifndef FENCEQ_QUIESCE_H
#define FENCEQ_QUIESCE_H

/**
 * @file quiesce.h
 * @brief Tell me when everything submitted until now has retired.
 *
 * Overview
 *   Before a snapshot, a migration, the end of a context's renderer or an orderly unplug, a host wants
 *   to know that what it had handed out has come back. A quiesce covers what is pending when it
 *   begins; what is submitted later does not hold it up. It waits for nobody: its callback comes on
 *   the owner at the end of a drain, when the covered responses have been published, or when its
 *   deadline passes, and then fq_device_walk() tells what is still pending.
 *
 * Guarantees
 *   All of it is the owner's and allocates nothing. Several may be under way; they complete in the
 *   order in which they began. Failing, resetting or destroying the device retires what they cover,
 *   and so completes them.
 */

#include <stdbool.h>
#include <stdint.h>

#include <fenceq/base.h>
#include <fenceq/deadline.h>

FQ_BEGIN_DECLS

struct fq_device;
struct fq_quiesce;

/**
 * Runs on the owner, once. @param status 0: all has retired; -ETIMEDOUT: the deadline came first.
 * May begin another one and free the memory of @p quiesce.
 */
typedef void fq_quiesce_fn(struct fq_quiesce *quiesce, int status);

/** Caller memory; zero-initialise it, set `done`. */
struct fq_quiesce {
	fq_quiesce_fn *done;
	uint64_t pending;         /**< fences it waits for that no earlier one waits for */
	struct fq_device *device; /**< the library's from here on; NULL while not under way */
	struct fq_quiesce *next;
	struct fq_deadline deadline;
	uint32_t epoch;
	uint32_t reserved;
};

/**
 * Begins. When nothing is pending `done` is called before this returns. Owner.
 * @param timeout_ns negative: no deadline.
 * @return 0; -EINVAL NULL or no `done`; -EBUSY it is under way; -ENODEV the device is being destroyed.
 */
FQ_API int fq_device_quiesce(struct fq_device *dev, struct fq_quiesce *quiesce, int64_t timeout_ns);

/** Forgets it; `done` is not called. Owner. @return true when it was under way. */
FQ_API bool fq_quiesce_cancel(struct fq_quiesce *quiesce);

FQ_END_DECLS

#endif /* FENCEQ_QUIESCE_H */
