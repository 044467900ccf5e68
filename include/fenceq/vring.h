/* SPDX-License-Identifier: MIT */
#ifndef FENCEQ_VRING_H
#define FENCEQ_VRING_H

/**
 * @file vring.h
 * @brief Virtqueue, device side: read chains, put used elements, publish once.
 *
 * Overview
 *   A vring is the device's half of a virtqueue in guest memory, split or packed (virtio 1.2, 2.7 and
 *   2.8). The owner pops chains, keeps each chain's `fq_vring_buf` with the command, and puts it back
 *   when the command completes, in any order. fq_vring_publish() then shows all that was put at once
 *   and raises at most one interrupt; a device does that for the vrings attached to it at the end of
 *   each drain. Which layout it is, is said in the configuration and nowhere else.
 *
 * Usage
 *     disable_kick; while (pop == 1) hand out the command; if (enable_kick) again; else wait
 *     when a command is complete: put; at the end of a batch: publish
 *
 * Guarantees
 *   Everything here is for one thread at a time (the owner), wait-free and free of allocation after
 *   create. fq_vring_publish() makes one write to the call fd when it interrupts; create and
 *   fq_vring_set_call() look at the call fd once; nothing else makes a system call.
 *
 *   - Used elements are written before the index (split) or the first one's flags (packed) that show
 *     them (release); the driver's suppression is read after a full barrier, so a driver that enables
 *     interrupts and looks again misses none.
 *   - Ring memory is hostile: every field is read once, checked, and bounded. Nothing the guest
 *     writes makes the library read or write outside guest memory, loop without bound, or abort. A
 *     malformed ring is marked broken: the pop that finds it returns the reason, pops and publishes
 *     return -EIO from then on, other rings go on. What is in flight there may still be put; nobody
 *     is shown it.
 *   - A chain belongs to the device until the publish after its put. A driver that offers it again
 *     before that has a malformed ring.
 *   - With IN_ORDER chains are used in the order in which they were popped, whatever the order of the
 *     puts: what is put before its turn stays hidden until then, so one command that is never
 *     completed hides all later ones. A device with several timelines does not offer IN_ORDER.
 *
 * Notes
 *   Virtio 1.x only (VIRTIO_F_VERSION_1): all fields little-endian. docs/virtqueue.md has the
 *   layouts, the barriers, and what is defended against.
 *
 *   The call fd stays the host's and is best an eventfd with EFD_NONBLOCK. A write to it is no
 *   cancellation point, leaves errno alone, and raises no SIGPIPE (pipes and sockets cost some system
 *   calls more for that). One without O_NONBLOCK when it was set is polled before each write and
 *   left alone while full, for then it is readable already; only somebody else who fills it between
 *   the two can make the owner wait. One that fails is counted (call_errors) and not tried again
 *   before the next interrupt.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <fenceq/base.h>

FQ_BEGIN_DECLS

struct fq_mem;
struct fq_vring;

/** VIRTIO_F_INDIRECT_DESC was negotiated. */
#define FQ_VRING_INDIRECT 1u
/** VIRTIO_F_EVENT_IDX was negotiated. */
#define FQ_VRING_EVENT_IDX 2u
/** VIRTIO_F_RING_PACKED was negotiated. */
#define FQ_VRING_PACKED 4u
/** VIRTIO_F_IN_ORDER was negotiated. */
#define FQ_VRING_IN_ORDER 8u
/**
 * Only with IN_ORDER, and no feature of virtio: one used element may stand for several chains, all but
 * the last of which had every writable byte written. The specification allows it, and it is cheaper for
 * both sides; but some drivers that negotiate IN_ORDER read an element for each chain (receive paths,
 * for its length), so the host says whether its driver can do with less.
 */
#define FQ_VRING_BATCH 16u

/** Largest queue size of the specification. */
#define FQ_VRING_SIZE_MAX 32768u
/** Most descriptors of a chain that can be allowed, and how many are if nobody says. */
#define FQ_VRING_CHAIN_MAX 65536u
#define FQ_VRING_CHAIN_DEFAULT 32768u

/** fq_vring_config_base() of a packed ring that is new: both at offset 0 with a wrap counter of 1. */
#define FQ_VRING_PACKED_BASE 0x80008000u

