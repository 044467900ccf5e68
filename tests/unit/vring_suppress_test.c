/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "vring_host.h"

/* Interrupt suppression. */

Test(vring, flags_suppress_interrupts, .init = plain, .fini = teardown)
{
	drv_stop_interrupts(&ring.drv.s);
	cr_assert_eq(round_trip(&ring), 0);
	cr_assert_eq(interrupts(&ring), 0);
	cr_assert_eq(stats(&ring).suppressed, 1);
	cr_assert_not(drv_ask_interrupt(&ring.drv.s));
	cr_assert_eq(round_trip(&ring), 1);
	cr_assert_eq(interrupts(&ring), 1);
	cr_assert_eq(stats(&ring).interrupts, 1);
	cr_assert_eq(stats(&ring).suppressed, 1);
}

Test(vring, flags_mean_nothing_with_event_idx, .init = event_idx, .fini = teardown)
{
	drv_set16(&ring.drv.s.avail[0], 1, memory_order_relaxed);
	cr_assert_eq(round_trip(&ring), 1);
	cr_assert_not(drv_ask_interrupt(&ring.drv.s));
	cr_assert_eq(round_trip(&ring), 1);
}

Test(vring, event_idx_interrupts_at_the_first_publish)
{
	for (unsigned event = 0; event < 65536; event += 4369) {
		open_ring(4, FQ_VRING_EVENT_IDX, 777);
		drv_set16(&ring.drv.s.avail[2 + 4], event, memory_order_relaxed);
		cr_assert_eq(round_trip(&ring), 1, "used_event %u", event);
		cr_assert_eq(round_trip(&ring), 0, "used_event %u", event);
		cr_assert_eq(interrupts(&ring), 1);
		teardown();
	}
}

/* Publishes elements from .. from + count - 1 with that used_event. */
static int publish_batch(uint16_t from, unsigned count, uint16_t event)
{
	int published;

	open_ring(8, FQ_VRING_EVENT_IDX, (uint16_t)(from - 1));
	cr_assert_eq(round_trip(&ring), 1);
	drv_set16(&ring.drv.s.avail[2 + 8], event, memory_order_relaxed);
	for (unsigned i = 0; i < count; i++)
		offer(&ring);
	for (unsigned i = 0; i < count; i++)
		cr_assert_eq(fq_vring_put(ring.vr, pop(&ring), 0), 0);
	published = fq_vring_publish(ring.vr);
	cr_assert_eq(interrupts(&ring), 1 + (published == 1));
	cr_assert_eq(stats(&ring).suppressed, published != 1);
	teardown();
	return published;
}

Test(vring, event_idx_interrupts_when_the_index_passes_it)
{
	static const uint16_t starts[] = {100, 0, 65534, 65535};

	for (size_t i = 0; i < sizeof(starts) / sizeof(*starts); i++) {
		uint16_t from = starts[i];

		for (int event = -3; event < 7; event++) {
			bool passed = event >= 0 && event < 3;

			cr_assert_eq(publish_batch(from, 3, (uint16_t)(from + event)), passed,
				     "3 elements from %u, used_event %d further", from, event);
		}
	}
}

/*
 * The driver polls for nearly a lap, then sleeps. Measured from the last interrupt instead of the
 * last look, the index would seem to have gone nowhere, now and at every lap to come.
 */
Test(vring, event_idx_interrupts_after_a_polled_lap, .init = event_idx, .fini = teardown)
{
	cr_assert_eq(round_trip(&ring), 1);
	for (unsigned i = 0; i < 65535; i++) {
		drv_stop_interrupts(&ring.drv.s);
		cr_assert_eq(round_trip(&ring), 0);
	}
	cr_assert_not(drv_ask_interrupt(&ring.drv.s));
	cr_assert_eq(round_trip(&ring), 1);
	cr_assert_eq(stats(&ring).interrupts, 2);
	cr_assert_eq(stats(&ring).suppressed, 65535);
}

/* Restored: what the driver was told before is unknown, so the first publish tells it. */
Test(vring, restored_ring_goes_on_where_it_was, .init = event_idx, .fini = teardown)
{
	uint16_t avail, used;

	for (int i = 0; i < 5; i++)
		round_trip(&ring);
	avail = fq_vring_avail_idx(ring.vr);
	used = fq_vring_used_idx(ring.vr);
	cr_assert_eq(avail, 5);
	cr_assert_eq(used, 5);
	fq_vring_destroy(ring.vr);
	interrupts(&ring);
	drv_set16(&ring.drv.s.avail[2 + 8], 3, memory_order_relaxed);
	ring.config.avail_idx = avail;
	ring.config.used_idx = used;
	cr_assert_eq(fq_vring_create(&ring.vr, &ring.config), 0);
	cr_assert_eq(fq_vring_pop(ring.vr, &chain), 0);
	cr_assert_eq(round_trip(&ring), 1);
	cr_assert_eq(interrupts(&ring), 1);
	cr_assert_eq(fq_vring_used_idx(ring.vr), 6);
}

/* Kicks. */

Test(vring, kick_flag, .init = plain, .fini = teardown)
{
	fq_vring_disable_kick(ring.vr);
	offer(&ring);
	cr_assert_not(drv_kick_wanted(&ring.drv.s));
	cr_assert(fq_vring_enable_kick(ring.vr), "a chain is there");
	pop(&ring);
	cr_assert_not(fq_vring_enable_kick(ring.vr));
	offer(&ring);
	cr_assert(drv_kick_wanted(&ring.drv.s));
}

Test(vring, kick_event, .init = event_idx, .fini = teardown)
{
	cr_assert_not(fq_vring_enable_kick(ring.vr));
	offer(&ring);
	cr_assert(drv_kick_wanted(&ring.drv.s));
	offer(&ring);
	cr_assert_not(drv_kick_wanted(&ring.drv.s), "once asked, once kicked");
	cr_assert(fq_vring_enable_kick(ring.vr));
	pop(&ring);
	cr_assert(fq_vring_enable_kick(ring.vr), "one is left");
	pop(&ring);
	fq_vring_disable_kick(ring.vr);
	cr_assert_eq(drv_get16(&ring.drv.s.used[0], memory_order_relaxed), 0,
		     "the flag belongs to rings without EVENT_IDX");
	offer(&ring);
	cr_assert_not(drv_kick_wanted(&ring.drv.s));
}

Test(vring, kick_event_goes_round)
{
	open_ring(4, FQ_VRING_EVENT_IDX, 65534);
	for (int i = 0; i < 8; i++) {
		cr_assert_not(fq_vring_enable_kick(ring.vr));
		offer(&ring);
		cr_assert(drv_kick_wanted(&ring.drv.s));
		cr_assert_eq(fq_vring_put(ring.vr, pop(&ring), 0), 0);
		fq_vring_publish(ring.vr);
		take(&ring, chain.buf.id, 0);
	}
	teardown();
}
