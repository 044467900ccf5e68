/* SPDX-License-Identifier: MIT */
#include "vring_host.h"

/* Chains and used elements of a packed ring. */

static void packed(void)
{
	open_ring(7, FQ_VRING_PACKED, 0);
}

static void packed_indirect(void)
{
	open_ring(7, FQ_VRING_PACKED | FQ_VRING_INDIRECT, 0);
}

/* -- chains ------------------------------------------------------------------------------------ */

Test(vring_packed, pop_gives_the_pieces_of_a_chain, .init = packed, .fini = teardown)
{
	const struct drv_buf bufs[] = {
		{DATA_GPA + 8, 24, false},
		{MORE_GPA - 1, 3, false},
		{HOLE_GPA, 0, true},
		{MORE_GPA, 5, true},
	};
	int id = pdrv_chain(&ring.drv.p, bufs, 4);

	cr_assert_eq(fq_vring_pop(ring.vr, &chain), 0, "queued, but not shown");
	show();
	cr_assert_eq(pop(&ring).id, id);
	cr_assert_eq(chain.readable, 3);
	cr_assert_eq(chain.writable, 1);
	cr_assert_eq(chain.readable_len, 27);
	cr_assert_eq(chain.writable_len, 5);
	cr_assert_eq(iov[0].iov_base, data + 8);
	cr_assert_eq(iov[1].iov_base, data + DATA_BYTES - 1);
	cr_assert_eq(iov[1].iov_len, 1);
	cr_assert_eq(iov[2].iov_base, more);
	cr_assert_eq(iov[2].iov_len, 2);
	cr_assert_eq(iov[3].iov_base, more);
	cr_assert_eq(iov[3].iov_len, 5);
	cr_assert_eq(fq_vring_avail_idx(ring.vr), 0x8004);
	cr_assert_eq(fq_vring_pop(ring.vr, &chain), 0);
}

Test(vring_packed, pop_without_room_takes_nothing, .init = packed, .fini = teardown)
{
	const struct drv_buf bufs[] = {{DATA_GPA, 4, false}, {MORE_GPA - 1, 4, true}};

	(void)pdrv_chain(&ring.drv.p, bufs, 2);
	show();
	chain.iov_max = 2;
	iov[2].iov_len = 77;
	cr_assert_eq(fq_vring_pop(ring.vr, &chain), -E2BIG);
	cr_assert_eq(chain.readable + chain.writable, 3);
	cr_assert_eq(iov[2].iov_len, 77, "written past iov_max");
	cr_assert_eq(fq_vring_avail_idx(ring.vr), 0x8000);
	cr_assert_eq(fq_vring_in_flight(ring.vr), 0);
	cr_assert_eq(stats(&ring).errors, 0);
	chain.iov_max = 3;
	pop(&ring);
	cr_assert_eq(chain.writable, 2);
}

/* Both bits of the flags say whose a descriptor is; a ring of zeroes is nobody's. */
Test(vring_packed, neither_bit_nor_both_is_available, .init = packed, .fini = teardown)
{
	static const unsigned no[] = {0, PDRV_USED, PDRV_AVAIL | PDRV_USED};

	for (size_t i = 0; i < sizeof(no) / sizeof(*no); i++) {
		drv_set16(pdrv_flags(&ring.drv.p, 0), no[i], memory_order_relaxed);
		cr_assert_eq(fq_vring_pop(ring.vr, &chain), 0);
		cr_assert_not(fq_vring_enable_kick(ring.vr));
	}
	offer(&ring);
	cr_assert(fq_vring_enable_kick(ring.vr));
	pop(&ring);
}

