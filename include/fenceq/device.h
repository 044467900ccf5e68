/* SPDX-License-Identifier: MIT */
#ifndef FENCEQ_DEVICE_H
#define FENCEQ_DEVICE_H

/**
 * @file device.h
 * @brief A device: the handle that posters keep, and the timelines behind it.
 *
 * Overview
 *   A device ties the parts together: a queue to be drained on, a table of timelines (one global,
 *   and up to 64 for each context), virtqueues to publish at the end of a drain, and a **handle**:
 *   64 bits that a foreign thread keeps as its opaque `user_data` for as long as it likes. A handle
 *   is never a pointer; one whose device is gone is refused, and touches no freed memory.
 *
 * Usage
 *     fq_device_create(&dev, &config);             the renderer gets fq_device_handle(dev)
 *     fq_submit(dev, ctx, ring, &cmd->fence);      owner, before the work is handed over
 *     renderer_submit(..., cmd->fence.token);      the renderer calls back with the token
 *     fq_signal(handle, ctx, ring, token);         any thread
 *     retire(&cmd->fence, status, opaque);         owner, from fq_queue_drain()
 *
 * Which id does the renderer get?
 *   The token. The guest chooses its fence ids and may choose them twice; a token also tells the
 *   lives of a timeline apart. A host that cannot translate ids uses fq_submit_id() and accepts its
 *   limit: ids must grow along each timeline over the device's whole life, so it creates the device
 *   anew (a new handle) where the guest's driver starts counting again.
 *
 * Guarantees
 *   | function                      | who   | progress            | allocates          | waits for    |
 *   |-------------------------------|-------|---------------------|--------------------|--------------|
 *   | fq_signal and its variants    | any   | lock-free           | never              | nobody       |
 *   | fq_submit and its variants    | owner | wait-free (*)       | first use of a key | nobody       |
 *   | fq_context_create, _destroy   | owner | wait-free (*)       | create             | nobody       |
 *   | fq_device_create              | owner | wait-free (*)       | yes                | nobody       |
 *   | fq_device_destroy             | owner | blocks              | never              | posters (**) |
 *   | fq_device_get                 | any   | lock-free           | never              | nobody       |
 *   | fq_device_put                 | any   | wait-free           | never              | nobody       |
 *   (*) but for the allocator. (**) only those inside a call on this device at that moment.
 *
 *   The library never calls the host on a foreign thread.
 */

#include <stdbool.h>
#include <stdint.h>

#include <fenceq/base.h>
#include <fenceq/timeline.h>

FQ_BEGIN_DECLS

struct fq_device;
struct fq_queue;
struct fq_vring;

/** Names a device, for ever; never 0. Fits a `uintptr_t` on every host. */
typedef uint64_t fq_handle_t;

/** Rings of a context are numbered 0 .. FQ_RINGS - 1 (virtio-gpu's ring_idx). */
#define FQ_RINGS 64u

/**
 * Called on the owner from a drain (or from the call that fails the fence): the fence is complete.
 * @param status 0, or the reason why it never will be: -ECANCELED its context was destroyed,
 *               -ENODEV its device, -ECONNRESET the device was reset, or what the host failed it
 *               with (fenceq/lifecycle.h).
 * The fence is the host's again. May submit, signal, drain, and end or destroy anything, the device
 * included.
 */
typedef void fq_retire_fn(struct fq_fence *fence, int status, void *opaque);

/**
 * Called on the owner at the end of a drain that retired fences of the device, before its
 * virtqueues are published; for hosts whose virtqueues are their own: publish and notify here.
 */
typedef void fq_flush_fn(void *opaque);

/**
 * Called when the memory of a device goes, which nobody can reach any more, by the thread that frees
 * it: the owner's in fq_device_destroy(), else the one in fq_reclaim() or what the defer function was
 * given; these may free others that wait for fq_reclaim(), too. The place to free what `opaque` points
 * to, if fq_device_get() is used.
 */
typedef void fq_release_fn(void *opaque);

