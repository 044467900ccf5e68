/* SPDX-License-Identifier: MIT */
#ifndef BENCH_BESIDE_BENCH_H
#define BENCH_BESIDE_BENCH_H

/*
 * Workload: posters beside a live owner that sleeps when it can.
 *
 * Every poster posts its items as fast as it can; the owner drains, and goes to sleep as soon as a
 * drain finds nothing, without spinning first. The time is that from the first poster's first post
 * until the owner has handled the last item and the last post has returned; threads, requests and
 * fences exist before. A round in which anything is lost or handled twice fails.
 */

#include <stdbool.h>
#include <stdint.h>

#include "gbench.h"
#include "peer.h"

struct beside {
	const struct peer *peer;
	unsigned posters;
	bool pin; /* one CPU each for the owner and the posters, if there are as many */
};

#define BESIDE_WRITES "writes_per_1000" /* eventfd writes per 1000 items */

/* A gb_round_fn; `arg` is a struct beside, `items` those of all posters together. */
int beside_round(void *arg, uint64_t items, struct gb_round *out);

#endif /* BENCH_BESIDE_BENCH_H */
