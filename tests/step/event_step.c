/* SPDX-License-Identifier: MIT */
/*
 * A setter stopped before each of its steps in turn. From the one that sets the event on, the waiter
 * is through and its memory may go (trap 8); before it, the waiter waits. A waiter stopped before
 * each of its steps loses no set either.
 *
 * Seen to fail: with a setter that reads the word after it has set it (fault); with a waiter that
 * sleeps without having changed the word to "awaited" (hangs).
 */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"
#include "step.h"

void (*fq_step_hook)(void);

static struct fq_event *event;

static void set(void *arg)
{
	(void)arg;
	STEP_CHECK(!fq_event_set(event, -EIO), "set");
}

static void wait_for_it(void *arg)
{
	(void)arg;
	STEP_CHECK(!fq_event_wait(event, -1, NULL), "wait");
}

static struct fq_event *fresh(size_t page)
{
	void *p = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	STEP_CHECK(p != MAP_FAILED, "mmap");
	return p;
}

/* Waits where somebody sleeps already, so that the setter has its every step to do. */
static void setters_steps(size_t page)
{
	bool stopped = true;

	for (unsigned at = 0; stopped; at++) {
		struct stopper s;
		int status = 0, err;

		event = fresh(page);
		STEP_CHECK(fq_event_wait(event, 1, NULL) == -ETIMEDOUT, "nobody has set it");
		stopped = stopper_start(&s, set, NULL, at);
		err = fq_event_wait(event, 0, &status);
		if (err) {
			STEP_CHECK(err == -ETIMEDOUT && stopped, "step %u: %d", at, err);
		} else {
			STEP_CHECK(status == -EIO, "step %u: %d", at, status);
			munmap(event, page);
		}
		stopper_finish(&s);
		if (err) {
			STEP_CHECK(!fq_event_wait(event, -1, NULL), "step %u", at);
			munmap(event, page);
		}
	}
}

static void waiters_steps(size_t page)
{
	bool stopped = true;

	event = fresh(page);
	for (unsigned at = 0; stopped && at < 3; at++) {
		struct stopper s;

		fq_event_init(event);
		stopped = stopper_start(&s, wait_for_it, NULL, at);
		STEP_CHECK(!fq_event_set(event, 0), "step %u", at);
		stopper_finish(&s);
	}
	munmap(event, page);
}

int main(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	alarm(60);
	fq_step_hook = step_hook;
	setters_steps(page);
	waiters_steps(page);
	return 0;
}
