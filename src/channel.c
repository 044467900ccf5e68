/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "channel_internal.h"

/* -- life -------------------------------------------------------------------------------------- */

static int check_config(const struct fq_channel_config *c)
{
	int type = 0;
	socklen_t size = sizeof(type);

	if (!c || !c->parse || !c->put_id || !c->header_size || c->max_message < c->header_size ||
	    c->max_fds > FQ_CHANNEL_FDS_MAX || c->nesting > UINT32_MAX / 2)
		return -EINVAL;
	if (getsockopt(c->fd, SOL_SOCKET, SO_TYPE, &type, &size))
		return -errno;
	return type == SOCK_STREAM ? 0 : -EPROTOTYPE;
}

static void free_channel(struct fq_channel *ch)
{
	fq_rx_fini(ch);
	if (ch->table)
		fq_request_table_free(ch->table);
	free(ch->outgoing);
	free(ch->half);
	free(ch);
}

static void bury(struct fq_node *node)
{
	free_channel(fq_container_of(node, struct fq_channel, grave));
}

static int init_table(struct fq_channel *ch)
{
	const struct fq_request_config config = {
		.queue = ch->config.queue,
		.slots = ch->config.slots,
		.id_bits = ch->config.id_bits,
	};
	int err = fq_request_table_create(&ch->table, &config);

	if (err)
		return err;
	ch->grave.run = bury;
	ch->table->last_left = &ch->grave;
	ch->outgoing = calloc(config.slots, sizeof(ch->outgoing[0]));
	ch->half = malloc(ch->config.max_message);
	if (!ch->outgoing || !ch->half)
		return -ENOMEM;
	for (uint32_t i = 0; i < config.slots; i++) {
		ch->outgoing[i].slot = &ch->table->slot[i];
		ch->outgoing[i].message.channel = ch;
		ch->outgoing[i].message.node.run = fq_tx_exchange;
	}
	return 0;
}

static void ready(struct fq_watch *watch, unsigned events)
{
	struct fq_channel *ch = fq_container_of(watch, struct fq_channel, watch);
	struct fq_request_table *t = ch->table;

	fq_request_enter(t);
	if (events & FQ_WATCH_OUT) {
		ch->tx_blocked = false;
		fq_tx_pump(ch);
	}
	if (!ch->closed && (events & (FQ_WATCH_IN | FQ_WATCH_HANGUP))) {
		if (fq_rx_can_read(ch))
			fq_rx_read(ch);
		else if (events & FQ_WATCH_HANGUP)
			fq_channel_lose(ch, -ECONNRESET);
		else
			fq_channel_watch(ch); /* until a buffer is free */
	}
	fq_request_leave(t);
}

int fq_channel_create(struct fq_channel **out, const struct fq_channel_config *config)
{
	int err = out ? check_config(config) : -EINVAL;
	struct fq_channel *ch;

	if (err)
		return err;
	ch = fq_alloc_aligned(sizeof(*ch));
	if (!ch)
		return -ENOMEM;
	ch->config = *config;
	if (!ch->config.nesting)
		ch->config.nesting = 4;
	ch->tx_last = &ch->tx_first;
	ch->watch.run = ready;
	err = init_table(ch);
	if (!err)
		err = fq_rx_init(ch);
	if (!err)
		err = fq_watch_add(config->queue, &ch->watch, config->fd, FQ_WATCH_IN);
	if (err) {
		free_channel(ch);
		return err;
	}
	fq_debug_born(ch);
	*out = ch;
	return 0;
}

/* False: it was shut before. Calls the host. */
static bool shut(struct fq_channel *ch, int status)
{
	if (ch->closed)
		return false;
	ch->closed = true;
	fq_store_rlx(&ch->over, 1);
	fq_watch_remove(&ch->watch);
	fq_request_fail_all(ch->table, status);
	fq_rx_drop(ch);
	fq_tx_fail(ch, status);
	return true;
}

void fq_channel_lose(struct fq_channel *ch, int status)
{
	struct fq_request_table *t = ch->table;

	fq_request_enter(t);
	if (shut(ch, status) && !ch->destroyed && ch->config.lost)
		ch->config.lost(ch, status, ch->config.opaque);
	fq_request_leave(t);
}

