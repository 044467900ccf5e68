/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include <fenceq/mem.h>

#include "unit.h"

static char low[256], middle[256], high[256];

/* Out of order; the first two touch, then there is a hole. */
static const struct fq_mem_region three[] = {
	{.gpa = 0x1100, .size = 0x100, .hva = middle},
	{.gpa = 0x9000, .size = 0x80, .hva = high},
	{.gpa = 0x1000, .size = 0x100, .hva = low},
};

static struct fq_mem *mem;

static void setup(void)
{
	cr_assert_eq(fq_mem_create(&mem, three, 3), 0);
}

static void teardown(void)
{
	fq_mem_destroy(mem);
}

static int create_one(uint64_t gpa, uint64_t size, void *hva)
{
	const struct fq_mem_region region = {.gpa = gpa, .size = size, .hva = hva};
	struct fq_mem *m = (struct fq_mem *)low;
	int r = fq_mem_create(&m, &region, 1);

	cr_assert((r == 0) == (m != NULL), "an output that says something else than %d", r);
	fq_mem_destroy(m);
	return r;
}

Test(mem, create_refuses_null)
{
	struct fq_mem *m;

	cr_assert_eq(fq_mem_create(NULL, three, 3), -EINVAL);
	cr_assert_eq(fq_mem_create(&m, NULL, 1), -EINVAL);
	cr_assert_null(m);
	cr_assert_eq(create_one(0x1000, 16, NULL), -EINVAL);
}

Test(mem, create_refuses_empty_region)
{
	cr_assert_eq(create_one(0x1000, 0, low), -EINVAL);
}

Test(mem, create_refuses_region_round_the_top_of_guest_addresses)
{
	cr_assert_eq(create_one(UINT64_MAX - 15, 16, low), 0);
	cr_assert_eq(create_one(UINT64_MAX - 15, 17, low), -EINVAL);
	cr_assert_eq(create_one(1, UINT64_MAX, low), -EINVAL);
}

Test(mem, create_refuses_region_round_the_top_of_host_addresses)
{
	char *top = (char *)(UINTPTR_MAX - 15);

	cr_assert_eq(create_one(0, 16, top), 0);
	cr_assert_eq(create_one(0, 17, top), -EINVAL);
	cr_assert_eq(create_one(0, UINT64_MAX, low), -EINVAL);
}

Test(mem, create_refuses_overlap)
{
	struct fq_mem_region two[] = {
		{.gpa = 0x1fff, .size = 1, .hva = high},
		{.gpa = 0x1000, .size = 0x1000, .hva = low},
	};
	struct fq_mem *m;

	cr_assert_eq(fq_mem_create(&m, two, 2), -EINVAL);
	cr_assert_null(m);
	two[0].gpa = 0x1000;
	cr_assert_eq(fq_mem_create(&m, two, 2), -EINVAL, "the same start");
	two[0].gpa = 0x2000;
	cr_assert_eq(fq_mem_create(&m, two, 2), 0, "they only touch");
	fq_mem_destroy(m);
}

Test(mem, create_allows_aliases)
{
	const struct fq_mem_region two[] = {
		{.gpa = 0, .size = 256, .hva = low},
		{.gpa = 4096, .size = 256, .hva = low},
	};
	struct fq_mem *m;

	cr_assert_eq(fq_mem_create(&m, two, 2), 0);
	cr_assert_eq(fq_mem_at(m, 5, 1), fq_mem_at(m, 4101, 1));
	fq_mem_destroy(m);
}

Test(mem, create_copies_the_table)
{
	struct fq_mem_region region = {.gpa = 0x1000, .size = 16, .hva = low};
	struct fq_mem *m;

	cr_assert_eq(fq_mem_create(&m, &region, 1), 0);
	memset(&region, 0, sizeof(region));
	cr_assert_eq(fq_mem_at(m, 0x1000, 16), low);
	fq_mem_destroy(m);
}

Test(mem, no_regions_is_a_table_of_nothing)
{
	struct fq_mem *m;
	uint64_t len = 1;

	cr_assert_eq(fq_mem_create(&m, NULL, 0), 0);
	cr_assert_null(fq_mem_at(m, 0, 0));
	cr_assert_null(fq_mem_piece(m, 0, &len));
	cr_assert_eq(len, 0);
	fq_mem_destroy(m);
}

