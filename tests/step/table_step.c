/* SPDX-License-Identifier: MIT */
/*
 * The table of contexts, white box: what an owner does to it, at random and by the worst ids, and
 * what a poster sees who is stopped in the midst of a search while the owner goes on. A bank that is
 * in the table throughout is found, wherever the search stops; one that is not is not.
 */
#include <string.h>

#include "internal.h"
#include "step.h"

void (*fq_step_hook)(void);

#define BANKS 4096u

static struct fq_bank bank[BANKS];
static struct fq_table table;

static void insert(unsigned i, uint32_t ctx_id)
{
	fq_store_rlx(&bank[i].ctx_id, ctx_id);
	STEP_CHECK(!fq_table_insert(&table, &bank[i]), "insert");
}

static void take_out(unsigned i)
{
	fq_table_remove(&table, &bank[i]);
	fq_store_rel(&bank[i].ctx_id, FQ_CTX_NONE);
}

static void open_table(void)
{
	memset(&table, 0, sizeof(table));
	STEP_CHECK(!fq_table_init(&table), "init");
}

/* Ids that differ in a few bits only, wherever those are. */
static void ids_of_every_stride(void)
{
	for (unsigned shift = 0; shift < 21; shift++) {
		open_table();
		for (unsigned i = 0; i < 2048; i++)
			insert(i, i << shift);
		for (unsigned i = 0; i < 2048; i++)
			STEP_CHECK(fq_table_find(&table, i << shift) == &bank[i], "%u << %u", i,
				   shift);
		STEP_CHECK(!fq_table_find(&table, 2048u << shift), "found what is not there");
		for (unsigned i = 0; i < 2048; i += 2)
			take_out(i);
		for (unsigned i = 0; i < 2048; i++)
			STEP_CHECK(fq_table_find(&table, i << shift) == (i & 1 ? &bank[i] : NULL),
				   "%u << %u", i, shift);
		STEP_CHECK(table.live == 1024, "%u live", table.live);
		fq_table_fini(&table);
	}
}

/* A few alive, others come and go for ever: the arrays do not grow. */
static void churn(void)
{
	const struct fq_table_slots *one = NULL, *two = NULL;

	open_table();
	for (uint32_t i = 0; i < 8; i++)
		insert(i, i);
	for (uint32_t i = 8; i < 10000; i++) {
		insert(8 + i % 2, i);
		STEP_CHECK(fq_table_find(&table, i) == &bank[8 + i % 2], "%u", i);
		take_out(8 + i % 2);
		STEP_CHECK(!fq_table_find(&table, i), "%u", i);
		STEP_CHECK(fq_table_find(&table, i % 8) == &bank[i % 8], "%u", i % 8);
		if (i == 1000) {
			one = fq_ptr_load_rlx(&table.current);
			two = table.spare;
		} else if (i > 1000) {
			const struct fq_table_slots *now = fq_ptr_load_rlx(&table.current);

			STEP_CHECK(now == one || now == two, "a third array");
		}
	}
	fq_table_fini(&table);
}

/* -- a search that is stopped ------------------------------------------------------------------ */

struct search {
	uint32_t ctx_id;
	struct fq_bank *found;
};

static void find(void *arg)
{
	struct search *s = arg;

	s->found = fq_table_find(&table, s->ctx_id);
}

/* Enough for arrays to be filled anew: the same (count small), or larger ones. */
static void disturb(unsigned count, unsigned rounds)
{
	for (unsigned r = 0; r < rounds; r++) {
		for (unsigned i = 0; i < count; i++)
			insert(100 + i, 1000 + r * count + i);
		for (unsigned i = 0; i < count; i++)
			take_out(100 + i);
	}
}

#define STAY 5u  /* ids 0 .. */
#define LEAVE 6u /* ids 50 .., first in the table, so that others stand behind them */

static void fill(uint32_t multiplier)
{
	open_table();
	table.multiplier = multiplier; /* the same collisions in every run */
	for (uint32_t i = 0; i < LEAVE; i++)
		insert(50 + i, 50 + i);
	for (uint32_t i = 0; i < STAY; i++)
		insert(i, i);
}

/* Returns false when the search ended before it came to its stop. */
static bool stopped_search(uint32_t multiplier, uint32_t ctx_id, unsigned stop_at, unsigned count)
{
	struct fq_bank *expected = ctx_id < STAY ? &bank[ctx_id] : NULL;
	struct search search = {.ctx_id = ctx_id};
	struct stopper stopper;
	bool stopped;

	fill(multiplier);
	stopped = stopper_start(&stopper, find, &search, stop_at);
	for (uint32_t i = 0; i < LEAVE; i++)
		take_out(50 + i);
	disturb(count, 100 / count + 1);
	stopper_finish(&stopper);
	STEP_CHECK(search.found == expected, "context %u, stopped at %u, %u come and go", ctx_id,
		   stop_at, count);
	fq_table_fini(&table);
	for (uint32_t i = 0; i < STAY; i++)
		fq_store_rlx(&bank[i].ctx_id, FQ_CTX_NONE);
	return stopped;
}

static unsigned stopped_searches(void)
{
	static const unsigned count[] = {1, 2, 5, 400};
	unsigned runs = 0;

	for (uint32_t multiplier = 1; multiplier < 16; multiplier += 2)
		for (uint32_t ctx_id = 0; ctx_id <= STAY; ctx_id++)
			for (unsigned c = 0; c < 4; c++)
				for (unsigned stop = 0; stopped_search(multiplier * 0x9e3779b1u,
								       ctx_id, stop, count[c]);
				     stop++)
					runs++;
	return runs;
}

int main(void)
{
	unsigned runs;

	for (unsigned i = 0; i < BANKS; i++)
		fq_store_rlx(&bank[i].ctx_id, FQ_CTX_NONE);
	fq_step_hook = step_hook;
	ids_of_every_stride();
	churn();
	runs = stopped_searches();
	printf("searches stopped: %u\n", runs);
	STEP_CHECK(runs > 100, "hardly any search was stopped");
	puts("ok");
	return 0;
}
