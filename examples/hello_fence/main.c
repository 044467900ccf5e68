/* SPDX-License-Identifier: MIT */
#include <fenceq/fenceq.h>
#include <pthread.h>
#include <stdio.h>

static fq_handle_t handle;

static void *renderer(void *fence)
{
	fq_signal(handle, 1, 0, ((struct fq_fence *)fence)->token);
	return NULL;
}

static void retire(struct fq_fence *fence, int status, void *opaque)
{
	(void)opaque;
	printf("fence %llu is complete, status %d\n", (unsigned long long)fence->fence_id, status);
}

int main(void)
{
	struct fq_device_config config = {.retire = retire};
	struct fq_fence fence = {.fence_id = 42};
	struct fq_device *device;
	pthread_t thread;

	if (fq_queue_create(&config.queue, FQ_QUEUE_HOOKS) || fq_device_create(&device, &config))
		return 1;
	handle = fq_device_handle(device);
	if (fq_submit(device, 1, 0, &fence) || pthread_create(&thread, NULL, renderer, &fence))
		return 1;
	while (!fq_queue_drain(config.queue, FQ_NO_BUDGET))
		fq_queue_wait(config.queue, -1);
	pthread_join(thread, NULL);
	fq_device_destroy(device);
	return fq_queue_destroy(config.queue) != 0;
}
