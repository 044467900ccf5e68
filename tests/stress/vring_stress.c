/* SPDX-License-Identifier: MIT */

/*
 * A driver and a device on one ring, split or packed, each asleep whenever it can be: no id, no interrupt and
 * no kick may be lost. Rounds take turns through layouts, features and drivers, with ring sizes, starting indices,
 * chains, batches and orders of completion by chance.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <fenceq/mem.h>
#include <fenceq/stats.h>
#include <fenceq/vring.h>

#include "../unit/ring_driver.h"
#include "stress.h"

#define KINDS 32u      /* of layouts, features and drivers */
#define SIZE_LOG_MAX 7 /* 128 */
#define CHAINS_PER_ROUND 20000u
#define PATIENCE_MS 20000

#define GPA UINT64_C(0x40000000)
#define SLOT_BYTES 128u
#define SLOT_ANSWER 32u
#define SLOT_TABLE 64u

struct request {
	uint64_t serial;
	uint64_t check;
};

struct round {
	struct ring_driver drv;
	struct fq_vring *vr;
	char *slots;
	uint64_t slots_gpa;
	int kick, call;
	uint64_t seed;
	uint32_t size;
	atomic_bool finished;
};

struct totals {
	uint64_t rounds, chains, kicks, interrupts, suppressed, sleeps;
};

static void fd_write(int fd)
{
	const uint64_t one = 1;

	STRESS_CHECK(write(fd, &one, sizeof(one)) == sizeof(one), "write to an eventfd");
}

/* @return false when nobody woke us. */
static bool fd_wait(int fd, int timeout)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	uint64_t n;
	int r;

	do
		r = poll(&p, 1, timeout);
	while (r < 0 && errno == EINTR);
	STRESS_CHECK(r >= 0, "poll");
	if (r)
		STRESS_CHECK(read(fd, &n, sizeof(n)) == sizeof(n), "read of an eventfd");
	return r > 0;
}

/* A few nanoseconds each: to meet the other side in the middle of what it does. */
static void dawdle(uint64_t *random)
{
	uint64_t n = stress_random(random) % 512;

	while (n--)
		atomic_signal_fence(memory_order_seq_cst);
}

/* The device's side. */

struct held {
	struct fq_vring_buf buf;
	uint32_t len;
};

struct device {
	struct round *round;
	uint64_t random;
	struct held held[1 << SIZE_LOG_MAX];
	uint32_t count;
};

static uint64_t answer_to(uint64_t serial)
{
	return serial * UINT64_C(0x9e3779b97f4a7c15) + 1;
}

static void copy(struct iovec *iov, uint32_t pieces, void *bytes, size_t len, bool out)
{
	char *p = bytes;

	for (uint32_t i = 0; i < pieces && len; i++) {
		size_t n = iov[i].iov_len < len ? iov[i].iov_len : len;

		if (out)
			memcpy(iov[i].iov_base, p, n);
		else
			memcpy(p, iov[i].iov_base, n);
		p += n;
		len -= n;
	}
	STRESS_CHECK(!len, "a chain is shorter than what was queued");
}

static void device_take(struct device *dev, struct fq_vring_chain *chain)
{
	struct request req;
	uint64_t answer;

	copy(chain->iov, chain->readable, &req, sizeof(req), false);
	STRESS_CHECK(req.check == ~req.serial, "a request is not what was queued");
	answer = answer_to(req.serial);
	copy(chain->iov + chain->readable, chain->writable, &answer, sizeof(answer), true);
	dev->held[dev->count++] = (struct held){chain->buf, sizeof(answer)};
}

/* Completes that many, picked by chance. */
static void device_put(struct device *dev, uint32_t count)
{
	while (count--) {
		uint32_t i = stress_random(&dev->random) % dev->count;

		STRESS_CHECK(fq_vring_put(dev->round->vr, dev->held[i].buf, dev->held[i].len) == 0,
			     "put of a chain in flight");
		dev->held[i] = dev->held[--dev->count];
	}
}

