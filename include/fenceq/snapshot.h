/* SPDX-License-Identifier: MIT */
#ifndef FENCEQ_SNAPSHOT_H
#define FENCEQ_SNAPSHOT_H

/**
 * @file snapshot.h
 * @brief What is pending in a frozen device, as bytes, and a device made of them elsewhere.
 *
 * Overview
 *   A snapshot holds everything by which a device and its renderers know each other: the contexts,
 *   their timelines with base, mark and highest token, and every pending fence with its token, the
 *   guest's fence id and 64 bits of the host's. A device that has loaded it takes the same signals:
 *   **tokens survive**, so a renderer that comes along (with its state, in the same or in another
 *   process) goes on with the ids it holds, through the new device's handle.
 *
 * Usage
 *     fq_device_freeze(dev);                        nothing is retired from here on
 *     stop the renderers, or wait for their fences
 *     need = fq_device_save(dev, tag, host, NULL, 0);
 *     fq_device_save(dev, tag, host, buf, need);
 *
 *     fq_device_create(&dev, &config);              another process
 *     fq_device_load(dev, buf, need, make, unmake, host);
 *     hand fq_device_handle(dev) to the renderers
 *     fq_device_thaw(dev);                          retires what was signalled before the save
 *
 *   A signal accepted before the save is in the snapshot, one that comes later dies with the process;
 *   one that races with it is either, whole. That is why the renderers stop between freeze and save:
 *   what they completed afterwards they have to signal again, to the new device. Everything a poster
 *   wrote before a signal that is in the snapshot is visible to the owner when save returns.
 *
 * Guarantees
 *   | function       | who   | progress        | allocates           | calls                   |
 *   |----------------|-------|-----------------|---------------------|-------------------------|
 *   | fq_device_save | owner | wait-free       | never               | tag, once for each fence |
 *   | fq_device_load | owner | wait-free (*)   | contexts, timelines | make, once for each fence |
 *   (*) but for the allocator. Both wait for nobody; posters go on signalling meanwhile.
 *
 *   The bytes are an input like any other: whatever they are, load reads nothing outside of them,
 *   and either refuses them and leaves the device as it was, or makes a device that, saved again,
 *   gives the same bytes. It allocates in proportion to the timelines in them, for no more than
 *   max_contexts contexts. They must not change during the call: copy what a guest can write to.
 *
 * Notes
 *   Not in a snapshot: counters (they begin anew, with what is pending as submitted), ages (they
 *   count from the load), virtqueues, quiesces and other deadlines; fences whose retire callback is
 *   running, or will be called by a fail, destroy or reset that save was called from inside of.
 *
 *   Bytes, all integers little-endian, nothing between or after them:
 *
 *     header    "fenceq\r\n"  u32 version (1)  u32 contexts  u64 size (all of it)  u64 high
 *     then      the global timeline, and for each context, by growing id:
 *     context   u32 ctx_id  u32 timelines, that many of which follow, by growing ring
 *     timeline  u32 ring (global: 0)  u32 open (0 or 1)  u64 base  u64 mark  u64 submitted
 *               u64 fences, that many of which follow, by growing token
 *     fence     u64 token  u64 fence_id  u64 tag
 *
 *   high: no token of a timeline that was ever closed is above it; a new one starts there.
 *   What holds: base <= mark <= submitted <= FQ_TOKEN_MAX; base <= high <= FQ_TOKEN_MAX; tokens are
 *   above base; the last one is submitted; where there is none, an open timeline's mark is submitted.
 *   A timeline that is not open was failed and not used since: no fences, submitted <= high.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <fenceq/base.h>
#include <fenceq/device.h>

FQ_BEGIN_DECLS

/** The version that fq_device_save() writes. */
#define FQ_SNAPSHOT_VERSION 1u

/** What the new process shall know of @p fence besides its fence id. Must not change the device. */
typedef uint64_t fq_tag_fn(const struct fq_fence *fence, void *opaque);

/**
 * Writes a snapshot if it fits; nothing otherwise. Frozen, and left alone by its owner, a device has
 * the same size from one call to the next. Owner, also from inside a callback.
 * @param tag NULL: all tags are 0.
 * @param buf may be NULL when @p size is 0.
 * @return the bytes it takes, which is more than @p size when nothing was written; -EINVAL NULL;
 *         -ENODEV the device is being destroyed; -EBUSY it is not frozen, so it could retire what the
 *         snapshot shows as pending.
 */
FQ_API int64_t fq_device_save(struct fq_device *dev, fq_tag_fn *tag, void *opaque, void *buf,
			      size_t size);

/** One fence of a snapshot, as fq_device_load() shows it. */
struct fq_saved_fence {
	uint64_t token;    /**< what its renderer will signal */
	uint64_t fence_id; /**< the guest's */
	uint64_t tag;      /**< the host's */
	bool global;       /**< else: */
	uint32_t ctx_id;   /**< of its timeline */
	uint32_t ring_idx; /**< of its timeline */
	bool signalled;    /**< retires at the thaw */
};

/**
 * The host's fence for a saved one: not pending, like one to be submitted; the library sets its
 * token and fence_id. Called for the fences of a timeline in order, the global timeline first. Must
 * not submit, drain or change the device, which shows nothing of the snapshot yet.
 * @return NULL to refuse: load ends with -ECANCELED.
 */
typedef struct fq_fence *fq_make_fn(const struct fq_saved_fence *saved, void *opaque);

/** The load has failed after all; the fence is the host's again, as it was made. No status, no answer
 * to the guest. */
typedef void fq_unmake_fn(struct fq_fence *fence, void *opaque);

/**
 * Makes @p dev what the saved device was. It is left frozen: thaw it when you are ready to retire
 * what was signalled. The device must be new: nothing was submitted to it, no context is alive (one
 * that has had a life could not tell its renderers' tokens from those of the snapshot: destroy it,
 * and load into another). Owner; a poster that has the handle already is refused until the end.
 *
 * Every fence made is handed back to @p unmake, in the order of their making, when the load fails;
 * @p unmake may be NULL for a host that keeps track of them itself.
 *
 * @return 0; -EINVAL NULL, or not a snapshot, or one that no device could have written; -ENOTSUP one
 *         of another version; -ENODEV the device is being destroyed; -EBUSY it is not new, or a fence
 *         made is pending already; -ENOSPC more contexts than its max_contexts; -ENOMEM; -ECANCELED
 *         @p make refused. The device is as it was then, and may load another snapshot.
 */
FQ_API FQ_MUST_USE int fq_device_load(struct fq_device *dev, const void *buf, size_t size,
				      fq_make_fn *make, fq_unmake_fn *unmake, void *opaque);

FQ_END_DECLS

#endif /* FENCEQ_SNAPSHOT_H */
