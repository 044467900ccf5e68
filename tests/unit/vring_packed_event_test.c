/* SPDX-License-Identifier: MIT */
#include "vring_host.h"

/* Interrupts and kicks of a packed ring: three modes, one of them with a place. */

#define SIZE 5u
#define LAPS (2 * SIZE) /* places there are: each offset with either wrap counter */

static void packed(void)
{
	open_ring(SIZE, FQ_VRING_PACKED, 0);
}

static void packed_event(void)
{
	open_ring(SIZE, FQ_VRING_PACKED | FQ_VRING_EVENT_IDX, 0);
}

static uint16_t place(uint32_t number)
{
	return pdrv_plus(&ring.drv.p, PDRV_WRAP, number % LAPS);
}

static void set_event(uint16_t at, unsigned mode)
{
	pdrv_set_event(&ring.drv.p, at, mode);
}

TEST_BOTH(suppression_is_looked_at_anew_each_time, 0)
{
	ring_driver_stop_interrupts(&ring.drv);
	cr_assert_eq(round_trip(&ring), 0);
	cr_assert_eq(interrupts(&ring), 0);
	cr_assert_eq(stats(&ring).suppressed, 1);
	cr_assert_not(ring_driver_ask_interrupt(&ring.drv));
	cr_assert_eq(round_trip(&ring), 1);
	cr_assert_eq(round_trip(&ring), 1);
	cr_assert_eq(interrupts(&ring), 2);
	cr_assert_eq(stats(&ring).suppressed, 1);
}

/*
 * A mode that is reserved, or not negotiated, is no reason to leave a driver asleep; nor is a place that
 * there is not. All of the other bits are reserved.
 */
static void modes(uint32_t features)
{
	open_ring(SIZE, FQ_VRING_PACKED | features, 0);
	for (uint32_t i = 0; i < 4 * LAPS; i++) {
		uint16_t behind = pdrv_plus(&ring.drv.p, ring.drv.p.used, LAPS - 1);
		unsigned mode = i % 4;

		set_event(features ? SIZE : behind, mode | (i & 8 ? 0xfffcu : 0));
		cr_assert_eq(round_trip(&ring), mode != PDRV_DISABLE, "mode %u", mode);
	}
	teardown();
}

Test(vring_packed, modes_without_event_idx)
{
	modes(0);
}

Test(vring_packed, modes_with_a_place_outside_the_ring)
{
	modes(FQ_VRING_EVENT_IDX);
}

Test(vring_packed, event_interrupts_at_the_first_publish)
{
	for (uint32_t at = 0; at < LAPS; at++) {
		open_ring(SIZE, FQ_VRING_PACKED | FQ_VRING_EVENT_IDX, 3);
		set_event(place(at), PDRV_DESC);
		cr_assert_eq(round_trip(&ring), 1);
		teardown();
	}
}

Test(vring_packed, disabled_even_at_the_first_publish, .init = packed_event, .fini = teardown)
{
	ring_driver_stop_interrupts(&ring.drv);
	cr_assert_eq(round_trip(&ring), 0);
}

/*
 * Chains of these lengths are put at once, from that place on. @return what publish did for a driver
 * that waits for the element at @p event (both in numbers from the start of two laps).
 */
static int publish_batch(uint32_t from, const uint8_t *lengths, uint32_t count, uint32_t event)
{
	const struct drv_buf bufs[SIZE] = {{DATA_GPA, 1, false},
					   {DATA_GPA, 1, false},
					   {DATA_GPA, 1, false},
					   {DATA_GPA, 1, false},
					   {DATA_GPA, 1, false}};
	int published;

	open_ring(SIZE, FQ_VRING_PACKED | FQ_VRING_EVENT_IDX, (uint16_t)((from + LAPS - 1) % LAPS));
	cr_assert_eq(round_trip(&ring), 1);
	set_event(place(event), PDRV_DESC);
	for (uint32_t i = 0; i < count; i++)
		cr_assert_geq(pdrv_chain(&ring.drv.p, bufs, lengths[i]), 0);
	pdrv_show(&ring.drv.p);
	for (uint32_t i = 0; i < count; i++)
		cr_assert_eq(fq_vring_put(ring.vr, pop(&ring), 0), 0);
	published = fq_vring_publish(ring.vr);
	cr_assert_eq(stats(&ring).suppressed, published != 1);
	cr_assert_eq(interrupts(&ring), 1 + (published == 1));
	teardown();
	return published;
}

