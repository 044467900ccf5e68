/* SPDX-License-Identifier: MIT */
#include "vring_host.h"

/* Packed rings as no driver should make them. */

static void packed(void)
{
	open_ring(7, FQ_VRING_PACKED, 0);
}

static void packed_indirect(void)
{
	open_ring(7, FQ_VRING_PACKED | FQ_VRING_INDIRECT, 0);
}

Test(vring_packed, malformed_id_out_of_range, .init = packed, .fini = teardown)
{
	put_desc(DATA_GPA, 1, 7, 0);
	show();
	expect_broken(-EPROTO);
}

Test(vring_packed, malformed_id_in_flight, .init = packed, .fini = teardown)
{
	int id = offer(&ring);

	pop(&ring);
	put_desc(DATA_GPA, 1, (unsigned)id, 0);
	show();
	expect_broken(-EPROTO);
}

Test(vring_packed, malformed_id_put_and_not_shown, .init = packed, .fini = teardown)
{
	int id = offer(&ring);

	cr_assert_eq(fq_vring_put(ring.vr, pop(&ring), 0), 0);
	put_desc(DATA_GPA, 1, (unsigned)id, 0);
	show();
	expect_broken(-EPROTO);
}

Test(vring_packed, id_may_come_again_once_it_is_shown, .init = packed, .fini = teardown)
{
	int id = offer(&ring);

	cr_assert_eq(fq_vring_put(ring.vr, pop(&ring), 0), 0);
	cr_assert_eq(fq_vring_publish(ring.vr), 1);
	put_desc(DATA_GPA, 1, (unsigned)id, 0);
	show();
	pop(&ring);
}

Test(vring_packed, chain_may_fill_the_ring, .init = packed, .fini = teardown)
{
	for (unsigned i = 0; i < 7; i++)
		put_desc(DATA_GPA + i, 1, 3, i < 6 ? DRV_NEXT : 0);
	show();
	pop(&ring);
	cr_assert_eq(chain.readable, 7);
	cr_assert_eq(fq_vring_avail_idx(ring.vr), 0);
	cr_assert_eq(fq_vring_put(ring.vr, chain.buf, 0), 0);
	cr_assert_eq(fq_vring_used_idx(ring.vr), 0);
}

Test(vring_packed, malformed_chain_without_end, .init = packed, .fini = teardown)
{
	for (unsigned i = 0; i < 7; i++)
		put_desc(DATA_GPA, 1, 3, DRV_NEXT);
	show();
	expect_broken(-ELOOP);
}

/* The first of seven is not the driver's any more. */
Test(vring_packed, malformed_chain_round_into_another, .init = packed, .fini = teardown)
{
	offer(&ring);
	pop(&ring);
	for (unsigned i = 1; i < 7; i++)
		put_desc(DATA_GPA, 1, 3, DRV_NEXT);
	put_desc(DATA_GPA, 1, 3, 0);
	show();
	expect_broken(-ELOOP);
}

Test(vring_packed, malformed_chain_longer_than_max_chain, .init = packed, .fini = teardown)
{
	fq_vring_destroy(ring.vr);
	ring.config.max_chain = 2;
	cr_assert_eq(fq_vring_create(&ring.vr, &ring.config), 0);
	put_desc(DATA_GPA, 1, 0, DRV_NEXT);
	put_desc(DATA_GPA, 1, 0, 0);
	show();
	pop(&ring);
	for (unsigned i = 0; i < 3; i++)
		put_desc(DATA_GPA, 1, 1, i < 2 ? DRV_NEXT : 0);
	show();
	expect_broken(-ELOOP);
}

/* Shown before the rest of its list was available. */
static void half_a_list(unsigned second)
{
	put_desc(DATA_GPA, 1, 0, DRV_NEXT);
	put_desc(DATA_GPA, 1, 0, 0);
	drv_set16(pdrv_flags(&ring.drv.p, 1), second, memory_order_relaxed);
	show();
	expect_broken(-EBADMSG);
}

Test(vring_packed, malformed_list_with_a_new_descriptor, .init = packed, .fini = teardown)
{
	half_a_list(0);
}

Test(vring_packed, malformed_list_with_a_used_descriptor, .init = packed, .fini = teardown)
{
	half_a_list(PDRV_AVAIL | PDRV_USED);
}

Test(vring_packed, malformed_list_with_one_of_another_lap, .init = packed, .fini = teardown)
{
	half_a_list(PDRV_USED);
}

/* All of the ring is the device's, so there is nothing that the driver could offer. */
Test(vring_packed, malformed_more_than_the_ring, .init = packed, .fini = teardown)
{
	for (int i = 0; i < 7; i++)
		offer(&ring);
	for (int i = 0; i < 7; i++)
		pop(&ring);
	cr_assert_eq(fq_vring_pop(ring.vr, &chain), 0);
	cr_assert_eq(fq_vring_put(ring.vr, chain.buf, 0), 0);
	drv_set16(pdrv_flags(&ring.drv.p, 0), PDRV_USED, memory_order_relaxed);
	cr_assert(fq_vring_enable_kick(ring.vr), "nobody would look at what is wrong");
	expect_broken(-EPROTO);
}