/** Called instead of writing a call fd: inject the interrupt. Runs where publish runs. */
typedef void fq_vring_interrupt_fn(void *opaque);

/** Zero-initialise, then set what you need. Addresses are guest-physical. */
struct fq_vring_config {
	const struct fq_mem *mem;         /**< outlives the vring */
	uint64_t desc;                    /**< descriptor table or ring, 16-byte aligned */
	uint64_t driver;                  /**< available ring, 2-byte aligned; packed: 4 bytes of
					       driver event suppression, 4-byte aligned */
	uint64_t device;                  /**< used ring; packed: 4 bytes of device event
					       suppression; 4-byte aligned */
	uint32_t size;                    /**< entries; split: a power of two */
	uint32_t features;                /**< FQ_VRING_* */
	fq_vring_interrupt_fn *interrupt; /**< NULL: the call fd is written */
	void *opaque;                     /**< passed to interrupt */
	int call_fd;                      /**< the host's; negative: none yet (0 counts as an fd) */
	uint16_t avail_idx;               /**< where to read next: fq_vring_config_base() */
	uint16_t used_idx;                /**< where to write next: the same */
	uint32_t max_chain;               /**< descriptors in a chain; 0: FQ_VRING_CHAIN_DEFAULT */
	uint32_t reserved[5];             /**< 0 */
};

/** What a command keeps of its chain until fq_vring_put(). Opaque; copy it freely. */
struct fq_vring_buf {
	uint16_t id;
	uint16_t tag; /**< tells this pop from others of the same id */
};

/**
 * One chain. The caller sets `iov` and `iov_max`; pop sets the rest. Device-readable pieces come
 * first. The memory the pieces point to is the guest's and may change at any time: read once.
 */
struct fq_vring_chain {
	struct iovec *iov;     /**< in: where to store the pieces */
	uint32_t iov_max;      /**< in: how many fit */
	uint32_t readable;     /**< pieces the device may read: iov[0 .. readable - 1] */
	uint32_t writable;     /**< pieces the device may write: the ones after */
	uint64_t readable_len; /**< their bytes */
	uint64_t writable_len;
	struct fq_vring_buf buf; /**< what to put when the command is complete */
};

/**
 * Sets `avail_idx` and `used_idx`, after `features`, `mem` and `device`, to what vhost-user's
 * SET_VRING_BASE says. Split: the next available index (0 for a new ring); the used index is read from
 * the ring, as other backends do. Packed: the available offset in bits 0 to 14, its wrap counter in
 * bit 15, and the same for used in bits 16 to 31 (FQ_VRING_PACKED_BASE for a new ring; a packed ring
 * at 0 is one in the middle of its life, not a new one).
 * @return 0; -EINVAL NULL, or a used ring that is misaligned; -EFAULT one outside guest memory. What
 *         makes no sense in a packed ring is for fq_vring_create() to refuse.
 */
FQ_API int fq_vring_config_base(struct fq_vring_config *config, uint32_t base);

/**
 * Creates the device side of a ring. The addresses are translated and checked here, once; each part
 * must lie in one region.
 * @return 0; -EINVAL NULL, a size that is 0, above 32768 or (split) no power of two, a max_chain above
 *         FQ_VRING_CHAIN_MAX, unknown features, BATCH without IN_ORDER, a reserved field that is not
 *         0, a misaligned address (in guest memory or here), or (packed) an index outside the ring or
 *         a used one more than a ring's size behind the available one; -EFAULT a ring part outside
 *         guest memory; -ENOMEM. *out is NULL then.
 */
FQ_API FQ_MUST_USE int fq_vring_create(struct fq_vring **out, const struct fq_vring_config *config);

/** Frees it; what was put and not published stays hidden. NULL is allowed. */
FQ_API void fq_vring_destroy(struct fq_vring *vr);

