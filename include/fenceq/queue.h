/* SPDX-License-Identifier: MIT */
#ifndef FENCEQ_QUEUE_H
#define FENCEQ_QUEUE_H

/**
 * @file queue.h
 * @brief Many posters, one owner: what any thread may push and one thread drains.
 *
 * Overview
 *   A queue is where everything meets its owner: nodes that posters push (an intrusive list; the
 *   memory belongs to whoever embeds the node), and timelines whose mark posters have raised
 *   (fenceq/timeline.h). It has one file descriptor, readable when the owner should drain.
 *
 * Usage with an event loop that knows only fds (epoll, poll, libuv's uv_poll ...)
 *     create with flags 0, watch fq_queue_fd() level-triggered for reading, call fq_queue_drain()
 *     when it is readable. Nothing else.
 *
 * Usage with a loop that has hooks around its sleep (GSource, AioContext, a loop of your own)
 *     create with FQ_QUEUE_HOOKS, call fq_queue_prepare() before the loop sleeps and
 *     fq_queue_check() after; in between work the queue is not armed and posters never write the
 *     fd. fq_queue_wait() is the two of them around a ppoll, for hosts without a loop.
 *
 * Guarantees
 *   | function                             | who    | progress             | system calls         |
 *   |--------------------------------------|--------|----------------------|----------------------|
 *   | fq_queue_push, fq_queue_push_batch   | any    | lock-free, no alloc  | one write, if armed  |
 *   | fq_queue_drain                       | owner  | wait-free + handlers | one read (*)         |
 *   | fq_queue_poll                        | owner  | wait-free + handlers | none (*)             |
 *   | fq_queue_prepare                     | owner  | wait-free            | none                 |
 *   | fq_queue_check                       | owner  | wait-free            | one read             |
 *   | fq_queue_wait                        | owner  | blocks               | one ppoll, one read  |
 *   (*) one write when somebody may be asleep and the fd is not known to be readable (who has posted has
 *   not come to it), or something is posted while it is cleared; none for what a budget leaves behind.
 *
 *   - Nothing pushed is lost, duplicated, or handed over before what it published: what a poster
 *     wrote before the push is visible to the handler.
 *   - Nodes of one poster arrive in the order it pushed them.
 *   - A poster stopped for ever at any instruction hides nobody else's push that has returned.
 *   - The fd is written once per arm, plus at most once for each poster, and the owner, that races
 *     with that write. A late write is a spurious wake-up, nothing worse.
 *   - While anybody who may drain may be asleep, either nothing is left to drain or the fd is
 *     readable. "May be asleep" is: always, for a queue without FQ_QUEUE_HOOKS; between prepare
 *     and check of any waiter, for one with. So a second thread may drain under the host's lock
 *     while the loop sleeps, and a queue may move to another owner under that lock.
 *   - fq_queue_push() keeps errno, is async-signal-safe and is no cancellation point.
 *
 * Notes
 *   The list is a Treiber stack taken whole by one exchange and reversed (R. K. Treiber, 1986);
 *   taking all at once leaves it without the ABA problem. The "armed" mark is a tag in the same
 *   word, so that the push itself learns whether somebody sleeps: no store-load fence is needed.
 */

#include <stdbool.h>
#include <stdint.h>

#include <fenceq/base.h>

FQ_BEGIN_DECLS

struct fq_queue;
struct fq_node;

/** Runs on the owner, from a drain. May push, drain, submit, and free the memory of @p node. */
typedef void fq_node_fn(struct fq_node *node);

/**
 * Embed one in what you post. Set `run` before the push; `next` is the library's from the push
 * until `run` is called. A node is on one queue at most: pushing it again before it ran is a
 * programming error that corrupts the list.
 */
struct fq_node {
	struct fq_node *next;
	fq_node_fn *run;
};

/** The owner calls prepare and check (or wait) around every sleep. */
#define FQ_QUEUE_HOOKS 1u
/** Use a pipe for the fd although the system has eventfd. */
#define FQ_QUEUE_PIPE 2u
/**
 * The fd is an epoll instance, behind which deadlines (fenceq/deadline.h) and watched fds
 * (fenceq/watch.h) make the queue readable, too. Costs two more fds. Linux only (-ENOSYS elsewhere).
 */
#define FQ_QUEUE_EPOLL 4u

/** A drain that takes all there is; a flood of posts can keep it for ever. */
#define FQ_NO_BUDGET (~0u)

/**
 * One sleeper: a loop that calls prepare and check on a queue. Caller memory, zero-initialised,
 * one for each loop (nested loops of one thread may share theirs).
 */
struct fq_waiter {
	bool asleep; /**< the library's */
};

/**
 * Creates a queue and its fd.
 * @return 0; -EINVAL for NULL or unknown flags; -ENOMEM, -EMFILE, -ENFILE from the system.
 */
