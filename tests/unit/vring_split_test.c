/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "vring_host.h"

/* Chains. */

Test(vring, pop_of_an_empty_ring_is_0, .init = plain, .fini = teardown)
{
	cr_assert_eq(fq_vring_pop(ring.vr, &chain), 0);
	cr_assert_eq(stats(&ring).popped, 0);
}

Test(vring, pop_gives_the_pieces_of_a_chain, .init = plain, .fini = teardown)
{
	const struct drv_buf bufs[] = {
		{DATA_GPA + 8, 24, false},
		{DATA_GPA + 100, 1, false},
		{MORE_GPA, 5, true},
	};
	int head = drv_chain(&ring.drv.s, bufs, 3);

	drv_offer(&ring.drv.s, head);
	cr_assert_eq(fq_vring_pop(ring.vr, &chain), 0, "offered, but not shown");
	drv_show(&ring.drv.s);
	cr_assert_eq(fq_vring_pop(ring.vr, &chain), 1);
	cr_assert_eq(chain.readable, 2);
	cr_assert_eq(chain.writable, 1);
	cr_assert_eq(chain.readable_len, 25);
	cr_assert_eq(chain.writable_len, 5);
	cr_assert_eq(iov[0].iov_base, data + 8);
	cr_assert_eq(iov[0].iov_len, 24);
	cr_assert_eq(iov[1].iov_base, data + 100);
	cr_assert_eq(iov[1].iov_len, 1);
	cr_assert_eq(iov[2].iov_base, more);
	cr_assert_eq(iov[2].iov_len, 5);
	cr_assert_eq(fq_vring_in_flight(ring.vr), 1);
	cr_assert_eq(fq_vring_avail_idx(ring.vr), 1);
	cr_assert_eq(stats(&ring).popped, 1);
}

Test(vring, pop_splits_what_crosses_regions, .init = plain, .fini = teardown)
{
	const struct drv_buf bufs[] = {
		{MORE_GPA - 3, 10, false},
		{MORE_GPA - 1, MORE_BYTES + 1, true},
	};

	drv_offer(&ring.drv.s, drv_chain(&ring.drv.s, bufs, 2));
	drv_show(&ring.drv.s);
	pop(&ring);
	cr_assert_eq(chain.readable, 2);
	cr_assert_eq(chain.writable, 2);
	cr_assert_eq(chain.readable_len, 10);
	cr_assert_eq(chain.writable_len, MORE_BYTES + 1);
	cr_assert_eq(iov[0].iov_base, data + DATA_BYTES - 3);
	cr_assert_eq(iov[0].iov_len, 3);
	cr_assert_eq(iov[1].iov_base, more);
	cr_assert_eq(iov[1].iov_len, 7);
	cr_assert_eq(iov[2].iov_base, data + DATA_BYTES - 1);
	cr_assert_eq(iov[3].iov_len, MORE_BYTES);
}

Test(vring, pop_makes_no_piece_of_length_0, .init = plain, .fini = teardown)
{
	const struct drv_buf bufs[] = {{HOLE_GPA, 0, false}, {DATA_GPA, 4, true}};

	drv_offer(&ring.drv.s, drv_chain(&ring.drv.s, bufs, 2));
	drv_show(&ring.drv.s);
	pop(&ring);
	cr_assert_eq(chain.readable, 0);
	cr_assert_eq(chain.writable, 1);
}

Test(vring, pop_without_room_takes_nothing, .init = plain, .fini = teardown)
{
	const struct drv_buf bufs[] = {{DATA_GPA, 4, false}, {MORE_GPA - 1, 4, true}};
	struct iovec guard = {.iov_len = 77};

	drv_offer(&ring.drv.s, drv_chain(&ring.drv.s, bufs, 2));
	drv_show(&ring.drv.s);
	chain.iov_max = 2;
	iov[2] = guard;
	cr_assert_eq(fq_vring_pop(ring.vr, &chain), -E2BIG);
	cr_assert_eq(chain.readable + chain.writable, 3);
	cr_assert_eq(iov[2].iov_len, 77, "written past iov_max");
	cr_assert_eq(fq_vring_avail_idx(ring.vr), 0);
	cr_assert_eq(fq_vring_in_flight(ring.vr), 0);
	chain.iov = NULL;
	chain.iov_max = 0;
	cr_assert_eq(fq_vring_pop(ring.vr, &chain), -E2BIG);
	cr_assert_eq(stats(&ring).errors, 0);
	cr_assert_eq(stats(&ring).broken, 0);
	chain.iov = iov;
	chain.iov_max = 3;
	pop(&ring);
	cr_assert_eq(chain.readable, 1);
	cr_assert_eq(chain.writable, 2);
}

Test(vring, pop_goes_round_the_ring_and_the_index)
{
	open_ring(4, 0, 65530);
	for (int i = 0; i < 20; i++)
		cr_assert_eq(round_trip(&ring), 1);
	cr_assert_eq(fq_vring_avail_idx(ring.vr), (uint16_t)(65530 + 20));
	cr_assert_eq(fq_vring_used_idx(ring.vr), (uint16_t)(65530 + 20));
	cr_assert_eq(stats(&ring).errors, 0);
	teardown();
}

Test(vring, malformed_head_out_of_range, .init = plain, .fini = teardown)
{
	offer_raw(8);
	expect_broken(-EPROTO);
}

Test(vring, malformed_head_far_out_of_range, .init = plain, .fini = teardown)
{
	offer_raw(UINT16_MAX);
	expect_broken(-EPROTO);
}

Test(vring, malformed_index_jumps, .init = plain, .fini = teardown)
{
	ring.drv.s.avail_idx = 9;
	drv_show(&ring.drv.s);
	cr_assert(fq_vring_enable_kick(ring.vr), "nobody would look at what is wrong");
	expect_broken(-EPROTO);
}

