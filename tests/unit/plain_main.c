/* SPDX-License-Identifier: MIT */

/* The plain main behind plain.h: [--filter SUITE/NAME] (a shell pattern), [--list]. */

#include <fnmatch.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "plain.h"

enum outcome {
	RUNNING,
	PASSED,
	FAILED,
	SKIPPED,
};

static struct fq_unit_test *tests, **tests_end = &tests;
static struct fq_unit_test *suites;
static struct fq_unit_test *current;
static enum outcome outcome;
static jmp_buf leave;
static pthread_t runner;

void fq_unit_add_test(struct fq_unit_test *test)
{
	*tests_end = test;
	tests_end = &test->next_;
}

void fq_unit_add_suite(struct fq_unit_test *suite)
{
	suite->next_ = suites;
	suites = suite;
}

static void say(const char *verdict, const char *format, va_list args)
{
	printf("%s: %s/%s", verdict, current->suite, current->name);
	if (*format) {
		printf(": ");
		vprintf(format, args);
	}
	printf("\n");
}

void fq_unit_failed(bool fatal, const char *file, int line, const char *what, const char *format,
		    ...)
{
	va_list args;

	outcome = FAILED;
	printf("%s:%d: not so: %s\n", file, line, what);
	va_start(args, format);
	say("FAILED", format, args);
	va_end(args);
	if (!fatal)
		return;
	/* Another thread's stack cannot be left for the runner's. */
	if (!pthread_equal(pthread_self(), runner))
		exit(1);
	longjmp(leave, 1);
}

_Noreturn void fq_unit_skip(const char *format, ...)
{
	va_list args;

	outcome = SKIPPED;
	va_start(args, format);
	say("skipped", format, args);
	va_end(args);
	longjmp(leave, 1);
}

static void timed_out(int sig)
{
	static const char text[] = "FAILED: the test that began last has timed out\n";

	(void)sig;
	(void)!write(STDOUT_FILENO, text, sizeof(text) - 1);
	_exit(1);
}

static const struct fq_unit_test *suite_of(const struct fq_unit_test *test)
{
	static const struct fq_unit_test none;

	for (const struct fq_unit_test *s = suites; s; s = s->next_)
		if (strcmp(s->suite, test->suite) == 0)
			return s;
	return &none;
}

/* Calls them in order; the first failed check leaves the rest out. */
static void call(void (*const functions[3])(void))
{
	if (setjmp(leave) != 0)
		return;
	for (int i = 0; i < 3; i++)
		if (functions[i])
			functions[i]();
}

/* Criterion's order; fini also runs after a failed check. */
static void run(const struct fq_unit_test *test)
{
	const struct fq_unit_test *suite = suite_of(test);
	double timeout = test->timeout > 0 ? test->timeout : suite->timeout;

	alarm(timeout > 0 ? (unsigned)timeout + 1 : 0);
	call((void (*const[3])(void)){suite->init, test->init, test->run});
	call((void (*const[3])(void)){test->fini, suite->fini});
	alarm(0);
}

static bool wanted(const struct fq_unit_test *test, const char *filter)
{
	char full[256];

	snprintf(full, sizeof(full), "%s/%s", test->suite, test->name);
	return !filter || fnmatch(filter, full, 0) == 0;
}

static void parse(int argc, char **argv, const char **filter, bool *list)
{
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--list") == 0) {
			*list = true;
		} else if (strcmp(argv[i], "--filter") == 0 && i + 1 < argc) {
			*filter = argv[++i];
		} else {
			fprintf(stderr, "usage: %s [--list] [--filter SUITE/NAME]\n", argv[0]);
			exit(2);
		}
	}
}

int main(int argc, char **argv)
{
	unsigned count[SKIPPED + 1] = {0};
	const char *filter = NULL;
	bool list = false;

	parse(argc, argv, &filter, &list);
	setvbuf(stdout, NULL, _IONBF, 0);
	signal(SIGALRM, timed_out);
	runner = pthread_self();
	for (current = tests; current; current = current->next_) {
		if (!wanted(current, filter))
			continue;
		printf("%s/%s\n", current->suite, current->name);
		if (list)
			continue;
		outcome = RUNNING;
		if (current->disabled || suite_of(current)->disabled)
			outcome = SKIPPED;
		else
			run(current);
		count[outcome == RUNNING ? PASSED : outcome]++;
	}
	printf("%u passed, %u failed, %u skipped\n", count[PASSED], count[FAILED], count[SKIPPED]);
	/* A filter that finds nothing is a mistake, not a success. */
	return count[FAILED] > 0 || (!list && count[PASSED] + count[SKIPPED] == 0);
}
