/* SPDX-License-Identifier: MIT */
#ifndef BENCH_RCU_BENCH_H
#define BENCH_RCU_BENCH_H

/*
 * What a registered poster pays for its read side, as it is compiled into the library: white box,
 * the library's own inline functions and flags, less an empty loop. gb_round_fns; `arg` is unused.
 */

#include "gbench.h"

/* liburcu's lock and unlock alone. */
int rcu_round(void *arg, uint64_t items, struct gb_round *out);

/* All of fq_signal()'s way in and out: the handle checked, the device found. */
int read_side_round(void *arg, uint64_t items, struct gb_round *out);

#endif /* BENCH_RCU_BENCH_H */
