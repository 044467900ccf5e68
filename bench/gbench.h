/* SPDX-License-Identifier: MIT */
#ifndef BENCH_GBENCH_H
#define BENCH_GBENCH_H

/*
 * google-benchmark for C: register rounds, run them all, read the samples back.
 *
 * A round does `items` pieces of work and says how long they took; everything else about it
 * (threads, allocation, checking) stays outside of the time it reports. A repetition is one round.
 * The repetitions of all benchmarks are run in one random order, so that what disturbs the machine
 * disturbs all of them alike; the k-th repetitions of two benchmarks lie close together in time,
 * which is why ratios are taken repetition by repetition.
 */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GB_COUNTERS 4

/* What one round reports. */
struct gb_round {
	double seconds;
	struct {
		const char *name;
		double value;
	} counter[GB_COUNTERS];
};

/* Returns 0, or a negative errno that fails the whole run. */
typedef int gb_round_fn(void *arg, uint64_t items, struct gb_round *out);

struct gb_bench {
	const char *name; /* unique; shared/parts/like:this */
	gb_round_fn *round;
	void *arg;
	uint64_t items;       /* of one round */
	unsigned repetitions; /* rounds */
};

/* The strings and the benchmark itself must stay until gb_run() returns. Returns its number. */
int gb_register(const struct gb_bench *bench);

/*
 * Runs everything once registered; call it once. With `json_path` google-benchmark writes its own
 * JSON file there. `progress` (may be NULL) is called after every round.
 * Returns the number of failed benchmarks, or a negative errno.
 */
int gb_run(const char *argv0, const char *json_path, void (*progress)(unsigned done, unsigned all));

/* Nanoseconds per item, one for each repetition in the order they ran; NULL and 0 if there is none.
 */
const double *gb_samples(int bench, size_t *count);

double gb_median(const double *values, size_t count);

/* Median of a counter over the repetitions, 0 when no round reported it. */
double gb_counter_median(int bench, const char *name);

#ifdef __cplusplus
}
#endif

#endif /* BENCH_GBENCH_H */