void fq_channel_close(struct fq_channel *ch, int status)
{
	if (!fq_is_alive(ch))
		return;
	fq_request_enter(ch->table);
	(void)shut(ch, status);
	fq_request_leave(ch->table);
}

void fq_channel_destroy(struct fq_channel *ch)
{
	if (!fq_is_alive(ch))
		return;
	fq_debug_dead(ch);
	ch->destroyed = true;
	fq_request_enter(ch->table);
	(void)shut(ch, -ENOTCONN);
	fq_request_leave(ch->table);
	if (fq_request_retire(ch->table))
		free_channel(ch);
}

void fq_channel_watch(struct fq_channel *ch)
{
	unsigned events =
		(fq_rx_can_read(ch) ? FQ_WATCH_IN : 0) | (ch->tx_blocked ? FQ_WATCH_OUT : 0);

	if (!ch->closed && events != ch->watch.events)
		(void)fq_watch_change(&ch->watch, events);
}

/* -- sending, from any thread ------------------------------------------------------------------ */

static int check_message(const struct fq_channel *ch, const struct fq_message *m)
{
	if (!m->data || (m->nfds && !m->fds))
		return -EINVAL;
	if (m->size < ch->config.header_size || m->size > ch->config.max_message ||
	    m->nfds > FQ_CHANNEL_FDS_MAX)
		return -EMSGSIZE;
	return 0;
}

/*
 * All that is the caller's is read and written before the request is published: from then on it may
 * be over at any time.
 */
int fq_channel_exchange(struct fq_channel *ch, struct fq_exchange *exchange)
{
	struct fq_outgoing *out;
	int err;

	if (!fq_is_alive(ch) || !exchange || (exchange->reply_room && !exchange->reply_fds))
		return -EINVAL;
	err = check_message(ch, &exchange->message);
	if (!err)
		err = fq_request_reserve(ch->table, &exchange->request);
	if (err)
		return err;
	exchange->reply_nfds = 0;
	ch->config.put_id(exchange->message.data, fq_request_id(ch->table, &exchange->request),
			  ch->config.opaque);
	out = &ch->outgoing[exchange->request.slot];
	out->message.data = exchange->message.data;
	out->message.size = exchange->message.size;
	out->message.fds = exchange->message.fds;
	out->message.nfds = exchange->message.nfds;
	fq_request_enter(ch->table);
	err = fq_request_publish(ch->table, &exchange->request, true);
	if (err)
		fq_request_leave(ch->table);
	else
		fq_queue_push(ch->config.queue, &out->message.node);
	return err;
}

int fq_channel_post(struct fq_channel *ch, struct fq_message *message)
{
	int err;

	if (!fq_is_alive(ch) || !message)
		return -EINVAL;
	err = check_message(ch, message);
	if (err)
		return err;
	/* One that slips through is told by `sent`. */
	if (fq_load_rlx(&ch->over))
		return -ENOTCONN;
	fq_request_enter(ch->table);
	message->channel = ch;
	message->node.run = fq_tx_post;
	fq_queue_push(ch->config.queue, &message->node);
	return 0;
}

void fq_channel_get_stats(const struct fq_channel *ch, struct fq_channel_stats *out)
{
	*out = (struct fq_channel_stats){
		.sent = fq_load_rlx(&ch->sent),
		.withdrawn = fq_load_rlx(&ch->withdrawn),
		.half_copied = fq_load_rlx(&ch->half_copied),
		.blocked = fq_load_rlx(&ch->blocked),
		.replies = fq_load_rlx(&ch->replies),
		.served = fq_load_rlx(&ch->served),
		.refused = fq_load_rlx(&ch->refused),
		.protocol_errors = fq_load_rlx(&ch->protocol_errors),
		.fds_lost = fq_load_rlx(&ch->fds_lost),
		.receive_stops = fq_load_rlx(&ch->receive_stops),
	};
	fq_request_get_stats(ch->table, &out->requests);
}
