/* SPDX-License-Identifier: MIT */
#include "gate_order.h"

#ifdef FQ_DEBUG

#include "internal.h"

#define GATES 64

static fq_a64 taken;           /* a bit for each number that is a gate's */
static fq_a64 followed[GATES]; /* the gates that were entered from inside of this one */

static __thread uint64_t inside; /* the gates that this thread is inside of */

static uint64_t bit(int gate)
{
	return gate < 0 ? 0 : UINT64_C(1) << gate;
}

static void clear(fq_a64 *word, uint64_t bits)
{
	uint64_t seen = fq_load_rlx(word);

	while ((seen & bits) && !fq_cas_acqrel(word, &seen, seen & ~bits))
		;
}

int fq_order_born(void)
{
	uint64_t seen = fq_load_rlx(&taken);

	while (~seen) {
		/* G4: pairs with fq_order_dead */
		if (fq_cas_acqrel(&taken, &seen, seen | (seen + 1)))
			return __builtin_ctzll(~seen);
	}
	return -1;
}

void fq_order_dead(int gate)
{
	if (gate < 0)
		return;
	fq_store_rlx(&followed[gate], 0);
	for (int i = 0; i < GATES; i++)
		clear(&followed[i], bit(gate));
	clear(&taken,
	      bit(gate)); /* G4: nothing is known of the number when it is given out again */
}

/* Has anything of @targets been entered from inside of @gate, at whatever depth? */
static bool leads_to(int gate, uint64_t targets)
{
	uint64_t known = bit(gate), todo = known;

	while (todo) {
		uint64_t next = fq_load_rlx(&followed[__builtin_ctzll(todo)]);

		if (next & targets)
			return true;
		todo = (todo & (todo - 1)) | (next & ~known);
		known |= next;
	}
	return false;
}

/*
 * Of two threads that come from opposite sides at the same time each writes its own step before it
 * looks for the other's. A step that is refused is taken back; should another thread have noted the
 * same one in between, that is forgotten until it is made again.
 */
bool fq_order_allows(int gate)
{
	uint64_t from = inside & ~bit(gate), added = 0;

	if (gate < 0 || !from)
		return true;
	for (uint64_t rest = from; rest; rest &= rest - 1) {
		fq_a64 *word = &followed[__builtin_ctzll(rest)];

		if (fq_load_rlx(word) & bit(gate))
			continue;
		fq_or_acqrel(word, bit(gate));
		added |= rest & -rest;
	}
	fq_full_barrier(); /* G5: pairs with itself: the steps above before the look below */
	if (!leads_to(gate, from))
		return true;
	for (; added; added &= added - 1)
		clear(&followed[__builtin_ctzll(added)], bit(gate));
	return false;
}

void fq_order_entered(int gate)
{
	inside |= bit(gate);
}

void fq_order_left(int gate)
{
	inside &= ~bit(gate);
}

#else

/* ISO C wants something in every translation unit. */
typedef int fq_order_is_off;

#endif