Test(mem, destroy_takes_null)
{
	fq_mem_destroy(NULL);
}

Test(mem, at_translates_within_each_region, .init = setup, .fini = teardown)
{
	cr_assert_eq(fq_mem_at(mem, 0x1000, 0x100), low);
	cr_assert_eq(fq_mem_at(mem, 0x10ff, 1), low + 0xff);
	cr_assert_eq(fq_mem_at(mem, 0x1100, 1), middle);
	cr_assert_eq(fq_mem_at(mem, 0x11f0, 16), middle + 0xf0);
	cr_assert_eq(fq_mem_at(mem, 0x907f, 1), high + 0x7f);
}

Test(mem, at_refuses_what_is_outside, .init = setup, .fini = teardown)
{
	cr_assert_null(fq_mem_at(mem, 0, 1));
	cr_assert_null(fq_mem_at(mem, 0xfff, 1));
	cr_assert_null(fq_mem_at(mem, 0xfff, 2));
	cr_assert_null(fq_mem_at(mem, 0x1200, 1));
	cr_assert_null(fq_mem_at(mem, 0x9080, 1));
	cr_assert_null(fq_mem_at(mem, UINT64_MAX, 1));
}

Test(mem, at_checks_the_whole_length, .init = setup, .fini = teardown)
{
	cr_assert_null(fq_mem_at(mem, 0x10ff, 2), "crosses into a region that touches");
	cr_assert_null(fq_mem_at(mem, 0x907f, 2));
	cr_assert_null(fq_mem_at(mem, 0x9000, UINT64_MAX));
	cr_assert_null(fq_mem_at(mem, 0x9001, UINT64_MAX), "the end wraps round");
}

Test(mem, at_of_no_bytes_needs_an_address_inside, .init = setup, .fini = teardown)
{
	cr_assert_eq(fq_mem_at(mem, 0x9000, 0), high);
	cr_assert_null(fq_mem_at(mem, 0x9080, 0));
}

Test(mem, piece_ends_with_the_region, .init = setup, .fini = teardown)
{
	uint64_t len = 0x40;

	cr_assert_eq(fq_mem_piece(mem, 0x10e0, &len), low + 0xe0);
	cr_assert_eq(len, 0x20);
	len = 0x20;
	cr_assert_eq(fq_mem_piece(mem, 0x1100, &len), middle);
	cr_assert_eq(len, 0x20);
	len = UINT64_MAX;
	cr_assert_eq(fq_mem_piece(mem, 0x9070, &len), high + 0x70);
	cr_assert_eq(len, 0x10);
}

Test(mem, piece_outside_is_null_and_empty, .init = setup, .fini = teardown)
{
	uint64_t len = 8;

	cr_assert_null(fq_mem_piece(mem, 0x1200, &len));
	cr_assert_eq(len, 0);
}

Test(mem, null_translates_to_nothing, .init = setup, .fini = teardown)
{
	uint64_t len = 8;

	cr_assert_null(fq_mem_at(NULL, 0x1000, 1));
	cr_assert_null(fq_mem_piece(mem, 0x1000, NULL));
	cr_assert_null(fq_mem_piece(NULL, 0x1000, &len));
	cr_assert_eq(len, 0);
}

Test(mem, finds_each_of_many_regions)
{
	enum {
		COUNT = 100
	};
	struct fq_mem_region regions[COUNT];
	static char bytes[COUNT][4];
	struct fq_mem *m;

	for (unsigned i = 0; i < COUNT; i++) {
		unsigned at = i * 37 % COUNT; /* shuffled */

		regions[i] = (struct fq_mem_region){at * 8ull, 4, bytes[at]};
	}
	cr_assert_eq(fq_mem_create(&m, regions, COUNT), 0);
	for (unsigned i = 0; i < COUNT; i++) {
		cr_assert_eq(fq_mem_at(m, i * 8ull, 4), bytes[i], "region %u", i);
		cr_assert_eq(fq_mem_at(m, i * 8ull + 3, 1), bytes[i] + 3, "region %u", i);
		cr_assert_null(fq_mem_at(m, i * 8ull + 4, 1), "hole after region %u", i);
	}
	fq_mem_destroy(m);
}