/** Zero-initialise, then set what you need. */
struct fq_device_config {
	struct fq_queue *queue; /**< where completions are drained; outlives the device */
	fq_retire_fn *retire;   /**< required */
	fq_flush_fn *flush;     /**< may be NULL */
	fq_release_fn *release; /**< may be NULL */
	void *opaque;           /**< passed to all of them */
	uint32_t max_contexts;  /**< alive at one time; 0: 65536 */
	uint32_t reserved[7];   /**< 0 */
};

/**
 * Creates a device on a queue. Owner.
 * @return 0; -EINVAL NULL or bad configuration; -ENOMEM; -ENFILE no free handle (1024 devices).
 */
FQ_API FQ_MUST_USE int fq_device_create(struct fq_device **out,
					const struct fq_device_config *config);

/**
 * Retires every pending fence (those the mark covers with 0, the others with -ENODEV), publishes the
 * attached vrings a last time, makes the handle stale, waits until no poster is inside a call on it,
 * and frees the device (from inside a callback: when the outermost drain ends). Owner, from outside
 * of any liburcu read side. NULL is allowed. fq_device_unplug() is the same without the wait.
 *
 * It does not wait for references, whose holder may be waiting for the owner.
 * @return 0; -EBUSY it is being destroyed already; -EINPROGRESS it has ended as above, but somebody
 *         holds a reference (fq_device_get()): the memory is left to fq_reclaim().
 */
FQ_API int fq_device_destroy(struct fq_device *dev);

/**
 * Finds the device of a handle and keeps it, and so what its `opaque` points to, in memory until
 * fq_device_put(), although it may be unplugged meanwhile: the road of a vCPU that accesses a
 * register (fenceq/gate.h). Any thread.
 *
 * A reference keeps memory, nothing else: the owner's calls are still the owner's. Once the device
 * has ended (fq_device_ended()) only fq_device_opaque() and fq_device_put() may be used.
 * @return 0 and *out; -EINVAL NULL or not a handle; -ENODEV the device is gone, or ending.
 */
FQ_API FQ_MUST_USE int fq_device_get(fq_handle_t handle, struct fq_device **out);

/**
 * Gives a reference back; the last access to the device by its holder. Frees nothing, calls nobody:
 * what has ended is freed by fq_reclaim(), or what the defer function was given. Any thread.
 * @return true: it was the last reference of a device that has ended, whose memory may be waiting for
 *         fq_reclaim(): have that called, by a thread that may block.
 */
FQ_API bool fq_device_put(struct fq_device *dev);

/** What the host put into the device's configuration. Any thread with a reference, and the owner. */
FQ_API void *fq_device_opaque(const struct fq_device *dev);

/**
 * True from when fq_device_unplug() or fq_device_destroy() began. Any thread with a reference. Exact
 * inside a gate that the owner unplugs in; else a hint.
 */
FQ_API bool fq_device_ended(const struct fq_device *dev);

/** The handle to give to posters. Any thread that knows the device to be alive. */
FQ_API fq_handle_t fq_device_handle(const struct fq_device *dev);

/**
 * Creates a context ahead of its first submit. Owner.
 * @return 0; -EEXIST; -ENOSPC max_contexts are alive; -ENOMEM.
 */
FQ_API int fq_context_create(struct fq_device *dev, uint32_t ctx_id);

/**
 * Retires what is pending in a context (as fq_device_destroy() does) and closes it; its id may be
 * used again at once, and signals of its earlier life are refused. Owner.
 * @return 0; -ENOENT no such context.
 */
FQ_API int fq_context_destroy(struct fq_device *dev, uint32_t ctx_id);

/**
 * Records a fence on a ring of a context and sets fence->token. Owner, **before** the work is handed
 * to the renderer. Creates the context and the timeline when they are new.
 * @return 0; -EINVAL NULL or ring_idx > 63; -EBUSY the fence is already pending; -ENOSPC, -ENOMEM
 *         for a new context or timeline; -EOVERFLOW no token below 2^62 is left. On failure nothing
 *         was recorded: answer the guest yourself.
 */
