/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "channel_internal.h"

#ifndef MSG_CMSG_CLOEXEC
#define MSG_CMSG_CLOEXEC 0
#endif

/*
 * One buffer is being filled; when it holds a request it goes to the host, and the next message, which
 * may be read while the host is still busy with this one, takes another. There are as many as can be
 * with the host at one time, and one more.
 */

/* -- buffers ----------------------------------------------------------------------------------- */

static void close_fds(struct fq_incoming *in)
{
	for (unsigned i = 0; i < in->nfds; i++) {
		if (in->fds[i] >= 0)
			close(in->fds[i]);
	}
	in->nfds = 0;
}

static void reset(struct fq_incoming *in)
{
	close_fds(in);
	in->size = 0;
	in->have = 0;
	in->fds_lost = false;
}

static void put_back(struct fq_channel *ch, struct fq_incoming *in)
{
	reset(in);
	in->next = ch->rx_free;
	ch->rx_free = in;
}

static void free_buffer(struct fq_incoming *in)
{
	if (!in)
		return;
	close_fds(in);
	free(in->fds);
	free(in->data);
	free(in);
}

int fq_rx_init(struct fq_channel *ch)
{
	for (uint32_t i = 0; i <= ch->config.nesting; i++) {
		struct fq_incoming *in = calloc(1, sizeof(*in));

		if (in) {
			in->data = fq_alloc_aligned(ch->config.max_message);
			in->fds = calloc(ch->config.max_fds + 1, sizeof(int));
		}
		if (!in || !in->data || !in->fds) {
			free_buffer(in);
			return -ENOMEM;
		}
		put_back(ch, in);
	}
	return 0;
}

void fq_rx_fini(struct fq_channel *ch)
{
	free_buffer(ch->filling);
	while (ch->rx_free) {
		struct fq_incoming *in = ch->rx_free;

		ch->rx_free = in->next;
		free_buffer(in);
	}
}

void fq_rx_drop(struct fq_channel *ch)
{
	if (ch->filling)
		put_back(ch, ch->filling);
	ch->filling = NULL;
}

/* -- filling ----------------------------------------------------------------------------------- */

static void lose_fds(struct fq_channel *ch, struct fq_incoming *in)
{
	close_fds(in);
	if (!in->fds_lost)
		fq_count_owner(&ch->fds_lost, 1);
	in->fds_lost = true;
}

static void take_fd(struct fq_channel *ch, struct fq_incoming *in, int fd)
{
	if (!in->fds_lost && in->nfds < ch->config.max_fds) {
		in->fds[in->nfds++] = fd;
		return;
	}
	close(fd);
	lose_fds(ch, in);
}

static void take_fds(struct fq_channel *ch, struct fq_incoming *in, struct msghdr *msg)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
			take_fd(ch, in, fd);
		}
	}
	if (msg->msg_flags & MSG_CTRUNC)
		lose_fds(ch, in);
}

