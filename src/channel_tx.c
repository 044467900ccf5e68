/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "channel_internal.h"

/*
 * One list of messages, of exchanges and posted ones, in the order in which they came off the queue. The
 * first is written; what the socket does not take of it is copied, so that its memory may go, and is
 * written before the next.
 */

static struct fq_outgoing *exchange_of(struct fq_message *m)
{
	return m->node.run == fq_tx_exchange ? fq_container_of(m, struct fq_outgoing, message)
					     : NULL;
}

static void append(struct fq_channel *ch, struct fq_node *node)
{
	node->next = NULL;
	*ch->tx_last = node;
	ch->tx_last = &node->next;
}

static void take_first(struct fq_channel *ch)
{
	ch->tx_first = ch->tx_first->next;
	if (!ch->tx_first)
		ch->tx_last = &ch->tx_first;
}

/* A posted message that is off the list goes back to the host. */
static void give_back(struct fq_channel *ch, struct fq_message *m, int status)
{
	if (m->sent)
		m->sent(m, status);
	fq_request_leave(ch->table);
}

/* An exchange that is off the list, and not borrowed. */
static void drop_exchange(struct fq_channel *ch, struct fq_outgoing *out)
{
	fq_count_owner(&ch->withdrawn, 1);
	fq_request_settle(ch->table, out->slot, true);
	fq_request_leave(ch->table);
}

void fq_tx_exchange(struct fq_node *node)
{
	struct fq_message *m = fq_container_of(node, struct fq_message, node);
	struct fq_channel *ch = m->channel;

	if (ch->closed) {
		drop_exchange(ch, exchange_of(m));
		return;
	}
	append(ch, node);
	fq_tx_pump(ch);
}

void fq_tx_post(struct fq_node *node)
{
	struct fq_message *m = fq_container_of(node, struct fq_message, node);
	struct fq_channel *ch = m->channel;

	if (ch->closed) {
		give_back(ch, m, -ENOTCONN);
		return;
	}
	append(ch, node);
	fq_tx_pump(ch);
}

void fq_tx_fail(struct fq_channel *ch, int status)
{
	ch->half_from = ch->half_to = 0;
	while (ch->tx_first) {
		struct fq_message *m = fq_container_of(ch->tx_first, struct fq_message, node);
		struct fq_outgoing *out = exchange_of(m);

		take_first(ch);
		if (out)
			drop_exchange(ch, out);
		else
			give_back(ch, m, status);
	}
}

/* Bytes written; 0: the socket takes nothing at present; -errno. */
static ssize_t write_some(struct fq_channel *ch, void *data, size_t size, const int *fds,
			  unsigned nfds)
{
	alignas(struct cmsghdr) unsigned char control[CMSG_SPACE(FQ_CHANNEL_FDS_MAX * sizeof(int))];
	struct iovec iov = {.iov_base = data, .iov_len = size};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	if (nfds) {
		struct cmsghdr *c = (struct cmsghdr *)(void *)control;

		memset(control, 0, CMSG_SPACE(nfds * sizeof(int)));
		c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
		msg.msg_control = control;
		msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
	}
	do {
		n = sendmsg(ch->config.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	if (n >= 0)
		return n;
	if (errno != EAGAIN && errno != EWOULDBLOCK)
		return -errno;
	fq_count_owner(&ch->blocked, 1);
	ch->tx_blocked = true;
	return 0;
}

/* Is this about the one message (its fds, or memory for it)? */
static bool is_the_messages(int err, unsigned nfds)
{
	if (err == -ENOMEM || err == -ENOBUFS)
		return true;
	return nfds && err != -EPIPE && err != -ECONNRESET && err != -ENOTCONN;
}

static void cannot_write(struct fq_channel *ch, int err)
{
	ch->tx_error = err == -EPIPE ? -ECONNRESET : err;
}

static void write_half(struct fq_channel *ch)
{
	ssize_t n = write_some(ch, ch->half + ch->half_from, ch->half_to - ch->half_from, NULL, 0);

	if (n < 0)
		cannot_write(ch, (int)n);
	else
		ch->half_from += (size_t)n;
}

static void keep_rest(struct fq_channel *ch, const struct fq_message *m, size_t written)
{
	if (written == m->size)
		return;
	fq_count_owner(&ch->half_copied, 1);
	memcpy(ch->half, (const unsigned char *)m->data + written, m->size - written);
	ch->half_from = 0;
	ch->half_to = m->size - written;
}

/* True: the first message is done with, as *err says. */
static bool write_message(struct fq_channel *ch, struct fq_message *m, int *err)
{
	ssize_t n = write_some(ch, m->data, m->size, m->fds, m->nfds);

	*err = n < 0 ? (int)n : 0;
	if (n > 0) {
		keep_rest(ch, m, (size_t)n);
		fq_count_owner(&ch->sent, 1);
		return true;
	}
	if (n < 0 && is_the_messages((int)n, m->nfds))
		return true;
	if (n < 0)
		cannot_write(ch, (int)n);
	return false;
}

static void write_exchange(struct fq_channel *ch, struct fq_outgoing *out)
{
	bool done;
	int err;

	if (!fq_request_borrow(out->slot)) {
		take_first(ch);
		drop_exchange(ch, out);
		return;
	}
	done = write_message(ch, &out->message, &err);
	if (done && err)
		(void)fq_request_end(out->slot->request, err, &ch->table->lost);
	/* After the settling, the slot and the record with it may be another exchange's. */
	if (done)
		take_first(ch);
	fq_request_settle(ch->table, out->slot, done);
	if (done)
		fq_request_leave(ch->table);
}

static void write_post(struct fq_channel *ch, struct fq_message *m)
{
	int err;

	if (!write_message(ch, m, &err))
		return;
	take_first(ch);
	give_back(ch, m, err);
}

static void write_next(struct fq_channel *ch)
{
	struct fq_message *m = fq_container_of(ch->tx_first, struct fq_message, node);
	struct fq_outgoing *out = exchange_of(m);

	if (out)
		write_exchange(ch, out);
	else
		write_post(ch, m);
}

void fq_tx_pump(struct fq_channel *ch)
{
	struct fq_request_table *t = ch->table;
	unsigned left = FQ_CHANNEL_BUDGET;

	fq_request_enter(t);
	while (!ch->closed && !ch->tx_blocked && !ch->tx_error && fq_tx_is_waiting(ch)) {
		if (!left--) {
			ch->tx_blocked = true; /* the socket says when to go on: at once */
			break;
		}
		if (ch->half_from != ch->half_to)
			write_half(ch);
		else
			write_next(ch);
	}
	/* What the peer has sent before it went is still to be read. */
	if (ch->tx_error && !ch->closed)
		fq_rx_read(ch);
	fq_channel_watch(ch);
	fq_request_leave(t);
}
