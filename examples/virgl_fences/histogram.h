/* SPDX-License-Identifier: MIT */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H

/* Latencies in buckets that are 1/16 of a power of two wide: percentiles within 6 %. */

#include <stdint.h>

#define HISTOGRAM_BUCKETS (61 * 16)

struct histogram {
	uint64_t total;
	uint64_t buckets[HISTOGRAM_BUCKETS];
};

static inline void histogram_add(struct histogram *h, int64_t value)
{
	uint64_t v = value < 0 ? 0 : (uint64_t)value;
	unsigned shift = v < 16 ? 0 : 59 - (unsigned)__builtin_clzll(v);

	h->buckets[shift * 16 + (v >> shift)]++;
	h->total++;
}

/* The upper end of the bucket in which the given part (0 .. 1) of all values is reached. */
static inline uint64_t histogram_percentile(const struct histogram *h, double part)
{
	uint64_t seen = 0, wanted = (uint64_t)((double)h->total * part);
	unsigned i = 0;

	if (h->total == 0)
		return 0;
	while (i < HISTOGRAM_BUCKETS - 1 && (seen += h->buckets[i]) <= wanted)
		i++;
	return i < 32 ? i : ((uint64_t)(i % 16 + 17) << (i / 16 - 1)) - 1;
}

#endif /* HISTOGRAM_H */
