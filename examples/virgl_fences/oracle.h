/* SPDX-License-Identifier: MIT */
#ifndef ORACLE_H
#define ORACLE_H

/*
 * What the renderer has completed, by its own word: the truth that the driver holds each response
 * against. It knows nothing of fenceq, so that a fault of the library cannot hide in here.
 *
 * Fences of a timeline have numbers, from 0 on, as they went through the ring; a response for
 * number n is early unless the renderer has called back for it.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * Atomic although the ring orders the reuse of an entry (the driver has checked a fence before it
 * sends the one that takes its place): a broken ring would not, and race detectors are blind to it.
 */
struct oracle_fence {
	_Atomic uint64_t token;       /* what the renderer knows it as */
	_Atomic int64_t completed_ns; /* when the callback was entered */
};

struct oracle_timeline {
	_Alignas(64) _Atomic uint64_t submitted; /* by the owner */
	_Alignas(64) _Atomic uint64_t completed; /* by the callback thread */
	struct oracle_fence *fences;             /* number n at n & mask */
};

struct oracle {
	struct oracle_timeline *timelines;
	uint64_t mask;
};

/* @return 0 or -errno. */
int oracle_init(struct oracle *o, unsigned timelines, unsigned depth);

/*
 * Owner, before the renderer hears of the fence.
 * False when the renderer is further behind than a driver that waits for answers allows.
 */
bool oracle_submitted(struct oracle *o, unsigned timeline, uint64_t token);

/* The one thread that calls back for this timeline: all up to the token is complete. */
void oracle_completed(struct oracle *o, unsigned timeline, uint64_t token);

/* The same from the low half of a token. */
void oracle_completed32(struct oracle *o, unsigned timeline, uint32_t token);

/* Driver: when the renderer completed fence @p number of the timeline; 0 when it has not. */
int64_t oracle_when(const struct oracle *o, unsigned timeline, uint64_t number);

#endif /* ORACLE_H */
