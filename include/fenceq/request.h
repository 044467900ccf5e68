/* SPDX-License-Identifier: MIT */
#ifndef FENCEQ_REQUEST_H
#define FENCEQ_REQUEST_H

/**
 * @file request.h
 * @brief Requests that wait for a reply: which reply belongs to whom, across threads.
 *
 * Overview
 *   A table gives each request an id to send along, and whoever reads the replies tells the table
 *   what came back under which id. It knows nothing of sockets; fenceq/channel.h is that. The request
 *   itself lives where its waiter likes, typically on the stack. It ends exactly once: by its reply,
 *   its time-out, a cancel, or the loss of the connection.
 *
 *   One call waits for it, whoever the caller is. The owner of the queue drains while it waits, so
 *   that the reply it needs can arrive and the peer's own requests are served; any other thread
 *   sleeps. Or nobody waits, and a callback runs on the owner.
 *
 * Usage
 *     struct fq_request req = {.reply = &answer, .room = sizeof(answer)};
 *     uint64_t id;
 *     int err = fq_request_submit(table, &req, &id);
 *
 *     if (!err) {
 *         send_it(message, id);                    // the reader: fq_request_complete(table, id, ...)
 *         err = fq_request_wait(&req, timeout_ns, NULL); // and here `req` may go out of scope
 *     }
 *
 * Guarantees
 *   | function                  | who   | progress                       | system calls             |
 *   |---------------------------|-------|--------------------------------|--------------------------|
 *   | fq_request_submit         | any   | lock-free, no alloc            | none (*)                 |
 *   | fq_request_complete       | any   | lock-free, O(size)             | at most one, to wake     |
 *   | fq_request_cancel         | any   | lock-free                      | at most one, to wake     |
 *   | fq_request_fail_all       | any   | lock-free, O(slots)            | at most one each         |
 *   | fq_request_wait           | any   | blocks                         | one or two each sleep    |
 *   | fq_request_table_reopen   | owner | O(slots)                       | none                     |
 *   (*) With `done` and a time-out: one write, if the owner sleeps.
 *
 *   - Exactly one of {reply, time-out, cancel, loss} wins. What comes later is refused and counted.
 *   - Submitting takes a step or two while there is room, up to O(slots) when nearly all are taken.
 *   - A thread stopped for ever in a submit keeps its slot, and nobody from anything. One stopped
 *     while it completes keeps that one request from its waiter: it may be writing to the waiter's
 *     memory, so a waiter whose time-out comes at that moment waits for the copy under way.
 *   - After a wait has returned, or `done` was called, nothing touches the request or its reply
 *     buffer, however late the others are in their calls.
 *   - What the completer wrote before is visible to the waiter and to `done` (release, acquire).
 *   - Callbacks run on the owner, from a drain, never from inside these functions.
 *
 * Notes
 *   An id is the number of a slot (low bits) and the slot's generation (the others); it is never 0.
 *   A reply is found in O(1). One that names no request that is pending is **late** when that id was
 *   given out once (the request timed out, or the reply is a duplicate), **forged** when it never was.
 *
 *   Narrow ids repeat. With 16 bits and 1024 slots a slot has 64 generations: a reply that is so late
 *   that its slot has seen 64 requests since is taken for a reply to the 64th. Slots are taken in
 *   turn, so with few requests pending this takes 2^id_bits requests however many slots there are.
 *   But where all slots but k are taken for long, it takes k times the number of generations. Give
 *   such a table more slots than it needs, treat a time-out as the end of the connection, or both.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <fenceq/base.h>
#include <fenceq/deadline.h>
#include <fenceq/event.h>
#include <fenceq/queue.h>

FQ_BEGIN_DECLS

struct fq_request;
struct fq_request_table;

/** Runs on the owner, from a drain, when the request is over. May free it, or submit it again. */
typedef void fq_request_fn(struct fq_request *req);

/** Caller memory; zero-initialise it. */
struct fq_request {
	void *reply;         /**< where the reply goes; the host's, until the request is over */
	size_t room;         /**< bytes there */
	fq_request_fn *done; /**< instead of a wait; NULL: it must be waited for, once */
	int64_t timeout_ns;  /**< with `done`: from the submit on; 0 or less: none */
	void *opaque;        /**< the host's */

	int status;  /**< how it ended; valid once it is over */
	size_t size; /**< of the reply; more than `room` with -EMSGSIZE. Valid once it is over */

	struct fq_request_table *table; /**< the library's from here on */
	uint64_t generation;
	uint32_t slot;
	struct fq_word via;
	struct fq_event over;
	struct fq_node node;
	struct fq_deadline deadline;
	int64_t until_ns;
};

