/* SPDX-License-Identifier: MIT */
/* One drain makes at most one publish and one interrupt per virtqueue (invariant 6). */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include <fenceq/fenceq.h>

#include "host.h"
#include "split_driver.h"
#include "unit.h"

#define QUEUES 2u
#define SIZE 64u
#define GPA UINT64_C(0x10000)
#define BYTES 8192u

struct command {
	struct fq_fence fence; /* first: a fence is its command */
	struct fq_vring *vr;
	struct fq_vring_buf buf;
};

static struct host host;
static struct command command[64];
static struct drv_ring drv[QUEUES];
static struct fq_vring *vring[QUEUES];
static int call[QUEUES];
static char *guest;
static struct fq_mem *mem;

static void put(struct host *h, struct fq_fence *f, int status)
{
	struct command *c = (struct command *)f;

	(void)h;
	(void)status;
	cr_assert_eq(fq_vring_put(c->vr, c->buf, 4), 0);
}

static void open_vring(unsigned i)
{
	const uint64_t gpa = GPA + i * (uint64_t)BYTES;
	struct fq_vring_config config = {.mem = mem, .size = SIZE};

	cr_assert_leq(drv_bytes(SIZE), BYTES);
	cr_assert(drv_init(&drv[i], guest + i * (size_t)BYTES, gpa, SIZE, false));
	call[i] = eventfd(0, EFD_NONBLOCK);
	cr_assert_geq(call[i], 0);
	config.desc = drv[i].desc_gpa;
	config.driver = drv[i].avail_gpa;
	config.device = drv[i].used_gpa;
	config.call_fd = call[i];
	cr_assert_eq(fq_vring_create(&vring[i], &config), 0);
}

static void setup(void)
{
	struct fq_mem_region region = {GPA, QUEUES * BYTES, NULL};

	memset(command, 0, sizeof(command));
	guest = aligned_alloc(4096, QUEUES * BYTES);
	cr_assert_not_null(guest);
	region.hva = memset(guest, 0, QUEUES * BYTES);
	cr_assert_eq(fq_mem_create(&mem, &region, 1), 0);
	host_open(&host, 0);
	host.on_retire = put;
	for (unsigned i = 0; i < QUEUES; i++)
		open_vring(i);
}

static void teardown(void)
{
	if (host.dev)
		host_close(&host);
	for (unsigned i = 0; i < QUEUES; i++) {
		fq_vring_destroy(vring[i]);
		drv_fini(&drv[i]);
		close(call[i]);
	}
	fq_mem_destroy(mem);
	free(guest);
}

TestSuite(flush, .init = setup, .fini = teardown, .timeout = 60);

/* The driver offers a chain, the device takes it, and the renderer gets the work. */
static void start_command(struct command *c, unsigned queue, uint32_t ring_idx)
{
	const struct drv_buf buf = {GPA, 16, true};
	struct iovec iov;
	struct fq_vring_chain chain = {.iov = &iov, .iov_max = 1};
	int head = drv_chain(&drv[queue], &buf, 1);

	cr_assert_geq(head, 0);
	drv_offer(&drv[queue], head);
	drv_show(&drv[queue]);
	cr_assert_eq(fq_vring_pop(vring[queue], &chain), 1);
	c->vr = vring[queue];
	c->buf = chain.buf;
	cr_assert_eq(fq_submit(host.dev, 1, ring_idx, &c->fence), 0);
}

/* Half of the commands to each virtqueue, over eight timelines. */
static void start_all(void)
{
	for (unsigned i = 0; i < 64; i++)
		start_command(&command[i], i % QUEUES, i % 8);
}

static void complete_all(void)
{
	for (unsigned i = 0; i < 64; i++)
		cr_assert_eq(fq_signal(host.handle, 1, i % 8, command[i].fence.token), 0);
}

static uint64_t calls(unsigned i)
{
	uint64_t n;

	return read(call[i], &n, sizeof(n)) == sizeof(n) ? n : 0;
}

static unsigned take_used(unsigned i)
{
	uint32_t id, len;
	unsigned n = 0;

	while (drv_take(&drv[i], &id, &len))
		n++;
	return n;
}

static void expect_vring(unsigned i, uint64_t publishes, uint64_t interrupts)
{
	struct fq_vring_stats s;

	fq_vring_get_stats(vring[i], &s);
	cr_assert_eq(s.publishes, publishes, "vring %u: %llu publishes", i,
		     (unsigned long long)s.publishes);
	cr_assert_eq(s.interrupts, interrupts);
}

