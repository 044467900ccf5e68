/* SPDX-License-Identifier: MIT */
/*
 * A driver that acts between any two accesses of the device to the ring, in both layouts: it takes
 * what it sees, falls asleep, queues a chain, or writes over everything. It never sees half an
 * element, misses no interrupt and no kick, and what the device has taken is what it had checked.
 *
 * All is in program order here; what a processor does to that, stress/vring looks at.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fenceq/mem.h>

#include "../unit/ring_driver.h"

#define SIZE 4u
#define GPA UINT64_C(0x10000)
#define BYTES 4096u
#define BUFFERS (GPA + 1024)
#define TABLE 2048u /* offset */

#define CHECK(condition)                                                                          \
	do {                                                                                      \
		if (!(condition)) {                                                               \
			fprintf(stderr, "%s:%d: %s: step %u, features %#x, start %u\n", __FILE__, \
				__LINE__, #condition, scene.act_at, scene.features, scene.start); \
			exit(1);                                                                  \
		}                                                                                 \
	} while (0)

static struct scene {
	struct ring_driver drv;
	struct fq_mem *mem;
	struct fq_vring *vr;
	uint64_t *memory;
	uint32_t features;
	uint16_t start;
	unsigned interrupts;

	void (*act)(void); /* before the access with this number, or before all of them */
	unsigned act_at;
	unsigned steps;
	bool always;

	/* What the acts find. */
	uint32_t id[2], len[2]; /* expected, in this order */
	unsigned taken;
	bool asleep, kicked;
	unsigned pattern;
} scene;

static void hook(void)
{
	void (*act)(void) = scene.act;

	if (!act || (scene.steps++ != scene.act_at && !scene.always))
		return;
	scene.act = NULL;
	act();
	if (scene.always)
		scene.act = act;
}

void (*fq_step_hook)(void) = hook;

static void interrupt(void *opaque)
{
	(void)opaque;
	scene.interrupts++;
}

static void open_scene(uint32_t features, uint16_t start)
{
	const struct fq_mem_region region = {GPA, BYTES, aligned_alloc(64, BYTES)};
	struct fq_vring_config config = {
		.features = features, .interrupt = interrupt, .call_fd = -1};

	scene.features = features;
	scene.start = start;
	scene.memory = region.hva;
	CHECK(scene.memory);
	memset(scene.memory, 0, BYTES);
	CHECK(!fq_mem_create(&scene.mem, &region, 1));
	CHECK(ring_driver_init(&scene.drv, scene.memory, GPA, SIZE, features));
	config.mem = scene.mem;
	config.avail_idx = config.used_idx = ring_driver_start_at(&scene.drv, start);
	ring_driver_locate(&scene.drv, &config);
	CHECK(!fq_vring_create(&scene.vr, &config));
	scene.steps = scene.taken = scene.interrupts = 0;
	scene.asleep = scene.kicked = false;
}

static void close_scene(void)
{
	scene.act = NULL;
	CHECK(!ring_driver_fault(&scene.drv));
	fq_vring_destroy(scene.vr);
	fq_mem_destroy(scene.mem);
	ring_driver_fini(&scene.drv);
	free(scene.memory);
}

static struct fq_vring_buf one_chain(uint32_t descs)
{
	const struct drv_buf bufs[] = {{BUFFERS, 8, true}, {BUFFERS, 8, true}};
	struct iovec iov[2];
	struct fq_vring_chain chain = {.iov = iov, .iov_max = 2};

	CHECK(ring_driver_queue(&scene.drv, bufs, descs) >= 0);
	ring_driver_show(&scene.drv);
	CHECK(fq_vring_pop(scene.vr, &chain) == 1);
	return chain.buf;
}

/* What a driver was told before is known only after a first time. */
static void one_round_trip(void)
{
	uint32_t id, len;

	CHECK(!fq_vring_put(scene.vr, one_chain(1), 1));
	CHECK(fq_vring_publish(scene.vr) >= 0);
	CHECK(ring_driver_take(&scene.drv, &id, &len));
}

static void take_all(void)
{
	uint32_t id, len;

	while (ring_driver_take(&scene.drv, &id, &len)) {
		CHECK(scene.taken < 2);
		CHECK(id == scene.id[scene.taken] && len == scene.len[scene.taken]);
		scene.taken++;
	}
}

/* Two chains in flight, and in which order they will come. */
static void two_chains(struct fq_vring_buf buf[2])
{
	bool in_order = scene.features & FQ_VRING_IN_ORDER;

	one_round_trip();
	buf[0] = one_chain(2);
	buf[1] = one_chain(1);
	for (unsigned i = 0; i < 2; i++) {
		unsigned which = in_order ? i : 1 - i;

		scene.id[i] = buf[which].id;
		scene.len[i] = which ? 8 : 16;
	}
	ring_driver_stop_interrupts(&scene.drv);
	scene.interrupts = 0;
}

/* The second is put first. @return whether there was such a step. */
static bool acts_in_put_and_publish(void (*act)(void))
{
	struct fq_vring_buf buf[2];

	two_chains(buf);
	scene.act = act;
	scene.steps = 0;
	CHECK(!fq_vring_put(scene.vr, buf[1], 8));
	CHECK(!fq_vring_put(scene.vr, buf[0], 16));
	CHECK(!scene.taken);
	CHECK(fq_vring_publish(scene.vr) >= 0);
	scene.act = NULL;
	return scene.steps > scene.act_at;
}

/*
 * Seen to fail: with the flags of an element, or the used index, written before its id and length;
 * with the flags of the first hidden element written by the put.
 */
static void elements_are_whole(uint32_t features, uint16_t start)
{
	open_scene(features, start);
	scene.always = true;
	(void)acts_in_put_and_publish(take_all);
	take_all();
	CHECK(scene.taken == 2);
	scene.always = false;
	close_scene();
}

static void fall_asleep(void)
{
	scene.asleep = true;
	do
		take_all();
	while (ring_driver_ask_interrupt(&scene.drv));
}

/* Seen to fail: with a look at the suppression before the index or flags are written. */
static void no_interrupt_is_lost(uint32_t features, uint16_t start)
{
	bool acted = true;

	for (scene.act_at = 0; acted; scene.act_at++) {
		open_scene(features, start);
		acted = acts_in_put_and_publish(fall_asleep);
		CHECK(scene.asleep == acted);
		CHECK(!acted || scene.taken == 2 || scene.interrupts == 1);
		take_all();
		CHECK(scene.taken == 2);
		close_scene();
	}
}

static void queue_one(void)
{
	const struct drv_buf buf = {BUFFERS, 8, true};

	CHECK(ring_driver_queue(&scene.drv, &buf, 1) >= 0);
	ring_driver_show(&scene.drv);
	scene.kicked = ring_driver_kick_wanted(&scene.drv);
}

/* Seen to fail: with a look at the ring before the kick is asked for. */
static void no_kick_is_lost(uint32_t features, uint16_t start)
{
	bool acted = true, found;

	for (scene.act_at = 0; acted; scene.act_at++) {
		open_scene(features, start);
		one_round_trip();
		(void)ring_driver_kick_wanted(&scene.drv);
		fq_vring_disable_kick(scene.vr);
		scene.act = queue_one;
		scene.steps = 0;
		found = fq_vring_enable_kick(scene.vr);
		acted = scene.steps > scene.act_at;
		if (!acted)
			queue_one();
		CHECK(found || scene.kicked);
		close_scene();
	}
}

/* All of the ring and of the table; also back to what it was. */
static void write_over(void)
{
	static const uint64_t words[][2] = {
		{0, 0},
		{UINT64_MAX, UINT64_MAX},
		{BUFFERS, UINT64_C(0xffff0000ffffffff)},
		{UINT64_C(0xffffffffffff0000), UINT64_C(0x0003000300000010)},
		{GPA + BYTES - 8, UINT64_C(0x0000008000000010)},
		{GPA + TABLE, UINT64_C(0x0084000400000030)},
	};
	const uint64_t *pattern = words[scene.pattern++ % (sizeof(words) / sizeof(*words))];

	for (unsigned i = 0; i < BYTES / 8; i++) {
		if (i < 32 || i >= TABLE / 8)
			scene.memory[i] = pattern[i % 2];
	}
}

static void check_pieces(const struct fq_vring_chain *chain)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < chain->readable + chain->writable; i++) {
		char *p = chain->iov[i].iov_base, *begin = (char *)scene.memory;

		CHECK(p >= begin && p < begin + BYTES);
		CHECK(chain->iov[i].iov_len <= (size_t)(begin + BYTES - p));
		sum += chain->iov[i].iov_len;
	}
	CHECK(sum == chain->readable_len + chain->writable_len);
	CHECK(chain->buf.id < SIZE);
}

