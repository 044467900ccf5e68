/* SPDX-License-Identifier: MIT */
#ifndef FQ_REQUEST_INTERNAL_H
#define FQ_REQUEST_INTERNAL_H

/*
 * What a table's slots are, and how somebody who keeps the request's message in an outgoing list (a
 * channel) takes part: by two flags of the slot's word.
 *
 *   QUEUED  the message is still on the way to the socket, so the slot is not given to another
 *   LENT    its bytes are being read at this moment, so the request is not handed back
 */

#include "internal.h"

/* Of a slot's word, above its state and flags (request.c). A new one is free, in generation 1. */
#define FQ_SLOT_GENERATION_SHIFT 8
#define FQ_SLOT_GENERATION_BITS 56u

struct fq_slot {
	fq_a64 word;
	struct fq_request *request; /* whoever moves the word to TAKEN writes, to CLAIMED reads */
};

struct fq_request_table {
	alignas(FQ_CACHELINE) fq_a64 room; /* slots taken, and above them where to look next */
	/*
	 * Those who may touch this memory, in steps of 2: requests that are not handed back, messages
	 * and frames of a channel. Bit 0: nobody comes any more, and the last to go pushes last_left.
	 */
	alignas(FQ_CACHELINE) fq_a64 users;
	fq_a64 submitted;
	fq_a64 completed;
	fq_a64 oversized;
	fq_a64 timed_out;
	fq_a64 cancelled;
	fq_a64 lost;
	fq_a64 refused_late;
	fq_a64 refused_forged;
	fq_a64 exhausted;

	alignas(FQ_CACHELINE) struct fq_queue *queue; /* constant from here on */
	uint32_t slots;
	uint32_t slot_bits;
	uint64_t generation_mask;
	struct fq_node *last_left;
	struct fq_slot slot[];
};

/* A slot is the caller's, its id known; nobody else can end the request yet. */
int fq_request_reserve(struct fq_request_table *t, struct fq_request *req);
uint64_t fq_request_id(const struct fq_request_table *t, const struct fq_request *req);
/* -ENOTCONN: the slot is given back. With @queued, fq_request_settle() must follow. */
int fq_request_publish(struct fq_request_table *t, struct fq_request *req, bool queued);

/* Who gets the slot from this may write to its request, and must finish it. */
int fq_request_claim(struct fq_request_table *t, uint64_t id, struct fq_slot **out);
void fq_request_fill(struct fq_request_table *t, struct fq_request *req, int status,
		     const void *data, size_t size);
void fq_request_finish(struct fq_request_table *t, struct fq_slot *slot);
/* Ends the very request, if it is pending. */
bool fq_request_end(struct fq_request *req, int status, fq_a64 *counter);

/* Owner: may the message be read? True: it stays until fq_request_settle(). */
bool fq_request_borrow(struct fq_slot *slot);
/*
 * Owner: the message is not being read any more. @off: and it is off the list, where nobody may look
 * for it after this.
 */
void fq_request_settle(struct fq_request_table *t, struct fq_slot *slot, bool off);

void fq_request_enter(struct fq_request_table *t);
void fq_request_leave(struct fq_request_table *t);
/* Nobody enters any more. True: nobody is inside. Else last_left is pushed when that is so. */
bool fq_request_retire(struct fq_request_table *t);
void fq_request_table_free(struct fq_request_table *t);

/* request_wait.c: gives a request that is over to whoever waits for it. The last access to it. */
void fq_request_hand_back(struct fq_queue *q, struct fq_request *req);
/* Before anybody can end it: how it will be handed back. True: publishing must push the node. */
bool fq_request_choose_way(struct fq_request *req);

#endif /* FQ_REQUEST_INTERNAL_H */