/* @return when nothing is available. */
static void device_work(struct device *dev)
{
	struct fq_vring *vr = dev->round->vr;
	struct iovec iov[16];
	struct fq_vring_chain chain = {.iov = iov, .iov_max = 16};
	int r;

	if (stress_random(&dev->random) % 4)
		fq_vring_disable_kick(vr);
	while ((r = fq_vring_pop(vr, &chain)) == 1) {
		device_take(dev, &chain);
		if (stress_random(&dev->random) % 4 == 0)
			device_put(dev, (uint32_t)(stress_random(&dev->random) % (dev->count + 1)));
		if (stress_random(&dev->random) % 4 == 0)
			STRESS_CHECK(fq_vring_publish(vr) >= 0, "publish");
	}
	STRESS_CHECK(r == 0, "pop");
}

static void *device_main(void *arg)
{
	struct round *round = arg;
	struct device dev = {.round = round, .random = round->seed};

	for (;;) {
		bool finished = atomic_load(&round->finished);

		device_work(&dev);
		if (dev.count && stress_random(&dev.random) % 4 == 0)
			continue;
		device_put(&dev, dev.count);
		STRESS_CHECK(fq_vring_publish(round->vr) >= 0, "publish");
		if (finished)
			return NULL;
		dawdle(&dev.random);
		/* That nobody kicks is for the driver to notice. */
		if (!fq_vring_enable_kick(round->vr))
			fd_wait(round->kick, -1);
	}
}

/* The driver's side. */

struct driver {
	struct round *round;
	uint64_t random;
	uint64_t serial;                     /* of the chain queued last */
	uint64_t waiting[1 << SIZE_LOG_MAX]; /* serial by head, 0: none */
	uint64_t taken;
	uint64_t goal; /* how many to queue */
	int64_t end;   /* when to stop queueing before that */
	bool indirect;
	struct totals *totals;
};

/* Request and answer, each in up to two buffers. @return false when the ring is full. */
static bool driver_queue(struct driver *drv)
{
	struct ring_driver *ring = &drv->round->drv;
	uint64_t offset = (uint64_t)ring_driver_next_id(ring) * SLOT_BYTES;
	uint64_t gpa = drv->round->slots_gpa + offset;
	char *slot = drv->round->slots + offset;
	uint32_t cut = 1 + (uint32_t)(stress_random(&drv->random) % 15), n = 0;
	bool two = stress_random(&drv->random) % 2 && drv->round->size >= 4;
	struct request req = {drv->serial + 1, ~(drv->serial + 1)};
	struct drv_buf bufs[3];
	int head;

	if (!ring_driver_free(ring))
		return false;
	bufs[n++] = (struct drv_buf){gpa, two ? cut : 16, false};
	if (two)
		bufs[n++] = (struct drv_buf){gpa + cut, 16 - cut, false};
	bufs[n++] = (struct drv_buf){gpa + SLOT_ANSWER, 8, true};
	if (!drv->indirect && n > ring_driver_free(ring))
		return false;
	memcpy(slot, &req, sizeof(req));
	memset(slot + SLOT_ANSWER, 0, 8);
	if (drv->indirect && (ring_driver_free(ring) < n || stress_random(&drv->random) % 2))
		head = ring_driver_queue_indirect(ring, bufs, n, (uint64_t *)(slot + SLOT_TABLE),
						  gpa + SLOT_TABLE);
	else
		head = ring_driver_queue(ring, bufs, n);
	STRESS_CHECK(head >= 0 && !drv->waiting[head], "the driver's own free list");
	drv->waiting[head] = ++drv->serial;
	return true;
}

static void driver_queue_some(struct driver *drv, uint32_t most)
{
	uint32_t want = 1 + (uint32_t)(stress_random(&drv->random) % most), n = 0;

	if (drv->serial % 64 == 0 && drv->serial && stress_now_ns() >= drv->end)
		drv->goal = drv->serial;
	while (n < want && drv->serial < drv->goal && driver_queue(drv))
		n++;
	if (!n)
		return;
	ring_driver_show(&drv->round->drv);
	if (ring_driver_kick_wanted(&drv->round->drv)) {
		fd_write(drv->round->kick);
		drv->totals->kicks++;
	}
}