static void queue_victim(bool indirect)
{
	const struct drv_buf bufs[] = {
		{BUFFERS, 8, false}, {BUFFERS + 8, 8, false}, {BUFFERS, 8, true}};

	if (indirect)
		CHECK(ring_driver_queue_indirect(&scene.drv, bufs, 3, &scene.memory[TABLE / 8],
						 GPA + TABLE) >= 0);
	else
		CHECK(ring_driver_queue(&scene.drv, bufs, 3) >= 0);
	ring_driver_show(&scene.drv);
}

/* Once at each step, and from each step on; each time the next pattern. */
static void what_is_checked_is_what_is_used(uint32_t features, uint16_t start)
{
	bool acted = true;

	features |= FQ_VRING_INDIRECT;
	for (unsigned run = 0; acted || run < 200; run++) {
		struct iovec iov[SIZE + 64];
		struct fq_vring_chain chain = {.iov = iov, .iov_max = SIZE + 64};
		int r;

		scene.act_at = run / 12;
		scene.pattern = run % 6;
		scene.always = run / 6 % 2;
		open_scene(features, start);
		queue_victim(run & 1);
		scene.act = write_over;
		scene.steps = 0;
		r = fq_vring_pop(scene.vr, &chain);
		scene.act = NULL;
		acted = scene.steps > scene.act_at;
		if (r == 1) {
			check_pieces(&chain);
			CHECK(!fq_vring_put(scene.vr, chain.buf, 1));
			CHECK(fq_vring_publish(scene.vr) >= 0);
		} else {
			CHECK(r <= 0);
		}
		close_scene();
	}
	scene.always = false;
}