/* Up to three chains of up to that many descriptors at a time, completed last first. */
static void go_round(uint32_t size, uint16_t start)
{
	const struct drv_buf bufs[3] = {
		{DATA_GPA, 1, true}, {DATA_GPA, 1, true}, {DATA_GPA, 1, true}};
	uint32_t seq = 0;

	open_ring(size, FQ_VRING_PACKED, start);
	for (int round = 0; round < 100; round++) {
		struct fq_vring_buf held[3];
		uint32_t n = 0, id, len;

		while (n < 3 && pdrv_chain(&ring.drv.p, bufs, 1 + seq % 3) >= 0)
			n++, seq++;
		if (!n)
			seq++; /* one that is shorter */
		show();
		for (uint32_t i = 0; i < n; i++)
			held[i] = pop(&ring);
		cr_assert_eq(fq_vring_pop(ring.vr, &chain), 0);
		for (uint32_t i = n; i--;)
			cr_assert_eq(fq_vring_put(ring.vr, held[i], i), 0);
		cr_assert_eq(fq_vring_publish(ring.vr), n > 0);
		for (uint32_t i = n; i--;) {
			cr_assert(pdrv_take(&ring.drv.p, &id, &len), "size %u, round %d", size,
				  round);
			cr_assert_eq(id, held[i].id);
			cr_assert_eq(len, i);
		}
		take_none(&ring);
		cr_assert_eq(fq_vring_avail_idx(ring.vr), ring.drv.p.avail);
		cr_assert_eq(fq_vring_used_idx(ring.vr), ring.drv.p.used);
	}
	cr_assert_eq(stats(&ring).errors, 0);
	teardown();
}

/* Caught here: a wrap counter that is not flipped; an element that moves on by one descriptor. */
Test(vring_packed, every_size_goes_round)
{
	static const uint32_t sizes[] = {1, 2, 3, 4, 5, 7, 8, 13, 16, 100};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		go_round(sizes[i], 0);
		go_round(sizes[i], (uint16_t)(2 * sizes[i] - 1));
	}
}

/* Only some of what is in flight comes back in each round, so elements overwrite others' chains. */
Test(vring_packed, elements_go_over_chains_in_flight, .init = packed, .fini = teardown)
{
	const struct drv_buf bufs[] = {
		{DATA_GPA, 1, false}, {DATA_GPA + 1, 1, false}, {DATA_GPA, 2, true}};
	struct fq_vring_buf slow;
	uint32_t id, len;

	cr_assert_geq(pdrv_chain(&ring.drv.p, bufs, 3), 0);
	show();
	slow = pop(&ring);
	for (int i = 0; i < 50; i++)
		cr_assert_eq(round_trip(&ring), 1);
	cr_assert_eq(fq_vring_put(ring.vr, slow, 2), 0);
	cr_assert_eq(fq_vring_publish(ring.vr), 1);
	cr_assert(pdrv_take(&ring.drv.p, &id, &len));
	cr_assert_eq(id, slow.id);
	for (int i = 0; i < 10; i++)
		cr_assert_eq(round_trip(&ring), 1);
}

/* What a driver wrote over its own chain does not change how far its element goes. */
Test(vring_packed, length_of_a_chain_is_the_devices_own, .init = packed, .fini = teardown)
{
	const struct drv_buf bufs[] = {
		{DATA_GPA, 1, false}, {DATA_GPA, 1, false}, {DATA_GPA, 1, true}};

	cr_assert_geq(pdrv_chain(&ring.drv.p, bufs, 3), 0);
	show();
	pop(&ring);
	for (uint16_t at = 0; at < 7; at++)
		drv_set16(pdrv_flags(&ring.drv.p, at), PDRV_AVAIL, memory_order_relaxed);
	cr_assert_eq(fq_vring_put(ring.vr, chain.buf, 1), 0);
	cr_assert_eq(fq_vring_used_idx(ring.vr), 0x8003);
}

/* The batch's first flags hide all of it, however many times nothing was shown. */
Test(vring_packed, hidden_until_the_first_flags, .init = packed, .fini = teardown)
{
	struct fq_vring_buf buf[3];

	for (int i = 0; i < 3; i++)
		offer(&ring);
	for (int i = 0; i < 3; i++)
		buf[i] = pop(&ring);
	for (int i = 3; i--;) {
		cr_assert_eq(fq_vring_put(ring.vr, buf[i], 9), 0);
		take_none(&ring);
	}
	cr_assert_eq(drv_get16(pdrv_flags(&ring.drv.p, 0), memory_order_relaxed),
		     PDRV_AVAIL | DRV_WRITE);
	cr_assert_eq(fq_vring_publish(ring.vr), 1);
	for (int i = 3; i--;)
		take(&ring, buf[i].id, 9);
	take_none(&ring);
}