FQ_API FQ_MUST_USE int fq_queue_create(struct fq_queue **out, unsigned flags);

/**
 * Frees a queue. Owner; no poster may hold a pointer to it any more, which for devices the library
 * itself sees to (fq_device_destroy()). NULL is allowed.
 * @return 0; -EBUSY, and nothing done, while a device is attached, nodes wait or a drain runs.
 */
FQ_API int fq_queue_destroy(struct fq_queue *q);

/** The fd to poll for reading, level-triggered. Never read or write it. Any thread. */
FQ_API int fq_queue_fd(const struct fq_queue *q);

/**
 * Makes the calling thread the one that calls which block take for the owner: it drains while it
 * waits, others sleep (fenceq/request.h). The thread that creates a queue is it until
 * then. A host with several owners under a lock need not call this for each: those calls also ask a
 * hook of the host's. The new owner, with the old one out of the queue.
 */
FQ_API void fq_queue_set_owner(struct fq_queue *q);

/** True for the thread that has called that last. Any thread; wait-free. */
FQ_API bool fq_queue_is_owner(const struct fq_queue *q);

/**
 * Pushes one node. Any thread.
 * Ownership of the node passes to the queue until its `run` is called. Release: pairs with the
 * acquire of the drain that runs it.
 */
FQ_API void fq_queue_push(struct fq_queue *q, struct fq_node *node);

/**
 * Pushes a chain of nodes linked through `next`, @p first to be run first, with one atomic
 * operation and at most one write; nothing comes between them. Ends at `next == NULL`.
 * Any thread; O(length) on the poster. NULL is an empty chain.
 */
FQ_API void fq_queue_push_batch(struct fq_queue *q, struct fq_node *first);

/**
 * Handles what waits: call it when the fd is readable. Runs at most @p budget completions (a node is
 * one, a retired fence is one, so is a deferred call; timelines are served in turn), publishes each
 * virtqueue of the devices it touched once, clears the fd when nothing is left, and leaves the queue
 * armed. When the budget ends it with work left the fd stays readable: a level, nothing is written for
 * an edge to tell.
 *
 * May be called from inside a handler (nested loop): the inner drain goes on where the outer one
 * stands. A handler may also sleep on the fd first: without FQ_QUEUE_HOOKS it is readable, or armed,
 * while handlers run; with it the inner loop calls prepare, as any.
 * @return how many completions it ran.
 */
FQ_API unsigned fq_queue_drain(struct fq_queue *q, unsigned budget);

/**
 * The same without a look at the fd, for polling: busy owners, a second thread under the host's
 * lock. Leaves the queue armed while any waiter may be asleep.
 */
FQ_API unsigned fq_queue_poll(struct fq_queue *q, unsigned budget);

/** True when a drain would find something. Owner; a hint the moment it returns. */
FQ_API bool fq_queue_pending(const struct fq_queue *q);

/**
 * About to sleep on the fd (FQ_QUEUE_HOOKS). Arms the queue.
 * @return true: sleep; false: there is work, do not sleep (nothing was armed, no check is due).
 */
FQ_API FQ_MUST_USE bool fq_queue_prepare(struct fq_queue *q, struct fq_waiter *w);

/**
 * Woken up, for whatever reason (FQ_QUEUE_HOOKS). Disarms and clears the fd when @p w was asleep;
 * without effect otherwise, so it may be called on every turn of a loop. Drain after it.
 */
FQ_API void fq_queue_check(struct fq_queue *q, struct fq_waiter *w);

/**
 * Sleeps until there is something to drain, for hosts without a loop; does not drain.
 * @return 1 work waits, 0 time-out, -EINTR a signal handler ran.
 */
FQ_API int fq_queue_wait(struct fq_queue *q, int64_t timeout_ns);

/**
 * In a forked child, after fq_after_fork_child(): gives the queue an fd of its own, under the same
 * number; until then it shares the parent's, and a drain would take the parent's wake-up. The new fd
 * is readable at first, so that nothing is lost that the parent was to be woken for. What was posted
 * stays posted (in both processes). Owner; see "fork" in fenceq/thread.h.
 *
 * An epoll set made before the fork is shared with the parent and watches the parent's fd: make a new
 * one. A loop that was asleep at the fork and does not go on in the child still counts as asleep; call
 * fq_queue_check() for its waiter (one in another thread's fq_queue_wait() costs a write per drain
 * from then on).
 * @return 0; -EINVAL NULL, or the host has closed the fd; -EMFILE, -ENFILE, -ENOMEM from the system:
 *         nothing was changed, call again when there are fds (one is needed for a moment, two for a
 *         pipe); until then push and fq_queue_poll() are safe, drain, check and wait are not.
 */
FQ_API FQ_MUST_USE int fq_queue_after_fork_child(struct fq_queue *q);

FQ_END_DECLS

#endif /* FENCEQ_QUEUE_H */
