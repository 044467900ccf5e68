/* SPDX-License-Identifier: MIT */
#ifndef FENCEQ_POOL_H
#define FENCEQ_POOL_H

/**
 * @file pool.h
 * @brief Worker threads: work that blocks is done elsewhere, and its end lands on an owner's queue.
 *
 * Overview
 *   A work is a small object in the host's memory. Submitted, its `run` is called on one of the
 *   pool's workers; what that returns is handed to its `done`, which runs on the owner of the work's
 *   queue, from a drain like every other completion. From then on the memory is the host's again. The
 *   room a completion needs is in the work itself, so once a submit has returned 0 nothing can fail.
 *
 *   Besides its workers a pool has one thread that runs nothing of the host's, the **steward**. It
 *   hires and dismisses workers and takes cancelled work off the lists. Since it is never away for
 *   long, a cancelled work completes soon although every worker may be busy, and a pool can grow
 *   although every worker is; and no submitter ever has to create a thread.
 *
 * Usage
 *     struct job {
 *             struct fq_work work;
 *             ...
 *     };
 *     job->work = (struct fq_work){.run = read_block, .done = block_was_read, .queue = queue};
 *     err = fq_pool_submit(pool, &job->work);
 *     // later on the owner, from fq_queue_drain(queue): block_was_read(&job->work, status)
 *
 *   The end of a pool, for an owner that may block (none of the works that run needs it, or a lock it
 *   holds): fq_pool_destroy(). For one that must not: fq_pool_end(), and to go on draining until it
 *   is told.
 *
 * Guarantees
 *   | function          | who             | progress                | system calls                |
 *   |-------------------|-----------------|-------------------------|-----------------------------|
 *   | fq_pool_submit    | any; handler (*)| lock-free, no alloc     | one, if somebody is to wake |
 *   | fq_pool_cancel    | any; handler (*)| lock-free, no alloc     | one, if not yet told        |
 *   | fq_pool_stop      | any; handler (*)| wait-free               | one                         |
 *   | fq_pool_drain     | any but workers | blocks                  | some                        |
 *   | fq_pool_end       | any             | wait-free               | one                         |
 *   | fq_pool_destroy   | any but workers | blocks                  | some                        |
 *   | fq_pool_get_stats | any             | wait-free               | none                        |
 *   (*) A signal handler may, where the library was built with futex(2). "Workers": this pool's own.
 *
 *   - Every work that was accepted gets its `done` exactly once: with what `run` has returned, or with
 *     -ECANCELED, and then `run` was not called and never will be.
 *   - Works of one submitter start in the order it submitted them (and may overtake each other after).
 *   - What was written before a submit is visible to `run`; what `run` wrote, to `done`.
 *   - A submitter or canceller stopped for ever at any instruction delays nobody else's work.
 *   - Submit and cancel keep errno and are no cancellation points.
 *   - A queue cannot be destroyed (-EBUSY) before the last completion has been put on it, the write
 *     that wakes its owner included.
 *
 * Threads
 *   Workers are registered (fenceq/thread.h), so that fq_signal() from a `run` is the fast one. They
 *   block all signals but those a thread brings upon itself (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP,
 *   SIGSYS), take their scheduling policy from whoever creates the pool, and so, without a list of
 *   CPUs, their affinity. A `run` must return; it may not end its thread.
 *
 * Growing and shrinking
 *   When work waits and no worker is idle, the steward hires one more, up to `max_workers`; should the
 *   system refuse, it tries again later and the work waits for those there are. Every `idle_ns` it
 *   dismisses as many workers as were idle all that time, down to `min_workers`.
 *
 * fork
 *   A child has the pool's memory and none of its threads. Of what is here it may call only
 *   fq_pool_destroy(), which frees that memory at once, and fq_pool_end(), which also pushes its node;
 *   works that had not completed at the fork never do in the child. (fq_pool_drain() and
 *   fq_pool_stop() do no harm there.)
 *
 * Notes
 *   Submitted works go on a Treiber stack which workers take whole; its head says, as that of a queue
 *   does, who is to be woken, and whoever finds a wake-up unconfirmed does it himself. Workers share
 *   what they have taken under a lock of the library's own that no submitter or canceller ever takes.
 */

#include <stdint.h>

#include <fenceq/base.h>
#include <fenceq/queue.h>

FQ_BEGIN_DECLS

struct fq_pool;
struct fq_work;

/** Runs on a worker. What it returns is handed to `done`. May submit, cancel, signal, push. */
typedef int fq_work_fn(struct fq_work *work);