static void attach_both(void)
{
	for (unsigned i = 0; i < QUEUES; i++)
		cr_assert_eq(fq_device_attach_vring(host.dev, vring[i]), 0);
}

Test(flush, one_publish_per_drain)
{
	attach_both();
	for (unsigned round = 1; round <= 3; round++) {
		start_all();
		complete_all();
		cr_assert_eq(fq_queue_drain(host.q, FQ_NO_BUDGET), 64);
		for (unsigned i = 0; i < QUEUES; i++) {
			expect_vring(i, round, round);
			cr_assert_eq(calls(i), 1);
			cr_assert_eq(take_used(i), 32);
		}
		cr_assert_eq(host.flushes, round);
		cr_assert_eq(device_stats(host.dev).batches, round);
	}
}

Test(flush, each_part_of_a_budget_is_published)
{
	attach_both();
	start_all();
	complete_all();
	for (unsigned n = 1; n <= 4; n++) {
		cr_assert_eq(fq_queue_drain(host.q, 16), 16);
		cr_assert_eq(host.flushes, n);
		cr_assert_eq(take_used(0) + take_used(1), 16, "retired, and hidden");
	}
	(void)fq_queue_drain(host.q, 16);
	cr_assert_eq(host.flushes, 4, "nothing was retired");
}

/* Flushed before the vrings are published: the host's own puts go with them. */
static void nothing_shown_yet(struct host *h)
{
	(void)h;
	cr_assert_eq(take_used(0) + take_used(1), 0);
}

Test(flush, host_comes_before_the_vrings)
{
	host.on_flush = nothing_shown_yet;
	attach_both();
	start_all();
	complete_all();
	cr_assert_eq(fq_queue_drain(host.q, FQ_NO_BUDGET), 64);
	cr_assert_eq(take_used(0) + take_used(1), 64);
}

Test(flush, attach_and_detach)
{
	cr_assert_eq(fq_device_attach_vring(NULL, vring[0]), -EINVAL);
	cr_assert_eq(fq_device_attach_vring(host.dev, NULL), -EINVAL);
	cr_assert_eq(fq_device_detach_vring(NULL, vring[0]), -EINVAL);
	cr_assert_eq(fq_device_detach_vring(host.dev, vring[0]), -ENOENT);
	attach_both();
	cr_assert_eq(fq_device_attach_vring(host.dev, vring[0]), -EEXIST);
	cr_assert_eq(fq_device_attach_vring(host.dev, vring[1]), -EEXIST);
	cr_assert_eq(fq_device_detach_vring(host.dev, vring[0]), 0);
	cr_assert_eq(fq_device_detach_vring(host.dev, vring[0]), -ENOENT);
	start_all();
	complete_all();
	cr_assert_eq(fq_queue_drain(host.q, FQ_NO_BUDGET), 64);
	expect_vring(0, 0, 0);
	expect_vring(1, 1, 1);
	cr_assert_eq(fq_device_attach_vring(host.dev, vring[0]), 0);
	cr_assert_eq(fq_vring_publish(vring[0]), 1);
}

/* What is retired outside of a drain is published, too. */
Test(flush, context_and_device_destroy)
{
	attach_both();
	start_all();
	cr_assert_eq(fq_context_destroy(host.dev, 1), 0);
	cr_assert_eq(take_used(0) + take_used(1), 64);
	cr_assert_eq(host.flushes, 1);
	start_all();
	cr_assert_eq(fq_device_destroy(host.dev), 0);
	host.dev = NULL;
	cr_assert_eq(fq_queue_destroy(host.q), 0);
	cr_assert_eq(take_used(0) + take_used(1), 64);
	expect_vring(0, 2, 2);
}

/* A broken ring is no reason to hide the other. */
Test(flush, broken_ring)
{
	struct fq_vring_chain chain = {.iov = NULL};

	attach_both();
	start_all();
	drv[0].avail_idx = (uint16_t)(drv[0].avail_idx + SIZE + 1); /* an index that jumps */
	drv_show(&drv[0]);
	cr_assert_eq(fq_vring_pop(vring[0], &chain), -EPROTO);
	complete_all();
	cr_assert_eq(fq_queue_drain(host.q, FQ_NO_BUDGET), 64);
	cr_assert_eq(take_used(0), 0);
	cr_assert_eq(take_used(1), 32);
	expect_vring(1, 1, 1);
}
