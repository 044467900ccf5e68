/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include "request_internal.h"

/*
 * The word of a slot: its state, three flags, and its generation.
 *
 *   FREE    -> TAKEN    (submitter; only where CLOSED is not set)
 *   TAKEN   -> PENDING  (submitter; only where CLOSED is not set), with or without QUEUED
 *   TAKEN   -> FREE     (submitter that found it closed), next generation
 *   PENDING -> CLAIMED  (reply, time-out, cancel, loss: whoever is first)
 *   CLAIMED -> FREE     (the claimer), next generation, where QUEUED is not set
 *   CLAIMED -> OVER     (the claimer), where QUEUED is set
 *   OVER    -> FREE     (owner, with QUEUED cleared), next generation
 *
 *   CLOSED  set and cleared in every state; never on a PENDING slot: setting it claims that
 *   QUEUED  set with PENDING; cleared by the owner, in any state but FREE and TAKEN
 *   LENT    set by the owner on a PENDING slot, together with QUEUED; cleared by the owner
 *
 * Impossible: PENDING with CLOSED, LENT without QUEUED, FREE or TAKEN with either; a generation that
 * goes back (it has 56 bits; ids show the lower ones).
 *
 * The loss of a connection needs no barrier against a submit under way: it changes every slot's word,
 * and the submit needs two changes of the same word. Either the submit's comes first, and the loss
 * finds it, or it finds the loss.
 */
enum {
	FREE,
	TAKEN,
	PENDING,
	CLAIMED,
	OVER,
};

#define STATE UINT64_C(0x07)
#define CLOSED UINT64_C(0x08)
#define QUEUED UINT64_C(0x10)
#define LENT UINT64_C(0x20)
#define GENERATION_SHIFT FQ_SLOT_GENERATION_SHIFT

/* The word of the table's room: slots taken, and from which slot on to look for the next. */
#define TAKEN_SLOTS UINT64_C(0xffffffff)
#define CURSOR_SHIFT 32

static uint64_t with_state(uint64_t word, uint64_t state)
{
	return (word & ~STATE) | state;
}

static uint64_t generation_of(uint64_t word)
{
	return word >> GENERATION_SHIFT;
}

static uint32_t index_of(const struct fq_request_table *t, const struct fq_slot *slot)
{
	return (uint32_t)(slot - t->slot);
}

/* -- submit ------------------------------------------------------------------------------------ */

/* The word of a slot whose life is over. Id 0, the first slot's in generation 0, is left out. */
static uint64_t freed(const struct fq_request_table *t, const struct fq_slot *slot, uint64_t word)
{
	uint64_t generation = generation_of(word) + 1;

	if (slot == t->slot && !(generation & t->generation_mask))
		generation++;
	return generation << GENERATION_SHIFT | (word & CLOSED) | FREE;
}

static void give_room_back(struct fq_request_table *t)
{
	fq_add_rlx(&t->room, (uint64_t)-1);
}

/* The submitter's, before the request is pending. */
static void unsubmit(struct fq_request_table *t, struct fq_request *req)
{
	struct fq_slot *slot = &t->slot[req->slot];
	uint64_t word = fq_load_rlx(&slot->word);

	while (!fq_cas_acqrel(&slot->word, &word, freed(t, slot, word))) /* K2 */
		;
	give_room_back(t);
	fq_add_rlx(&t->submitted, (uint64_t)-1);
	req->table = NULL;
	fq_request_leave(t);
}

static bool is_closed(const struct fq_slot *slot)
{
	return fq_load_rlx(&slot->word) & CLOSED;
}

static int no_room(struct fq_request_table *t)
{
	if (is_closed(t->slot))
		return -ENOTCONN;
	fq_count(&t->exhausted);
	return -EAGAIN;
}

/* 0 and the slot to begin with. */
static int take_room(struct fq_request_table *t, uint32_t *from)
{
	const uint64_t one_more = UINT64_C(1) << CURSOR_SHIFT | 1;
	uint64_t seen = fq_load_rlx(&t->room);

	do {
		if ((seen & TAKEN_SLOTS) >= t->slots)
			return no_room(t);
	} while (!fq_cas_acqrel(&t->room, &seen, seen + one_more));
	*from = (uint32_t)(seen >> CURSOR_SHIFT) % t->slots;
	return 0;
}

/*
 * There is a slot for each that has taken room, so this finds one; it goes round again only where
 * others have taken what it passed. NULL: closed.
 */
