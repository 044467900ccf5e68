/* SPDX-License-Identifier: MIT */
#ifndef FENCEQ_CHANNEL_H
#define FENCEQ_CHANNEL_H

/**
 * @file channel.h
 * @brief Messages over a connected stream socket: requests both ways, and never a blocked owner.
 *
 * Overview
 *   Any thread sends requests and waits for their replies (fenceq/request.h); the owner reads and
 *   writes the socket, in its drains, without ever blocking on it. The peer's own requests come
 *   through a callback, also while the owner itself waits for a reply. The format of the messages is
 *   the host's: a header of fixed size, which tells the size of the whole.
 *
 * Usage
 *     struct fq_channel_config config = {.queue = queue, .fd = fd, .header_size = 16,
 *                                        .max_message = 4096, .slots = 256, .id_bits = 16,
 *                                        .parse = parse, .put_id = put_id, .serve = serve};
 *     fq_channel_create(&channel, &config);
 *
 *     struct fq_exchange exchange = {.message = {.data = &out, .size = sizeof(out)},
 *                                    .request = {.reply = &in, .room = sizeof(in)}};
 *     err = fq_channel_exchange(channel, &exchange);
 *     if (!err)
 *         err = fq_request_wait(&exchange.request, timeout_ns, hooks);
 *
 * Guarantees
 *   | function            | who   | progress             | system calls                   |
 *   |---------------------|-------|----------------------|--------------------------------|
 *   | fq_channel_exchange | any   | lock-free, no alloc  | one write, if the owner sleeps |
 *   | fq_channel_post     | any   | lock-free, no alloc  | one write, if the owner sleeps |
 *   | fq_channel_close    | owner | O(slots) + callbacks | one for each waiter            |
 *   | fq_channel_destroy  | owner | O(slots) + callbacks | one for each waiter            |
 *   | reading and writing | owner | bounded per drain    | see Notes                      |
 *
 *   - Messages of one thread leave in the order it sent them; bytes of two are never mixed, however
 *     small the socket's buffer is.
 *   - Passed fds leave with the first byte of their message, once. Those that arrive belong to the
 *     message whose bytes they came with, never to an earlier one; none is leaked.
 *   - **Whose memory?** The bytes, fds and reply buffer of an exchange stay the channel's until its request
 *     is over, whichever way; a time-out does not depend on the peer or on the owner's next drain,
 *     also while the message is queued or half written (what is left of it has been copied, and still
 *     goes out). Those of a posted message stay the channel's until `sent` is called.
 *   - Nothing the peer sends makes the channel read or write outside of its buffers, loop, or abort.
 *   - `lost` is called once, after everything that was pending has been failed.
 *   - Any callback may post, exchange, wait, close and destroy.
 *
 * Who reads while a callback waits?
 *   `serve` is given a message in a buffer of its own, which stays until it returns. If it waits for
 *   a reply, the owner goes on reading into the next buffer, and may be in `serve` again, `nesting`
 *   deep; such is the case when the peer, too, makes requests before it replies. At that depth
 *   replies are still read, but the peer's requests go to `refuse`, which answers that it is busy and
 *   does not wait. So the innermost wait can always get its reply, and memory is bounded. (A `refuse`
 *   that waits all the same has nobody to read for it, and times out.)
 *
 * Notes
 *   Reading costs two calls for each message, its header and the rest, and one that finds nothing:
 *   the kernel reports passed fds for a whole read, so a read never goes beyond the end of a message.
 *   Writing costs one. At most 128 calls read, and 64 write, before other work has its turn, into however
 *   many pieces the peer cuts its messages; and none reads on after a callback that has waited, so that
 *   a wait further out lasts at most its time-out and one of each level inside of it.
 *
 *   An exchange that is over before its message was written keeps its slot until the owner has come by and
 *   what stands before it is written: a peer that reads nothing ends in -EAGAIN, not in memory.
 *
 *   A peer that asks and does not read the answers makes no backlog here but at the host, whose messages
 *   they are until `sent`: count them, and close the channel when there are too many.
 *
 *   Closing a passed fd can block in the kernel (a TCP socket that lingers, with data nobody takes), also
 *   one that is refused, and with max_fds 0, when the kernel closes it in the read.
 *
 *   A forked child shares the socket with its parent: there, close the channel after
 *   fq_queue_after_fork_child() and before the first drain. (Before it, the epoll set is the parent's,
 *   too, which would read no more.)
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <fenceq/base.h>
#include <fenceq/queue.h>
#include <fenceq/request.h>

FQ_BEGIN_DECLS

struct fq_channel;
struct fq_message;

/** Runs on the owner, from a drain, when the message's memory is the host's again; may free it. */
typedef void fq_message_fn(struct fq_message *message, int status);

/** Something to send. Caller memory; zero-initialise it. */
struct fq_message {
	void *data;          /**< header and all; fq_channel_exchange() puts the id in */
	size_t size;         /**< at least a header, at most max_message */
	const int *fds;      /**< to pass along; they stay the host's */
	unsigned nfds;       /**< at most FQ_CHANNEL_FDS_MAX */
	fq_message_fn *sent; /**< of posted messages; may be NULL. Status 0: handed to the kernel */
	void *opaque;        /**< the host's */

	struct fq_channel *channel; /**< the library's from here on */
	struct fq_node node;
};

/** A request to the peer. Caller memory; zero-initialise it. */
struct fq_exchange {
	struct fq_request request; /**< the reply is the whole message, header and all */
	struct fq_message message; /**< `sent` is not called */
	int *reply_fds;      /**< where to put the fds that come with the reply; then the host's */
	unsigned reply_room; /**< how many; with more than that it ends with -EMSGSIZE and none */
	unsigned reply_nfds; /**< how many have come, whatever the status; valid once it is over */
};

