/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include <fenceq/mem.h>

#include "unit.h"

/* Three pages and a bit here, at two guest addresses; and memory at the very top. */
#define PAGE FQ_LOG_PAGE
#define GPA UINT64_C(0x20000)
#define ALIAS UINT64_C(0x40800)
#define BYTES (3 * PAGE + 100)
#define PAGES 128u /* of the log */

static char memory[BYTES], top[PAGE];
static struct fq_mem *mem;
static uint64_t bitmap[PAGES / 64 + 1]; /* and a word that nobody may touch */

static void setup(void)
{
	const struct fq_mem_region regions[] = {
		{GPA, BYTES, memory},
		{ALIAS, BYTES, memory},
		{UINT64_MAX - (PAGE - 1), PAGE, top},
	};

	cr_assert_eq(fq_mem_create(&mem, regions, 3), 0);
	memset(bitmap, 0, sizeof(bitmap));
	cr_assert_eq(fq_mem_set_log(mem, bitmap, PAGES / 8), 0);
}

static void teardown(void)
{
	fq_mem_destroy(mem);
}

static bool marked(uint64_t page)
{
	return ((const uint8_t *)bitmap)[page / 8] >> page % 8 & 1;
}

/* Exactly these are marked; they are clean again after that. */
static void expect_pages(uint64_t first, uint64_t last)
{
	for (uint64_t page = 0; page < PAGES + 64; page++)
		cr_assert_eq(marked(page), page >= first && page <= last, "page %u, not %u to %u",
			     (unsigned)page, (unsigned)first, (unsigned)last);
	memset(bitmap, 0, sizeof(bitmap));
}

static void expect_none(void)
{
	expect_pages(1, 0);
}

Test(log, set_refuses, .init = setup, .fini = teardown)
{
	cr_assert_eq(fq_mem_set_log(NULL, bitmap, 16), -EINVAL);
	cr_assert_eq(fq_mem_set_log(mem, NULL, 16), -EINVAL);
	cr_assert_eq(fq_mem_set_log(mem, bitmap, 0), -EINVAL);
	cr_assert_eq(fq_mem_set_log(mem, bitmap, 15), -EINVAL);
	cr_assert_eq(fq_mem_set_log(mem, (char *)bitmap + 4, 8), -EINVAL);
	cr_assert(fq_mem_log_idle(NULL));
	fq_mem_mark(NULL, 0, 1);
	fq_mem_mark_iov(NULL, NULL, 0, 1);
	fq_mem_mark_iov(mem, NULL, 1, 1);
	expect_none();
}

Test(log, mark_ranges, .init = setup, .fini = teardown)
{
	fq_mem_mark(mem, 5 * PAGE, 1);
	expect_pages(5, 5);
	fq_mem_mark(mem, 5 * PAGE - 1, 1);
	expect_pages(4, 4);
	fq_mem_mark(mem, 5 * PAGE - 1, 2);
	expect_pages(4, 5);
	fq_mem_mark(mem, 5 * PAGE, PAGE);
	expect_pages(5, 5);
	fq_mem_mark(mem, 5 * PAGE, 0);
	expect_none();
	fq_mem_mark(mem, 3 * PAGE, 100 * PAGE);
	expect_pages(3, 102);
	fq_mem_mark(mem, 63 * PAGE, PAGE + 1);
	expect_pages(63, 64);
	fq_mem_mark(mem, 0, 128 * PAGE);
	expect_pages(0, 127);
	fq_mem_mark(mem, 64 * PAGE, 64 * PAGE);
	expect_pages(64, 127);
}

Test(log, mark_ends_with_the_log, .init = setup, .fini = teardown)
{
	fq_mem_mark(mem, PAGES * PAGE, 1);
	expect_none();
	fq_mem_mark(mem, 127 * PAGE, UINT64_MAX);
	expect_pages(127, 127);
	fq_mem_mark(mem, UINT64_MAX, 1);
	fq_mem_mark(mem, UINT64_MAX, UINT64_MAX);
	expect_none();
	fq_mem_mark(mem, 0, UINT64_MAX);
	expect_pages(0, 127);
}

