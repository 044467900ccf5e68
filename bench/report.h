/* SPDX-License-Identifier: MIT */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

/* What was run, and what is said about it. */

#include <stddef.h>

#include "beside_bench.h"

#define PLAN_CASES 64

struct plan_case {
	char name[64];
	struct beside beside;
	int bench; /* number in gbench.h */
};

struct plan {
	struct plan_case cases[PLAN_CASES];
	size_t count;
	int rcu; /* bench numbers */
	int read_side;
};

/* Prints the tables, and as the last line one JSON object of ratios. */
void report(const struct plan *plan);

#endif /* BENCH_REPORT_H */