/** What `parse` says of a header. */
struct fq_header {
	uint64_t id;   /**< of the request, or of the request it replies to */
	uint32_t size; /**< of the whole message, header and all */
	int status;    /**< of a reply: what its waiter gets, as 0 or -errno */
	bool reply;    /**< true: a reply to one of ours; false: for `serve` */
};

/** A message of the peer's. All of it is the channel's, and goes when `serve` returns. */
struct fq_received {
	const void *data;
	size_t size;
	uint64_t id;
	int *fds; /**< closed when `serve` returns; to keep one, take it and leave -1 in its place */
	unsigned nfds; /**< at most max_fds */
	bool fds_lost; /**< it had more, or the process is out of fds: all of them were closed */
};

/** The most fds that a message can pass (the kernel's limit). */
#define FQ_CHANNEL_FDS_MAX 253u

struct fq_channel_config {
	struct fq_queue *queue; /**< created with FQ_QUEUE_EPOLL; must outlive the channel */
	int fd;                 /**< a connected stream socket; stays the host's, blocking or not */
	uint32_t header_size;   /**< at least 1 */
	uint32_t max_message;   /**< at least header_size; the limit both ways */
	uint32_t max_fds;       /**< the most that one message of the peer's may pass */
	uint32_t nesting;       /**< the most `serve` callbacks at one time; 0: 4 */
	uint32_t slots;         /**< as in fq_request_config */
	uint32_t id_bits;       /**< as in fq_request_config */

	/**
	 * Owner: looks at a header (in aligned memory) and nothing else. 0, or anything else for garbage:
	 * then the connection is lost with -EPROTO.
	 */
	int (*parse)(const void *header, struct fq_header *out, void *opaque);
	/** Any thread, in fq_channel_exchange(): writes the id into an outgoing header, and nothing else. */
	void (*put_id)(void *header, uint64_t id, void *opaque);
	/** Owner: the peer wants something. NULL: it must not, and the connection is lost with -EPROTO. */
	void (*serve)(struct fq_channel *channel, struct fq_received *received, void *opaque);
	/**
	 * Owner: `serve` is on the stack as often as it may be; answer that, and do not wait. NULL: the
	 * connection is lost with -EBUSY.
	 */
	void (*refuse)(struct fq_channel *channel, struct fq_received *received, void *opaque);
	/**
	 * Owner: the connection is lost; -ECONNRESET the peer has gone, -EPROTO it sends garbage, -EBUSY,
	 * or what the socket says. May be NULL.
	 */
	void (*lost)(struct fq_channel *channel, int status, void *opaque);
	void *opaque;
};

struct fq_channel_stats {
	struct fq_request_stats requests;
	uint64_t sent;        /**< messages handed to the kernel */
	uint64_t withdrawn;   /**< exchanges that were over before the first byte was written */
	uint64_t half_copied; /**< messages that the socket took in parts */
	uint64_t blocked;     /**< times the socket took nothing more */
	uint64_t replies;     /**< received, refused ones included */
	uint64_t served;      /**< requests of the peer's */
	uint64_t refused;     /**< of these, the ones nested too deep */
	uint64_t protocol_errors;
	uint64_t fds_lost; /**< messages that had too many fds, or lost theirs */
	uint64_t
		receive_stops; /**< times reading stopped after 128 calls for others to have their turn */
};

/**
 * Everything is allocated here: for each slot a record, and nesting + 2 buffers of max_message bytes.
 * Owner.
 * @return 0; -EINVAL NULL, a limit out of range, a queue without FQ_QUEUE_EPOLL; -EPROTOTYPE no stream
 *         socket; -ENOMEM; -ENOTSOCK, -EBADF, -EEXIST and others from the system.
 */
FQ_API FQ_MUST_USE int fq_channel_create(struct fq_channel **out,
					 const struct fq_channel_config *config);

/**
 * Sends a request; then fq_request_wait(), or its callback. Any thread. Both the message and the
 * request are the channel's until the request is over.
 * @return 0; -EAGAIN, -ENOTCONN, -EBUSY, -EINVAL as fq_request_submit(); -EMSGSIZE the message is
 *         smaller than a header, larger than max_message, or has too many fds. Nothing was sent then.
 *         An fd that cannot be passed ends the request with what the socket says of it (-EBADF).
 */
FQ_API FQ_MUST_USE int fq_channel_exchange(struct fq_channel *channel,
					   struct fq_exchange *exchange);

/**
 * Sends a message that has no reply, or is one. Any thread. If this returns 0, `sent` is called once,
 * on the owner: status 0, or why the message was not handed to the kernel.
 * @return 0; -ENOTCONN the connection is lost; -EMSGSIZE as above; -EINVAL NULL.
 */
FQ_API FQ_MUST_USE int fq_channel_post(struct fq_channel *channel, struct fq_message *message);

/**
 * Ends the connection, as if it were lost with @p status, but `lost` is not called. Owner. The fd is
 * not touched any more and may be closed. Without effect on one that is lost.
 */
FQ_API void fq_channel_close(struct fq_channel *channel, int status);

/**
 * Closes it (-ENOTCONN) and frees it. Owner, also from inside any of its callbacks; no other thread
 * may be about to use it, but may still be in a wait. Nobody is called back any more, except `done`
 * of requests and `sent` of messages, from the next drains. The memory goes when the last of these,
 * the waits and the callbacks on the stack are through; fq_queue_destroy() is -EBUSY until then.
 * NULL is allowed.
 */
FQ_API void fq_channel_destroy(struct fq_channel *channel);

/** Any thread. */
FQ_API void fq_channel_get_stats(const struct fq_channel *channel, struct fq_channel_stats *out);

FQ_END_DECLS

#endif /* FENCEQ_CHANNEL_H */