/* The chain that is in flight here was so in an earlier life, too: it takes room, and stays away. */
Test(vring_packed, restored_ring_goes_on_where_it_was, .init = packed, .fini = teardown)
{
	const struct drv_buf buf = {DATA_GPA, 16, true};
	uint32_t base;

	for (int i = 0; i < 11; i++)
		round_trip(&ring);
	offer(&ring);
	pop(&ring);
	base = fq_vring_base(ring.vr);
	cr_assert_eq(base, 0x00040005, "offset 4 and 5 of the second lap");
	fq_vring_destroy(ring.vr);
	cr_assert_eq(fq_vring_config_base(&ring.config, base), 0);
	cr_assert_eq(fq_vring_create(&ring.vr, &ring.config), 0);
	cr_assert_eq(fq_vring_base(ring.vr), base);
	cr_assert_eq(fq_vring_pop(ring.vr, &chain), 0);
	for (int i = 0; i < 6; i++)
		cr_assert_geq(pdrv_chain(&ring.drv.p, &buf, 1), 0);
	show();
	for (int i = 0; i < 6; i++)
		pop(&ring);
	cr_assert_eq(fq_vring_avail_idx(ring.vr), 0x8004);
	cr_assert_eq(fq_vring_pop(ring.vr, &chain), 0);
}

/* -- indirect tables ------------------------------------------------------------------------ */

Test(vring_packed, indirect_chain, .init = packed_indirect, .fini = teardown)
{
	const struct drv_buf bufs[] = {{MORE_GPA, 3, false}, {MORE_GPA + 8, 9, true}};
	int id = pdrv_chain_indirect(&ring.drv.p, bufs, 2, (uint64_t *)data, DATA_GPA);

	show();
	cr_assert_eq(fq_vring_put(ring.vr, pop(&ring), 9), 0);
	cr_assert_eq(chain.readable_len, 3);
	cr_assert_eq(chain.writable_len, 9);
	cr_assert_eq(iov[1].iov_base, more + 8);
	cr_assert_eq(fq_vring_publish(ring.vr), 1);
	take(&ring, (uint32_t)id, 9);
	cr_assert_eq(fq_vring_used_idx(ring.vr), 0x8001, "it takes one descriptor of the ring");
}

/* Linux sends such chains, although the specification has none of them. */
Test(vring_packed, indirect_chain_may_be_longer_than_the_ring, .init = packed_indirect,
     .fini = teardown)
{
	fill_table((uint64_t *)data, 100, 0);
	put_table(DATA_GPA, 1600, 0);
	pop(&ring);
	cr_assert_eq(chain.readable, 100);
	cr_assert_eq(fq_vring_avail_idx(ring.vr), 0x8001);
}

/* None of them is a second table, or goes on anywhere: only WRITE counts. */
Test(vring_packed, indirect_ignores_flags_in_the_table, .init = packed_indirect, .fini = teardown)
{
	fill_table((uint64_t *)data, 3, DRV_INDIRECT | DRV_NEXT | PDRV_AVAIL | PDRV_USED);
	put_table(DATA_GPA, 48, DRV_WRITE);
	pop(&ring);
	cr_assert_eq(chain.buf.id, 5);
	cr_assert_eq(chain.readable, 3);
	cr_assert_eq(chain.writable, 0);
	cr_assert_eq(iov[2].iov_base, more + 2);
}

Test(vring_packed, indirect_table_may_cross_regions, .init = packed_indirect, .fini = teardown)
{
	uint64_t table[6];

	fill_table(table, 3, 0);
	memcpy(data + DATA_BYTES - 23, table, 23);
	memcpy(more, (char *)table + 23, 25);
	put_table(MORE_GPA - 23, 48, 0);
	pop(&ring);
	cr_assert_eq(chain.readable, 3);
	cr_assert_eq(iov[1].iov_base, more + 1);
	cr_assert_eq(iov[2].iov_base, more + 2);
}