static void driver_take_all(struct driver *drv)
{
	struct ring_driver *ring = &drv->round->drv;
	uint32_t id, len;

	while (ring_driver_take(ring, &id, &len)) {
		uint64_t answer;

		STRESS_CHECK(!ring_driver_fault(ring), "%s", ring_driver_fault(ring));
		STRESS_CHECK(id < drv->round->size, "a used id that is none");
		STRESS_CHECK(drv->waiting[id], "a chain came back twice");
		memcpy(&answer, drv->round->slots + (uint64_t)id * SLOT_BYTES + SLOT_ANSWER,
		       sizeof(answer));
		STRESS_CHECK(len == sizeof(answer), "a used length");
		STRESS_CHECK(answer == answer_to(drv->waiting[id]),
			     "an answer came before its request");
		drv->waiting[id] = 0;
		drv->taken++;
	}
}

static void driver_sleep(struct driver *drv)
{
	struct ring_driver *ring = &drv->round->drv;

	if (ring_driver_ask_interrupt(ring))
		return;
	drv->totals->sleeps++;
	if (!fd_wait(drv->round->call, PATIENCE_MS)) {
		STRESS_CHECK(!ring_driver_used_pending(ring, memory_order_seq_cst),
			     "lost interrupt");
		STRESS_CHECK(false, "lost kick, or a lost chain");
	}
	if (stress_random(&drv->random) % 2)
		ring_driver_stop_interrupts(ring);
}

/* Asleep often, and always when the ring is full. */
static void drive_loosely(struct driver *drv)
{
	while (drv->taken < drv->goal) {
		driver_queue_some(drv, 8);
		if (stress_random(&drv->random) % 4 == 0)
			driver_take_all(drv);
		if (drv->taken < drv->serial && stress_random(&drv->random) % 2)
			driver_sleep(drv);
		if (!ring_driver_free(&drv->round->drv) || drv->serial == drv->goal) {
			driver_take_all(drv);
			if (drv->taken < drv->serial)
				driver_sleep(drv);
			driver_take_all(drv);
		}
	}
}

/*
 * One chain at a time, the next about when the device, having shown the last one, falls asleep: a
 * kick lost there is not made good by a later one.
 */
static void drive_tightly(struct driver *drv)
{
	while (drv->taken < drv->goal) {
		uint64_t polls = stress_random(&drv->random) % 2 ? 20000 : 200;

		ring_driver_stop_interrupts(&drv->round->drv);
		dawdle(&drv->random);
		driver_queue_some(drv, 1);
		while (!ring_driver_used_pending(&drv->round->drv, memory_order_relaxed) && --polls)
			;
		if (!polls && drv->taken < drv->serial)
			driver_sleep(drv);
		driver_take_all(drv);
	}
}

static void round_counted(const struct round *round, uint64_t chains, struct totals *totals)
{
	struct fq_vring_stats s;

	fq_vring_get_stats(round->vr, &s);
	STRESS_CHECK(s.popped == chains && s.put == chains, "chains counted");
	STRESS_CHECK(!s.errors && !s.broken && !s.call_errors, "errors counted");
	STRESS_CHECK(s.publishes == s.interrupts + s.suppressed, "publishes counted");
	STRESS_CHECK(!fq_vring_in_flight(round->vr), "chains left in flight");
	totals->interrupts += s.interrupts;
	totals->suppressed += s.suppressed;
	totals->chains += s.put;
	totals->rounds++;
}

/* The ring and a slot for each head, in two regions of which the second begins amidst a request. */
static char *lay_out(struct round *round, uint32_t size, uint32_t features, struct fq_mem **mem)
{
	uint64_t ring_bytes = (ring_driver_bytes(size) + 63) & ~UINT64_C(63);
	uint64_t bytes = ring_bytes + size * SLOT_BYTES;
	uint64_t cut = ring_bytes + size / 2 * SLOT_BYTES + 7;
	char *memory = aligned_alloc(64, bytes);

	STRESS_CHECK(memory, "memory");

	const struct fq_mem_region regions[] = {
		{GPA, cut, memory},
		{GPA + cut, bytes - cut, memory + cut},
	};

	STRESS_CHECK(fq_mem_create(mem, regions, 2) == 0, "regions");
	memset(memory, 0, bytes);
	round->slots = memory + ring_bytes;
	round->slots_gpa = GPA + ring_bytes;
	STRESS_CHECK(ring_driver_init(&round->drv, memory, GPA, size, features), "memory");
	round->size = size;
	return memory;
}

