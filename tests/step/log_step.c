/* SPDX-License-Identifier: MIT */
/*
 * A thread that marks a page, stopped before each of its steps, while the log is replaced or ended. Its
 * mark is in one of them, and a log that is said to be idle is not touched again.
 *
 * Seen to fail: with a count that is left before the bit is set; with the bitmap found before the
 * count; with a load and a store in the place of the read-modify-write on the bitmap.
 */
#include <errno.h>
#include <unistd.h>

#include <fenceq/mem.h>

#include "step.h"

void (*fq_step_hook)(void);

#define LOGS 3u

static struct fq_mem *mem;
static uint64_t bitmap[LOGS];

static void mark(void *arg)
{
	(void)arg;
	fq_mem_mark(mem, 5 * FQ_LOG_PAGE, 1);
}

static int set_log(uint64_t *words)
{
	return fq_mem_set_log(mem, words, words ? sizeof(*words) : 0);
}

static bool replaced_at(unsigned at, bool ended, bool twice)
{
	struct stopper s;
	bool stopped, idle, done;

	for (unsigned i = 0; i < LOGS; i++)
		bitmap[i] = 0;
	STEP_CHECK(!fq_mem_create(&mem, NULL, 0), "regions");
	STEP_CHECK(!set_log(&bitmap[0]), "log");
	stopped = stopper_start(&s, mark, NULL, at);
	STEP_CHECK(!set_log(ended ? NULL : &bitmap[1]), "the first one is replaced at once");
	idle = fq_mem_log_idle(mem);
	done = bitmap[0] & 1u << 5;
	if (idle)
		bitmap[0] = 0; /* may be unmapped now */
	else
		STEP_CHECK(stopped, "nobody is there");
	if (twice) {
		int again = set_log(ended ? NULL : &bitmap[2]);

		STEP_CHECK(again == (idle ? 0 : -EBUSY), "step %u: %d", at, again);
	}
	stopper_finish(&s);
	STEP_CHECK(fq_mem_log_idle(mem), "nobody is there any more");
	if (idle)
		STEP_CHECK(!bitmap[0], "step %u: touched", at);
	if (!idle)
		STEP_CHECK(bitmap[0] & 1u << 5, "step %u: lost", at);
	else if (!stopped)
		STEP_CHECK(done, "step %u: lost", at);
	else if (!ended)
		STEP_CHECK(bitmap[1 + twice] == 1u << 5, "step %u: lost", at);
	fq_mem_destroy(mem);
	return stopped;
}

/* Another thread marks a page of the same word meanwhile. */
static bool marked_beside_at(unsigned at)
{
	struct stopper s;
	bool stopped;

	bitmap[0] = 0;
	STEP_CHECK(!fq_mem_create(&mem, NULL, 0), "regions");
	STEP_CHECK(!set_log(&bitmap[0]), "log");
	stopped = stopper_start(&s, mark, NULL, at);
	fq_mem_mark(mem, 6 * FQ_LOG_PAGE, 1);
	stopper_finish(&s);
	STEP_CHECK(bitmap[0] == 3u << 5, "step %u: lost", at);
	fq_mem_destroy(mem);
	return stopped;
}

int main(void)
{
	alarm(60);
	fq_step_hook = step_hook;
	for (unsigned at = 0; replaced_at(at, false, false); at++) {
		for (unsigned how = 1; how < 4; how++)
			(void)replaced_at(at, how & 1, how & 2);
	}
	for (unsigned at = 0; marked_beside_at(at);)
		at++;
	return 0;
}
