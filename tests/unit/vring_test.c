/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fenceq/mem.h>
#include <fenceq/stats.h>
#include <fenceq/vring.h>

#include "split_driver.h"
#include "unit.h"

/*
 * Guest memory: RING and DATA hold one ring each and its buffers, MORE follows DATA in guest
 * addresses but not here, then comes a hole.
 */
#define RING_GPA UINT64_C(0x100000)
#define RING_BYTES 0x100000u
#define OTHER_GPA UINT64_C(0x300000)
#define OTHER_BYTES 0x1000u
#define DATA_GPA UINT64_C(0x400000)
#define DATA_BYTES 0x1000u
#define MORE_GPA (DATA_GPA + DATA_BYTES)
#define MORE_BYTES 0x1000u
#define HOLE_GPA (MORE_GPA + MORE_BYTES)

#define IOVS 128u

struct ring {
	struct drv_ring drv;
	struct fq_vring_config config;
	struct fq_vring *vr;
	int call;
};

static char *ring_mem, *other_mem, *data, *more;
static struct fq_mem *mem;
static struct ring ring, other;
static struct iovec iov[IOVS];
static struct fq_vring_chain chain;

static char *zeroed(size_t bytes)
{
	char *p = aligned_alloc(4096, bytes);

	cr_assert_not_null(p);
	return memset(p, 0, bytes);
}

static void open_mem(void)
{
	ring_mem = zeroed(RING_BYTES);
	other_mem = zeroed(OTHER_BYTES);
	data = zeroed(DATA_BYTES);
	more = zeroed(MORE_BYTES);

	const struct fq_mem_region regions[] = {
		{RING_GPA, RING_BYTES, ring_mem},
		{OTHER_GPA, OTHER_BYTES, other_mem},
		{DATA_GPA, DATA_BYTES, data},
		{MORE_GPA, MORE_BYTES, more},
	};

	cr_assert_eq(fq_mem_create(&mem, regions, sizeof(regions) / sizeof(*regions)), 0);
}

static void open_ring_at(struct ring *r, void *hva, uint64_t gpa, uint32_t size, uint32_t features,
			 uint16_t start)
{
	r->call = eventfd(0, EFD_NONBLOCK);
	cr_assert_geq(r->call, 0);
	cr_assert(drv_init(&r->drv, hva, gpa, size, features & FQ_VRING_EVENT_IDX));
	drv_start_at(&r->drv, start);
	r->config = (struct fq_vring_config){
		.mem = mem,
		.desc = r->drv.desc_gpa,
		.driver = r->drv.avail_gpa,
		.device = r->drv.used_gpa,
		.size = size,
		.features = features,
		.call_fd = r->call,
		.avail_idx = start,
		.used_idx = start,
	};
	cr_assert_eq(fq_vring_create(&r->vr, &r->config), 0);
}

/* The ring under test and another that nothing may happen to. */
static void open_ring(uint32_t size, uint32_t features, uint16_t start)
{
	open_mem();
	open_ring_at(&ring, ring_mem, RING_GPA, size, features, start);
	open_ring_at(&other, other_mem, OTHER_GPA, 4, 0, 0);
	chain = (struct fq_vring_chain){.iov = iov, .iov_max = IOVS};
}

static void close_ring(struct ring *r)
{
	fq_vring_destroy(r->vr);
	drv_fini(&r->drv);
	close(r->call);
}

static void plain(void)
{
	open_ring(8, 0, 0);
}

static void indirect(void)
{
	open_ring(8, FQ_VRING_INDIRECT, 0);
}

static void event_idx(void)
{
	open_ring(8, FQ_VRING_EVENT_IDX, 0);
}

static void teardown(void)
{
	close_ring(&ring);
	close_ring(&other);
	fq_mem_destroy(mem);
	free(ring_mem);
	free(other_mem);
	free(data);
	free(more);
}

