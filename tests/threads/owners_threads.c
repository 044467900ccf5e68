/* SPDX-License-Identifier: MIT */
/*
 * Owners of different devices meet where handles are given out and where unplugged devices wait for
 * somebody who may block: four owners make and end devices, a fifth thread reclaims what they leave.
 * No handle is given to two, each answers for its own device only, and all memory goes.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "threads.h"

#define OWNERS 4u

static atomic_uint left; /* to be reclaimed */
static atomic_bool done;

struct owner {
	pthread_t thread;
	struct fq_queue *queue;
	unsigned devices;
	unsigned retired;
};

static void retire(struct fq_fence *fence, int status, void *opaque)
{
	struct owner *o = opaque;

	(void)fence;
	CHECK(!status, "status %d", status);
	o->retired++;
}

static void *own(void *arg)
{
	struct owner *o = arg;
	const struct fq_device_config config = {.queue = o->queue, .retire = retire, .opaque = o};

	for (unsigned n = 0; n < o->devices; n++) {
		struct fq_fence fence = {.tag = o};
		struct fq_device *device;
		fq_handle_t handle;

		CHECK(!fq_device_create(&device, &config), "device");
		handle = fq_device_handle(device);
		CHECK(!fq_submit(device, 1, 1, &fence), "submit");
		CHECK(!fq_signal(handle, 1, 1, fence.token), "signal");
		CHECK(fq_queue_drain(o->queue, FQ_NO_BUDGET) == 1, "not this owner's");
		if (n & 1) {
			CHECK(!fq_device_destroy(device), "destroy");
		} else {
			CHECK(!fq_device_unplug(device, NULL, NULL), "unplug");
			atomic_fetch_add(&left, 1);
		}
		CHECK(fq_signal(handle, 1, 1, 1) == -ENODEV, "the handle is stale");
	}
	return NULL;
}

static void *reclaim(void *arg)
{
	unsigned *count = arg;

	while (!atomic_load(&done)) {
		*count += (unsigned)fq_reclaim();
		sched_yield();
	}
	*count += (unsigned)fq_reclaim();
	return NULL;
}

int main(void)
{
	struct owner owner[OWNERS];
	pthread_t reclaimer;
	unsigned reclaimed = 0;

	CHECK(!pthread_create(&reclaimer, NULL, reclaim, &reclaimed), "thread");
	for (unsigned i = 0; i < OWNERS; i++) {
		owner[i] = (struct owner){.devices = scene_slow() ? 50 : 400};
		CHECK(!fq_queue_create(&owner[i].queue, 0), "queue");
		CHECK(!pthread_create(&owner[i].thread, NULL, own, &owner[i]), "thread");
	}
	for (unsigned i = 0; i < OWNERS; i++) {
		pthread_join(owner[i].thread, NULL);
		CHECK(owner[i].retired == owner[i].devices, "%u retired", owner[i].retired);
	}
	atomic_store(&done, true);
	pthread_join(reclaimer, NULL);
	CHECK(reclaimed == atomic_load(&left), "%u of %u reclaimed", reclaimed, atomic_load(&left));
	for (unsigned i = 0; i < OWNERS; i++)
		CHECK(!fq_queue_destroy(owner[i].queue), "queue");
	scene_nothing_left();
	puts("ok");
	return 0;
}