/* What is set stays set, and what else is in the word does, too. */
Test(log, mark_adds, .init = setup, .fini = teardown)
{
	fq_mem_mark(mem, 2 * PAGE, PAGE);
	fq_mem_mark(mem, PAGE, PAGE);
	fq_mem_mark(mem, 2 * PAGE, PAGE);
	fq_mem_mark(mem, 3 * PAGE, PAGE);
	expect_pages(1, 3);
}

/* ALIAS begins in the middle of a page. */
Test(log, mark_pieces_wherever_they_lie, .init = setup, .fini = teardown)
{
	const struct iovec one = {memory + PAGE, 1};
	const struct iovec three[] = {{memory, 1}, {memory + PAGE, 10}, {memory + 2 * PAGE, 100}};

	fq_mem_mark_iov(mem, &one, 1, 1);
	cr_assert(marked(0x21) && marked(0x41));
	memset(bitmap, 0, sizeof(bitmap));
	fq_mem_mark_iov(mem, three, 3, 11);
	for (uint64_t page = 0; page < PAGES; page++)
		cr_assert_eq(marked(page),
			     page == 0x20 || page == 0x21 || page == 0x40 || page == 0x41, "%u",
			     (unsigned)page);
	memset(bitmap, 0, sizeof(bitmap));
	fq_mem_mark_iov(mem, three, 3, 0);
	expect_none();
}

/* What is not the guest's has no page; what reaches out of a region ends with it. */
Test(log, mark_pieces_out_of_bounds, .init = setup, .fini = teardown)
{
	const struct iovec out[] = {{bitmap, 8}, {memory + BYTES - 1, 2 * PAGE}};

	fq_mem_mark_iov(mem, out, 2, UINT64_MAX);
	for (uint64_t page = 0; page < PAGES; page++)
		cr_assert_eq(marked(page), page == 0x23 || page == 0x43, "%u", (unsigned)page);
}

Test(log, replaced_and_ended, .init = setup, .fini = teardown)
{
	uint64_t other[2] = {0, 0};

	cr_assert_eq(fq_mem_set_log(mem, other, 16), 0);
	cr_assert(fq_mem_log_idle(mem));
	fq_mem_mark(mem, PAGE, 1);
	cr_assert_eq(other[0] | other[1], 2);
	expect_none();
	cr_assert_eq(fq_mem_set_log(mem, NULL, 0), 0);
	cr_assert_eq(fq_mem_set_log(mem, NULL, 0), 0);
	fq_mem_mark(mem, 2 * PAGE, 1);
	cr_assert_eq(other[0] | other[1], 2);
	expect_none();
	for (int i = 0; i < 5; i++) {
		cr_assert_eq(fq_mem_set_log(mem, bitmap, 16), 0);
		fq_mem_mark(mem, 2 * PAGE, 1);
		expect_pages(2, 2);
	}
}

/* -- several threads --------------------------------------------------------------------------- */

#define THREADS 4u
#define TIMES 50000u

static pthread_barrier_t all_there;

static void *mark_own_pages(void *number)
{
	uint64_t first = (uintptr_t)number;

	pthread_barrier_wait(&all_there);
	for (unsigned i = 0; i < TIMES; i++) {
		uint64_t page = i % (PAGES / THREADS) * THREADS + first;

		fq_mem_mark(mem, page * PAGE, 1);
		/* Each bit is one thread's, and whoever takes it sees what was marked. */
		uint64_t taken = atomic_fetch_and((_Atomic uint64_t *)&bitmap[page / 64],
						  ~(UINT64_C(1) << page % 64));

		if (!(taken >> page % 64 & 1))
			return NULL;
	}
	return number;
}

/* (step/log has the one between a load and a store.) */
Test(log, threads_lose_no_bit, .init = setup, .fini = teardown, .timeout = 60)
{
	pthread_t thread[THREADS];

	pthread_barrier_init(&all_there, NULL, THREADS);
	for (uintptr_t i = 0; i < THREADS; i++)
		cr_assert_eq(pthread_create(&thread[i], NULL, mark_own_pages, (void *)i), 0);
	for (uintptr_t i = 0; i < THREADS; i++) {
		void *number;

		pthread_join(thread[i], &number);
		cr_assert_eq(number, (void *)i);
	}
	pthread_barrier_destroy(&all_there);
	expect_none();
}
