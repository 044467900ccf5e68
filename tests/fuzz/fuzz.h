/* SPDX-License-Identifier: MIT */
#ifndef FQ_FUZZ_H
#define FQ_FUZZ_H

/*
 * A harness is <part>_fuzz.c and defines the first five. The main is libFuzzer's, or that of
 * standalone_main.c, which also stands in for LLVMFuzzerMutate.
 */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define FUZZ_SIZE_MAX 65536u

/* Tries one input. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* Mutates, and sets right what a mutation would hardly ever (lengths). Returns the new size. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);
/* A good input for each seed. Returns its size. */
size_t fuzz_seed(uint64_t seed, uint8_t *data, size_t max);
/* Inputs tried that were good. */
extern unsigned long fuzz_accepted;
/* Of the part, for messages. */
extern const char fuzz_name[];

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);

/* splitmix64 (G. Steele, D. Lea, C. Flood, 2014). */
static inline uint64_t fuzz_random(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

#define FUZZ_CHECK(condition)                                                           \
	do {                                                                            \
		if (!(condition)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                        \
		}                                                                       \
	} while (0)

#endif /* FQ_FUZZ_H */
