/* SPDX-License-Identifier: MIT */
/* The thread that may block, to which owners leave the memory of what they unplugged. */
#define _GNU_SOURCE
#include <pthread.h>

#include "chaos.h"

#define GRAVES 512u
#define BEHIND 128u

struct grave {
	void (*run)(void *arg);
	void *arg;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct grave grave[GRAVES];
static unsigned count;

void reaper_defer(void (*run)(void *arg), void *arg, void *opaque)
{
	(void)opaque;
	pthread_mutex_lock(&lock);
	STRESS_CHECK(count < GRAVES, "no room");
	grave[count++] = (struct grave){run, arg};
	pthread_mutex_unlock(&lock);
}

bool reaper_is_behind(void)
{
	bool behind;

	pthread_mutex_lock(&lock);
	behind = count > BEHIND;
	pthread_mutex_unlock(&lock);
	return behind;
}

static bool reap_one(uint64_t r)
{
	struct grave g = {0};

	pthread_mutex_lock(&lock);
	if (count) {
		unsigned i = (unsigned)(r % count);

		g = grave[i];
		grave[i] = grave[--count];
	}
	pthread_mutex_unlock(&lock);
	if (g.run)
		g.run(g.arg);
	return g.run;
}

void *reaper_main(void *unused)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	uint64_t state = chaos_draw(98, 0);

	(void)unused;
	while (!atomic_load(&chaos_stop)) {
		uint64_t r = stress_random(&state);

		if (r % 4 == 0)
			(void)fq_reclaim();
		if (!reap_one(r >> 8))
			nanosleep(&pause, NULL);
	}
	return NULL;
}

void reaper_finish(void)
{
	while (reap_one(0))
		;
	(void)fq_reclaim();
}
