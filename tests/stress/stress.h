/* SPDX-License-Identifier: MIT */
#ifndef FQ_STRESS_H
#define FQ_STRESS_H

/* What every stress program shares: options, a seeded generator, a clock, a way to fail. */

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct stress_options {
	double seconds;
	uint64_t seed;
	unsigned threads;
};

static inline int64_t stress_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static inline struct stress_options stress_parse(int argc, char **argv, unsigned threads)
{
	static const struct option longopts[] = {{"seconds", required_argument, NULL, 's'},
						 {"seed", required_argument, NULL, 'r'},
						 {"threads", required_argument, NULL, 't'},
						 {NULL, 0, NULL, 0}};
	struct stress_options o = {2.0, (uint64_t)stress_now_ns(), threads};
	int c;

	while ((c = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
		if (c == 's')
			o.seconds = strtod(optarg, NULL);
		else if (c == 'r')
			o.seed = strtoull(optarg, NULL, 0);
		else if (c == 't')
			o.threads = (unsigned)strtoul(optarg, NULL, 0);
		else
			exit(2);
	}
	if (!o.threads || o.seconds <= 0) {
		fprintf(stderr, "usage: %s [--seconds N] [--seed S] [--threads T]\n", argv[0]);
		exit(2);
	}
	printf("%s --seconds %g --seed %llu --threads %u\n", argv[0], o.seconds,
	       (unsigned long long)o.seed, o.threads);
	fflush(stdout);
	return o;
}

/* splitmix64 (G. Steele, D. Lea, C. Flood, 2014): a stream for each seed, no shared state. */
static inline uint64_t stress_random(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

#define STRESS_CHECK(condition, ...)                                                    \
	do {                                                                            \
		if (!(condition)) {                                                     \
			fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
			fprintf(stderr, __VA_ARGS__);                                   \
			fputc('\n', stderr);                                            \
			exit(1);                                                        \
		}                                                                       \
	} while (0)

#endif /* FQ_STRESS_H */