/* The same with one chain of all descriptors: there are ids enough that are not in flight. */
Test(vring_packed, malformed_more_than_the_ring_under_another_id, .init = packed, .fini = teardown)
{
	for (unsigned i = 0; i < 7; i++)
		put_desc(DATA_GPA, 1, 3, i < 6 ? DRV_NEXT : 0);
	show();
	pop(&ring);
	put_desc(DATA_GPA, 1, 4, 0);
	show();
	expect_broken(-EPROTO);
}

Test(vring_packed, malformed_readable_after_writable, .init = packed, .fini = teardown)
{
	put_desc(DATA_GPA, 1, 0, DRV_NEXT | DRV_WRITE);
	put_desc(DATA_GPA, 1, 0, 0);
	show();
	expect_broken(-EBADMSG);
}

static void malformed_buffer(uint64_t gpa, uint32_t len)
{
	open_ring(7, FQ_VRING_PACKED, 0);
	put_desc(gpa, len, 0, DRV_WRITE);
	show();
	expect_broken(-EFAULT);
	teardown();
}

Test(vring_packed, malformed_buffers)
{
	malformed_buffer(HOLE_GPA, 1);
	malformed_buffer(HOLE_GPA - 1, 2);
	malformed_buffer(DATA_GPA, UINT32_MAX);
	malformed_buffer(UINT64_MAX - 15, 17);
	malformed_buffer(0, 1);
}

/* -- indirect tables ------------------------------------------------------------------------ */

Test(vring_packed, malformed_indirect_not_negotiated, .init = packed, .fini = teardown)
{
	put_table(DATA_GPA, 16, 0);
	expect_broken(-EBADMSG);
}

Test(vring_packed, malformed_indirect_of_length_0, .init = packed_indirect, .fini = teardown)
{
	put_table(DATA_GPA, 0, 0);
	expect_broken(-EBADMSG);
}

Test(vring_packed, malformed_indirect_of_odd_length, .init = packed_indirect, .fini = teardown)
{
	put_table(DATA_GPA, 24, 0);
	expect_broken(-EBADMSG);
}

Test(vring_packed, malformed_indirect_with_next, .init = packed_indirect, .fini = teardown)
{
	put_desc(DATA_GPA, 16, 5, DRV_INDIRECT | DRV_NEXT);
	put_desc(DATA_GPA, 16, 5, 0);
	show();
	expect_broken(-EBADMSG);
}

Test(vring_packed, malformed_indirect_after_another, .init = packed_indirect, .fini = teardown)
{
	fill_table((uint64_t *)data, 1, 0);
	put_desc(DATA_GPA, 16, 5, DRV_NEXT);
	put_table(DATA_GPA, 16, 0);
	expect_broken(-EBADMSG);
}

Test(vring_packed, malformed_indirect_readable_after_writable, .init = packed_indirect,
     .fini = teardown)
{
	fill_table((uint64_t *)data, 2, DRV_WRITE);
	drv_set_desc((uint64_t *)data, 1, MORE_GPA, 1, 0, 0);
	put_table(DATA_GPA, 32, 0);
	expect_broken(-EBADMSG);
}

Test(vring_packed, malformed_indirect_table_outside, .init = packed_indirect, .fini = teardown)
{
	put_table(HOLE_GPA, 16, 0);
	expect_broken(-EFAULT);
}

Test(vring_packed, malformed_indirect_table_into_a_hole, .init = packed_indirect, .fini = teardown)
{
	fill_table((uint64_t *)(more + MORE_BYTES - 16), 1, 0);
	put_table(HOLE_GPA - 16, 32, 0);
	expect_broken(-EFAULT);
}

Test(vring_packed, malformed_indirect_buffer_outside, .init = packed_indirect, .fini = teardown)
{
	drv_set_desc((uint64_t *)data, 0, HOLE_GPA, 1, 0, 0);
	put_table(DATA_GPA, 16, 0);
	expect_broken(-EFAULT);
}

/* Refused for what it says it has, before any of it is read. */
Test(vring_packed, malformed_indirect_huge_table, .init = packed_indirect, .fini = teardown)
{
	put_table(DATA_GPA, UINT32_MAX & ~15u, 0);
	expect_broken(-ELOOP);
}

Test(vring_packed, max_chain_of_a_table, .init = packed_indirect, .fini = teardown)
{
	fq_vring_destroy(ring.vr);
	ring.config.max_chain = 8;
	cr_assert_eq(fq_vring_create(&ring.vr, &ring.config), 0);
	fill_table((uint64_t *)data, 9, 0);
	put_desc(DATA_GPA, 8 * 16, 4, DRV_INDIRECT);
	show();
	pop(&ring);
	cr_assert_eq(chain.readable, 8);
	put_table(DATA_GPA, 9 * 16, 0);
	expect_broken(-ELOOP);
}