/* All places against all batches. Caught here: one place too many or too few, or the other lap. */
Test(vring_packed, event_interrupts_when_an_element_passes_it)
{
	static const struct {
		uint8_t lengths[SIZE];
		uint8_t count, sum;
	} batches[] = {
		{{1}, 1, 1}, {{1, 1}, 2, 2}, {{2}, 1, 2},       {{3, 1}, 2, 4},
		{{5}, 1, 5}, {{1, 4}, 2, 5}, {{1, 1, 1}, 3, 3}, {{1, 1, 1, 1, 1}, 5, 5},
	};

	for (size_t b = 0; b < sizeof(batches) / sizeof(*batches); b++) {
		for (uint32_t from = 0; from < LAPS; from++) {
			for (uint32_t far = 0; far < LAPS; far++)
				cr_assert_eq(publish_batch(from, batches[b].lengths,
							   batches[b].count, from + far),
					     far < batches[b].sum,
					     "%u descriptors from %u, event %u further",
					     batches[b].sum, from, far);
		}
	}
}

/* A driver that polls for any number of laps and then sleeps is woken. */
Test(vring_packed, event_interrupts_after_polled_laps)
{
	for (unsigned polled = 1; polled < 3 * LAPS; polled++) {
		open_ring(SIZE, FQ_VRING_PACKED | FQ_VRING_EVENT_IDX, 0);
		cr_assert_eq(round_trip(&ring), 1);
		ring_driver_stop_interrupts(&ring.drv);
		for (unsigned i = 0; i < polled; i++)
			cr_assert_eq(round_trip(&ring), 0);
		cr_assert_not(ring_driver_ask_interrupt(&ring.drv));
		cr_assert_eq(round_trip(&ring), 1);
		teardown();
	}
}

/* -- kicks ------------------------------------------------------------------------------------- */

static void expect_mode(unsigned mode)
{
	cr_assert_eq(drv_get16(&ring.drv.p.device[1], memory_order_relaxed), mode);
}

Test(vring_packed, kick_modes, .init = packed, .fini = teardown)
{
	fq_vring_disable_kick(ring.vr);
	expect_mode(PDRV_DISABLE);
	offer(&ring);
	cr_assert_not(ring_driver_kick_wanted(&ring.drv));
	cr_assert(fq_vring_enable_kick(ring.vr), "a chain is there");
	expect_mode(PDRV_ENABLE);
	pop(&ring);
	cr_assert_not(fq_vring_enable_kick(ring.vr));
	offer(&ring);
	cr_assert(ring_driver_kick_wanted(&ring.drv));
}

Test(vring_packed, kick_place, .init = packed_event, .fini = teardown)
{
	cr_assert_not(fq_vring_enable_kick(ring.vr));
	expect_mode(PDRV_DESC);
	offer(&ring);
	cr_assert(ring_driver_kick_wanted(&ring.drv));
	offer(&ring);
	cr_assert_not(ring_driver_kick_wanted(&ring.drv), "once asked, once kicked");
	cr_assert(fq_vring_enable_kick(ring.vr));
	pop(&ring);
	cr_assert(fq_vring_enable_kick(ring.vr), "one is left");
	pop(&ring);
	fq_vring_disable_kick(ring.vr);
	expect_mode(PDRV_DISABLE);
	offer(&ring);
	cr_assert_not(ring_driver_kick_wanted(&ring.drv));
}

/* The place is where the next chain will be, not where the next element goes. */
Test(vring_packed, kick_place_with_chains_in_flight, .init = packed_event, .fini = teardown)
{
	offer(&ring);
	offer(&ring);
	cr_assert(ring_driver_kick_wanted(&ring.drv));
	pop(&ring);
	pop(&ring);
	cr_assert_not(fq_vring_enable_kick(ring.vr));
	offer(&ring);
	cr_assert(ring_driver_kick_wanted(&ring.drv));
}

Test(vring_packed, kick_place_goes_round, .init = packed_event, .fini = teardown)
{
	for (uint32_t i = 0; i < 3 * LAPS; i++) {
		cr_assert_not(fq_vring_enable_kick(ring.vr));
		offer(&ring);
		cr_assert(ring_driver_kick_wanted(&ring.drv), "chain %u", i);
		cr_assert_eq(fq_vring_put(ring.vr, pop(&ring), 0), 0);
		fq_vring_publish(ring.vr);
		take(&ring, chain.buf.id, 0);
	}
}
