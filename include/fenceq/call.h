/* SPDX-License-Identifier: MIT */
#ifndef FENCEQ_CALL_H
#define FENCEQ_CALL_H

/**
 * @file call.h
 * @brief Deferred calls (bottom halves): "run this on the owner, soon", from any thread.
 *
 * Overview
 *   A call is set up once and scheduled as often as one likes. Schedules that come before the owner
 *   has begun to run it become one run; one that comes after, also from inside the callback, makes
 *   it run once more. So a callback that looks at everything there is to do never misses any of it.
 *   What is to be done once, in order, with data of its own, is better a node: fq_queue_push() is
 *   the one-shot form of this. Nodes of one poster keep their order; calls have none among each
 *   other, nor against nodes.
 *
 * Usage
 *     static void look(struct fq_call *call) { ... container_of(call, struct port, call) ... }
 *
 *     fq_call_init(&port->call, queue, look); // owner
 *     fq_call_schedule(&port->call);          // anybody, any time; look() runs in the next drain
 *     fq_call_fini(&port->call);              // owner; also inside look(), which may then free port
 *
 * Idle calls
 *   fq_call_schedule_idle() is for what may wait: it runs in a drain that finds nothing else to do,
 *   or FQ_CALL_IDLE_NS after the end of the drain that found it, whichever is first, so that load
 *   cannot keep it from running. For the latter a deadline of the queue wakes the owner
 *   (fenceq/deadline.h says who must look at fq_queue_timeout() and who need not). An idle call
 *   that schedules itself idle again is therefore a poll at that interval: it runs once in a drain
 *   at most. Idle runs are no completions: a drain does not return them, and once a drain has seen
 *   them they neither are pending (fq_queue_pending()) nor keep fq_queue_prepare() from sleeping.
 *
 * Guarantees
 *   | function                | who   | progress                        | system calls           |
 *   |-------------------------|-------|---------------------------------|------------------------|
 *   | fq_call_schedule, _idle | any   | wait-free, no alloc (*)         | one write, if armed    |
 *   | fq_call_cancel, _pending| any   | wait-free, no alloc (*)         | none                   |
 *   | fq_call_cancel_wait     | any   | blocks                          | one for each sleep     |
 *   | fq_call_init            | owner | wait-free, may allocate         | the allocator's        |
 *   | fq_call_fini            | owner | O(what is ready)                | none                   |
 *   (*) async-signal-safe, errno is kept, no cancellation point.
 *
 *   - What was written before a schedule is visible to the run that answers it, and every schedule
 *     that has returned is answered by a run that begins after it did, unless it is cancelled.
 *   - A thread stopped for ever inside a schedule or cancel blocks nobody and hides no other
 *     schedule that has returned.
 *   - A schedule's last look at the struct fq_call comes before its callback can run. So the
 *     callback may end the call and free its memory although the one who scheduled it is not back
 *     yet. (Not although somebody else is about to schedule it: that is the host's to know.)
 *   - Each run is one completion of the drain's budget. Leftovers keep the fd readable, and a call
 *     that schedules itself takes turns with everything else.
 *   - Drains may nest, and may run a call inside itself.
 *   - After a fork the child has its own copy of everything, what is pending included ("fork" in
 *     fenceq/thread.h).
 *
 * Notes
 *   A call costs its struct and one cache line that belongs to the queue. These lines come in groups
 *   of 64, are used again, and are freed with the queue: no more of them exist than calls did at one
 *   time. Being the queue's, a line can be looked at by a late poster whatever happened to the call.
 */

#include <stdbool.h>
#include <stdint.h>

#include <fenceq/base.h>

FQ_BEGIN_DECLS

struct fq_call;
struct fq_call_slot;
struct fq_queue;

/** Runs on the owner, from a drain. May schedule, cancel, end and free anything, also itself. */
typedef void fq_call_fn(struct fq_call *call);

/** Caller memory; stays where it is from init to fini. */
struct fq_call {
	fq_call_fn *run;           /**< the owner may change it */
	struct fq_call_slot *slot; /**< the library's; NULL after fq_call_fini() */
};

/** How long an idle call waits at most for a drain with nothing else to do: 10 ms. */
#define FQ_CALL_IDLE_NS INT64_C(10000000)

/**
 * Sets a call up, not scheduled. Owner.
 * The queue cannot be destroyed (-EBUSY) before fq_call_fini().
 * @return 0; -EINVAL NULL; -ENOMEM (one time in 64 at most).
 */
FQ_API FQ_MUST_USE int fq_call_init(struct fq_call *call, struct fq_queue *q, fq_call_fn *run);

/**
 * Has it run in the next drain. Any thread. While it is pending this changes nothing; one that is
 * pending as an idle call is one no more. Release: pairs with the acquire that begins the run.
 * @return 0; -EINVAL NULL, or after fq_call_fini() while the memory is there.
 */
FQ_API int fq_call_schedule(struct fq_call *call);

/** Has it run when there is nothing else to do; see "Idle calls". Else as fq_call_schedule(). */
FQ_API int fq_call_schedule_idle(struct fq_call *call);

/**
 * Takes back what was scheduled. Any thread. A run that has begun goes on; afterwards none begins
 * that an earlier schedule asked for. Acquire and release.
 * @return true when it was pending; false when there was nothing to take back.
 */
FQ_API bool fq_call_cancel(struct fq_call *call);

/**
 * Takes back what was scheduled and waits until no run is in progress; no other begins meanwhile:
 * schedules that come while it waits, from the callback itself above all, are taken back, too (one
 * that comes as it returns is a new one, and runs). What the callback did is visible afterwards. Any thread, but not with a lock that the callback takes;
 * on the owner it need not wait.
 * @return 0; -ETIMEDOUT cancelled, and still running; -EDEADLK cancelled, but called from inside the
 *         callback (however deep in nested drains), which it cannot wait for; -EINVAL as
 *         fq_call_schedule().
 */
FQ_API int fq_call_cancel_wait(struct fq_call *call, int64_t timeout_ns);

/** True when it was scheduled and has not begun to run since. Any thread; a hint. */
FQ_API bool fq_call_pending(const struct fq_call *call);

/**
 * Ends a call; a pending run is taken back. Owner, also from inside its callback, and the memory may
 * go as soon as this has returned. No other thread may be about to use the call, nor be inside of
 * anything but a schedule that is being answered.
 * @return 0; -EINVAL NULL, or after fq_call_fini() while the memory is there (a debug build,
 *         FENCEQ_DEBUG, says so here and in fq_call_cancel_wait() without a look at the memory).
 */
FQ_API int fq_call_fini(struct fq_call *call);

FQ_END_DECLS

#endif /* FENCEQ_CALL_H */
