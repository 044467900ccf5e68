/* SPDX-License-Identifier: MIT */
/* Calls that end lives, and what the ledger makes of them. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>

#include "chaos.h"

static const int status_of[ENDS] = {-EIO,       -EPIPE,      -ENXIO,  -EOWNERDEAD,
				    -ECANCELED, -ECONNRESET, -ENODEV, -ENODEV};

struct call {
	struct slot *slot;
	enum end end;
	unsigned c, l;       /* context, line */
	unsigned from, to;   /* lines */
	uint64_t generation; /* of its device */
	int expected;        /* what it returns, or ANYTHING */
};

#define ANYTHING 1

static int call_end(struct slot *slot, enum end end, const struct line *line, bool leave)
{
	switch (end) {
	case RING_FAIL:
		return fq_ring_fail(slot->dev, line->ctx_id, line->ring_idx, status_of[end]);
	case GLOBAL_FAIL:
		return fq_global_fail(slot->dev, status_of[end]);
	case CONTEXT_FAIL:
		return fq_context_fail(slot->dev, line->ctx_id, status_of[end]);
	case DEVICE_FAIL:
		return fq_device_fail(slot->dev, status_of[end]);
	case CONTEXT_DESTROY:
		return fq_context_destroy(slot->dev, line->ctx_id);
	case RESET:
		return fq_device_reset(slot->dev);
	case UNPLUG:
		return fq_device_unplug(slot->dev, leave ? NULL : reaper_defer, NULL);
	default:
		return fq_device_destroy(slot->dev);
	}
}

/* A ring may have been used in an earlier life of its context. */
static int expected_of(const struct call *call)
{
	const struct slot *slot = call->slot;

	if (call->end >= RESET && slot->state == ENDING)
		return call->end == RESET ? -ENODEV : -EBUSY;
	if (call->end == GLOBAL_FAIL || call->end == DEVICE_FAIL || call->end >= RESET)
		return 0;
	if (slot->state == ENDING)
		return ANYTHING;
	if (!slot->live[call->c])
		return -ENOENT;
	return call->end == RING_FAIL ? ANYTHING : 0;
}

static void find_range(struct call *call)
{
	call->from = 0;
	call->to = LINES;
	if (call->end == RING_FAIL) {
		call->from = call->l;
		call->to = call->l + 1;
	} else if (call->end == GLOBAL_FAIL) {
		call->to = 1;
	} else if (call->end == CONTEXT_FAIL || call->end == CONTEXT_DESTROY) {
		call->from = 1 + call->c * RINGS;
		call->to = call->from + RINGS;
	}
}

/* Before the call, whose callbacks live in the time after it. */
static void foretell(struct call *call)
{
	struct slot *slot = call->slot;

	call->expected = expected_of(call);
	if (call->expected < 0)
		return;
	ledger_condemn(slot, call->from, call->to, status_of[call->end],
		       call->end >= CONTEXT_DESTROY);
	if (call->end == CONTEXT_DESTROY)
		slot->live[call->c] = false;
	for (unsigned i = 0; call->end >= RESET && i < CONTEXTS; i++)
		slot->live[i] = false;
	if (call->end == RESET)
		slot->frozen = false;
	if (call->end >= UNPLUG) {
		slot->state = ENDING;
		atomic_store(&slot->ended, call->generation);
	}
}

static void close_books(const struct call *call, uint64_t *until)
{
	if (call->end >= UNPLUG) {
		call->slot->state = EMPTY;
		for (unsigned i = 0; i < LINES; i++)
			until[i] = TOKEN_MAX;
	}
	ledger_close(call->slot, call->from, call->to, call->generation, until);
}

void end_life(struct slot *slot, enum end end, uint64_t fate)
{
	struct call call = {.slot = slot,
			    .end = end == UNPLUG && reaper_is_behind() ? DESTROY : end,
			    .c = (unsigned)fate % CONTEXTS,
			    .generation = atomic_load(&slot->generation)};
	uint64_t until[LINES];
	int err;

	call.l = 1 + call.c * RINGS + (unsigned)(fate >> 8) % RINGS;
	find_range(&call);
	for (unsigned i = 0; i < LINES; i++)
		until[i] = slot->line[i].high;
	foretell(&call);
	err = call_end(slot, call.end, &slot->line[call.l], fate >> 16 & 1);
	if (call.expected != ANYTHING)
		chaos_expect(err, call.expected, "end");
	/* In a callback another one may have ended the device, and begun the next. */
	if (!err && atomic_load(&slot->generation) == call.generation && slot->state != EMPTY)
		close_books(&call, until);
}
