/* SPDX-License-Identifier: MIT */
#ifndef FENCEQ_GATE_H
#define FENCEQ_GATE_H

/**
 * @file gate.h
 * @brief A device's lock that turns waiting into delegation.
 *
 * Overview
 *   One thread at a time is inside a gate. Who finds it held need not wait: he skips, or leaves his
 *   operation with the holder, who runs it before letting go, or is told through a queue of his own
 *   when the gate is free. So neither a vCPU nor a main loop sleeps for a device that the other one
 *   is busy with. There is a blocking enter, too, for slow paths.
 *
 * Usage: a register access
 *     fq_device_get(handle, &dev);                    // fenceq/device.h: it stays in memory
 *     d = fq_device_opaque(dev);
 *     access->op.run = run_access;
 *     if (!fq_gate_enter_or_leave(&d->gate, &access->op)) {
 *             dispatch(d, access);                    // we are in
 *             fq_gate_leave(&d->gate);                // runs what others have left meanwhile
 *     }                                               // else run_access(&access->op) is called,
 *     fq_event_wait(&access->done, -1, NULL);         // by some thread inside the gate
 *     fq_device_put(dev);
 *   Whoever is inside has a reference, the owner too if he unplugs inside. examples/register_access
 *   is the whole of it, with an unplug in the middle.
 *
 * What is kept in order
 *   Operations run in the order in which they were left, and a thread that left one does not get in
 *   before it has run; so the accesses of one thread take place in its program order, entered or
 *   left. (Over a host's lock there is one exception, see fq_gate_enter().)
 *
 * Not for ever
 *   A holder runs at most `limit` operations in one leave. Then the gate falls behind: it is let go,
 *   and what was left belongs to the owner of `queue`, who runs as many at a time from his drain.
 *   Until he is through, others go on leaving theirs behind those; only a blocking enter does not
 *   wait for him: it runs first what stands before it, and then is in. Thus no holder is kept, and
 *   an owner who blocks on the gate himself does not wait for himself.
 *
 * Who may wait for what he has left
 *   A thread without which it can run. What is left is the holder's or, behind his limit or over a
 *   host's lock, the `queue`'s owner's. So these do not wait, but get in with fq_gate_enter():
 *   - the owner, who would wait for himself;
 *   - a thread that has the host's lock, taken directly, which the owner may need first. It gets in at
 *     once.
 *   And an owner who waits for threads that may be waiting here (to stop vCPUs, say) goes on draining.
 *
 * Over a host's own lock
 *   With `host` the gate wraps a lock that other code goes on taking directly: whoever is inside the
 *   gate has it, and keeps it: it is not let go in there, not even to wait for a condition, and of
 *   two gates over one lock the one that was entered first is left last. That other code is unaware
 *   of the gate and runs nothing when it unlocks; what is left while it holds the lock goes to the
 *   owner of `queue`, who takes the lock in his drain, waiting for it as he would for the lock
 *   itself. Until he has, what comes next goes to him as well. (A thread that stops for ever while it
 *   is lending him something leaves it at that: nothing is hidden or blocked, but all goes by way of
 *   the owner, and fq_gate_try_enter() says -EBUSY.)
 *
 * Guarantees
 *   | function                | who        | progress            | waits for                       |
 *   |-------------------------|------------|---------------------|---------------------------------|
 *   | fq_gate_try_enter       | any        | lock-free (*)       | nobody                          |
 *   | fq_gate_enter_or_leave  | any        | lock-free (*)       | nobody                          |
 *   | fq_gate_enter_or_tell   | any        | lock-free (*)       | nobody                          |
 *   | fq_gate_enter           | any        | blocks              | holders; runs what is before it |
 *   | fq_gate_defer           | the holder | lock-free           | nobody                          |
 *   | fq_gate_leave           | the holder | lock-free, runs (**) | nobody                         |
 *   (*) And the host's try_lock. (**) What was left, up to the limit.
 *   None of them allocates, is a cancellation point or changes errno (the host's functions apart); a
 *   system call is made to sleep, to wake a sleeper, or for the write to the fd of a queue. A signal
 *   handler that runs in a wait does not end it.
 *
 *   - What was done inside, by the holder or by an operation, is visible to who is inside next; what
 *     was written before an operation was left is visible to it.
 *   - Each operation that was left runs once, inside the gate, on whichever thread is inside: this
 *     is the library's one callback that may come on a foreign thread.
 *   - A thread stopped for ever inside an enter that has not entered blocks nobody, and hides nobody
 *     else's operation. A stopped holder holds the gate: what was left with it waits, those who left
 *     it do not. Stopped when it has let go, it may still have to tell those who asked for it.
 *   - To enter a gate one is inside of is -EDEADLK, in every build and every form of enter: a guest
 *     can provoke it (a device that reads its own registers by DMA).
 *   - A blocked enter is handed the gate by the one who leaves it, first come, first served. One
 *     with a time-out takes its chance whenever the gate is free: its memory cannot be left in line.
 *   - The last access of a leave to the gate is the one that lets another thread in, so that one may
 *     end the gate and free its memory as soon as it is out, however late the first one is.
 *
 * Order of gates
 *   A build with FENCEQ_DEBUG notes which gate was entered by a blocking enter inside of which other
 *   (up to 64 gates of the process). An enter against the order known so far is refused with -EDEADLK
 *   and counted, although it might have gone well this time. Forms that do not block cannot deadlock
 *   and are not looked at.
 *
 * fork
 *   A gate is inherited as it was. One that another thread was inside of stays held in the child.
 *
 * Notes
 *   Leaving the work to the holder is known as a combining or delegation lock (flat combining:
 *   D. Hendler et al., 2010; queue delegation: D. Klaftenegger, K. Sagonas, K. Winblad, 2014).
 */

