/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "vring_host.h"

/* Indirect tables. */

static void offer_table(uint64_t gpa, uint32_t len, unsigned flags)
{
	drv_set_desc(ring.drv.s.desc, 0, gpa, len, DRV_INDIRECT | flags, 0);
	offer_raw(0);
}

Test(vring, indirect_chain, .init = indirect, .fini = teardown)
{
	const struct drv_buf bufs[] = {{MORE_GPA, 3, false}, {MORE_GPA + 8, 9, true}};
	int head = drv_chain_indirect(&ring.drv.s, bufs, 2, (uint64_t *)data, DATA_GPA);

	drv_offer(&ring.drv.s, head);
	drv_show(&ring.drv.s);
	cr_assert_eq(fq_vring_put(ring.vr, pop(&ring), 9), 0);
	cr_assert_eq(chain.readable_len, 3);
	cr_assert_eq(chain.writable_len, 9);
	cr_assert_eq(iov[1].iov_base, more + 8);
	cr_assert_eq(fq_vring_publish(ring.vr), 1);
	take(&ring, (uint32_t)head, 9);
}

Test(vring, indirect_after_direct, .init = indirect, .fini = teardown)
{
	row((uint64_t *)data, 6, -1);
	drv_set_desc(ring.drv.s.desc, 0, MORE_GPA, 1, DRV_NEXT, 1);
	drv_set_desc(ring.drv.s.desc, 1, MORE_GPA, 1, DRV_NEXT, 2);
	drv_set_desc(ring.drv.s.desc, 2, DATA_GPA, 16 * 6, DRV_INDIRECT, 0);
	offer_raw(0);
	pop(&ring);
	cr_assert_eq(chain.readable, 8);
}

/* Linux sends such chains, although the specification has none of them. */
Test(vring, indirect_chain_may_be_longer_than_the_ring, .init = indirect, .fini = teardown)
{
	row((uint64_t *)data, 100, -1);
	drv_set_desc(ring.drv.s.desc, 0, MORE_GPA, 1, DRV_NEXT, 1);
	drv_set_desc(ring.drv.s.desc, 1, MORE_GPA, 1, DRV_NEXT, 2);
	drv_set_desc(ring.drv.s.desc, 2, DATA_GPA, 16 * 100, DRV_INDIRECT, 0);
	offer_raw(0);
	pop(&ring);
	cr_assert_eq(chain.readable, 102);
}

/* Two in the ring and some in the table, with a bound of eight. */
static void pop_bounded(unsigned in_table)
{
	fq_vring_destroy(ring.vr);
	ring.config.max_chain = 8;
	cr_assert_eq(fq_vring_create(&ring.vr, &ring.config), 0);
	row((uint64_t *)data, in_table, -1);
	drv_set_desc(ring.drv.s.desc, 0, MORE_GPA, 1, DRV_NEXT, 1);
	drv_set_desc(ring.drv.s.desc, 1, MORE_GPA, 1, DRV_NEXT, 2);
	drv_set_desc(ring.drv.s.desc, 2, DATA_GPA, 16 * in_table, DRV_INDIRECT, 0);
	offer_raw(0);
}

Test(vring, max_chain_may_be_reached, .init = indirect, .fini = teardown)
{
	pop_bounded(6);
	pop(&ring);
	cr_assert_eq(chain.readable, 8);
}

Test(vring, malformed_longer_than_max_chain, .init = indirect, .fini = teardown)
{
	pop_bounded(7);
	expect_broken(-ELOOP);
}

/* In a table of 4 GiB, of which there are eight descriptors: the bound is not what it says it has. */
Test(vring, malformed_indirect_loop_in_a_huge_table, .init = indirect, .fini = teardown)
{
	row((uint64_t *)data, 8, 0);
	offer_table(DATA_GPA, UINT32_MAX & ~15u, 0);
	expect_broken(-ELOOP);
}

Test(vring, indirect_ignores_write_on_the_table, .init = indirect, .fini = teardown)
{
	row((uint64_t *)data, 2, -1);
	offer_table(DATA_GPA, 32, DRV_WRITE);
	pop(&ring);
	cr_assert_eq(chain.readable, 2);
}

Test(vring, indirect_table_may_be_larger_than_its_chain, .init = indirect, .fini = teardown)
{
	row((uint64_t *)data, 2, -1);
	offer_table(DATA_GPA, 16 * 100, 0);
	pop(&ring);
	cr_assert_eq(chain.readable, 2);
}