/* How often the call fd was written since the last time. */
static uint64_t interrupts(const struct ring *r)
{
	uint64_t n;

	return read(r->call, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

static struct fq_vring_stats stats(const struct ring *r)
{
	struct fq_vring_stats s;

	fq_vring_get_stats(r->vr, &s);
	return s;
}

static int offer(struct ring *r)
{
	const struct drv_buf buf = {DATA_GPA, 16, true};
	int head = drv_chain(&r->drv, &buf, 1);

	cr_assert_geq(head, 0, "the driver has no free descriptor");
	drv_offer(&r->drv, head);
	drv_show(&r->drv);
	return head;
}

/* Shows a head whatever the driver's own books say. */
static void offer_raw(unsigned head)
{
	drv_offer(&ring.drv, (int)head);
	drv_show(&ring.drv);
}

static struct fq_vring_buf pop(struct ring *r)
{
	cr_assert_eq(fq_vring_pop(r->vr, &chain), 1);
	return chain.buf;
}

static void take(struct ring *r, uint32_t id, uint32_t len)
{
	uint32_t got_id, got_len;

	cr_assert(drv_take(&r->drv, &got_id, &got_len), "nothing used");
	cr_assert_eq(got_id, id);
	cr_assert_eq(got_len, len);
}

static void take_none(struct ring *r)
{
	uint32_t id, len;

	cr_assert_not(drv_take(&r->drv, &id, &len));
}

/* One chain there and back. @return what publish returned. */
static int round_trip(struct ring *r)
{
	int head = offer(r), published;

	cr_assert_eq(fq_vring_put(r->vr, pop(r), 7), 0);
	published = fq_vring_publish(r->vr);
	take(r, (uint32_t)head, 7);
	return published;
}

static void other_is_fine(void)
{
	cr_assert_eq(round_trip(&other), 1);
	cr_assert_eq(interrupts(&other), 1);
	cr_assert_eq(stats(&other).errors, 0);
	cr_assert_eq(stats(&other).broken, 0);
}

/* The next pop finds the ring malformed for this reason; after that it is broken for good. */
static void expect_broken(int reason)
{
	uint16_t avail = fq_vring_avail_idx(ring.vr);
	uint32_t in_flight = fq_vring_in_flight(ring.vr);

	cr_assert_eq(fq_vring_pop(ring.vr, &chain), reason);
	cr_assert_eq(fq_vring_pop(ring.vr, &chain), -EIO);
	cr_assert_eq(fq_vring_publish(ring.vr), -EIO);
	cr_assert_not(fq_vring_enable_kick(ring.vr));
	cr_assert_eq(fq_vring_avail_idx(ring.vr), avail);
	cr_assert_eq(fq_vring_in_flight(ring.vr), in_flight);
	cr_assert_eq(stats(&ring).errors, 1);
	cr_assert_eq(stats(&ring).broken, 1);
	other_is_fine();
}

/* Creating. */

static void expect_create(const struct fq_vring_config *config, int expected)
{
	struct fq_vring *vr = ring.vr;

	cr_assert_eq(fq_vring_create(&vr, config), expected);
	cr_assert((vr != NULL) == (expected == 0));
	fq_vring_destroy(vr);
}

Test(vring, create_refuses_null, .init = plain, .fini = teardown)
{
	struct fq_vring_config config = ring.config;

	cr_assert_eq(fq_vring_create(NULL, &config), -EINVAL);
	expect_create(NULL, -EINVAL);
	config.mem = NULL;
	expect_create(&config, -EINVAL);
}

Test(vring, create_refuses_size, .init = plain, .fini = teardown)
{
	static const uint32_t bad[] = {0, 3, 6, 7, 255, 32767, 32769, 65536, UINT32_MAX, 1u << 31};
	struct fq_vring_config config = ring.config;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		config.size = bad[i];
		expect_create(&config, -EINVAL);
	}
	other_is_fine();
}

Test(vring, create_takes_every_power_of_two, .init = plain, .fini = teardown)
{
	struct fq_vring_config config = ring.config;

	config.driver = RING_GPA + 16 * FQ_VRING_SIZE_MAX;
	config.device = config.driver + 2 * FQ_VRING_SIZE_MAX + 8;
	for (config.size = 1; config.size <= FQ_VRING_SIZE_MAX; config.size *= 2)
		expect_create(&config, 0);
}

Test(vring, create_refuses_features_and_reserved_fields, .init = plain, .fini = teardown)
{
	struct fq_vring_config config = ring.config;

	config.features = 4;
	expect_create(&config, -EINVAL);
	config.features = 1u << 31 | FQ_VRING_INDIRECT;
	expect_create(&config, -EINVAL);
	config.features = FQ_VRING_INDIRECT | FQ_VRING_EVENT_IDX;
	expect_create(&config, 0);
	config.reserved[5] = 1;
	expect_create(&config, -EINVAL);
}

Test(vring, create_refuses_misaligned_addresses, .init = plain, .fini = teardown)
{
	struct fq_vring_config config = ring.config;

	config.desc += 8;
	expect_create(&config, -EINVAL);
	config = ring.config;
	config.driver += 1;
	expect_create(&config, -EINVAL);
	config = ring.config;
	config.device += 2;
	expect_create(&config, -EINVAL);
}

Test(vring, create_refuses_memory_misaligned_here, .init = plain, .fini = teardown)
{
	const struct fq_mem_region region = {0, DATA_BYTES - 1, data + 1};
	struct fq_mem *skewed;
	struct fq_vring_config config = {.size = 4, .driver = 256, .device = 512, .call_fd = -1};

	cr_assert_eq(fq_mem_create(&skewed, &region, 1), 0);
	config.mem = skewed;
	expect_create(&config, -EINVAL);
	fq_mem_destroy(skewed);
}

Test(vring, create_refuses_addresses_aligned_only_here, .init = plain, .fini = teardown)
{
	const struct fq_mem_region region = {8, DATA_BYTES, data};
	struct fq_mem *skewed;
	struct fq_vring_config config = {
		.size = 4, .desc = 8, .driver = 264, .device = 520, .call_fd = -1};

	cr_assert_eq(fq_mem_create(&skewed, &region, 1), 0);
	config.mem = skewed;
	expect_create(&config, -EINVAL);
	fq_mem_destroy(skewed);
}

/* Each part at the very end of a region, then one step too far. */
Test(vring, create_refuses_parts_out_of_bounds, .init = plain, .fini = teardown)
{
	struct fq_vring_config config = ring.config;

	config.desc = HOLE_GPA - 16 * 8;
	expect_create(&config, 0);
	config.desc += 16;
	expect_create(&config, -EFAULT);
	config.desc = UINT64_MAX - 15;
	expect_create(&config, -EFAULT);
	config = ring.config;
	config.driver = HOLE_GPA - (4 + 2 * 8);
	expect_create(&config, 0);
	config.driver += 2;
	expect_create(&config, -EFAULT);
	config = ring.config;
	config.device = HOLE_GPA - (4 + 8 * 8);
	expect_create(&config, 0);
	config.device += 4;
	expect_create(&config, -EFAULT);
	config.device = 0;
	expect_create(&config, -EFAULT);
	other_is_fine();
}

Test(vring, create_refuses_parts_that_cross_regions, .init = plain, .fini = teardown)
{
	struct fq_vring_config config = ring.config;

	config.desc = MORE_GPA - 16;
	expect_create(&config, -EFAULT);
}

Test(vring, create_counts_the_event_words, .init = plain, .fini = teardown)
{
	struct fq_vring_config config = ring.config;

	config.features = FQ_VRING_EVENT_IDX;
	config.driver = HOLE_GPA - (4 + 2 * 8);
	expect_create(&config, -EFAULT);
	config.driver -= 2;
	expect_create(&config, 0);
	config.device = HOLE_GPA - (4 + 8 * 8);
	expect_create(&config, -EFAULT);
	config.device -= 4;
	expect_create(&config, 0);
}

Test(vring, null_is_refused_everywhere, .init = plain, .fini = teardown)
{
	struct fq_vring_chain no_iov = {.iov_max = 1};
	struct fq_vring_stats s;

	memset(&s, 0xff, sizeof(s));
	cr_assert_eq(fq_vring_pop(NULL, &chain), -EINVAL);
	cr_assert_eq(fq_vring_pop(ring.vr, NULL), -EINVAL);
	cr_assert_eq(fq_vring_pop(ring.vr, &no_iov), -EINVAL);
	cr_assert_eq(fq_vring_put(NULL, (struct fq_vring_buf){0, 0}, 0), -EINVAL);
	cr_assert_eq(fq_vring_publish(NULL), -EINVAL);
	cr_assert_not(fq_vring_enable_kick(NULL));
	fq_vring_disable_kick(NULL);
	fq_vring_set_call(NULL, 0);
	cr_assert_eq(fq_vring_avail_idx(NULL), 0);
	cr_assert_eq(fq_vring_used_idx(NULL), 0);
	cr_assert_eq(fq_vring_in_flight(NULL), 0);
	fq_vring_get_stats(ring.vr, NULL);
	fq_vring_get_stats(NULL, &s);
	cr_assert_eq(s.popped | s.errors | s.broken, 0);
	fq_vring_destroy(NULL);
}

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
	int head = drv_chain(&ring.drv, bufs, 3);

	drv_offer(&ring.drv, head);
	cr_assert_eq(fq_vring_pop(ring.vr, &chain), 0, "offered, but not shown");
	drv_show(&ring.drv);
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

	drv_offer(&ring.drv, drv_chain(&ring.drv, bufs, 2));
	drv_show(&ring.drv);
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

	drv_offer(&ring.drv, drv_chain(&ring.drv, bufs, 2));
	drv_show(&ring.drv);
	pop(&ring);
	cr_assert_eq(chain.readable, 0);
	cr_assert_eq(chain.writable, 1);
}

