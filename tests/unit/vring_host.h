/* SPDX-License-Identifier: MIT */
#ifndef FQ_UNIT_VRING_HOST_H
#define FQ_UNIT_VRING_HOST_H

/* Guest memory with two rings in it: one under test, and another that nothing may happen to. */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <fenceq/mem.h>
#include <fenceq/stats.h>
#include <fenceq/vring.h>

#include "ring_driver.h"
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
	struct ring_driver drv;
	struct fq_vring_config config;
	struct fq_vring *vr;
	int call;
};

static char *ring_mem, *other_mem, *data, *more;
static struct fq_mem *mem;
static struct ring ring, other;
static struct iovec iov[IOVS];
static struct fq_vring_chain chain;

static inline char *zeroed(size_t bytes)
{
	char *p = aligned_alloc(4096, bytes);

	cr_assert_not_null(p);
	return memset(p, 0, bytes);
}

static inline void open_mem(void)
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

static inline void open_ring_at(struct ring *r, void *hva, uint64_t gpa, uint32_t size,
				uint32_t features, uint16_t start)
{
	r->call = eventfd(0, EFD_NONBLOCK);
	cr_assert_geq(r->call, 0);
	cr_assert(ring_driver_init(&r->drv, hva, gpa, size, features));
	start = ring_driver_start_at(&r->drv, start);
	r->config = (struct fq_vring_config){
		.mem = mem,
		.features = features,
		.call_fd = r->call,
		.avail_idx = start,
		.used_idx = start,
	};
	ring_driver_locate(&r->drv, &r->config);
	cr_assert_eq(fq_vring_create(&r->vr, &r->config), 0);
}

/* The ring under test and another that nothing may happen to. */
static inline void open_ring(uint32_t size, uint32_t features, uint16_t start)
{
	open_mem();
	open_ring_at(&ring, ring_mem, RING_GPA, size, features, start);
	open_ring_at(&other, other_mem, OTHER_GPA, 4, 0, 0);
	chain = (struct fq_vring_chain){.iov = iov, .iov_max = IOVS};
}

static inline void close_ring(struct ring *r)
{
	fq_vring_destroy(r->vr);
	ring_driver_fini(&r->drv);
	close(r->call);
}

static inline void plain(void)
{
	open_ring(8, 0, 0);
}

static inline void indirect(void)
{
	open_ring(8, FQ_VRING_INDIRECT, 0);
}

static inline void event_idx(void)
{
	open_ring(8, FQ_VRING_EVENT_IDX, 0);
}

static inline void teardown(void)
{
	if (ring_driver_fault(&ring.drv))
		cr_expect_fail("the driver has seen a fault");
	close_ring(&ring);
	close_ring(&other);
	fq_mem_destroy(mem);
	free(ring_mem);
	free(other_mem);
	free(data);
	free(more);
}

/* How often the call fd was written since the last time. */
static inline uint64_t interrupts(const struct ring *r)
{
	uint64_t n;

	return read(r->call, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

static inline struct fq_vring_stats stats(const struct ring *r)
{
	struct fq_vring_stats s;

	fq_vring_get_stats(r->vr, &s);
	return s;
}

static inline int offer(struct ring *r)
{
	const struct drv_buf buf = {DATA_GPA, 16, true};
	int head = ring_driver_queue(&r->drv, &buf, 1);

	cr_assert_geq(head, 0, "the driver has no free descriptor");
	ring_driver_show(&r->drv);
	return head;
}

/* Split. Shows a head whatever the driver's own books say. */
static inline void offer_raw(unsigned head)
{
	drv_offer(&ring.drv.s, (int)head);
	drv_show(&ring.drv.s);
}

static inline struct fq_vring_buf pop(struct ring *r)
{
	cr_assert_eq(fq_vring_pop(r->vr, &chain), 1);
	return chain.buf;
}

static inline void take(struct ring *r, uint32_t id, uint32_t len)
{
	uint32_t got_id, got_len;

	cr_assert(ring_driver_take(&r->drv, &got_id, &got_len), "nothing used");
	cr_assert_eq(got_id, id);
	cr_assert_eq(got_len, len);
}

static inline void take_none(struct ring *r)
{
	uint32_t id, len;

	cr_assert_not(ring_driver_take(&r->drv, &id, &len));
	cr_assert_null(ring_driver_fault(&r->drv), "%s", ring_driver_fault(&r->drv));
}

/* One chain there and back. @return what publish returned. */
static inline int round_trip(struct ring *r)
{
	int head = offer(r), published;

	cr_assert_eq(fq_vring_put(r->vr, pop(r), 7), 0);
	published = fq_vring_publish(r->vr);
	take(r, (uint32_t)head, 7);
	return published;
}

static inline void other_is_fine(void)
{
	cr_assert_eq(round_trip(&other), 1);
	cr_assert_eq(interrupts(&other), 1);
	cr_assert_eq(stats(&other).errors, 0);
	cr_assert_eq(stats(&other).broken, 0);
}

/* The next pop finds the ring malformed for this reason; after that it is broken for good. */
static inline void expect_broken(int reason)
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

/* A chain that nobody may offer. */
static inline void offer_bad(void)
{
	if (!ring.drv.packed) {
		offer_raw(ring.config.size);
		return;
	}
	pdrv_put_desc(&ring.drv.p, DATA_GPA, 1, ring.config.size, 0);
	pdrv_show(&ring.drv.p);
}

/* Descriptors 0 .. count - 1 in a row; the last goes on to @p next when there is one. */
static inline void row(uint64_t *table, unsigned count, int next)
{
	for (unsigned i = 0; i < count; i++) {
		bool more_to_come = i + 1 < count || next >= 0;

		drv_set_desc(table, i, DATA_GPA + i, 1, more_to_come ? DRV_NEXT : 0,
			     i + 1 < count ? i + 1 : (unsigned)next & 0xffff);
	}
}

/* Packed: one descriptor as it stands, shown with those before it. */
static inline void put_desc(uint64_t gpa, uint32_t len, unsigned id, unsigned flags)
{
	pdrv_put_desc(&ring.drv.p, gpa, len, id, flags);
}

static inline void show(void)
{
	pdrv_show(&ring.drv.p);
}

static inline void put_table(uint64_t gpa, uint32_t len, unsigned flags)
{
	put_desc(gpa, len, 5, DRV_INDIRECT | flags);
	show();
}

/* In a table of a packed ring the flags come last. */
static inline void fill_table(uint64_t *table, uint32_t count, unsigned flags)
{
	for (uint32_t i = 0; i < count; i++)
		drv_set_desc(table, i, MORE_GPA + i, 1, 0xffff, flags);
}

/* A test of both layouts: of a ring of 8 with these features, in which @p name has its body. */
#define TEST_BOTH(name, features)                              \
	static void both_##name(void);                         \
	Test(vring_split, name)                                \
	{                                                      \
		open_ring(8, (features), 0);                   \
		both_##name();                                 \
		teardown();                                    \
	}                                                      \
	Test(vring_packed, name)                               \
	{                                                      \
		open_ring(8, (features) | FQ_VRING_PACKED, 0); \
		both_##name();                                 \
		teardown();                                    \
	}                                                      \
	static void both_##name(void)

#endif /* FQ_UNIT_VRING_HOST_H */
