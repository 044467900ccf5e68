/* SPDX-License-Identifier: MIT */
#ifndef FQ_UNIT_PLAIN_H
#define FQ_UNIT_PLAIN_H

/*
 * The stand-in for Criterion (see unit.h): tests register themselves before main, plain_main.c runs
 * them in the order of the file.
 */

/* As for Criterion's own headers: warnings about what the macros expand to are nobody's business. */
#pragma GCC system_header

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct fq_unit_test {
	const char *suite;
	const char *name;
	void (*run)(void);
	void (*init)(void);
	void (*fini)(void);
	const char *description;
	double timeout; /* seconds; 0: none */
	bool disabled;
	bool end_;
	struct fq_unit_test *next_;
};

void fq_unit_add_test(struct fq_unit_test *test);
void fq_unit_add_suite(struct fq_unit_test *suite);

/* Reports a failed check; leaves the test when it is fatal. The last argument is a dummy. */
void fq_unit_failed(bool fatal, const char *file, int line, const char *what, const char *format,
		    ...);
_Noreturn void fq_unit_skip(const char *format, ...);

/* Every list of arguments gets a last one, so that a `...` is never empty. */
#define Test(...) FQ_UNIT_TEST(__VA_ARGS__, .end_ = false)
#define TestSuite(...) FQ_UNIT_SUITE(__VA_ARGS__, .end_ = false)

#define FQ_UNIT_TEST(suite_, name_, ...)                                          \
	static void suite_##_##name_##_run(void);                                 \
	__attribute__((constructor)) static void suite_##_##name_##_add(void)     \
	{                                                                         \
		static struct fq_unit_test test = {.suite = #suite_,              \
						   .name = #name_,                \
						   .run = suite_##_##name_##_run, \
						   __VA_ARGS__};                  \
		fq_unit_add_test(&test);                                          \
	}                                                                         \
	static void suite_##_##name_##_run(void)

#define FQ_UNIT_SUITE(suite_, ...)                                                  \
	__attribute__((constructor)) static void suite_##_add(void)                 \
	{                                                                           \
		static struct fq_unit_test suite = {.suite = #suite_, __VA_ARGS__}; \
		fq_unit_add_suite(&suite);                                          \
	}                                                                           \
	struct fq_unit_test

#define FQ_UNIT_CHECK(fatal, ok, what, ...) \
	((ok) ? (void)0 : fq_unit_failed(fatal, __FILE__, __LINE__, what, __VA_ARGS__))
#define FQ_UNIT_TRUE(fatal, x, ...) FQ_UNIT_CHECK(fatal, x, #x, __VA_ARGS__)
#define FQ_UNIT_NOT(fatal, x, ...) FQ_UNIT_CHECK(fatal, !(x), "!(" #x ")", __VA_ARGS__)
#define FQ_UNIT_CMP(fatal, op, a, b, ...) \
	FQ_UNIT_CHECK(fatal, (a)op(b), "(" #a ") " #op " (" #b ")", __VA_ARGS__)
#define FQ_UNIT_STR(fatal, op, a, b, ...) \
	FQ_UNIT_CHECK(fatal, strcmp(a, b) op 0, #a " " #op " " #b, __VA_ARGS__)
#define FQ_UNIT_ARR(fatal, op, a, b, size, ...) \
	FQ_UNIT_CHECK(fatal, memcmp(a, b, size) op 0, #a " " #op " " #b, __VA_ARGS__)
#define FQ_UNIT_FAIL(fatal, ...) fq_unit_failed(fatal, __FILE__, __LINE__, "fail", __VA_ARGS__)

#define cr_assert(...) FQ_UNIT_TRUE(true, __VA_ARGS__, "", "")
#define cr_assert_not(...) FQ_UNIT_NOT(true, __VA_ARGS__, "", "")
#define cr_assert_eq(...) FQ_UNIT_CMP(true, ==, __VA_ARGS__, "", "")
#define cr_assert_neq(...) FQ_UNIT_CMP(true, !=, __VA_ARGS__, "", "")
#define cr_assert_lt(...) FQ_UNIT_CMP(true, <, __VA_ARGS__, "", "")
#define cr_assert_leq(...) FQ_UNIT_CMP(true, <=, __VA_ARGS__, "", "")
#define cr_assert_gt(...) FQ_UNIT_CMP(true, >, __VA_ARGS__, "", "")
#define cr_assert_geq(...) FQ_UNIT_CMP(true, >=, __VA_ARGS__, "", "")
#define cr_assert_null(...) FQ_UNIT_NOT(true, __VA_ARGS__, "", "")
#define cr_assert_not_null(...) FQ_UNIT_TRUE(true, __VA_ARGS__, "", "")
#define cr_assert_str_eq(...) FQ_UNIT_STR(true, ==, __VA_ARGS__, "", "")
#define cr_assert_str_neq(...) FQ_UNIT_STR(true, !=, __VA_ARGS__, "", "")
#define cr_assert_arr_eq(...) FQ_UNIT_ARR(true, ==, __VA_ARGS__, "", "")
#define cr_assert_arr_neq(...) FQ_UNIT_ARR(true, !=, __VA_ARGS__, "", "")
#define cr_assert_fail(...) FQ_UNIT_FAIL(true, "" __VA_ARGS__, "")

#define cr_expect(...) FQ_UNIT_TRUE(false, __VA_ARGS__, "", "")
#define cr_expect_not(...) FQ_UNIT_NOT(false, __VA_ARGS__, "", "")
#define cr_expect_eq(...) FQ_UNIT_CMP(false, ==, __VA_ARGS__, "", "")
#define cr_expect_neq(...) FQ_UNIT_CMP(false, !=, __VA_ARGS__, "", "")
#define cr_expect_lt(...) FQ_UNIT_CMP(false, <, __VA_ARGS__, "", "")
#define cr_expect_leq(...) FQ_UNIT_CMP(false, <=, __VA_ARGS__, "", "")
#define cr_expect_gt(...) FQ_UNIT_CMP(false, >, __VA_ARGS__, "", "")
#define cr_expect_geq(...) FQ_UNIT_CMP(false, >=, __VA_ARGS__, "", "")
#define cr_expect_null(...) FQ_UNIT_NOT(false, __VA_ARGS__, "", "")
#define cr_expect_not_null(...) FQ_UNIT_TRUE(false, __VA_ARGS__, "", "")
#define cr_expect_str_eq(...) FQ_UNIT_STR(false, ==, __VA_ARGS__, "", "")
#define cr_expect_str_neq(...) FQ_UNIT_STR(false, !=, __VA_ARGS__, "", "")
#define cr_expect_arr_eq(...) FQ_UNIT_ARR(false, ==, __VA_ARGS__, "", "")
#define cr_expect_arr_neq(...) FQ_UNIT_ARR(false, !=, __VA_ARGS__, "", "")
#define cr_expect_fail(...) FQ_UNIT_FAIL(false, "" __VA_ARGS__, "")

#define cr_skip_test(...) fq_unit_skip("" __VA_ARGS__)

#endif /* FQ_UNIT_PLAIN_H */
