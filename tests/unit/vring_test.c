/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <sys/mman.h>

#include "vring_host.h"

/* What holds for both layouts. */

/* Putting and publishing. */

TEST_BOTH(put_is_hidden_until_published, 0)
{
	int first = offer(&ring), second = offer(&ring);
	struct fq_vring_buf a = pop(&ring), b = pop(&ring);

	cr_assert_eq(fq_vring_put(ring.vr, b, 11), 0);
	cr_assert_eq(fq_vring_put(ring.vr, a, 22), 0);
	take_none(&ring);
	cr_assert_eq(fq_vring_used_idx(ring.vr) & 0x7fff, 2);
	cr_assert_eq(fq_vring_in_flight(ring.vr), 0);
	cr_assert_eq(interrupts(&ring), 0);
	cr_assert_eq(fq_vring_publish(ring.vr), 1);
	cr_assert_eq(interrupts(&ring), 1, "one for the batch");
	take(&ring, (uint32_t)second, 11);
	take(&ring, (uint32_t)first, 22);
	take_none(&ring);
}

TEST_BOTH(publish_of_nothing_does_nothing, 0)
{
	cr_assert_eq(fq_vring_publish(ring.vr), 0);
	round_trip(&ring);
	cr_assert_eq(interrupts(&ring), 1);
	cr_assert_eq(fq_vring_publish(ring.vr), 0);
	cr_assert_eq(interrupts(&ring), 0);
	cr_assert_eq(stats(&ring).publishes, 1);
}

TEST_BOTH(destroy_leaves_what_was_put_hidden, 0)
{
	offer(&ring);
	cr_assert_eq(fq_vring_put(ring.vr, pop(&ring), 0), 0);
	fq_vring_destroy(ring.vr);
	ring.vr = NULL;
	take_none(&ring);
}

static void expect_put_refused(struct fq_vring_buf buf)
{
	struct fq_vring_stats before = stats(&ring), after;
	uint16_t used = fq_vring_used_idx(ring.vr);

	cr_assert_eq(fq_vring_put(ring.vr, buf, 0), -EINVAL);
	after = stats(&ring);
	cr_assert_eq(after.errors, before.errors + 1);
	cr_assert_eq(after.put, before.put);
	cr_assert_eq(after.broken, 0);
	cr_assert_eq(fq_vring_used_idx(ring.vr), used);
	other_is_fine();
}

TEST_BOTH(put_refuses_what_was_never_popped, 0)
{
	offer(&ring);
	expect_put_refused((struct fq_vring_buf){0, 0});
	expect_put_refused((struct fq_vring_buf){0, 1});
	expect_put_refused((struct fq_vring_buf){8, 0});
	expect_put_refused((struct fq_vring_buf){UINT16_MAX, UINT16_MAX});
}

TEST_BOTH(put_refuses_a_second_time, 0)
{
	struct fq_vring_buf buf;

	offer(&ring);
	buf = pop(&ring);
	cr_assert_eq(fq_vring_put(ring.vr, buf, 0), 0);
	expect_put_refused(buf);
	cr_assert_eq(fq_vring_publish(ring.vr), 1);
	expect_put_refused(buf);
	cr_assert_eq(fq_vring_in_flight(ring.vr), 0);
}

/* The same id is in flight again, but with another command: that one is not to be completed. */
TEST_BOTH(put_refuses_a_second_time_after_the_head_came_again, 0)
{
	struct fq_vring_buf old, new;

	offer(&ring);
	old = pop(&ring);
	cr_assert_eq(fq_vring_put(ring.vr, old, 0), 0);
	cr_assert_eq(fq_vring_publish(ring.vr), 1);
	take(&ring, old.id, 0);
	offer(&ring);
	new = pop(&ring);
	cr_assert_eq(new.id, old.id);
	expect_put_refused(old);
	cr_assert_eq(fq_vring_in_flight(ring.vr), 1);
	cr_assert_eq(fq_vring_put(ring.vr, new, 0), 0);
}

TEST_BOTH(broken_ring_takes_puts_and_shows_none, 0)
{
	struct fq_vring_buf buf;

	offer(&ring);
	offer(&ring);
	cr_assert_eq(fq_vring_put(ring.vr, pop(&ring), 0), 0);
	buf = pop(&ring);
	offer_bad();
	expect_broken(-EPROTO);
	cr_assert_eq(fq_vring_put(ring.vr, buf, 0), 0);
	cr_assert_eq(fq_vring_in_flight(ring.vr), 0);
	cr_assert_eq(fq_vring_publish(ring.vr), -EIO);
	take_none(&ring);
	cr_assert_eq(interrupts(&ring), 0);
}

/* All of it, from a place in the middle; the second time after a lap. */
static void largest_ring(uint32_t features)
{
	open_ring(FQ_VRING_SIZE_MAX, features | FQ_VRING_EVENT_IDX, 40000);
	round_trip(&ring);
	for (int lap = 0; lap < 2; lap++) {
		cr_assert_not(ring_driver_ask_interrupt(&ring.drv));
		for (uint32_t i = 0; i < FQ_VRING_SIZE_MAX; i++)
			offer(&ring);
		for (uint32_t i = 0; i < FQ_VRING_SIZE_MAX; i++)
			cr_assert_eq(fq_vring_put(ring.vr, pop(&ring), i), 0);
		cr_assert_eq(fq_vring_pop(ring.vr, &chain), 0);
		interrupts(&ring);
		cr_assert_eq(fq_vring_publish(ring.vr), 1);
		cr_assert_eq(interrupts(&ring), 1);
		for (uint32_t i = 0; i < FQ_VRING_SIZE_MAX; i++) {
			uint32_t id, len;

			cr_assert(ring_driver_take(&ring.drv, &id, &len));
			cr_assert_eq(len, i);
		}
		take_none(&ring);
	}
	teardown();
}

