/* SPDX-License-Identifier: MIT */
/* What each fence must be told. The owner's, but for the four stamps of a line. */
#define _GNU_SOURCE
#include <pthread.h>
#include <string.h>

#include "chaos.h"

struct work *line_free_work(struct line *line)
{
	for (unsigned i = 0; i < WORKS; i++) {
		if (!line->work[i].in_flight)
			return &line->work[i];
	}
	return NULL;
}

/* A fence was submitted: tokens grow over all lives of a key. Posters may have it from here on. */
void line_publish(struct line *line, struct work *work)
{
	struct slot *slot = line->slot;
	uint64_t token = work->fence.token;

	if (token <= line->high)
		chaos_fault(OUT_OF_ORDER, "a token was given out again", (long long)token);
	line->high = token;
	if (slot->high < token)
		slot->high = token;
	work->line = line;
	work->order = line->order++;
	work->life = line->life;
	work->in_flight = true;
	work->condemned = work->complete = false;
	atomic_store(&line->published, stamp(atomic_load(&slot->generation), token));
}

/* For the next device in a slot. The generation first: see ticket_take(). */
void ledger_renew(struct slot *slot)
{
	uint64_t generation = (atomic_load(&slot->generation) + 1) & UINT16_MAX;

	atomic_store(&slot->generation, generation);
	for (unsigned i = 0; i < LINES; i++) {
		struct line *line = &slot->line[i];

		atomic_store(&line->published, stamp(generation, 0));
		atomic_store(&line->signalled, stamp(generation, 0));
		atomic_store(&line->accepted, stamp(generation, 0));
		atomic_store(&line->dead, stamp(generation, 0));
		line->high = 0;
		line->life++;
	}
	memset(slot->live, 0, sizeof(slot->live));
	slot->high = 0;
	slot->frozen = false;
}

static bool covers(const atomic_ullong *word, const struct line *line, uint64_t token)
{
	uint64_t s = atomic_load(word);

	return stamp_generation(s) == atomic_load(&line->slot->generation) &&
	       token <= stamp_token(s);
}

static void check_order(const struct work *work)
{
	const struct line *line = work->line;

	for (unsigned i = 0; i < WORKS; i++) {
		const struct work *other = &line->work[i];

		if (other->in_flight && other->life == work->life && other->order < work->order)
			chaos_fault(OUT_OF_ORDER, "an older fence is pending",
				    (long long)work->fence.token);
	}
}

void ledger_retired(struct work *work, int status)
{
	struct line *line = work->line;

	if (!work->in_flight) {
		chaos_fault(DUPLICATED, "retired twice", (long long)work->fence.token);
		return;
	}
	work->in_flight = false;
	line->slot->owner->retired++;
	check_order(work);
	if (!status) {
		if (!covers(&line->signalled, line, work->fence.token))
			chaos_fault(EARLY, "before its signal", (long long)work->fence.token);
		if (line->slot->frozen && !work->condemned)
			chaos_fault(EARLY, "while frozen", (long long)work->fence.token);
	} else if (!work->condemned || work->complete || status != work->expected) {
		chaos_fault(WRONG_STATUS, "retired with", status);
	}
}

void ledger_condemn(struct slot *slot, unsigned from, unsigned to, int status, bool ends)
{
	for (unsigned l = from; l < to; l++) {
		struct line *line = &slot->line[l];

		line->life += ends;
		for (unsigned i = 0; i < WORKS; i++) {
			struct work *work = &line->work[i];

			if (!work->in_flight || work->condemned)
				continue;
			work->condemned = true;
			work->expected = status;
			work->complete = covers(&line->accepted, line, work->fence.token);
		}
	}
}

static void bury(struct line *line, uint64_t s)
{
	if (atomic_load(&line->dead) < s)
		atomic_store(&line->dead, s);
}

/*
 * What it took has been handed back when it returns; inside a callback, all but what an outer call
 * is handing back.
 */
void ledger_close(struct slot *slot, unsigned from, unsigned to, uint64_t generation,
		  const uint64_t *until)
{
	if (atomic_load(&slot->generation) != generation)
		return;
	for (unsigned l = from; l < to; l++) {
		struct line *line = &slot->line[l];

		bury(line, stamp(generation, until[l]));
		for (unsigned i = 0; slot->owner->depth == 1 && i < WORKS; i++) {
			if (line->work[i].in_flight && line->work[i].condemned)
				chaos_fault(LOST, "the call returned without it",
					    (long long)line->work[i].fence.token);
		}
	}
}

void ledger_note_due(const struct owner *owner, struct due *due)
{
	for (unsigned s = 0; s < SLOTS; s++) {
		for (unsigned l = 0; l < LINES; l++)
			due->accepted[s][l] = atomic_load(&owner->slot[s].line[l].accepted);
	}
}

static bool line_is_due(const struct line *line, uint64_t accepted)
{
	if (stamp_generation(accepted) != atomic_load(&line->slot->generation))
		return false;
	for (unsigned i = 0; i < WORKS; i++) {
		if (line->work[i].in_flight && line->work[i].fence.token <= stamp_token(accepted))
			return true;
	}
	return false;
}

bool ledger_is_due(const struct owner *owner, const struct due *due)
{
	for (unsigned s = 0; s < SLOTS; s++) {
		const struct slot *slot = &owner->slot[s];

		for (unsigned l = 0; slot->state == ALIVE && !slot->frozen && l < LINES; l++) {
			if (line_is_due(&slot->line[l], due->accepted[s][l]))
				return true;
		}
	}
	return false;
}

unsigned ledger_in_flight(const struct slot *slot)
{
	unsigned count = 0;

	for (unsigned l = 0; l < LINES; l++) {
		for (unsigned i = 0; i < WORKS; i++)
			count += slot->line[l].work[i].in_flight;
	}
	return count;
}
