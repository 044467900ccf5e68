/* SPDX-License-Identifier: MIT */
#ifndef FQ_CHANNEL_INTERNAL_H
#define FQ_CHANNEL_INTERNAL_H

/*
 * channel.c sets it up, takes messages from any thread, and ends it; channel_tx.c writes, channel_rx.c
 * reads; both are the owner's.
 *
 * Whoever calls the host, or may, and looks at the channel afterwards is counted in the table's users
 * (fq_request_enter), as is each message from its push until it is off the list: the channel's memory
 * goes with the last of them.
 */

#include <fenceq/channel.h>
#include <fenceq/watch.h>

#include "request_internal.h"

/* Calls that write, and that read (header and rest), before others have their turn. */
#define FQ_CHANNEL_BUDGET 64u
#define FQ_CHANNEL_READS 128u

/* An exchange's message: the channel's own, as that may be over while this is on a list. */
struct fq_outgoing {
	struct fq_message message; /* its data are the caller's: only to be read when borrowed */
	struct fq_slot *slot;
};

/* A buffer of the receiving side: being filled, or under a serve, or free. */
struct fq_incoming {
	struct fq_incoming *next; /* on the free list */
	struct fq_header header;
	size_t size; /* of the whole message; 0 while the header is not complete */
	size_t have;
	unsigned nfds;
	bool fds_lost;
	int *fds;
	unsigned char *data;
};

struct fq_channel {
	struct fq_channel_config config;
	struct fq_request_table *table;
	struct fq_outgoing *outgoing; /* one for each slot of the table */
	fq_a64 over;                  /* takes no messages any more */

	/* Owner from here on. */
	struct fq_watch watch;
	struct fq_node *tx_first;
	struct fq_node **tx_last;
	unsigned char *half; /* what is left of a message that was written in part */
	size_t half_from;
	size_t half_to; /* half_from: nothing is left */
	bool tx_blocked;
	int tx_error; /* nothing can be written; there may be something to read */

	struct fq_incoming *filling; /* NULL: the next message takes one from the free list */
	struct fq_incoming *rx_free;
	unsigned serving;
	bool closed;
	bool destroyed;
	struct fq_node grave; /* runs when the last user has left */

	fq_a64 sent;
	fq_a64 withdrawn;
	fq_a64 half_copied;
	fq_a64 blocked;
	fq_a64 replies;
	fq_a64 served;
	fq_a64 refused;
	fq_a64 protocol_errors;
	fq_a64 fds_lost;
	fq_a64 receive_stops;
};

/* channel.c */
void fq_channel_lose(struct fq_channel *ch, int status);
/* Watches for what can be done at present. */
void fq_channel_watch(struct fq_channel *ch);

/* channel_tx.c */
void fq_tx_exchange(struct fq_node *node); /* run of an outgoing exchange's node */
void fq_tx_post(struct fq_node *node);     /* run of a posted message's node */
void fq_tx_pump(struct fq_channel *ch);
void fq_tx_fail(struct fq_channel *ch, int status);
static inline bool fq_tx_is_waiting(const struct fq_channel *ch)
{
	return ch->tx_first || ch->half_from != ch->half_to;
}

/* channel_rx.c */
int fq_rx_init(struct fq_channel *ch);
void fq_rx_fini(struct fq_channel *ch);
void fq_rx_read(struct fq_channel *ch);
void fq_rx_drop(struct fq_channel *ch);
static inline bool fq_rx_can_read(const struct fq_channel *ch)
{
	return ch->filling || ch->rx_free;
}

#endif /* FQ_CHANNEL_INTERNAL_H */
