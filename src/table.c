/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "internal.h"

/*
 * Open addressing with linear probing. The owner changes it while posters look:
 * - a bank that is found is right, whatever happened meanwhile: its id is compared, its memory is
 *   never freed before the device, and a token tells its lives apart;
 * - a bank that is not found is missing only if the version is the same after the search as before.
 *   It changes before an array that posters may still be searching is filled anew, which happens to
 *   the spare one, never to the current one.
 * A live entry never moves within an array, so a search of the current one cannot miss it.
 */
struct fq_table_slots {
	uint32_t mask;
	struct fq_table_slots *outgrown;
	fq_aptr slot[]; /* struct fq_bank *, NULL or REMOVED */
};

#define SLOTS_MIN 16u

/* A bank that no id is equal to. */
static struct fq_bank removed = {.ctx_id = {FQ_CTX_NONE}};
#define REMOVED (&removed)

static struct fq_table_slots *slots_create(uint32_t count)
{
	struct fq_table_slots *s =
		fq_alloc_aligned(sizeof(*s) + (size_t)count * sizeof(s->slot[0]));

	if (s)
		s->mask = count - 1;
	return s;
}

int fq_table_init(struct fq_table *t)
{
	struct fq_table_slots *s = slots_create(SLOTS_MIN);
	uint32_t seed;

	if (!s)
		return -ENOMEM;
	/* The guest chooses the ids; it shall not choose who collides. */
	if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != (ssize_t)sizeof(seed))
		seed = (uint32_t)((uintptr_t)s >> 6) * 0x9e3779b1u;
	t->multiplier = seed | 1;
	fq_ptr_store_rel(&t->current, s);
	return 0;
}

void fq_table_fini(struct fq_table *t)
{
	struct fq_table_slots *s = t->outgrown;

	while (s) {
		struct fq_table_slots *next = s->outgrown;

		free(s);
		s = next;
	}
	free(t->spare);
	free(fq_ptr_load_rlx(&t->current));
}

static uint32_t home(const struct fq_table *t, const struct fq_table_slots *s, uint32_t ctx_id)
{
	/* The low bits of a product know only the low bits of its factors. */
	uint64_t product = (uint64_t)(ctx_id ^ (ctx_id >> 16)) * t->multiplier;

	return (uint32_t)(product ^ (product >> 15)) & s->mask;
}

struct fq_bank *fq_table_find(const struct fq_table *t, uint32_t ctx_id)
{
	uint64_t version = fq_load_acq(&t->version), before;

	do {
		/* B1: pairs with B1 in rebuild */
		const struct fq_table_slots *s = fq_ptr_load_acq(&t->current);
		uint32_t i = home(t, s, ctx_id);

		before = version;
		for (uint32_t n = 0; n <= s->mask; n++, i = (i + 1) & s->mask) {
			/* B2: pairs with B2 in place and B3 in rebuild */
			struct fq_bank *bank = fq_ptr_load_acq(&s->slot[i]);

			if (!bank)
				break;
			if (fq_load_acq(&bank->ctx_id) == ctx_id)
				return bank;
		}
		version = fq_load_acq(&t->version); /* B3 */
	} while (version != before);
	return NULL;
}

/* True when a slot was used that had never been. */
static bool place(const struct fq_table *t, struct fq_table_slots *s, struct fq_bank *bank)
{
	uint32_t i = home(t, s, (uint32_t)fq_load_rlx(&bank->ctx_id));
	struct fq_bank *found;

	while ((found = fq_ptr_load_rlx(&s->slot[i])) && found != REMOVED)
		i = (i + 1) & s->mask;
	fq_ptr_store_rel(&s->slot[i], bank); /* B2: the bank is complete before it is found */
	return !found;
}

/* Into the spare array if it is large enough, so that contexts may come and go for ever. */
static int rebuild(struct fq_table *t)
{
	struct fq_table_slots *old = fq_ptr_load_rlx(&t->current);
	uint32_t count = old->mask + 1;
	struct fq_table_slots *s = t->spare;

	while (t->live >= count / 2)
		count *= 2;
	if (!s || s->mask + 1 < count) {
		s = slots_create(count);
		if (!s)
			return -ENOMEM;
		if (t->spare) {
			/* Somebody may still be searching it. */
			t->spare->outgrown = t->outgrown;
			t->outgrown = t->spare;
		}
	}
	/* B3: whoever sees a slot of the new filling sees this too */
	fq_store_rel(&t->version, fq_load_rlx(&t->version) + 1);
	for (uint32_t i = 0; i <= s->mask; i++)
		fq_ptr_store_rel(&s->slot[i], NULL);
	for (uint32_t i = 0; i <= old->mask; i++) {
		struct fq_bank *bank = fq_ptr_load_rlx(&old->slot[i]);

		if (bank && bank != REMOVED)
			(void)place(t, s, bank);
	}
	t->used = t->live;
	t->spare = old;
	fq_ptr_store_rel(&t->current, s); /* B1: filled before it is searched */
	return 0;
}

int fq_table_insert(struct fq_table *t, struct fq_bank *bank)
{
	const struct fq_table_slots *s = fq_ptr_load_rlx(&t->current);

	/* At a quarter free every search ends soon; a rebuild leaves half of it free. */
	if (t->used + 1 > (s->mask + 1) / 4 * 3) {
		int err = rebuild(t);

		if (err)
			return err;
	}
	if (place(t, fq_ptr_load_rlx(&t->current), bank))
		t->used++;
	t->live++;
	return 0;
}

void fq_table_remove(struct fq_table *t, const struct fq_bank *bank)
{
	struct fq_table_slots *s = fq_ptr_load_rlx(&t->current);
	uint32_t i = home(t, s, (uint32_t)fq_load_rlx(&bank->ctx_id));

	while (fq_ptr_load_rlx(&s->slot[i]) != bank)
		i = (i + 1) & s->mask;
	fq_ptr_store_rel(&s->slot[i], REMOVED);
	t->live--;
}
