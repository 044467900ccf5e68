/* SPDX-License-Identifier: MIT */

/*
 * fenceq: the callback takes no lock, so whoever joins its thread may hold any. The main loop
 * drains, under the big lock; interrupts are injected from there.
 */

#include <string.h>

#include "machine.h"

static struct fq_queue *queue;
static struct fq_device *device;

static void retire(struct fq_fence *fence, int status, void *opaque)
{
	(void)opaque;
	device_answer(fence->tag, status);
}

static void way_start(struct device *d)
{
	int err = fq_queue_create(&queue, FQ_QUEUE_HOOKS);

	if (err)
		die("no queue: %s", strerror(-err));
	loop_add_queue(&d->machine->loop, queue);
}

static void way_stop(struct device *d)
{
	(void)d;
	if (fq_queue_destroy(queue))
		die("the queue is still in use");
}

static void way_plug(struct device *d)
{
	struct fq_device_config config = {.queue = queue, .retire = retire};
	int err = fq_device_create(&device, &config);

	for (unsigned i = 0; !err && i < VCPUS; i++)
		err = fq_device_attach_vring(device, d->queue[i].vring);
	if (err)
		die("no fenceq device: %s", strerror(-err));
	d->cookie = fq_device_handle(device);
}

static void way_unplug(struct device *d)
{
	struct fq_device_stats stats;

	(void)d;
	fq_device_get_stats(device, &stats);
	if (stats.refused_unknown || stats.refused_invalid || stats.refused_range ||
	    stats.refused_stale)
		die("fenceq refused a renderer's fence");
	if (fq_device_destroy(device))
		die("the fenceq device is being destroyed already");
}

static void way_end_context(struct device *d, uint32_t ctx_id)
{
	(void)d;
	if (fq_context_destroy(device, ctx_id))
		die("fenceq has no context %u", (unsigned)ctx_id);
}

static void way_submit(struct command *cmd)
{
	const struct virtio_gpu_ctrl_hdr *hdr = &cmd->request.hdr;
	int err;

	cmd->fence = (struct fq_fence){.fence_id = hdr->fence_id, .tag = cmd};
	err = fq_submit(device, hdr->ctx_id, hdr->ring_idx, &cmd->fence);
	if (err)
		die("fenceq refused a command: %s", strerror(-err));
	cmd->token = cmd->fence.token;
}

static void way_done(uint64_t cookie, uint32_t ctx_id, uint32_t ring_idx, uint64_t token)
{
	fq_signal(cookie, ctx_id, ring_idx, token);
}

static uint64_t way_writes(void)
{
	struct fq_queue_stats stats;

	fq_queue_get_stats(queue, &stats);
	return stats.notifier_writes;
}

const struct way way_fenceq = {
	.name = "fenceq",
	.start = way_start,
	.stop = way_stop,
	.plug = way_plug,
	.unplug = way_unplug,
	.end_context = way_end_context,
	.submit = way_submit,
	.done = way_done,
	.writes = way_writes,
};
