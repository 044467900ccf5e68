/* SPDX-License-Identifier: MIT */
/*
 * Runs a harness where there is no libFuzzer:
 *
 *   PROGRAM [--seconds N] [--seed S]   good inputs and mutations of them, for N seconds (2)
 *   PROGRAM FILE...                    these inputs; with --accept they all have to be good
 *   PROGRAM --write DIR                writes good inputs, a corpus for libFuzzer to begin with
 *
 * The same seed gives the same inputs. The one at which it fails is left in ./crash-NAME.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"

#define CORPUS 64u

static uint8_t input[FUZZ_SIZE_MAX];
static size_t input_size;
static uint64_t random_state;

/* -- what is left of a crash ------------------------------------------------------------------- */

void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static void keep_input(void)
{
	char name[64] = "crash-";
	int fd;

	strncat(name, fuzz_name, sizeof(name) - sizeof("crash-"));
	fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0666);
	if (fd < 0 || write(fd, input, input_size) != (ssize_t)input_size)
		return;
	(void)close(fd);
}

static void on_abort(int sig)
{
	keep_input();
	signal(sig, SIG_DFL);
	raise(sig);
}

static void watch_for_crashes(void)
{
	signal(SIGABRT, on_abort);
	if (__sanitizer_set_death_callback)
		__sanitizer_set_death_callback(keep_input);
	else
		signal(SIGSEGV, on_abort);
}

/* Exactly as large as the input, so that a sanitizer sees what is read behind it. */
static void run_input(void)
{
	uint8_t *copy = malloc(input_size ? input_size : 1);

	FUZZ_CHECK(copy);
	memcpy(copy, input, input_size);
	(void)LLVMFuzzerTestOneInput(copy, input_size);
	free(copy);
}

/* -- mutation ---------------------------------------------------------------------------------- */

static size_t below(size_t limit)
{
	return limit ? fuzz_random(&random_state) % limit : 0;
}

static uint64_t interesting(uint64_t value)
{
	switch (below(6)) {
	case 0:
		return value + 1;
	case 1:
		return value - 1;
	case 2:
		return below(70);
	case 3:
		return UINT64_C(1) << below(64);
	case 4:
		return (UINT64_C(1) << below(64)) - 1;
	default:
		return fuzz_random(&random_state);
	}
}

/* A number of 1, 2, 4 or 8 bytes, mostly where a format would have one. */
static void change_number(uint8_t *data, size_t size)
{
	size_t width = (size_t)1 << below(4), at = below(size);
	uint64_t value = 0;

	if (below(8))
		at -= at % width;
	if (width > size - at)
		width = size - at;
	memcpy(&value, data + at, width); /* of little-endian hosts, which is good enough */
	value = interesting(value);
	memcpy(data + at, &value, width);
}

/* Moves, copies or cuts out a piece. */
static size_t change_piece(uint8_t *data, size_t size, size_t max)
{
	size_t from = below(size) & ~(size_t)7, to = below(size) & ~(size_t)7;
	size_t length = (1 + below(12)) * 8;

	if (length > size - from)
		length = size - from;
	if (below(2)) { /* cut */
		memmove(data + from, data + from + length, size - from - length);
		return size - length;
	}
	if (size + length > max)
		return size;
	memmove(data + to + length, data + to, size - to); /* insert, of whatever is there now */
	memmove(data + to, data + from, length);
	return size + length;
}

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max)
{
	for (size_t n = 1 + below(3); n; n--) {
		if (size && below(4))
			change_number(data, size);
		else if (size)
			size = change_piece(data, size, max);
	}
	return size;
}

/* -- ways to run ------------------------------------------------------------------------------- */

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* A walk from good input to good input, with excursions of a few mutations. */
static void next_input(bool good)
{
	static uint8_t last_good[FUZZ_SIZE_MAX];
	static size_t last_size;

	if (good) {
		memcpy(last_good, input, input_size);
		last_size = input_size;
	} else if (below(4)) {
		memcpy(input, last_good, last_size);
		input_size = last_size;
	}
	input_size = LLVMFuzzerCustomMutator(input, input_size, sizeof(input),
					     (unsigned)fuzz_random(&random_state));
}

static int run_mutations(double seconds, uint64_t seed)
{
	unsigned long runs = 0;
	double end = now() + seconds;

	printf("%s --seconds %g --seed %llu\n", fuzz_name, seconds, (unsigned long long)seed);
	fflush(stdout);
	for (random_state = seed; now() < end; runs++) {
		unsigned long before = fuzz_accepted;

		if (runs % 64 == 0)
			input_size = fuzz_seed(fuzz_random(&random_state), input, sizeof(input));
		run_input();
		next_input(fuzz_accepted != before);
	}
	printf("%s: %lu inputs, %lu of them good\n", fuzz_name, runs, fuzz_accepted);
	return fuzz_accepted ? 0 : 1;
}

static int run_files(char **names, int count, bool accept)
{
	for (int i = 0; i < count; i++) {
		FILE *f = fopen(names[i], "rb");

		if (!f) {
			perror(names[i]);
			return 1;
		}
		input_size = fread(input, 1, sizeof(input), f);
		fclose(f);
		run_input();
	}
	printf("%s: %d files, %lu of them good\n", fuzz_name, count, fuzz_accepted);
	return accept && fuzz_accepted != (unsigned long)count;
}

static int write_seeds(const char *dir)
{
	(void)mkdir(dir, 0777);
	for (unsigned i = 0; i < CORPUS; i++) {
		char name[4096];
		FILE *f;

		snprintf(name, sizeof(name), "%s/seed-%02u", dir, i);
		input_size = fuzz_seed(i, input, sizeof(input));
		f = fopen(name, "wb");
		if (!f || fwrite(input, 1, input_size, f) != input_size || fclose(f)) {
			perror(name);
			return 1;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const struct option longopts[] = {{"seconds", required_argument, NULL, 's'},
						 {"seed", required_argument, NULL, 'r'},
						 {"write", required_argument, NULL, 'w'},
						 {"accept", no_argument, NULL, 'a'},
						 {NULL, 0, NULL, 0}};
	uint64_t seed = (uint64_t)time(NULL);
	double seconds = 2;
	bool accept = false;
	int c;

	while ((c = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
		if (c == 's')
			seconds = strtod(optarg, NULL);
		else if (c == 'r')
			seed = strtoull(optarg, NULL, 0);
		else if (c == 'w')
			return write_seeds(optarg);
		else if (c == 'a')
			accept = true;
		else
			return 2;
	}
	watch_for_crashes();
	if (optind < argc)
		return run_files(argv + optind, argc - optind, accept);
	return run_mutations(seconds, seed);
}
