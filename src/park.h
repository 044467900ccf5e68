/* SPDX-License-Identifier: MIT */
#ifndef FQ_PARK_H
#define FQ_PARK_H

/*
 * Sleeping on the lower half of a word until somebody changes it. futex(2), or on platforms without
 * one (FENCEQ_PARK=mutex in CMake) a static table of mutexes and conditions.
 *
 * Neither touches the word in fq_park_wake(): whoever has changed a word for the last time may wake
 * its sleepers although the word's memory has gone since. Sleepers of other words may be woken by
 * mistake, so every sleeper looks again.
 *
 * With futex(2), waking keeps errno, is async-signal-safe and no cancellation point; with mutexes it
 * keeps errno and is no cancellation point. Sleeping is no cancellation point in either.
 */

#include "internal.h"

/*
 * Sleeps while the lower half of the word is @seen, until CLOCK_MONOTONIC is @until_ns (INT64_MAX:
 * for ever). 0: woken, changed, or for no reason; -ETIMEDOUT.
 */
int fq_park_wait(const fq_a64 *word, uint32_t seen, int64_t until_ns);

/* After a change of the word. */
void fq_park_wake(const fq_a64 *word);
/* One of several that sleep for the same; with mutexes, all of them. */
void fq_park_wake_one(const fq_a64 *word);

void fq_park_after_fork_child(void);

#endif /* FQ_PARK_H */