Test(vring, indirect_table_may_cross_regions, .init = indirect, .fini = teardown)
{
	uint64_t table[6];

	row(table, 3, -1);
	memcpy(data + DATA_BYTES - 24, table, 24);
	memcpy(more, (char *)table + 24, 24);
	offer_table(MORE_GPA - 24, 48, 0);
	pop(&ring);
	cr_assert_eq(chain.readable, 3);
	cr_assert_eq(iov[1].iov_base, data + 1);
	cr_assert_eq(iov[2].iov_base, data + 2);
}

Test(vring, indirect_table_needs_no_alignment, .init = indirect, .fini = teardown)
{
	uint64_t table[4];

	row(table, 2, -1);
	memcpy(data + 3, table, 32);
	offer_table(DATA_GPA + 3, 32, 0);
	pop(&ring);
	cr_assert_eq(chain.readable, 2);
	cr_assert_eq(iov[1].iov_base, data + 1);
}

Test(vring, malformed_indirect_not_negotiated, .init = plain, .fini = teardown)
{
	row((uint64_t *)data, 2, -1);
	offer_table(DATA_GPA, 32, 0);
	expect_broken(-EBADMSG);
}

Test(vring, malformed_indirect_of_length_0, .init = indirect, .fini = teardown)
{
	offer_table(DATA_GPA, 0, 0);
	expect_broken(-EBADMSG);
}

Test(vring, malformed_indirect_of_odd_length, .init = indirect, .fini = teardown)
{
	row((uint64_t *)data, 1, -1);
	offer_table(DATA_GPA, 24, 0);
	expect_broken(-EBADMSG);
}

Test(vring, malformed_indirect_with_next, .init = indirect, .fini = teardown)
{
	row((uint64_t *)data, 1, -1);
	offer_table(DATA_GPA, 16, DRV_NEXT);
	expect_broken(-EBADMSG);
}

Test(vring, malformed_indirect_nested, .init = indirect, .fini = teardown)
{
	row((uint64_t *)more, 1, -1);
	drv_set_desc((uint64_t *)data, 0, MORE_GPA, 16, DRV_INDIRECT, 0);
	offer_table(DATA_GPA, 16, 0);
	expect_broken(-EBADMSG);
}

Test(vring, malformed_indirect_in_itself, .init = indirect, .fini = teardown)
{
	drv_set_desc((uint64_t *)data, 0, DATA_GPA, 16, DRV_INDIRECT, 0);
	offer_table(DATA_GPA, 16, 0);
	expect_broken(-EBADMSG);
}

Test(vring, malformed_indirect_next_past_the_table, .init = indirect, .fini = teardown)
{
	row((uint64_t *)data, 2, 2);
	drv_set_desc((uint64_t *)data, 2, DATA_GPA, 1, 0, 0);
	offer_table(DATA_GPA, 32, 0);
	expect_broken(-EBADMSG);
}

Test(vring, malformed_indirect_loop, .init = indirect, .fini = teardown)
{
	row((uint64_t *)data, 4, 0);
	offer_table(DATA_GPA, 64, 0);
	expect_broken(-ELOOP);
}

Test(vring, malformed_indirect_readable_after_direct_writable, .init = indirect, .fini = teardown)
{
	row((uint64_t *)data, 1, -1);
	drv_set_desc(ring.drv.s.desc, 0, MORE_GPA, 1, DRV_NEXT | DRV_WRITE, 1);
	drv_set_desc(ring.drv.s.desc, 1, DATA_GPA, 16, DRV_INDIRECT, 0);
	offer_raw(0);
	expect_broken(-EBADMSG);
}

Test(vring, malformed_indirect_table_outside, .init = indirect, .fini = teardown)
{
	offer_table(HOLE_GPA, 16, 0);
	expect_broken(-EFAULT);
}

Test(vring, malformed_indirect_table_into_a_hole, .init = indirect, .fini = teardown)
{
	drv_set_desc((uint64_t *)(more + MORE_BYTES - 16), 0, DATA_GPA, 1, DRV_NEXT, 1);
	offer_table(HOLE_GPA - 16, 32, 0);
	expect_broken(-EFAULT);
}

Test(vring, malformed_indirect_buffer_outside, .init = indirect, .fini = teardown)
{
	drv_set_desc((uint64_t *)data, 0, HOLE_GPA, 1, 0, 0);
	offer_table(DATA_GPA, 16, 0);
	expect_broken(-EFAULT);
}
