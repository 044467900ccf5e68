/* SPDX-License-Identifier: MIT */
#include "vring_host.h"

/* IN_ORDER: chains are used as they were offered, whenever they are put. */

#define BATCH (FQ_VRING_IN_ORDER | FQ_VRING_BATCH)
#define FULL 16u /* what offer() has room for */

static struct fq_vring_buf buf[8];

static void pop_some(unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		offer(&ring);
	for (unsigned i = 0; i < count; i++)
		buf[i] = pop(&ring);
}

static void put(unsigned i, uint32_t len)
{
	cr_assert_eq(fq_vring_put(ring.vr, buf[i], len), 0);
}

static void take_next(unsigned i, uint32_t len)
{
	take(&ring, buf[i].id, len);
}

/* Elements there, of which the driver has not taken any yet: each stands where its first chain did. */
static unsigned elements(unsigned chains)
{
	unsigned n = 0;

	for (unsigned i = 0; i < chains; i++) {
		if (ring.drv.packed) {
			uint16_t at = pdrv_plus(&ring.drv.p, ring.drv.p.used, i);
			unsigned flags =
				drv_get16(pdrv_flags(&ring.drv.p, at), memory_order_relaxed);

			n += !(flags & PDRV_AVAIL) == !(flags & PDRV_USED);
		} else {
			uint32_t *element = (uint32_t *)(ring.drv.s.used + 2) +
					    2 * ((ring.drv.s.used_idx + i) % ring.drv.s.size);

			n += element[1] != 0; /* a length; the memory was zero */
		}
	}
	return n;
}

TEST_BOTH(in_order_waits_for_its_turn, FQ_VRING_IN_ORDER)
{
	pop_some(4);
	put(2, 3);
	cr_assert_eq(fq_vring_publish(ring.vr), 0);
	put(1, 2);
	cr_assert_eq(fq_vring_publish(ring.vr), 0);
	take_none(&ring);
	cr_assert_eq(stats(&ring).publishes, 0);
	cr_assert_eq(fq_vring_in_flight(ring.vr), 2);
	put(0, 1);
	take_none(&ring);
	cr_assert_eq(fq_vring_publish(ring.vr), 1);
	cr_assert_eq(elements(3), 3);
	take_next(0, 1);
	take_next(1, 2);
	take_next(2, 3);
	take_none(&ring);
	put(3, 4);
	cr_assert_eq(fq_vring_publish(ring.vr), 1);
	take_next(3, 4);
	cr_assert_eq(stats(&ring).put, 4);
	cr_assert_eq(interrupts(&ring), 2);
}

TEST_BOTH(in_order_alone_writes_each_element, FQ_VRING_IN_ORDER)
{
	pop_some(5);
	for (unsigned i = 5; i--;)
		put(i, FULL);
	cr_assert_eq(fq_vring_publish(ring.vr), 1);
	cr_assert_eq(elements(5), 5);
	for (unsigned i = 0; i < 5; i++)
		take_next(i, FULL);
}

TEST_BOTH(batch_is_one_element, BATCH)
{
	pop_some(5);
	for (unsigned i = 5; i--;)
		put(i, FULL);
	cr_assert_eq(fq_vring_publish(ring.vr), 1);
	cr_assert_eq(elements(5), 1);
	for (unsigned i = 0; i < 5; i++)
		take_next(i, FULL);
	take_none(&ring);
}

/* Seen to fail: with a batch that goes on without a look whether the next one has been put. */
TEST_BOTH(batch_has_nothing_that_is_not_complete, BATCH)
{
	pop_some(5);
	put(0, FULL);
	put(1, FULL);
	put(3, FULL);
	cr_assert_eq(fq_vring_publish(ring.vr), 1);
	take_next(0, FULL);
	take_next(1, FULL);
	take_none(&ring);
	put(4, FULL);
	cr_assert_eq(fq_vring_publish(ring.vr), 0);
	put(2, FULL);
	cr_assert_eq(fq_vring_publish(ring.vr), 1);
	for (unsigned i = 2; i < 5; i++)
		take_next(i, FULL);
}

/* The driver takes what is passed over for written to its end, so nothing else may be. */
TEST_BOTH(batch_ends_with_what_is_not_full, BATCH)
{
	static const uint32_t len[] = {FULL, FULL, FULL - 1, FULL, 1, 2, FULL};

	pop_some(7);
	for (unsigned i = 7; i--;)
		put(i, len[i]);
	cr_assert_eq(fq_vring_publish(ring.vr), 1);
	cr_assert_eq(elements(7), 4);
	for (unsigned i = 0; i < 7; i++)
		take_next(i, len[i]);
	take_none(&ring);
}

/* What is put is the owner's until it is shown, also when it waits for its turn. */
TEST_BOTH(in_order_puts_only_once, BATCH)
{
	pop_some(2);
	put(1, FULL);
	cr_assert_eq(fq_vring_put(ring.vr, buf[1], FULL), -EINVAL);
	put(0, FULL);
	cr_assert_eq(fq_vring_publish(ring.vr), 1);
	cr_assert_eq(fq_vring_put(ring.vr, buf[1], FULL), -EINVAL);
	take_next(0, FULL);
	take_next(1, FULL);
}

TEST_BOTH(in_order_while_stopped, BATCH)
{
	pop_some(3);
	put(1, FULL);
	fq_vring_stop(ring.vr);
	put(0, FULL);
	cr_assert_eq(fq_vring_publish(ring.vr), 0);
	take_none(&ring);
	cr_assert_eq(fq_vring_start(ring.vr), 1);
	take_next(0, FULL);
	take_next(1, FULL);
	take_none(&ring);
	put(2, 5);
	cr_assert_eq(fq_vring_publish(ring.vr), 1);
	take_next(2, 5);
}

/* Chains of one to three descriptors; two in flight at a time, the second put first. */
static void in_order_round(uint32_t size, uint32_t features)
{
	const struct drv_buf bufs[] = {
		{DATA_GPA, 1, false}, {DATA_GPA, 2, true}, {DATA_GPA, 3, true}};
	uint32_t seq = 0, id, len;

	open_ring(size, features, 65530);
	for (int i = 0; i < 200; i++) {
		uint32_t want[2];

		for (unsigned n = 0; n < 2; n++, seq++) {
			cr_assert_geq(ring_driver_queue(&ring.drv, bufs, 1 + seq % 3), 0);
			ring_driver_show(&ring.drv);
			buf[n] = pop(&ring);
			want[n] = (uint32_t)chain.writable_len;
		}
		put(1, want[1]);
		put(0, want[0]);
		cr_assert_eq(fq_vring_publish(ring.vr), 1);
		for (unsigned n = 0; n < 2; n++) {
			cr_assert(ring_driver_take(&ring.drv, &id, &len), "size %u", size);
			cr_assert_eq(id, buf[n].id);
			cr_assert_eq(len, want[n]);
		}
		take_none(&ring);
	}
	teardown();
}

Test(vring_split, in_order_goes_round)
{
	in_order_round(8, FQ_VRING_IN_ORDER);
	in_order_round(8, BATCH);
}

Test(vring_packed, in_order_goes_round)
{
	for (uint32_t size = 6; size < 14; size++) {
		in_order_round(size, FQ_VRING_PACKED | FQ_VRING_IN_ORDER);
		in_order_round(size, FQ_VRING_PACKED | BATCH);
	}
}