#include <stdbool.h>
#include <stdint.h>

#include <fenceq/base.h>
#include <fenceq/queue.h>

FQ_BEGIN_DECLS

struct fq_gate;
struct fq_gate_op;

/** Left: the operation was not entered for, but runs, or is told, later. What enter_or_... return. */
#define FQ_GATE_LEFT 1

/**
 * Left with a holder: called once, inside the gate, on any thread. To be told: called once, on the
 * owner of that queue, outside. The operation is the host's again and may be freed or left anew. It
 * may use fq_gate_defer(), enter other gates and post; it cannot leave the gate that it runs in. The
 * thread may be inside of other gates and have other locks, which the one that left it had not: a gate
 * that says -EDEADLK takes what there is to do in it by fq_gate_defer().
 */
typedef void fq_gate_fn(struct fq_gate_op *op);

/** Embed one in what is to be done. Set `run`; the rest is the library's until that is called. */
struct fq_gate_op {
#if defined(__GNUC__) || defined(__clang__)
	__attribute__((aligned(8)))
#endif
	struct fq_node node;
	fq_gate_fn *run;
	struct fq_gate_op *next;
	struct fq_gate *gate;
	struct fq_queue *queue;
	uint32_t kind;
};

/** A lock of the host's that the gate wraps. All but `held` or none. */
struct fq_gate_host {
	bool (*try_lock)(void *opaque); /**< true: taken */
	void (*lock)(void *opaque);
	void (*unlock)(void *opaque);
	/**
	 * May be NULL: true when the calling thread has it already (taken directly, not through the
	 * gate). It then enters under the lock that it has, and keeps that when it leaves. Needed
	 * where `queue` is drained under the lock. See "Who may wait for what he has left".
	 */
	bool (*held)(void *opaque);
	void *opaque;
};

/** Zero-initialise, then set what you need. */
struct fq_gate_config {
	/** Whose owner takes what is too much for a holder; outlives the gate. NULL: no limit. */
	struct fq_queue *queue;
	uint32_t limit; /**< operations in one leave; 0: 64. Only with a queue. */
	uint32_t reserved;
	struct fq_gate_host host; /**< only with a queue */
};

/** Any thread may take one; counters may be a few events apart. */
struct fq_gate_stats {
	uint64_t entered;     /**< threads let in, in whatever way, and by the queue's owner */
	uint64_t delegated;   /**< operations run for others */
	uint64_t told;        /**< told that the gate is free */
	uint64_t handed_over; /**< handed to a blocked enter by the one before */
	uint64_t fell_behind; /**< times the owner was called for what was too much for a holder */
	uint64_t lent;        /**< operations left while unaware code had the host's lock */
	uint64_t recursions;  /**< refused */
	uint64_t disorders;   /**< refused: against the order of gates (FENCEQ_DEBUG) */
	uint64_t reserved[4];
};