Test(vring_split, largest_ring_in_one_batch)
{
	largest_ring(0);
}

Test(vring_packed, largest_ring_in_one_batch)
{
	largest_ring(FQ_VRING_PACKED);
}

/* Three buffers over the same memory, which is never touched, and a last one. */
static void pop_bytes(uint32_t last, int expected)
{
	const uint32_t most = 1u << 30;
	void *huge =
		mmap(NULL, most, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	const struct fq_mem_region regions[] = {{RING_GPA, RING_BYTES, ring_mem},
						{1u << 30, most, huge}};
	const struct drv_buf bufs[] = {{most, most, false},
				       {most, most, false},
				       {most, most, true},
				       {most, most - 1, true},
				       {most, last, true}};
	struct fq_mem *with_huge;

	cr_assert_neq(huge, MAP_FAILED);
	cr_assert_eq(fq_mem_create(&with_huge, regions, 2), 0);
	fq_vring_destroy(ring.vr);
	ring.config.mem = with_huge;
	cr_assert_eq(fq_vring_create(&ring.vr, &ring.config), 0);
	cr_assert_geq(ring_driver_queue(&ring.drv, bufs, 5), 0);
	ring_driver_show(&ring.drv);
	if (expected == 1)
		pop(&ring);
	else
		expect_broken(expected);
	fq_vring_destroy(ring.vr);
	ring.vr = NULL;
	fq_mem_destroy(with_huge);
	munmap(huge, most);
}

TEST_BOTH(chain_of_4_gib, 0)
{
	pop_bytes(1, 1);
}

TEST_BOTH(malformed_chain_of_more_than_4_gib, 0)
{
	pop_bytes(2, -EBADMSG);
}

/* Counters. */

TEST_BOTH(stats_count_what_happened, 0)
{
	struct fq_vring_buf bufs[3];
	struct fq_vring_stats s;

	for (int i = 0; i < 3; i++)
		offer(&ring);
	for (int i = 0; i < 3; i++)
		bufs[i] = pop(&ring);
	for (int i = 0; i < 2; i++)
		fq_vring_put(ring.vr, bufs[i], 0);
	fq_vring_publish(ring.vr);
	ring_driver_stop_interrupts(&ring.drv);
	fq_vring_put(ring.vr, bufs[2], 0);
	fq_vring_publish(ring.vr);
	s = stats(&ring);
	cr_assert_eq(s.popped, 3);
	cr_assert_eq(s.put, 3);
	cr_assert_eq(s.publishes, 2);
	cr_assert_eq(s.interrupts, 1);
	cr_assert_eq(s.suppressed, 1);
	cr_assert_eq(s.call_errors, 0);
	cr_assert_eq(s.errors, 0);
	cr_assert_eq(s.broken, 0);
}

/* -- stop and start ---------------------------------------------------------------------------- */

TEST_BOTH(stopped_touches_nothing, 0)
{
	struct fq_vring_buf buf[3];
	unsigned id[3];

	for (unsigned i = 0; i < 3; i++) {
		id[i] = (unsigned)offer(&ring);
		buf[i] = pop(&ring);
	}
	cr_assert_eq(fq_vring_put(ring.vr, buf[1], 11), 0);
	fq_vring_stop(ring.vr);
	take(&ring, id[1], 11);
	fq_vring_stop(ring.vr);
	(void)interrupts(&ring);
	(void)offer(&ring);
	cr_assert_eq(fq_vring_pop(ring.vr, &chain), 0);
	cr_assert_not(fq_vring_enable_kick(ring.vr));
	/* What was ring memory may be anything by now. */
	char *copy = malloc(RING_BYTES);

	cr_assert_not_null(copy);
	memcpy(copy, ring_mem, RING_BYTES);
	memset(ring_mem, 0x5a, RING_BYTES);
	cr_assert_eq(fq_vring_put(ring.vr, buf[2], 22), 0);
	cr_assert_eq(fq_vring_put(ring.vr, buf[0], 33), 0);
	cr_assert_eq(fq_vring_put(ring.vr, buf[0], 33), -EINVAL, "twice");
	cr_assert_eq(fq_vring_publish(ring.vr), 0);
	fq_vring_disable_kick(ring.vr);
	for (unsigned i = 0; i < RING_BYTES; i++)
		cr_assert_eq(ring_mem[i], 0x5a);
	memcpy(ring_mem, copy, RING_BYTES);
	free(copy);
	other_is_fine();
	cr_assert_eq(fq_vring_start(ring.vr), 1);
	take(&ring, id[2], 22);
	take(&ring, id[0], 33);
	cr_assert_eq(interrupts(&ring), 1, "one for all");
	(void)pop(&ring);
	cr_assert_eq(fq_vring_in_flight(ring.vr), 1);
}