/** Runs on the owner of the work's queue, from a drain. May submit the work again, or free it. */
typedef void fq_work_done_fn(struct fq_work *work, int status);

/** Caller memory; zero-initialise it, set the first three. */
struct fq_work {
	fq_work_fn *run;
	fq_work_done_fn *done;
	struct fq_queue *queue; /**< where `done` runs */

	struct fq_node node; /**< the library's from here on */
	struct fq_word word;
	struct fq_work *next;
	struct fq_work **link;
	uint64_t number;
};

/** Worker n stays on the n-th of the CPUs, modulo their number. Otherwise: on any of them. */
#define FQ_POOL_PIN 1u

/** Zero-initialise it, set at least `max_workers`. Nothing of it is kept. */
struct fq_pool_config {
	uint32_t min_workers; /**< kept when idle; 0 is allowed */
	uint32_t max_workers; /**< 1 .. FQ_POOL_WORKERS_MAX */
	const char *name;     /**< workers are called name-0 ..., cut to 15 bytes; NULL: "fenceq" */
	int64_t idle_ns;      /**< see "Growing and shrinking"; 0: ten seconds; negative: never */
	uint64_t stack_size;  /**< of a worker, in bytes; 0: the system's default */
	const uint32_t *cpus; /**< numbers of CPUs, below 1024; NULL: as the creating thread */
	uint32_t cpu_count;   /**< how many of them */
	uint32_t flags;       /**< FQ_POOL_PIN */
};

#define FQ_POOL_WORKERS_MAX 1024u

/**
 * Creates a pool, its steward and the first `min_workers` workers, and returns when they are there.
 * Any thread.
 * @return 0; -EINVAL NULL, bounds out of order or range, unknown flags, a stack size the system does
 *         not allow, or CPUs of which it has none; -ENOSYS CPUs where affinity is not supported;
 *         -ENOMEM; -EAGAIN, -EPERM from the system, when it refuses a thread. Nothing is left behind.
 */
FQ_API FQ_MUST_USE int fq_pool_create(struct fq_pool **out, const struct fq_pool_config *config);

/**
 * Hands over a work. Any thread. It is the library's until `done` runs, which may be before this
 * returns.
 * @return 0; -ESHUTDOWN the pool has been stopped; -EBUSY the work is submitted already; -EINVAL
 *         NULL, or no `run`, `done` or queue. Then nothing has changed.
 */
FQ_API FQ_MUST_USE int fq_pool_submit(struct fq_pool *pool, struct fq_work *work);

/**
 * Keeps a work from starting: its `done` gets -ECANCELED, soon, even with all workers busy. Any
 * thread, as long as the work's memory is there: once its submit has returned, before its `done` has
 * (a thread other than the queue's owner has to know that by other means).
 * @return 0; -EBUSY it has started; -EALREADY it is over, or cancelled already; -EINVAL NULL.
 */
FQ_API int fq_pool_cancel(struct fq_pool *pool, struct fq_work *work);

/**
 * Waits until everything submitted before has completed, as far as the pool goes: the completions
 * are on their queues. An owner that works need must not wait for ever here.
 * @return 0; -ETIMEDOUT; -EDEADLK from a worker of this pool; -ESHUTDOWN in a forked child; -EINVAL.
 */
FQ_API int fq_pool_drain(struct fq_pool *pool, int64_t timeout_ns);

/**
 * Refuses new work, and cancels what has not started (a worker may at this moment be starting one
 * more). Never waits. Workers leave when they are done. Any thread; idempotent.
 * @return 0; -EINVAL NULL.
 */
FQ_API int fq_pool_stop(struct fq_pool *pool);

/**
 * Stops the pool, waits for what runs, joins its threads, frees it. Completions that have been put on
 * queues stay there. Nobody else may be in a call on the pool; a `run` may, and is refused. NULL is
 * allowed.
 * @return 0; -EDEADLK from a worker of this pool; -EALREADY it is being ended.
 */
FQ_API int fq_pool_destroy(struct fq_pool *pool);

/**
 * The same without the wait, for owners that a `run` may be waiting for, under whatever locks: stops
 * the pool; when the last worker has gone and the pool is freed, the steward pushes @p node on @p
 * queue, after all completions. Nobody but a `run` may call anything on the pool any more. Any thread,
 * workers too.
 * @return 0; -EALREADY it is being ended; -EINVAL NULL. Then the node is not used.
 */
FQ_API FQ_MUST_USE int fq_pool_end(struct fq_pool *pool, struct fq_queue *queue,
				   struct fq_node *node);

FQ_END_DECLS

#endif /* FENCEQ_POOL_H */