/** Caller memory. All of it is the library's. */
struct fq_gate {
	struct fq_word word;
	struct fq_word holder;
	struct fq_word lent;
	struct fq_gate_op *first;
	struct fq_gate_op **last;
	struct fq_gate_op *told;
	struct fq_gate_op **told_last;
	uint64_t waiters;
	uint64_t limit;
	struct fq_queue *queue;
	struct fq_node node;
	struct fq_gate_host host;
	bool serving;
	bool adopted;
	int order;
	struct fq_word count[8];
};

/**
 * Makes a gate, free. Nobody else may be using it.
 * @param config NULL for a gate of its own, without a limit.
 * @return 0; -EINVAL NULL, a limit or a host's lock without a queue, or some of a host's functions.
 */
FQ_API FQ_MUST_USE int fq_gate_init(struct fq_gate *gate, const struct fq_gate_config *config);

/**
 * Ends a gate that nobody uses. Afterwards a build with FENCEQ_DEBUG answers its use with -EINVAL.
 *
 * One with a queue may have a node there, which its owner runs without a reference to the device that
 * the gate belongs to. So end it on the owner, behind that node: from a node of your own, which
 * fq_release_fn pushes (fenceq/device.h).
 * @return 0; -EINVAL NULL; -EBUSY, and nothing done, while it is held, operations wait, or the queue
 *         has a node of it: drain that first.
 */
FQ_API int fq_gate_fini(struct fq_gate *gate);

/**
 * Enters if that can be done at once. Any thread.
 * @return 0 inside; -EBUSY it is held, or has fallen behind; -EDEADLK the caller is inside; -EINVAL.
 */
FQ_API FQ_MUST_USE int fq_gate_try_enter(struct fq_gate *gate);

/**
 * Enters if that can be done at once, else leaves @p op to be run inside the gate. Any thread. After
 * FQ_GATE_LEFT it may have run already.
 * @return 0 inside, @p op is not used; FQ_GATE_LEFT; -EDEADLK the caller is inside (see
 *         fq_gate_defer()); -EINVAL NULL, or no `run`.
 */
FQ_API FQ_MUST_USE int fq_gate_enter_or_leave(struct fq_gate *gate, struct fq_gate_op *op);

/**
 * Enters if that can be done at once, else has op->run called from a drain of @p queue when the gate
 * has become free. It may be taken again by then: being told is a hint, and one tries again. A gate
 * that is handed from one blocked enter to the next is not free in between. Any thread.
 * @return as fq_gate_enter_or_leave().
 */
FQ_API FQ_MUST_USE int fq_gate_enter_or_tell(struct fq_gate *gate, struct fq_gate_op *op,
					     struct fq_queue *queue);

/**
 * Enters, waiting for it: for slow paths, by threads that may block. What was left before runs before
 * it returns, some of it on this thread (after which a time-out may be over).
 *
 * Over a host's lock this is the host's lock(), and cannot have a time-out; it does not wait for what
 * has been lent to the owner of the queue, not even for the caller's own.
 * @param timeout_ns negative: for ever; 0: do not wait.
 * @return 0 inside; -ETIMEDOUT; -EDEADLK the caller is inside, or (FENCEQ_DEBUG) inside a gate that
 *         has been entered from inside of this one; -ENOTSUP; -EINVAL.
 */
FQ_API FQ_MUST_USE int fq_gate_enter(struct fq_gate *gate, int64_t timeout_ns);

/**
 * Leaves an operation with oneself: it runs in fq_gate_leave(), behind what others have left. The
 * holder, also from inside an operation.
 * @return 0; -EPERM the caller is not inside; -EINVAL NULL, or no `run`.
 */
FQ_API int fq_gate_defer(struct fq_gate *gate, struct fq_gate_op *op);

/**
 * Runs what was left, and lets go.
 * @return 0; -EPERM, and nothing done, when the caller is not inside, or is an operation; -EINVAL.
 */
FQ_API int fq_gate_leave(struct fq_gate *gate);

/** True when the calling thread is inside. Any thread; wait-free. */
FQ_API bool fq_gate_is_inside(const struct fq_gate *gate);

FQ_API void fq_gate_get_stats(const struct fq_gate *gate, struct fq_gate_stats *out);

FQ_END_DECLS

#endif /* FENCEQ_GATE_H */
