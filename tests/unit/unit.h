/* SPDX-License-Identifier: MIT */
#ifndef FQ_UNIT_H
#define FQ_UNIT_H

/*
 * Criterion, or where its forked workers do not survive (ThreadSanitizer, memcheck) a stand-in that
 * runs the same tests one after another in one process, with a plain main.
 *
 * What both understand: Test(suite, name, .init, .fini, .timeout, .disabled, .description);
 * TestSuite with the same; cr_assert and cr_expect with the endings _not, _eq, _neq, _lt, _leq, _gt,
 * _geq, _null, _not_null, _str_eq, _str_neq, _arr_eq, _arr_neq, each with an optional printf message;
 * cr_assert_fail, cr_expect_fail; cr_skip_test. Asserts belong to the test's own thread. Anything
 * else (.signal, .exit_code, parameters) does not compile against the stand-in.
 */
#ifdef FQ_PLAIN_MAIN
#include "plain.h"
#else
#include <criterion/criterion.h>
#endif

#endif /* FQ_UNIT_H */
