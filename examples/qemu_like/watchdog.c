/* SPDX-License-Identifier: MIT */
#include "watchdog.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "biglock.h"
#include "machine.h"

#define LOOK_MS 50u
#define ACTORS_MAX 32u

static struct actor *actors[ACTORS_MAX];
static _Atomic unsigned actor_count;
static _Thread_local struct actor *self;

static struct {
	uint64_t stall_ms;
	void (*found)(bool deadlock);
} watchdog;

void actor_init(struct actor *a, const char *fmt, ...)
{
	unsigned n = atomic_load(&actor_count);
	va_list ap;

	if (n == ACTORS_MAX)
		die("more threads than the watchdog has room for");
	va_start(ap, fmt);
	vsnprintf(a->name, sizeof(a->name), fmt, ap);
	va_end(ap);
	actors[n] = a;
	atomic_store(&actor_count, n + 1);
}

void actor_be(struct actor *a)
{
	self = a;
}

struct actor *actor_self(void)
{
	return self;
}

void actor_does(enum doing doing, const char *why)
{
	atomic_store(&self->why, why);
	atomic_store(&self->doing, doing);
	atomic_fetch_add(&self->moves, 1);
}

void actor_joins(struct actor *whom, const char *why)
{
	atomic_store(&self->joins, whom);
	actor_does(ACTOR_JOINS, why);
}

/* Whom an actor cannot go on without; NULL when there is nobody. */
static struct actor *waits_for(struct actor *a)
{
	switch (atomic_load(&a->doing)) {
	case ACTOR_WANTS_LOCK:
		return biglock_holder();
	case ACTOR_JOINS:
		return atomic_load(&a->joins);
	default:
		return NULL;
	}
}

/* An actor of a circle, and in *moves how much all of the circle have moved ever; or NULL. */
static struct actor *find_circle(uint64_t *moves)
{
	unsigned count = atomic_load(&actor_count);

	for (unsigned i = 0; i < count; i++) {
		struct actor *a = actors[i];

		*moves = atomic_load(&a->moves);
		for (unsigned n = 0; n < count; n++) {
			a = waits_for(a);
			if (!a || a == actors[i])
				break;
			*moves += atomic_load(&a->moves);
		}
		if (a == actors[i])
			return a;
	}
	return NULL;
}

static void say(struct actor *a)
{
	static const char *const what[] = {
		[ACTOR_GONE] = "has no thread", [ACTOR_RUNS] = "runs",
		[ACTOR_SLEEPS] = "sleeps",      [ACTOR_WANTS_LOCK] = "waits for the big lock",
		[ACTOR_JOINS] = "joins",
	};
	struct actor *whom = waits_for(a);
	const char *why = atomic_load(&a->why);

	fprintf(stderr, "  %-10s  %s%s", a->name,
		biglock_holder() == a ? "holds the big lock, and " : "",
		what[atomic_load(&a->doing)]);
	if (whom)
		fprintf(stderr, atomic_load(&a->doing) == ACTOR_JOINS ? " %s" : " (held by %s)",
			whom->name);
	fprintf(stderr, "%s%s\n", why ? ", " : "", why ? why : "");
}

static void say_circle(struct actor *first)
{
	struct actor *a = first;

	fprintf(stderr, "deadlock: each waits for the next, and none has moved for %u ms\n",
		QUIET_MS);
	do {
		say(a);
		a = waits_for(a);
	} while (a && a != first);
}

static void say_others(void)
{
	fprintf(stderr, "all threads:\n");
	for (unsigned i = 0; i < atomic_load(&actor_count); i++) {
		if (atomic_load(&actors[i]->doing) != ACTOR_GONE)
			say(actors[i]);
	}
}

static uint64_t all_moves(void)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < atomic_load(&actor_count); i++)
		sum += atomic_load(&actors[i]->moves);
	return sum;
}

/* How long something has been the same, in looks; time that this thread did not run is none. */
struct quiet {
	const void *what;
	uint64_t moves;
	uint64_t ms;
};

static uint64_t quiet_for(struct quiet *q, const void *what, uint64_t moves)
{
	q->ms = q->what == what && q->moves == moves ? q->ms + LOOK_MS : 0;
	q->what = what;
	q->moves = moves;
	return q->ms;
}

static void *look(void *unused)
{
	const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000};
	struct quiet circle = {0}, all = {0};

	(void)unused;
	for (;;) {
		uint64_t moves = 0;
		struct actor *first = find_circle(&moves);

		if (quiet_for(&circle, first, moves) >= QUIET_MS && first) {
			say_circle(first);
			say_others();
			watchdog.found(true);
		}
		if (quiet_for(&all, actors, all_moves()) >= watchdog.stall_ms) {
			fprintf(stderr, "nobody has moved for %llu s\n",
				(unsigned long long)watchdog.stall_ms / 1000);
			say_others();
			watchdog.found(false);
		}
		nanosleep(&pause, NULL);
	}
	return NULL;
}

void watchdog_start(unsigned stall_s, void (*found)(bool deadlock))
{
	pthread_t thread;

	watchdog.stall_ms = stall_s * UINT64_C(1000);
	watchdog.found = found;
	if (pthread_create(&thread, NULL, look, NULL) || pthread_detach(thread))
		die("cannot start the watchdog");
}