FQ_API FQ_MUST_USE int fq_submit(struct fq_device *dev, uint32_t ctx_id, uint32_t ring_idx,
				 struct fq_fence *fence);

/** The same on the device's global timeline, which is no context's ring 0. */
FQ_API FQ_MUST_USE int fq_submit_global(struct fq_device *dev, struct fq_fence *fence);

/**
 * fq_submit() with an id of the host's choice as the token (see "Which id does the renderer get?").
 * @return as fq_submit(); -ERANGE when @p id is 0, not above every token of this timeline (of its
 *         earlier lives too), or above FQ_TOKEN_MAX.
 */
FQ_API FQ_MUST_USE int fq_submit_id(struct fq_device *dev, uint32_t ctx_id, uint32_t ring_idx,
				    struct fq_fence *fence, uint64_t id);

/** The same on the device's global timeline. */
FQ_API FQ_MUST_USE int fq_submit_global_id(struct fq_device *dev, struct fq_fence *fence,
					   uint64_t id);

/**
 * Everything up to @p token on this ring is complete. Any thread, also from inside submit, known to
 * the library or not. See fq_timeline_signal() for what it asserts and orders.
 *
 * @return 0 (also when an equal or later signal came first);
 *         -EINVAL not a handle, ring_idx > 63, or token 0;
 *         -ENODEV the device of the handle is gone;
 *         -ENOENT no such context, or nothing was ever submitted on that ring;
 *         -ERANGE a token above the highest submitted;
 *         -ESTALE a token of an earlier life of the timeline, or nothing was submitted since it was
 *         failed.
 *         A refused signal changes nothing and is counted: with the device where there is one
 *         (struct fq_device_stats), else for the process (struct fq_process_stats).
 */
FQ_API int fq_signal(fq_handle_t handle, uint32_t ctx_id, uint32_t ring_idx, uint64_t token);

/** The same on the device's global timeline. */
FQ_API int fq_signal_global(fq_handle_t handle, uint64_t token);

/**
 * fq_signal() for callbacks that carry 32 bits: @p token is the low half of the token, widened to
 * the highest submitted one that ends in it. Right as long as fewer than 2^32 fences lie between.
 * @return as fq_signal(); 0 on a ring that has no token ending in 32 zero bits is -EINVAL.
 */
FQ_API int fq_signal32(fq_handle_t handle, uint32_t ctx_id, uint32_t ring_idx, uint32_t token);

/** The same on the device's global timeline (virglrenderer's write_fence). */
FQ_API int fq_signal_global32(fq_handle_t handle, uint32_t token);

/**
 * The timeline of a ring, created when it is new: for posters that signal it often and know the
 * device to be alive. Valid until fq_device_destroy() is called, also across the end of its context
 * (signals are then refused). Owner.
 * @return 0; errors as fq_submit().
 */
FQ_API FQ_MUST_USE int fq_device_timeline(struct fq_device *dev, uint32_t ctx_id, uint32_t ring_idx,
					  struct fq_timeline **out);

/** The device's global timeline. Never NULL. Any thread that knows the device to be alive. */
FQ_API struct fq_timeline *fq_device_global(struct fq_device *dev);

/** Fences submitted and not retired, over all timelines. Owner. */
FQ_API uint64_t fq_device_pending(const struct fq_device *dev);

/**
 * Adds a virtqueue that each drain which retires fences of the device publishes once, at its end.
 * Owner. The host keeps the vring alive until it is detached or the device destroyed.
 * @return 0; -EINVAL NULL; -EEXIST; -ENOMEM.
 */
FQ_API int fq_device_attach_vring(struct fq_device *dev, struct fq_vring *vr);

/** Takes it off again, unpublished. Owner. @return 0; -ENOENT. */
FQ_API int fq_device_detach_vring(struct fq_device *dev, struct fq_vring *vr);

FQ_END_DECLS

#endif /* FENCEQ_DEVICE_H */