static struct fq_slot *take_slot(struct fq_request_table *t, uint32_t from)
{
	for (uint32_t n = 0;; n++) {
		struct fq_slot *slot = &t->slot[(from + n) % t->slots];
		uint64_t word = fq_load_rlx(&slot->word);

		if (word & CLOSED)
			return NULL;
		/* K2: pairs with whoever freed it */
		if ((word & STATE) != FREE ||
		    !fq_cas_acqrel(&slot->word, &word, with_state(word, TAKEN)))
			continue;
		/* The next submit is to look behind this one, or it would be used again too soon. */
		if (n)
			fq_add_rlx(&t->room, (uint64_t)n << CURSOR_SHIFT);
		return slot;
	}
}

int fq_request_reserve(struct fq_request_table *t, struct fq_request *req)
{
	struct fq_slot *slot;
	uint32_t from;
	int err;

	if (!fq_is_alive(t) || !req || (req->room && !req->reply))
		return -EINVAL;
	if (req->table)
		return -EBUSY;
	err = take_room(t, &from);
	if (err)
		return err;
	slot = take_slot(t, from);
	if (!slot) {
		give_room_back(t);
		return -ENOTCONN;
	}
	fq_request_enter(t);
	slot->request = req;
	req->table = t;
	req->slot = index_of(t, slot);
	req->generation = generation_of(fq_load_rlx(&slot->word));
	req->status = -EINPROGRESS;
	req->size = 0;
	return 0;
}

uint64_t fq_request_id(const struct fq_request_table *t, const struct fq_request *req)
{
	return (req->generation & t->generation_mask) << t->slot_bits | req->slot;
}

int fq_request_publish(struct fq_request_table *t, struct fq_request *req, bool queued)
{
	struct fq_slot *slot = &t->slot[req->slot];
	const uint64_t flags = queued ? QUEUED : 0;
	struct fq_queue *q = t->queue;
	uint64_t word = fq_load_rlx(&slot->word);
	bool push = fq_request_choose_way(req);

	fq_count(&t->submitted);
	do {
		if (word & CLOSED) {
			unsubmit(t, req);
			return -ENOTCONN;
		}
		/* K1: pairs with whoever claims it. With a callback the table may be gone after this. */
	} while (!fq_cas_acqrel(&slot->word, &word, with_state(word, PENDING) | flags));
	if (push)
		fq_queue_push(q, &req->node);
	return 0;
}

int fq_request_submit(struct fq_request_table *t, struct fq_request *req, uint64_t *id)
{
	int err = fq_request_reserve(t, req);

	if (err)
		return err;
	if (id)
		*id = fq_request_id(t, req);
	return fq_request_publish(t, req, false);
}

/* -- the ways it ends -------------------------------------------------------------------------- */

void fq_request_finish(struct fq_request_table *t, struct fq_slot *slot)
{
	struct fq_request *req = slot->request;
	struct fq_queue *q = t->queue;
	uint64_t word = fq_load_rlx(&slot->word);
	uint64_t next;

	do {
		next = word & QUEUED ? with_state(word, OVER) : freed(t, slot, word);
		/* K2: pairs with who takes the slot next; K3: with the one it is lent to */
	} while (!fq_cas_acqrel(&slot->word, &word, next));
	if (!(word & QUEUED))
		give_room_back(t);
	/* The table may go as soon as the request is handed back. */
	if (!(word & LENT))
		fq_request_hand_back(q, req);
}

/* Was that id, whose request is not pending, ever given out? */
static bool was_given_out(const struct fq_request_table *t, uint64_t generation, uint64_t word)
{
	/* The first of the generations that look like this. */
	uint64_t first = generation ? generation : t->generation_mask + 1;

	return first < generation_of(word) ||
	       (first == generation_of(word) && (word & STATE) >= PENDING);
}

static int refuse(struct fq_request_table *t, bool late)
{
	fq_count(late ? &t->refused_late : &t->refused_forged);
	return late ? -ESTALE : -ENOENT;
}

