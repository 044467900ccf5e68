/* SPDX-License-Identifier: MIT */

/*
 * The two places where each side stores and then looks for what the other has stored, met head on: a
 * driver asks for an interrupt at about the time an element is shown, and a device for a kick at about
 * the time a chain is. Each time at least one of them must see the other. Nobody sleeps, so that there
 * are a hundred thousand times a second, where stress/vring has the whole of it.
 *
 * Seen to fail: without one of the device's full barriers (V3, V4, V7, V8 in turn), nearly always; less
 * often where the two threads seldom run at the same time.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include <fenceq/mem.h>
#include <fenceq/vring.h>

#include "../unit/ring_driver.h"
#include "stress.h"

#define SIZE 4u
#define GPA UINT64_C(0x10000)
#define BYTES 1024u
#define TIMES 1000u /* between looks at the clock */

struct edge {
	struct ring_driver drv;
	struct fq_vring *vr;
	uint64_t interrupts; /* the device's thread */
	bool found;
	bool last;
	/* Who has come how far: each time they meet at the start and at the end. */
	_Atomic uint64_t driver_at;
	_Atomic uint64_t device_at;
};

/* Until the other one is there, too; with few processors it may not even run. */
static void meet(_Atomic uint64_t *mine, _Atomic uint64_t *other)
{
	uint64_t at = atomic_fetch_add(mine, 1) + 1;

	for (unsigned spins = 0; atomic_load(other) < at; spins++) {
		if (spins % 1024 == 1023)
			sched_yield();
	}
}

static void dawdle(uint64_t *random)
{
	uint64_t n = stress_random(random) % 64;

	while (n--)
		atomic_signal_fence(memory_order_seq_cst);
}

static void interrupt(void *opaque)
{
	((struct edge *)opaque)->interrupts++;
}

static void *device_main(void *arg)
{
	struct edge *edge = arg;
	uint64_t random = 1;
	struct iovec iov;
	struct fq_vring_chain chain = {.iov = &iov, .iov_max = 1};

	for (;;) {
		fq_vring_disable_kick(edge->vr);
		meet(&edge->device_at, &edge->driver_at);
		if (edge->last)
			return NULL;
		dawdle(&random);
		edge->found = fq_vring_enable_kick(edge->vr);
		meet(&edge->device_at, &edge->driver_at);
		STRESS_CHECK(fq_vring_pop(edge->vr, &chain) == 1, "pop");
		STRESS_CHECK(!fq_vring_put(edge->vr, chain.buf, 1), "put");
		meet(&edge->device_at, &edge->driver_at);
		dawdle(&random);
		STRESS_CHECK(fq_vring_publish(edge->vr) >= 0, "publish");
		meet(&edge->device_at, &edge->driver_at);
	}
}

static void one_time(struct edge *edge, uint64_t *random)
{
	const struct drv_buf buf = {GPA + BYTES - 8, 8, true};
	bool kicked, pending;
	uint64_t before;
	uint32_t id, len;

	ring_driver_stop_interrupts(&edge->drv);
	meet(&edge->driver_at, &edge->device_at);
	dawdle(random);
	STRESS_CHECK(ring_driver_queue(&edge->drv, &buf, 1) >= 0, "queue");
	ring_driver_show(&edge->drv);
	kicked = ring_driver_kick_wanted(&edge->drv);
	meet(&edge->driver_at, &edge->device_at);
	STRESS_CHECK(kicked || edge->found, "lost kick");
	before = edge->interrupts;
	meet(&edge->driver_at, &edge->device_at);
	dawdle(random);
	pending = ring_driver_ask_interrupt(&edge->drv);
	meet(&edge->driver_at, &edge->device_at);
	STRESS_CHECK(pending || edge->interrupts > before, "lost interrupt");
	STRESS_CHECK(ring_driver_take(&edge->drv, &id, &len), "nothing used");
	STRESS_CHECK(!ring_driver_fault(&edge->drv), "%s", ring_driver_fault(&edge->drv));
}

/* @return how many times. */
static uint64_t run(uint32_t features, uint64_t *random, int64_t end)
{
	struct edge edge = {.interrupts = 0};
	const struct fq_mem_region region = {GPA, BYTES, aligned_alloc(64, BYTES)};
	struct fq_vring_config config = {
		.features = features, .interrupt = interrupt, .opaque = &edge, .call_fd = -1};
	struct fq_mem *mem;
	pthread_t thread;
	uint64_t times = 0;

	STRESS_CHECK(region.hva, "memory");
	memset(region.hva, 0, BYTES);
	STRESS_CHECK(!fq_mem_create(&mem, &region, 1), "regions");
	STRESS_CHECK(ring_driver_init(&edge.drv, region.hva, GPA, SIZE, features), "memory");
	config.mem = mem;
	config.avail_idx = config.used_idx = ring_driver_start_at(&edge.drv, 0);
	ring_driver_locate(&edge.drv, &config);
	STRESS_CHECK(!fq_vring_create(&edge.vr, &config), "create");
	STRESS_CHECK(!pthread_create(&thread, NULL, device_main, &edge), "thread");
	do {
		for (unsigned i = 0; i < TIMES; i++)
			one_time(&edge, random);
		times += TIMES;
	} while (stress_now_ns() < end);
	edge.last = true;
	meet(&edge.driver_at, &edge.device_at);
	pthread_join(thread, NULL);
	fq_vring_destroy(edge.vr);
	fq_mem_destroy(mem);
	ring_driver_fini(&edge.drv);
	free(region.hva);
	return times;
}

int main(int argc, char **argv)
{
	static const uint32_t kinds[] = {0, FQ_VRING_PACKED, FQ_VRING_EVENT_IDX,
					 FQ_VRING_PACKED | FQ_VRING_EVENT_IDX};
	struct stress_options options = stress_parse(argc, argv, 2);
	int64_t length = (int64_t)(options.seconds * 1e9 / 4);
	uint64_t times = 0;

	for (unsigned i = 0; i < 4; i++)
		times += run(kinds[i], &options.seed, stress_now_ns() + length);
	printf("%" PRIu64 " times, no kick and no interrupt lost\n", times);
	return 0;
}