Test(vring, pop_without_room_takes_nothing, .init = plain, .fini = teardown)
{
	const struct drv_buf bufs[] = {{DATA_GPA, 4, false}, {MORE_GPA - 1, 4, true}};
	struct iovec guard = {.iov_len = 77};

	drv_offer(&ring.drv, drv_chain(&ring.drv, bufs, 2));
	drv_show(&ring.drv);
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
	ring.drv.avail_idx = 9;
	drv_show(&ring.drv);
	cr_assert(fq_vring_enable_kick(ring.vr), "nobody would look at what is wrong");
	expect_broken(-EPROTO);
}

Test(vring, malformed_index_goes_back, .init = plain, .fini = teardown)
{
	round_trip(&ring);
	ring.drv.avail_idx = 0;
	drv_show(&ring.drv);
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

/* Descriptors 0 .. count - 1 in a row; the last goes on to @p next when there is one. */
static void row(uint64_t *table, unsigned count, int next)
{
	for (unsigned i = 0; i < count; i++) {
		bool more_to_come = i + 1 < count || next >= 0;

		drv_set_desc(table, i, DATA_GPA + i, 1, more_to_come ? DRV_NEXT : 0,
			     i + 1 < count ? i + 1 : (unsigned)next & 0xffff);
	}
}

Test(vring, malformed_loop, .init = plain, .fini = teardown)
{
	row(ring.drv.desc, 3, 0);
	offer_raw(0);
	expect_broken(-ELOOP);
}

Test(vring, malformed_loop_of_one, .init = plain, .fini = teardown)
{
	row(ring.drv.desc, 1, 0);
	offer_raw(0);
	expect_broken(-ELOOP);
}

Test(vring, malformed_loop_is_not_a_matter_of_room, .init = plain, .fini = teardown)
{
	row(ring.drv.desc, 3, 1);
	offer_raw(0);
	chain.iov_max = 2;
	expect_broken(-ELOOP);
}

Test(vring, chain_may_fill_the_ring, .init = plain, .fini = teardown)
{
	row(ring.drv.desc, 8, -1);
	offer_raw(0);
	pop(&ring);
	cr_assert_eq(chain.readable, 8);
}

Test(vring, malformed_next_out_of_range, .init = plain, .fini = teardown)
{
	row(ring.drv.desc, 2, 8);
	offer_raw(0);
	expect_broken(-EBADMSG);
}

Test(vring, malformed_readable_after_writable, .init = plain, .fini = teardown)
{
	drv_set_desc(ring.drv.desc, 0, DATA_GPA, 1, DRV_NEXT | DRV_WRITE, 1);
	drv_set_desc(ring.drv.desc, 1, DATA_GPA, 1, 0, 0);
	offer_raw(0);
	expect_broken(-EBADMSG);
}

Test(vring, malformed_address_outside, .init = plain, .fini = teardown)
{
	drv_set_desc(ring.drv.desc, 0, HOLE_GPA, 1, 0, 0);
	offer_raw(0);
	expect_broken(-EFAULT);
}

Test(vring, malformed_buffer_into_a_hole, .init = plain, .fini = teardown)
{
	drv_set_desc(ring.drv.desc, 0, HOLE_GPA - 1, 2, 0, 0);
	offer_raw(0);
	expect_broken(-EFAULT);
}

Test(vring, malformed_buffer_of_everything, .init = plain, .fini = teardown)
{
	drv_set_desc(ring.drv.desc, 0, DATA_GPA, UINT32_MAX, DRV_WRITE, 0);
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
	drv_set_desc(ring.drv.desc, 0, UINT64_MAX - 15, len, flags, 0);
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

/* Indirect tables. */

static void offer_table(uint64_t gpa, uint32_t len, unsigned flags)
{
	drv_set_desc(ring.drv.desc, 0, gpa, len, DRV_INDIRECT | flags, 0);
	offer_raw(0);
}

Test(vring, indirect_chain, .init = indirect, .fini = teardown)
{
	const struct drv_buf bufs[] = {{MORE_GPA, 3, false}, {MORE_GPA + 8, 9, true}};
	int head = drv_chain_indirect(&ring.drv, bufs, 2, (uint64_t *)data, DATA_GPA);

	drv_offer(&ring.drv, head);
	drv_show(&ring.drv);
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
	drv_set_desc(ring.drv.desc, 0, MORE_GPA, 1, DRV_NEXT, 1);
	drv_set_desc(ring.drv.desc, 1, MORE_GPA, 1, DRV_NEXT, 2);
	drv_set_desc(ring.drv.desc, 2, DATA_GPA, 16 * 6, DRV_INDIRECT, 0);
	offer_raw(0);
	pop(&ring);
	cr_assert_eq(chain.readable, 8);
}

Test(vring, malformed_direct_and_indirect_longer_than_the_ring, .init = indirect, .fini = teardown)
{
	row((uint64_t *)data, 7, -1);
	drv_set_desc(ring.drv.desc, 0, MORE_GPA, 1, DRV_NEXT, 1);
	drv_set_desc(ring.drv.desc, 1, MORE_GPA, 1, DRV_NEXT, 2);
	drv_set_desc(ring.drv.desc, 2, DATA_GPA, 16 * 7, DRV_INDIRECT, 0);
	offer_raw(0);
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

Test(vring, malformed_indirect_longer_than_the_ring, .init = indirect, .fini = teardown)
{
	row((uint64_t *)data, 9, -1);
	offer_table(DATA_GPA, 16 * 9, 0);
	expect_broken(-ELOOP);
}

Test(vring, malformed_indirect_readable_after_direct_writable, .init = indirect, .fini = teardown)
{
	row((uint64_t *)data, 1, -1);
	drv_set_desc(ring.drv.desc, 0, MORE_GPA, 1, DRV_NEXT | DRV_WRITE, 1);
	drv_set_desc(ring.drv.desc, 1, DATA_GPA, 16, DRV_INDIRECT, 0);
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

/* Putting and publishing. */

Test(vring, put_is_hidden_until_published, .init = plain, .fini = teardown)
{
	int first = offer(&ring), second = offer(&ring);
	struct fq_vring_buf a = pop(&ring), b = pop(&ring);

	cr_assert_eq(fq_vring_put(ring.vr, b, 11), 0);
	cr_assert_eq(fq_vring_put(ring.vr, a, 22), 0);
	take_none(&ring);
	cr_assert_eq(fq_vring_used_idx(ring.vr), 2);
	cr_assert_eq(fq_vring_in_flight(ring.vr), 0);
	cr_assert_eq(interrupts(&ring), 0);
	cr_assert_eq(fq_vring_publish(ring.vr), 1);
	cr_assert_eq(interrupts(&ring), 1, "one for the batch");
	take(&ring, (uint32_t)second, 11);
	take(&ring, (uint32_t)first, 22);
	take_none(&ring);
}

Test(vring, publish_of_nothing_does_nothing, .init = plain, .fini = teardown)
{
	cr_assert_eq(fq_vring_publish(ring.vr), 0);
	round_trip(&ring);
	cr_assert_eq(interrupts(&ring), 1);
	cr_assert_eq(fq_vring_publish(ring.vr), 0);
	cr_assert_eq(interrupts(&ring), 0);
	cr_assert_eq(stats(&ring).publishes, 1);
}

Test(vring, destroy_leaves_what_was_put_hidden, .init = plain, .fini = teardown)
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

Test(vring, put_refuses_what_was_never_popped, .init = plain, .fini = teardown)
{
	offer(&ring);
	expect_put_refused((struct fq_vring_buf){0, 0});
	expect_put_refused((struct fq_vring_buf){0, 1});
	expect_put_refused((struct fq_vring_buf){8, 0});
	expect_put_refused((struct fq_vring_buf){UINT16_MAX, UINT16_MAX});
}

Test(vring, put_refuses_a_second_time, .init = plain, .fini = teardown)
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
Test(vring, put_refuses_a_second_time_after_the_head_came_again, .init = plain, .fini = teardown)
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

Test(vring, broken_ring_takes_puts_and_shows_none, .init = plain, .fini = teardown)
{
	struct fq_vring_buf buf;

	offer(&ring);
	offer(&ring);
	cr_assert_eq(fq_vring_put(ring.vr, pop(&ring), 0), 0);
	buf = pop(&ring);
	offer_raw(99);
	expect_broken(-EPROTO);
	cr_assert_eq(fq_vring_put(ring.vr, buf, 0), 0);
	cr_assert_eq(fq_vring_in_flight(ring.vr), 0);
	cr_assert_eq(fq_vring_publish(ring.vr), -EIO);
	take_none(&ring);
	cr_assert_eq(interrupts(&ring), 0);
}

Test(vring, largest_ring_in_one_batch)
{
	open_ring(FQ_VRING_SIZE_MAX, FQ_VRING_EVENT_IDX, 40000);
	round_trip(&ring);
	cr_assert_not(drv_ask_interrupt(&ring.drv));
	for (uint32_t i = 0; i < FQ_VRING_SIZE_MAX; i++)
		offer(&ring);
	for (uint32_t i = 0; i < FQ_VRING_SIZE_MAX; i++)
		cr_assert_eq(fq_vring_put(ring.vr, pop(&ring), i), 0);
	interrupts(&ring);
	cr_assert_eq(fq_vring_publish(ring.vr), 1);
	cr_assert_eq(interrupts(&ring), 1);
	for (uint32_t i = 0; i < FQ_VRING_SIZE_MAX; i++) {
		uint32_t id, len;

		cr_assert(drv_take(&ring.drv, &id, &len));
		cr_assert_eq(len, i);
	}
	take_none(&ring);
	teardown();
}

/* Interrupt suppression. */

Test(vring, flags_suppress_interrupts, .init = plain, .fini = teardown)
{
	drv_stop_interrupts(&ring.drv);
	cr_assert_eq(round_trip(&ring), 0);
	cr_assert_eq(interrupts(&ring), 0);
	cr_assert_eq(stats(&ring).suppressed, 1);
	cr_assert_not(drv_ask_interrupt(&ring.drv));
	cr_assert_eq(round_trip(&ring), 1);
	cr_assert_eq(interrupts(&ring), 1);
	cr_assert_eq(stats(&ring).interrupts, 1);
	cr_assert_eq(stats(&ring).suppressed, 1);
}

Test(vring, flags_mean_nothing_with_event_idx, .init = event_idx, .fini = teardown)
{
	drv_set16(&ring.drv.avail[0], 1, memory_order_relaxed);
	cr_assert_eq(round_trip(&ring), 1);
	cr_assert_not(drv_ask_interrupt(&ring.drv));
	cr_assert_eq(round_trip(&ring), 1);
}

Test(vring, event_idx_interrupts_at_the_first_publish)
{
	for (unsigned event = 0; event < 65536; event += 4369) {
		open_ring(4, FQ_VRING_EVENT_IDX, 777);
		drv_set16(&ring.drv.avail[2 + 4], event, memory_order_relaxed);
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
	drv_set16(&ring.drv.avail[2 + 8], event, memory_order_relaxed);
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
		drv_stop_interrupts(&ring.drv);
		cr_assert_eq(round_trip(&ring), 0);
	}
	cr_assert_not(drv_ask_interrupt(&ring.drv));
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
	drv_set16(&ring.drv.avail[2 + 8], 3, memory_order_relaxed);
	ring.config.avail_idx = avail;
	ring.config.used_idx = used;
	cr_assert_eq(fq_vring_create(&ring.vr, &ring.config), 0);
	cr_assert_eq(fq_vring_pop(ring.vr, &chain), 0);
	cr_assert_eq(round_trip(&ring), 1);
	cr_assert_eq(interrupts(&ring), 1);
	cr_assert_eq(fq_vring_used_idx(ring.vr), 6);
}

/* The call fd. */

static void count_call(void *opaque)
{
	++*(unsigned *)opaque;
}

Test(vring, interrupt_function_replaces_the_call_fd, .init = plain, .fini = teardown)
{
	unsigned calls = 0;

	fq_vring_destroy(ring.vr);
	ring.config.interrupt = count_call;
	ring.config.opaque = &calls;
	cr_assert_eq(fq_vring_create(&ring.vr, &ring.config), 0);
	cr_assert_eq(round_trip(&ring), 1);
	fq_vring_set_call(ring.vr, ring.call);
	cr_assert_eq(calls, 1);
	cr_assert_eq(interrupts(&ring), 0);
	cr_assert_eq(stats(&ring).interrupts, 1);
}

Test(vring, no_call_fd_is_no_error, .init = plain, .fini = teardown)
{
	fq_vring_set_call(ring.vr, -1);
	cr_assert_eq(round_trip(&ring), 0);
	cr_assert_eq(interrupts(&ring), 0);
	cr_assert_eq(stats(&ring).call_errors, 0);
	cr_assert_eq(stats(&ring).interrupts, 0);
}

Test(vring, set_call_writes_the_new_fd_once, .init = plain, .fini = teardown)
{
	int fd = eventfd(0, EFD_NONBLOCK), old = ring.call;
	uint64_t n = 0;

	fq_vring_set_call(ring.vr, fd);
	cr_assert_eq(read(fd, &n, sizeof(n)), (ssize_t)sizeof(n));
	cr_assert_eq(n, 1);
	cr_assert_eq(interrupts(&ring), 0);
	cr_assert_eq(stats(&ring).interrupts, 1);
	cr_assert_eq(round_trip(&ring), 1);
	cr_assert_eq(interrupts(&ring), 0, "the old one is left alone");
	cr_assert_geq(fcntl(old, F_GETFD), 0, "and open");
	cr_assert_eq(read(fd, &n, sizeof(n)), (ssize_t)sizeof(n));
	fq_vring_set_call(ring.vr, -1);
	close(fd);
}

static void expect_call_error(int fd)
{
	errno = EXDEV;
	fq_vring_set_call(ring.vr, fd);
	cr_assert_eq(errno, EXDEV);
	cr_assert_eq(stats(&ring).call_errors, 1);
	cr_assert_eq(round_trip(&ring), 0);
	cr_assert_eq(errno, EXDEV);
	cr_assert_eq(stats(&ring).call_errors, 2);
	cr_assert_eq(stats(&ring).interrupts, 0);
	other_is_fine();
}

Test(vring, call_fd_that_is_none_is_counted, .init = plain, .fini = teardown)
{
	expect_call_error(1 << 20);
}

static volatile sig_atomic_t sigpipes;

static void count_sigpipe(int sig)
{
	(void)sig;
	sigpipes++;
}

/* A peer that has gone must be nobody's death; what the host does about SIGPIPE stays as it is. */
static void expect_no_sigpipe(int fd)
{
	struct sigaction counting = {.sa_handler = count_sigpipe}, before;
	sigset_t set;

	sigpipes = 0;
	sigaction(SIGPIPE, &counting, &before);
	expect_call_error(fd);
	cr_assert_eq(sigpipes, 0);
	sigpending(&set);
	cr_assert_not(sigismember(&set, SIGPIPE));
	pthread_sigmask(SIG_SETMASK, NULL, &set);
	cr_assert_not(sigismember(&set, SIGPIPE));
	sigaction(SIGPIPE, &before, NULL);
}

Test(vring, call_fd_without_reader_raises_no_sigpipe, .init = plain, .fini = teardown)
{
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	close(fds[0]);
	expect_no_sigpipe(fds[1]);
	close(fds[1]);
}

Test(vring, call_socket_without_peer_raises_no_sigpipe, .init = plain, .fini = teardown)
{
	int fds[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	close(fds[0]);
	expect_no_sigpipe(fds[1]);
	close(fds[1]);
}

static void expect_full_is_fine(int fd)
{
	errno = EXDEV;
	fq_vring_set_call(ring.vr, fd);
	cr_assert_eq(round_trip(&ring), 1);
	cr_assert_eq(errno, EXDEV);
	cr_assert_eq(stats(&ring).call_errors, 0);
	cr_assert_eq(stats(&ring).interrupts, 2);
}

static void full_eventfd(int flags)
{
	const uint64_t most = UINT64_MAX - 1;
	int fd = eventfd(0, flags);

	cr_assert_eq(write(fd, &most, sizeof(most)), (ssize_t)sizeof(most));
	expect_full_is_fine(fd);
	close(fd);
}

Test(vring, call_fd_that_is_full_is_no_error, .init = plain, .fini = teardown)
{
	full_eventfd(EFD_NONBLOCK);
}

Test(vring, call_fd_that_is_full_does_not_block, .init = plain, .fini = teardown, .timeout = 30)
{
	full_eventfd(0);
}

Test(vring, call_pipe_that_is_full_does_not_block, .init = plain, .fini = teardown, .timeout = 30)
{
	static const char page[4096];
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	fcntl(fds[1], F_SETFL, O_NONBLOCK);
	while (write(fds[1], page, sizeof(page)) > 0)
		;
	fcntl(fds[1], F_SETFL, 0);
	expect_full_is_fine(fds[1]);
	close(fds[0]);
	close(fds[1]);
}

static void *publish_while_cancelled(void *passed)
{
	pthread_cancel(pthread_self());
	fq_vring_publish(ring.vr);
	*(bool *)passed = true;
	pthread_testcancel();
	return NULL;
}

Test(vring, publish_is_no_cancellation_point, .init = plain, .fini = teardown)
{
	bool passed = false;
	pthread_t thread;
	void *result;

	offer(&ring);
	cr_assert_eq(fq_vring_put(ring.vr, pop(&ring), 0), 0);
	cr_assert_eq(pthread_create(&thread, NULL, publish_while_cancelled, &passed), 0);
	pthread_join(thread, &result);
	cr_assert(passed);
	cr_assert_eq(result, PTHREAD_CANCELED, "the cancellation itself is not lost");
	cr_assert_eq(interrupts(&ring), 1);
}

/* Kicks. */

Test(vring, kick_flag, .init = plain, .fini = teardown)
{
	fq_vring_disable_kick(ring.vr);
	offer(&ring);
	cr_assert_not(drv_kick_wanted(&ring.drv));
	cr_assert(fq_vring_enable_kick(ring.vr), "a chain is there");
	pop(&ring);
	cr_assert_not(fq_vring_enable_kick(ring.vr));
	offer(&ring);
	cr_assert(drv_kick_wanted(&ring.drv));
}

Test(vring, kick_event, .init = event_idx, .fini = teardown)
{
	cr_assert_not(fq_vring_enable_kick(ring.vr));
	offer(&ring);
	cr_assert(drv_kick_wanted(&ring.drv));
	offer(&ring);
	cr_assert_not(drv_kick_wanted(&ring.drv), "once asked, once kicked");
	cr_assert(fq_vring_enable_kick(ring.vr));
	pop(&ring);
	cr_assert(fq_vring_enable_kick(ring.vr), "one is left");
	pop(&ring);
	fq_vring_disable_kick(ring.vr);
	cr_assert_eq(drv_get16(&ring.drv.used[0], memory_order_relaxed), 0,
		     "the flag belongs to rings without EVENT_IDX");
	offer(&ring);
	cr_assert_not(drv_kick_wanted(&ring.drv));
}

Test(vring, kick_event_goes_round)
{
	open_ring(4, FQ_VRING_EVENT_IDX, 65534);
	for (int i = 0; i < 8; i++) {
		cr_assert_not(fq_vring_enable_kick(ring.vr));
		offer(&ring);
		cr_assert(drv_kick_wanted(&ring.drv));
		cr_assert_eq(fq_vring_put(ring.vr, pop(&ring), 0), 0);
		fq_vring_publish(ring.vr);
		take(&ring, chain.buf.id, 0);
	}
	teardown();
}

/* Counters. */

Test(vring, stats_count_what_happened, .init = plain, .fini = teardown)
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
	drv_stop_interrupts(&ring.drv);
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

Test(vring, stopped_touches_nothing, .init = plain, .fini = teardown)
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
