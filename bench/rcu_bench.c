/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <time.h>

#include <fenceq/fenceq.h>

#include "../src/handle.h"
#include "rcu_bench.h"

/* Nothing may be moved across it, or out of the loop. */
#define COMPILER_BARRIER() __asm__ __volatile__("" ::: "memory")

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static double empty_loop(uint64_t items)
{
	double begin = now();

	for (; items; items--)
		COMPILER_BARRIER();
	return now() - begin;
}

static double rcu_loop(uint64_t items)
{
	double begin = now();

	for (; items; items--) {
		_urcu_memb_read_lock();
		COMPILER_BARRIER();
		_urcu_memb_read_unlock();
	}
	return now() - begin;
}

static double read_side_loop(fq_handle_t handle, uint64_t items, uint64_t *failed)
{
	double begin = now();

	for (; items; items--) {
		struct fq_read read;

		if (fq_read_begin(handle, &read)) {
			++*failed;
			continue;
		}
		COMPILER_BARRIER();
		fq_read_end(&read);
	}
	return now() - begin;
}

static double above(double loop, double empty)
{
	return loop > empty ? loop - empty : 0;
}

int rcu_round(void *arg, uint64_t items, struct gb_round *out)
{
	int err = fq_thread_register();

	(void)arg;
	if (err)
		return err;
	out->seconds = above(rcu_loop(items), empty_loop(items));
	return fq_thread_unregister();
}

static void retire(struct fq_fence *fence, int status, void *opaque)
{
	(void)fence;
	(void)status;
	(void)opaque;
}

int read_side_round(void *arg, uint64_t items, struct gb_round *out)
{
	struct fq_device_config config = {.retire = retire};
	struct fq_device *device = NULL;
	uint64_t failed = 0;
	int err = fq_thread_register();

	(void)arg;
	if (err)
		return err;
	err = fq_queue_create(&config.queue, 0);
	if (!err)
		err = fq_device_create(&device, &config);
	if (!err)
		out->seconds = above(read_side_loop(fq_device_handle(device), items, &failed),
				     empty_loop(items));
	(void)fq_thread_unregister();
	(void)fq_device_destroy(device);
	(void)fq_queue_destroy(config.queue);
	return failed ? -EIO : err;
}