/** How a wait is to be made. Any of it may be NULL. */
struct fq_wait_hooks {
	/**
	 * Hosts where several threads may drain, under a lock: does this one, now? Decides alone; without
	 * it the thread that fq_queue_is_owner() knows drains, others sleep.
	 */
	bool (*may_drain)(void *opaque);
	/** Around the sleep of a thread that does not drain: to let a lock go, and take it again. */
	void (*release)(void *opaque);
	void (*retake)(void *opaque);
	void *opaque;
};

/** The most slots of a table. */
#define FQ_REQUEST_SLOTS_MAX 65536u

struct fq_request_config {
	struct fq_queue *queue; /**< the owner's; must outlive the table */
	uint32_t slots;         /**< requests pending at one time, 1 to FQ_REQUEST_SLOTS_MAX */
	uint32_t id_bits; /**< width of the ids, up to 64; at least two more than slots need */
};

struct fq_request_stats {
	uint64_t submitted;
	uint64_t completed; /**< by a reply */
	uint64_t oversized; /**< of these, by one that was too large */
	uint64_t timed_out;
	uint64_t cancelled;
	uint64_t lost;           /**< ended by fq_request_fail_all() */
	uint64_t refused_late;   /**< replies: late, or duplicates */
	uint64_t refused_forged; /**< replies: to an id never given out */
	uint64_t exhausted;      /**< submits that found no slot */
};

/**
 * Everything is allocated here.
 * @return 0; -EINVAL NULL, no queue, slots or id_bits out of range; -ENOMEM.
 */
FQ_API FQ_MUST_USE int fq_request_table_create(struct fq_request_table **out,
					       const struct fq_request_config *config);

/**
 * Owner; nobody may be about to submit or complete. NULL is allowed.
 * @return 0; -EBUSY, and nothing done, while a request is pending, a thread has not returned from its
 *         wait, or a `done` is still to be called.
 */
FQ_API int fq_request_table_destroy(struct fq_request_table *table);

/**
 * Makes the request pending. Any thread. From here on it is the library's until it is over, which
 * with `done` may be before this returns.
 * @param id what to send along; set before the request is pending. NULL: not of interest.
 * @return 0; -EAGAIN no slot is free; -ENOTCONN after fq_request_fail_all(); -EBUSY it is pending, or
 *         not waited for; -EINVAL NULL, or room without a buffer.
 */
FQ_API FQ_MUST_USE int fq_request_submit(struct fq_request_table *table, struct fq_request *req,
					 uint64_t *id);

/**
 * The reply to @p id has come. Any thread; the data are copied.
 * @param status what the waiter gets, as 0 or -errno. A reply larger than the room is not copied: the
 *        request ends with -EMSGSIZE and the size.
 * @return 0; -ESTALE (late) the request is over, or the reply a duplicate; -ENOENT (forged) that id
 *         was never given out. Both are counted; -EINVAL NULL.
 */
FQ_API int fq_request_complete(struct fq_request_table *table, uint64_t id, int status,
			       const void *data, size_t size);

/**
 * Ends it with -ECANCELED. Any thread, as long as the request's memory is known to be there: its
 * waiter, or a thread that holds the lock which the waiter's hooks let go of.
 * @return true when it was pending.
 */
FQ_API bool fq_request_cancel(struct fq_request *req);

/**
 * Waits until it is over, once, for requests without `done`. Any thread, also inside a callback of a
 * drain: such waits nest, and the outer one returns after the inner one.
 * @param timeout_ns when it has passed the request ends with -ETIMEDOUT, as if cancelled.
 * @param hooks NULL: none.
 * @return the request's status: what fq_request_complete() said, -EMSGSIZE, -ETIMEDOUT, -ECANCELED,
 *         what fq_request_fail_all() said; -EINVAL NULL, not submitted, waited for, or with `done`.
 */
FQ_API int fq_request_wait(struct fq_request *req, int64_t timeout_ns,
			   const struct fq_wait_hooks *hooks);

/**
 * The connection is lost: ends all that is pending with @p status, and refuses submits from here on.
 * A submit under way either is ended by this or fails. Any thread, but not while another reopens.
 */
FQ_API void fq_request_fail_all(struct fq_request_table *table, int status);

/** Takes submits again. Owner. Ids go on where they were. */
FQ_API void fq_request_table_reopen(struct fq_request_table *table);

/** Any thread. */
FQ_API void fq_request_get_stats(const struct fq_request_table *table,
				 struct fq_request_stats *out);

FQ_END_DECLS

#endif /* FENCEQ_REQUEST_H */