/* Bytes read, never beyond @size; 0: there is nothing at present; -errno. */
static ssize_t read_some(struct fq_channel *ch, struct fq_incoming *in, size_t size)
{
	alignas(struct cmsghdr) unsigned char control[CMSG_SPACE(FQ_CHANNEL_FDS_MAX * sizeof(int))];
	struct iovec iov = {.iov_base = in->data + in->have, .iov_len = size - in->have};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	do {
		if (ch->config.max_fds) {
			msg.msg_control = control;
			/* Not CMSG_SPACE, which may have room for one more. */
			msg.msg_controllen = CMSG_LEN(ch->config.max_fds * sizeof(int));
		}
		n = recvmsg(ch->config.fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
	take_fds(ch, in, &msg);
	return n ? n : -ECONNRESET;
}

static int look_at_header(struct fq_channel *ch, struct fq_incoming *in)
{
	const struct fq_channel_config *c = &ch->config;

	memset(&in->header, 0, sizeof(in->header));
	if (!c->parse(in->data, &in->header, c->opaque) && in->header.size >= c->header_size &&
	    in->header.size <= c->max_message) {
		in->size = in->header.size;
		return 0;
	}
	fq_count_owner(&ch->protocol_errors, 1);
	return -EPROTO;
}

/* 1: the message is complete; 0: there is no more at present, or *reads are used up; -errno. */
static int fill(struct fq_channel *ch, struct fq_incoming *in, unsigned *reads)
{
	while (!in->size || in->have < in->size) {
		size_t want = in->size ? in->size : ch->config.header_size;
		ssize_t n;

		if (!*reads)
			return 0;
		--*reads;
		n = read_some(ch, in, want);
		if (n <= 0)
			return (int)n;
		in->have += (size_t)n;
		if (!in->size && in->have == want) {
			int err = look_at_header(ch, in);

			if (err)
				return err;
		}
	}
	return 1;
}

/* -- what has come ----------------------------------------------------------------------------- */

static void hand_fds(struct fq_incoming *in, struct fq_exchange *exchange)
{
	if (in->fds_lost || in->nfds > exchange->reply_room) {
		if (!exchange->request.status)
			exchange->request.status = -EMSGSIZE;
		return;
	}
	if (in->nfds)
		memcpy(exchange->reply_fds, in->fds, in->nfds * sizeof(int));
	exchange->reply_nfds = in->nfds;
	in->nfds = 0;
}

static void take_reply(struct fq_channel *ch, struct fq_incoming *in)
{
	struct fq_slot *slot;
	struct fq_exchange *exchange;

	fq_count_owner(&ch->replies, 1);
	if (fq_request_claim(ch->table, in->header.id, &slot))
		return;
	exchange = fq_container_of(slot->request, struct fq_exchange, request);
	fq_request_fill(ch->table, &exchange->request, in->header.status, in->data, in->size);
	hand_fds(in, exchange);
	fq_request_finish(ch->table, slot);
}

/* The buffer is the host's until it returns, and then free. */
static void take_request(struct fq_channel *ch, struct fq_incoming *in)
{
	struct fq_received received = {
		.data = in->data,
		.size = in->size,
		.id = in->header.id,
		.fds = in->fds,
		.nfds = in->nfds,
		.fds_lost = in->fds_lost,
	};

	fq_count_owner(&ch->served, 1);
	ch->filling = NULL;
	if (ch->serving < ch->config.nesting) {
		ch->serving++;
		ch->config.serve(ch, &received, ch->config.opaque);
		ch->serving--;
	} else {
		fq_count_owner(&ch->refused, 1);
		ch->config.refuse(ch, &received, ch->config.opaque);
	}
	put_back(ch, in);
}

static void dispatch(struct fq_channel *ch, struct fq_incoming *in)
{
	if (in->header.reply) {
		take_reply(ch, in);
		reset(in);
	} else if (!ch->config.serve) {
		fq_count_owner(&ch->protocol_errors, 1);
		fq_channel_lose(ch, -EPROTO);
	} else if (ch->serving >= ch->config.nesting && !ch->config.refuse) {
		fq_channel_lose(ch, -EBUSY);
	} else {
		take_request(ch, in);
	}
}

static struct fq_incoming *buffer(struct fq_channel *ch)
{
	if (!ch->filling && ch->rx_free) {
		ch->filling = ch->rx_free;
		ch->rx_free = ch->filling->next;
	}
	return ch->filling;
}

/*
 * True: there may be more. Not after a callback that has waited: a wait further out is to look at its
 * clock first, or a peer that asks again and again would multiply its time-out at each level.
 */
static bool read_one(struct fq_channel *ch, unsigned *reads)
{
	struct fq_incoming *in = buffer(ch);
	int got = in ? fill(ch, in, reads) : 0;
	uint64_t drains;

	if (!got && (!in || *reads))
		got = ch->tx_error;
	if (got < 0)
		fq_channel_lose(ch, got);
	if (got <= 0)
		return false;
	drains = fq_load_rlx(&ch->config.queue->drains);
	dispatch(ch, in);
	return !ch->closed && drains == fq_load_rlx(&ch->config.queue->drains);
}

void fq_rx_read(struct fq_channel *ch)
{
	struct fq_request_table *t = ch->table;
	/* Calls, not messages: a peer chooses in how many pieces one comes. */
	unsigned reads = FQ_CHANNEL_READS;

	fq_request_enter(t);
	while (reads && read_one(ch, &reads))
		;
	if (!reads)
		fq_count_owner(&ch->receive_stops, 1);
	fq_channel_watch(ch);
	fq_request_leave(t);
}