/* Split: a descriptor that goes on with itself, until it does not. */
static uint64_t *loop;

static void end_loop(void)
{
	drv_set_desc(loop, 0, BUFFERS, 1, 0, 0);
}

/* Seen to fail: without a bound of its own for the ring, or for a table. */
static void no_loop_is_a_chain(bool in_table)
{
	bool acted = true;

	for (scene.act_at = 0; acted; scene.act_at++) {
		struct iovec iov[64];
		struct fq_vring_chain chain = {.iov = iov, .iov_max = 64};
		int r;

		open_scene(FQ_VRING_INDIRECT, 0);
		loop = in_table ? &scene.memory[TABLE / 8] : scene.drv.s.desc;
		drv_set_desc(scene.drv.s.desc, 0, GPA + TABLE, SIZE * 16, DRV_INDIRECT, 0);
		drv_set_desc(loop, 0, BUFFERS, 1, DRV_NEXT, 0);
		drv_offer(&scene.drv.s, 0);
		drv_show(&scene.drv.s);
		scene.act = end_loop;
		scene.steps = 0;
		r = fq_vring_pop(scene.vr, &chain);
		acted = scene.steps > scene.act_at;
		CHECK(r == 1 ? chain.readable <= SIZE : r == -ELOOP);
		close_scene();
	}
}

int main(void)
{
	static const uint32_t orders[] = {0, FQ_VRING_IN_ORDER, FQ_VRING_IN_ORDER | FQ_VRING_BATCH};

	for (uint32_t i = 0; i < 12; i++) {
		uint32_t features = orders[i / 4] | (i & 1 ? FQ_VRING_PACKED : 0) |
				    (i & 2 ? FQ_VRING_EVENT_IDX : 0);

		for (uint16_t start = 0; start < 2 * SIZE; start++) {
			elements_are_whole(features, start);
			no_interrupt_is_lost(features, start);
			no_kick_is_lost(features, start);
			what_is_checked_is_what_is_used(features, start);
		}
	}
	no_loop_is_a_chain(false);
	no_loop_is_a_chain(true);
	return 0;
}