Test(vring, malformed_index_goes_back, .init = plain, .fini = teardown)
{
	round_trip(&ring);
	ring.drv.s.avail_idx = 0;
	drv_show(&ring.drv.s);
	expect_broken(-EPROTO);
}

Test(vring, index_may_jump_by_the_size, .init = plain, .fini = teardown)
{
	for (int i = 0; i < 8; i++)
		offer(&ring);
	for (int i = 0; i < 8; i++)
		pop(&ring);
	cr_assert_eq(fq_vring_in_flight(ring.vr), 8);
	cr_assert_eq(fq_vring_pop(ring.vr, &chain), 0);
}

Test(vring, malformed_head_twice_in_flight, .init = plain, .fini = teardown)
{
	int head = offer(&ring);

	pop(&ring);
	offer_raw((unsigned)head);
	expect_broken(-EPROTO);
}

Test(vring, malformed_head_again_before_it_is_shown, .init = plain, .fini = teardown)
{
	int head = offer(&ring);

	cr_assert_eq(fq_vring_put(ring.vr, pop(&ring), 0), 0);
	offer_raw((unsigned)head);
	expect_broken(-EPROTO);
}

Test(vring, head_may_come_again_once_it_is_shown, .init = plain, .fini = teardown)
{
	int head = offer(&ring);

	cr_assert_eq(fq_vring_put(ring.vr, pop(&ring), 0), 0);
	cr_assert_eq(fq_vring_publish(ring.vr), 1);
	offer_raw((unsigned)head);
	pop(&ring);
}

Test(vring, malformed_loop, .init = plain, .fini = teardown)
{
	row(ring.drv.s.desc, 3, 0);
	offer_raw(0);
	expect_broken(-ELOOP);
}

Test(vring, malformed_loop_of_one, .init = plain, .fini = teardown)
{
	row(ring.drv.s.desc, 1, 0);
	offer_raw(0);
	expect_broken(-ELOOP);
}

Test(vring, malformed_loop_is_not_a_matter_of_room, .init = plain, .fini = teardown)
{
	row(ring.drv.s.desc, 3, 1);
	offer_raw(0);
	chain.iov_max = 2;
	expect_broken(-ELOOP);
}

Test(vring, chain_may_fill_the_ring, .init = plain, .fini = teardown)
{
	row(ring.drv.s.desc, 8, -1);
	offer_raw(0);
	pop(&ring);
	cr_assert_eq(chain.readable, 8);
}

Test(vring, malformed_next_out_of_range, .init = plain, .fini = teardown)
{
	row(ring.drv.s.desc, 2, 8);
	offer_raw(0);
	expect_broken(-EBADMSG);
}

Test(vring, malformed_readable_after_writable, .init = plain, .fini = teardown)
{
	drv_set_desc(ring.drv.s.desc, 0, DATA_GPA, 1, DRV_NEXT | DRV_WRITE, 1);
	drv_set_desc(ring.drv.s.desc, 1, DATA_GPA, 1, 0, 0);
	offer_raw(0);
	expect_broken(-EBADMSG);
}

Test(vring, malformed_address_outside, .init = plain, .fini = teardown)
{
	drv_set_desc(ring.drv.s.desc, 0, HOLE_GPA, 1, 0, 0);
	offer_raw(0);
	expect_broken(-EFAULT);
}

Test(vring, malformed_buffer_into_a_hole, .init = plain, .fini = teardown)
{
	drv_set_desc(ring.drv.s.desc, 0, HOLE_GPA - 1, 2, 0, 0);
	offer_raw(0);
	expect_broken(-EFAULT);
}

Test(vring, malformed_buffer_of_everything, .init = plain, .fini = teardown)
{
	drv_set_desc(ring.drv.s.desc, 0, DATA_GPA, UINT32_MAX, DRV_WRITE, 0);
	offer_raw(0);
	expect_broken(-EFAULT);
}

/* There is memory at both ends of the address space, but nothing goes from one to the other. */
static void wrapping(unsigned flags, uint32_t len)
{
	const struct fq_mem_region regions[] = {
		{RING_GPA, RING_BYTES, ring_mem},
		{0, DATA_BYTES, data},
		{UINT64_MAX - (MORE_BYTES - 1), MORE_BYTES, more},
	};
	struct fq_mem *both_ends;

	fq_vring_destroy(ring.vr);
	cr_assert_eq(fq_mem_create(&both_ends, regions, 3), 0);
	ring.config.mem = both_ends;
	ring.config.features = FQ_VRING_INDIRECT;
	cr_assert_eq(fq_vring_create(&ring.vr, &ring.config), 0);
	drv_set_desc(ring.drv.s.desc, 0, UINT64_MAX - 15, len, flags, 0);
	offer_raw(0);
	cr_assert_eq(fq_vring_pop(ring.vr, &chain), len == 16 ? 1 : -EFAULT);
	other_is_fine();
	fq_vring_destroy(ring.vr);
	ring.vr = NULL;
	fq_mem_destroy(both_ends);
}

Test(vring, buffer_may_end_at_the_top, .init = plain, .fini = teardown)
{
	wrapping(0, 16);
}

Test(vring, malformed_buffer_round_the_top, .init = plain, .fini = teardown)
{
	wrapping(0, 17);
}

Test(vring, malformed_table_round_the_top, .init = plain, .fini = teardown)
{
	drv_set_desc((uint64_t *)(more + MORE_BYTES - 16), 0, RING_GPA, 1, DRV_NEXT, 1);
	wrapping(DRV_INDIRECT, 32);
}