/**
 * Takes the next available chain. A descriptor of length 0 makes no piece, one that crosses memory
 * regions several.
 * @return 1; 0 nothing available; -EINVAL NULL; -EIO the ring was found broken before.
 *
 *         -E2BIG the pieces do not fit `iov_max`: nothing taken, the ring is fine, try with more:
 *         `readable + writable` is what it takes, unless the guest changes it meanwhile.
 *
 *         The ring is malformed, and broken from here on: -EPROTO the driver offered what is not its
 *         to offer: an available index that jumped by more than the ring's size, more descriptors
 *         than the ring has, a head or id that is out of range, or in flight, or put and not
 *         published; -ELOOP a chain that never ends or is too long: of more descriptors in the ring
 *         than that has (packed: than are the driver's), in an indirect table than that has, or in
 *         all than `max_chain` (the one that points to a table not counted); -EBADMSG a malformed
 *         descriptor: readable after writable; more than 2^32 bytes in the chain; a next out of range, or (packed) not made available;
 *         INDIRECT that is nested (split; in a packed ring's table it means nothing), not negotiated,
 *         combined with NEXT, after another descriptor (packed), or whose length is 0 or no multiple
 *         of 16; -EFAULT an address outside guest memory.
 */
FQ_API FQ_MUST_USE int fq_vring_pop(struct fq_vring *vr, struct fq_vring_chain *chain);

/**
 * Writes the used element of a chain; the driver does not see it before fq_vring_publish(). With
 * IN_ORDER it is only written once those before it are.
 * @param len bytes the device wrote to the chain's writable part.
 * @return 0; -EINVAL for a buffer that is not in flight here (twice put, never popped), or NULL.
 */
FQ_API int fq_vring_put(struct fq_vring *vr, struct fq_vring_buf buf, uint32_t len);

/**
 * Shows everything put since the last call to the driver and interrupts it once, if it wants that.
 * With EVENT_IDX the first one that shows something always interrupts (packed: unless the driver wants
 * none at all): nobody knows what the driver has been told before the vring was created.
 * @return 1 interrupted; 0 nothing to show, the driver wanted no interrupt, or there is no call fd or
 *         one that fails; -EIO broken ring; -EINVAL NULL.
 */
FQ_API int fq_vring_publish(struct fq_vring *vr);

/**
 * Asks the driver not to kick: called while the owner is reading chains anyway. A hint; a kick may
 * come all the same.
 */
FQ_API void fq_vring_disable_kick(struct fq_vring *vr);

/**
 * Asks for a kick with the next chain, then looks again (full barrier between the two). Call it
 * before each wait for a kick, the first included: with EVENT_IDX the driver kicks once per call, and
 * a restored ring may have been left with kicks off.
 * @return true when chains are available: read them instead of waiting for a kick. False for a broken
 *         ring, which has nothing to wait for either.
 */
FQ_API FQ_MUST_USE bool fq_vring_enable_kick(struct fq_vring *vr);

/**
 * Stops one queue, with chains in flight, while others run on: first shows what has been put, then
 * touches neither ring nor call fd. Pops find nothing; puts are kept for fq_vring_start(). For
 * vhost-user's SET_VRING_ENABLE 0 and GET_VRING_BASE. Idempotent.
 */
FQ_API void fq_vring_stop(struct fq_vring *vr);

/** Goes on, and shows at once what was put meanwhile. @return as fq_vring_publish(). */
FQ_API int fq_vring_start(struct fq_vring *vr);

/**
 * Replaces the call fd (vhost-user's SET_VRING_CALL); -1 for none. The new one is written once, so
 * that no interrupt is lost between the two; that counts as an interrupt. The old one is not closed.
 * A vring with an interrupt function keeps the fd and never writes it.
 */
FQ_API void fq_vring_set_call(struct fq_vring *vr, int call_fd);

/** What GET_VRING_BASE reports and fq_vring_config_base() restores. Stop the ring first. */
FQ_API uint32_t fq_vring_base(const struct fq_vring *vr);

/** Next available index to read, for config.avail_idx. Packed: the wrap counter in bit 15. */
FQ_API uint16_t fq_vring_avail_idx(const struct fq_vring *vr);

/**
 * Next used index to write, published or not: publish before you save it for config.used_idx. Packed:
 * the wrap counter in bit 15.
 */
FQ_API uint16_t fq_vring_used_idx(const struct fq_vring *vr);

/** Chains popped and not put. */
FQ_API uint32_t fq_vring_in_flight(const struct fq_vring *vr);

FQ_END_DECLS

#endif /* FENCEQ_VRING_H */
