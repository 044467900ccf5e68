/* SPDX-License-Identifier: MIT */
#ifndef FENCEQ_LIFECYCLE_H
#define FENCEQ_LIFECYCLE_H

/**
 * @file lifecycle.h
 * @brief When a device's life is disturbed: reset, failure, unplug, freeze; and what is pending.
 *
 * Overview
 *   Renderers hold work while the guest resets the device, a context dies, the device is unplugged
 *   or the VM suspended. Each call here leaves every fence either pending or retired exactly once,
 *   with a status that says why, and refuses what renderers signal afterwards for an earlier life.
 *   docs/lifecycle.md has the states and what may follow what.
 *
 * Guarantees
 *   All of it is the owner's, also from inside retire and flush callbacks, and waits for nobody:
 *   no renderer can hold up a reset. (fq_device_destroy() waits for posters inside a call;
 *   fq_device_unplug() is the one that does not.) Nothing here allocates.
 *
 *   | function                             | status of what was pending | timelines afterwards    |
 *   |--------------------------------------|----------------------------|-------------------------|
 *   | fq_ring_fail, fq_global_fail         | the host's                 | open anew at next submit |
 *   | fq_context_fail                      | the host's                 | open anew at next submit |
 *   | fq_context_destroy (device.h)        | -ECANCELED                 | gone; the id is free    |
 *   | fq_device_fail                       | the host's                 | open anew at next submit |
 *   | fq_device_reset                      | -ECONNRESET                | gone; ids are free      |
 *   | fq_device_unplug, fq_device_destroy  | -ENODEV                    | gone, handle stale      |
 *
 *   A fence that its timeline's mark covers at that moment retires with 0: its signal was accepted.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <fenceq/base.h>
#include <fenceq/device.h>

FQ_BEGIN_DECLS

/**
 * Fails what is pending on one ring, on one context, on the global timeline, on the whole device:
 * a dead renderer, a lost context. Later signals for it are refused with -ESTALE; new fences may be
 * submitted at once. Owner.
 * @param status negative; what the retire callback is told.
 * @return 0; -EINVAL a status that is not negative, ring_idx > 63, NULL; -ENOENT no such context, or
 *         nothing was ever submitted on that ring.
 */
FQ_API int fq_ring_fail(struct fq_device *dev, uint32_t ctx_id, uint32_t ring_idx, int status);
FQ_API int fq_global_fail(struct fq_device *dev, int status);
FQ_API int fq_context_fail(struct fq_device *dev, uint32_t ctx_id, int status);
FQ_API int fq_device_fail(struct fq_device *dev, int status);

/**
 * The guest has reset the device: everything pending retires with -ECONNRESET, every context ends.
 * The handle stays good; signals for the earlier life are refused (-ENOENT, -ESTALE). Also thaws.
 * Owner. Never waits.
 */
FQ_API int fq_device_reset(struct fq_device *dev);

/**
 * Asks the host to call run(arg) once, later, on a thread that may block, from outside of any
 * liburcu read side. Called on the owner.
 */
typedef void fq_defer_fn(void (*run)(void *arg), void *arg, void *opaque);

/**
 * fq_device_destroy() without the wait: retires everything with -ENODEV, makes the handle stale, and
 * leaves the memory to @p defer, which is called before this returns (from inside a callback: when
 * the outermost drain ends). With @p defer NULL the memory waits for fq_reclaim(), as it does when
 * what @p defer was given finds a reference held (fq_device_get()). The queue cannot be destroyed
 * (-EBUSY) before the memory is freed. Owner.
 * @return 0; -EBUSY the device is being destroyed.
 */
FQ_API int fq_device_unplug(struct fq_device *dev, fq_defer_fn *defer, void *opaque);

/**
 * Frees the devices unplugged without a defer function, once no poster is inside a call on them, and
 * those, however ended, that could not be freed because of a reference; does not wait for references
 * that are still held. Any thread that may block. @return how many were freed.
 */
FQ_API size_t fq_reclaim(void);

/**
 * Stops retiring (suspend, snapshot). Signals are accepted, and a drain still empties the queue, so
 * that a level-triggered loop does not spin; nothing is retired until the thaw, which hands over what
 * was signalled in between, in order. Submit, reset, fail and unplug work as ever. Idempotent. Owner.
 */
FQ_API int fq_device_freeze(struct fq_device *dev);
/** The opposite. What is due is retired by the next drain, for which the owner is woken. */
FQ_API int fq_device_thaw(struct fq_device *dev);
/** True between the two. */
FQ_API bool fq_device_frozen(const struct fq_device *dev);

/** One pending fence, as fq_device_walk() shows it. */
struct fq_pending {
	const struct fq_fence *fence;
	bool global;       /**< else: */
	uint32_t ctx_id;   /**< of its timeline */
	uint32_t ring_idx; /**< of its timeline */
	bool signalled;    /**< the mark covers it: the next drain retires it, unless frozen */
	int64_t age_ns;    /**< since its submit, to the tick of the coarse clock */
};

/** @return false to end the walk. Must not submit, drain or change the device. */
typedef bool fq_walk_fn(const struct fq_pending *pending, void *opaque);

/**
 * Shows every pending fence, those of a timeline in order, the global timeline first. Owner.
 * O(pending + timelines). @return how many were shown.
 */
FQ_API uint64_t fq_device_walk(struct fq_device *dev, fq_walk_fn *fn, void *opaque);

/**
 * The pending fence submitted longest ago: a watchdog's question. O(timelines); submit pays one read
 * of the coarse clock for it. Owner.
 * @return true and *out; false when nothing is pending.
 */
FQ_API bool fq_device_oldest(struct fq_device *dev, struct fq_pending *out);

/** Takes one line of text, without the newline. */
typedef void fq_line_fn(const char *line, void *opaque);

/**
 * Describes the fences pending for @p older_than_ns or more, a line each, for a log. Owner.
 * @return how many there are.
 */
FQ_API uint64_t fq_device_dump(struct fq_device *dev, int64_t older_than_ns, fq_line_fn *line,
			       void *opaque);

FQ_END_DECLS

#endif /* FENCEQ_LIFECYCLE_H */