static void connect_device(struct round *round, const struct fq_mem *mem, uint32_t features,
			   uint16_t start)
{
	struct fq_vring_config config = {
		.mem = mem,
		.features = features,
		.call_fd = round->call,
	};

	config.avail_idx = config.used_idx = ring_driver_start_at(&round->drv, start);
	ring_driver_locate(&round->drv, &config);
	STRESS_CHECK(fq_vring_create(&round->vr, &config) == 0, "create");
}

static uint32_t features_of(uint64_t kind)
{
	uint32_t features = kind & 1 ? FQ_VRING_PACKED : 0;

	features |= kind & 4 ? FQ_VRING_EVENT_IDX : 0;
	features |= kind & 8 ? FQ_VRING_INDIRECT : 0;
	if (kind & 16)
		features |= FQ_VRING_IN_ORDER | (kind & 8 ? FQ_VRING_BATCH : 0);
	return features;
}

static uint32_t some_size(uint64_t *random, uint32_t features)
{
	uint32_t size = 2u << stress_random(random) % SIZE_LOG_MAX;

	if (features & FQ_VRING_PACKED)
		size -= (uint32_t)(stress_random(random) % (size / 2));
	return size;
}

static void run_round(uint64_t *random, uint64_t kind, int64_t end, struct totals *totals)
{
	uint32_t features = features_of(kind);
	struct round round = {
		.seed = stress_random(random),
		.kick = eventfd(0, EFD_NONBLOCK),
		.call = eventfd(0, EFD_NONBLOCK),
	};
	uint32_t size = some_size(random, features);
	/* Half of them pass the end of the index at once. */
	uint16_t start =
		(uint16_t)(stress_random(random) % 2 ? stress_random(random) : 0xffff - size);
	struct fq_mem *mem = NULL;
	char *memory = lay_out(&round, size, features, &mem);
	struct driver drv;
	pthread_t thread;

	STRESS_CHECK(round.kick >= 0 && round.call >= 0, "eventfd");
	connect_device(&round, mem, features, start);
	STRESS_CHECK(pthread_create(&thread, NULL, device_main, &round) == 0, "thread");
	drv = (struct driver){
		.round = &round,
		.random = ~round.seed,
		.indirect = features & FQ_VRING_INDIRECT,
		.totals = totals,
		.goal = CHAINS_PER_ROUND,
		.end = end,
	};
	if (kind & 2)
		drive_tightly(&drv);
	else
		drive_loosely(&drv);
	atomic_store(&round.finished, true);
	fd_write(round.kick);
	pthread_join(thread, NULL);
	round_counted(&round, drv.goal, totals);
	fq_vring_destroy(round.vr);
	fq_mem_destroy(mem);
	ring_driver_fini(&round.drv);
	close(round.kick);
	close(round.call);
	free(memory);
}

int main(int argc, char **argv)
{
	/* However many threads are asked for: a ring has two sides. */
	struct stress_options options = stress_parse(argc, argv, 2);
	int64_t length = (int64_t)(options.seconds * 1e9), start = stress_now_ns(), now = start;
	struct totals t = {0};

	/* Each kind of ring and driver at least once, however short the time. */
	for (; t.rounds < KINDS || now < start + length; now = stress_now_ns())
		run_round(&options.seed, t.rounds % KINDS, now + length / KINDS, &t);
	printf("%" PRIu64 " rounds, %" PRIu64 " chains, %" PRIu64 " sleeps of the driver, %" PRIu64
	       " kicks, %" PRIu64 " interrupts, %" PRIu64 " suppressed\n",
	       t.rounds, t.chains, t.sleeps, t.kicks, t.interrupts, t.suppressed);
	return 0;
}