int fq_request_claim(struct fq_request_table *t, uint64_t id, struct fq_slot **out)
{
	uint64_t index = id & ((UINT64_C(1) << t->slot_bits) - 1);
	uint64_t generation = id >> t->slot_bits;
	struct fq_slot *slot;
	uint64_t word;

	if (!id || index >= t->slots || generation > t->generation_mask)
		return refuse(t, false);
	slot = &t->slot[index];
	word = fq_load_rlx(&slot->word);
	do {
		if ((generation_of(word) & t->generation_mask) != generation ||
		    (word & STATE) != PENDING)
			return refuse(t, was_given_out(t, generation, word));
		/* A guess: the peer cannot have seen the request yet. */
		if (word & QUEUED)
			return refuse(t, false);
	} while (!fq_cas_acqrel(&slot->word, &word, with_state(word, CLAIMED))); /* K1 */
	*out = slot;
	return 0;
}

void fq_request_fill(struct fq_request_table *t, struct fq_request *req, int status,
		     const void *data, size_t size)
{
	fq_count(&t->completed);
	req->size = size;
	req->status = status;
	if (size > req->room) {
		fq_count(&t->oversized);
		req->status = -EMSGSIZE;
	} else if (size) {
		memcpy(req->reply, data, size);
	}
}

int fq_request_complete(struct fq_request_table *t, uint64_t id, int status, const void *data,
			size_t size)
{
	struct fq_slot *slot;
	int err;

	if (!fq_is_alive(t) || (size && !data))
		return -EINVAL;
	err = fq_request_claim(t, id, &slot);
	if (err)
		return err;
	fq_request_fill(t, slot->request, status, data, size);
	fq_request_finish(t, slot);
	return 0;
}

bool fq_request_end(struct fq_request *req, int status, fq_a64 *counter)
{
	struct fq_request_table *t = req->table;
	struct fq_slot *slot = &t->slot[req->slot];
	uint64_t word = fq_load_rlx(&slot->word);

	do {
		if ((word & STATE) != PENDING || generation_of(word) != req->generation)
			return false;
	} while (!fq_cas_acqrel(&slot->word, &word, with_state(word, CLAIMED))); /* K1 */
	fq_count(counter);
	req->status = status;
	fq_request_finish(t, slot);
	return true;
}

bool fq_request_cancel(struct fq_request *req)
{
	return req && req->table && fq_request_end(req, -ECANCELED, &req->table->cancelled);
}

static void close_slot(struct fq_request_table *t, struct fq_slot *slot, int status)
{
	uint64_t word = fq_load_rlx(&slot->word);
	uint64_t next;

	do {
		next = word | CLOSED;
		if ((word & STATE) == PENDING)
			next = with_state(next, CLAIMED);
	} while (!fq_cas_acqrel(&slot->word, &word, next)); /* K1 */
	if ((word & STATE) != PENDING)
		return;
	fq_count(&t->lost);
	slot->request->status = status;
	fq_request_finish(t, slot);
}

void fq_request_fail_all(struct fq_request_table *t, int status)
{
	if (!fq_is_alive(t))
		return;
	/* The last to be handed back may let the table go. */
	fq_request_enter(t);
	for (uint32_t i = 0; i < t->slots; i++)
		close_slot(t, &t->slot[i], status);
	fq_request_leave(t);
}

void fq_request_table_reopen(struct fq_request_table *t)
{
	if (!fq_is_alive(t))
		return;
	for (uint32_t i = 0; i < t->slots; i++) {
		uint64_t word = fq_load_rlx(&t->slot[i].word);

		while (!fq_cas_acqrel(&t->slot[i].word, &word, word & ~CLOSED))
			;
	}
}

/* -- a message on its way ---------------------------------------------------------------------- */

bool fq_request_borrow(struct fq_slot *slot)
{
	uint64_t word = fq_load_rlx(&slot->word);

	do {
		if ((word & STATE) != PENDING)
			return false;
	} while (!fq_cas_acqrel(&slot->word, &word, word | LENT)); /* K3 */
	return true;
}

void fq_request_settle(struct fq_request_table *t, struct fq_slot *slot, bool off)
{
	struct fq_request *req = slot->request;
	struct fq_queue *q = t->queue;
	uint64_t word = fq_load_rlx(&slot->word);
	uint64_t next;
	bool over;

	do {
		over = (word & STATE) == OVER;
		next = word & ~(off ? LENT | QUEUED : LENT);
		if (over && off)
			next = freed(t, slot, word);
		/* K3: pairs with who ended it meanwhile; K2: with who takes the slot next */
	} while (!fq_cas_acqrel(&slot->word, &word, next));
	if (over && off)
		give_room_back(t);
	if (over && (word & LENT))
		fq_request_hand_back(q, req);
}
