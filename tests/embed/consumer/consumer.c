/* SPDX-License-Identifier: MIT */

/* The smallest host: one fence, signalled by a thread the library knows nothing of. */

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <fenceq/fenceq.h>

struct work {
	fq_handle_t handle;
	uint64_t token;
};

static int retired;

static void retire(struct fq_fence *fence, int status, void *opaque)
{
	(void)opaque;
	if (status == 0 && fence->fence_id == 42)
		retired++;
}

static void *render(void *arg)
{
	const struct work *work = arg;

	if (fq_signal(work->handle, 1, 0, work->token))
		exit(EXIT_FAILURE);
	return NULL;
}

static int run(struct fq_queue *queue)
{
	struct fq_device_config config = {.queue = queue, .retire = retire};
	struct fq_fence fence = {.fence_id = 42};
	struct fq_device *device;
	struct work work;
	pthread_t thread;

	if (fq_device_create(&device, &config) || fq_submit(device, 1, 0, &fence))
		return -1;
	work.handle = fq_device_handle(device);
	work.token = fence.token;
	if (pthread_create(&thread, NULL, render, &work))
		return -1;
	if (fq_queue_wait(queue, INT64_C(10000000000)) != 1)
		return -1;
	fq_queue_drain(queue, FQ_NO_BUDGET);
	if (pthread_join(thread, NULL))
		return -1;
	return fq_device_destroy(device);
}

int main(void)
{
	struct fq_queue *queue;

	if (fq_queue_create(&queue, FQ_QUEUE_HOOKS) || run(queue) || fq_queue_destroy(queue))
		return EXIT_FAILURE;
	printf("fenceq %u.%u.%u: %d fence retired\n", fq_version() >> 16, fq_version() >> 8 & 0xff,
	       fq_version() & 0xff, retired);
	return retired == 1 ? EXIT_SUCCESS : EXIT_FAILURE;
}
