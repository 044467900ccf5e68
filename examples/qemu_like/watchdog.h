/* SPDX-License-Identifier: MIT */
#ifndef WATCHDOG_H
#define WATCHDOG_H

/*
 * Who waits for whom. Every thread of the machine is an actor and says what it is about to wait
 * for; the watchdog's own thread, which takes no lock, reads that and finds the circles.
 *
 * A circle counts as a deadlock when none of its actors has moved for QUIET_MS: a machine that is
 * merely slow has no circle, and one read while its actors changed places does not stay the same.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define QUIET_MS 1000u

enum doing {
	ACTOR_GONE,
	ACTOR_RUNS,
	ACTOR_SLEEPS,     /* until there is something to do */
	ACTOR_WANTS_LOCK, /* the big one */
	ACTOR_JOINS,      /* waits for the end of another's thread */
};

struct actor {
	char name[24];
	_Atomic(enum doing) doing;
	_Atomic(struct actor *) joins;
	_Atomic(const char *) why;
	_Atomic uint64_t moves; /* counts changes of all this */
};

/* Once for each actor, before its thread starts; it stays known for ever. */
void actor_init(struct actor *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* What the calling thread is. */
void actor_be(struct actor *a);
struct actor *actor_self(void);

/* The calling thread is about to do this, or has done waiting. @p why is a constant. */
void actor_does(enum doing doing, const char *why);
void actor_joins(struct actor *whom, const char *why);

/*
 * Starts the thread that looks. On a deadlock, or when nobody at all has moved for @p stall_s
 * seconds, it says who waits for whom and calls @p found, which does not return.
 */
void watchdog_start(unsigned stall_s, void (*found)(bool deadlock));

#endif /* WATCHDOG_H */
