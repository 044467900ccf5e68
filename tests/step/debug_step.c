/* SPDX-License-Identifier: MIT */
/*
 * An owner that uses what it has destroyed is told so by a debug build (fenceq_steps is one), which
 * does not touch the memory: run under ASan, this would stop at the first look.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <fenceq/fenceq.h>

void (*fq_step_hook)(void); /* the build wants one; it is not used here */

#define CHECK(condition, what)                                                    \
	do {                                                                      \
		if (!(condition)) {                                               \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, what); \
			exit(1);                                                  \
		}                                                                 \
	} while (0)

static unsigned retired;

static void retire(struct fq_fence *fence, int status, void *opaque)
{
	(void)fence;
	(void)status;
	(void)opaque;
	retired++;
}

static void gone_device(struct fq_device *dev)
{
	struct fq_fence fence = {0};
	struct fq_timeline *tl;

	CHECK(fq_device_destroy(dev) == -EINVAL, "destroy twice");
	CHECK(fq_device_unplug(dev, NULL, NULL) == -EINVAL, "unplug");
	CHECK(fq_submit(dev, 1, 0, &fence) == -EINVAL, "submit");
	CHECK(fq_submit_global(dev, &fence) == -EINVAL, "submit_global");
	CHECK(fq_submit_id(dev, 1, 0, &fence, 1) == -EINVAL, "submit_id");
	CHECK(fq_submit_global_id(dev, &fence, 1) == -EINVAL, "submit_global_id");
	CHECK(fq_context_create(dev, 1) == -EINVAL, "context_create");
	CHECK(fq_context_destroy(dev, 1) == -EINVAL, "context_destroy");
	CHECK(fq_context_fail(dev, 1, -EIO) == -EINVAL, "context_fail");
	CHECK(fq_ring_fail(dev, 1, 0, -EIO) == -EINVAL, "ring_fail");
	CHECK(fq_global_fail(dev, -EIO) == -EINVAL, "global_fail");
	CHECK(fq_device_fail(dev, -EIO) == -EINVAL, "device_fail");
	CHECK(fq_device_reset(dev) == -EINVAL, "reset");
	CHECK(fq_device_freeze(dev) == -EINVAL, "freeze");
	CHECK(fq_device_thaw(dev) == -EINVAL, "thaw");
	CHECK(fq_device_timeline(dev, 1, 0, &tl) == -EINVAL, "timeline");
}

static void gone_pool(void)
{
	const struct fq_pool_config config = {.max_workers = 1};
	struct fq_node node = {0};
	struct fq_queue *q;
	struct fq_pool *pool;

	CHECK(!fq_queue_create(&q, 0), "queue");
	CHECK(!fq_pool_create(&pool, &config), "pool");
	CHECK(!fq_pool_destroy(pool), "destroy");
	CHECK(fq_pool_destroy(pool) == -EINVAL, "destroy twice");
	CHECK(fq_pool_drain(pool, 0) == -EINVAL, "drain");
	CHECK(fq_pool_end(pool, q, &node) == -EINVAL, "end");
	CHECK(!fq_queue_destroy(q), "queue");
}

int main(void)
{
	struct fq_device_config config = {.retire = retire};
	struct fq_fence fence = {0};
	struct fq_device *dev, *unplugged;
	struct fq_queue *q;

	CHECK(!fq_queue_create(&q, 0), "queue");
	config.queue = q;
	CHECK(!fq_device_create(&dev, &config), "device");
	CHECK(!fq_device_create(&unplugged, &config), "device");
	CHECK(!fq_submit(dev, 1, 0, &fence), "alive");
	CHECK(!fq_device_destroy(dev), "destroy");
	CHECK(retired == 1, "retired");
	gone_device(dev);
	CHECK(!fq_device_unplug(unplugged, NULL, NULL), "unplug");
	gone_device(unplugged);
	CHECK(fq_reclaim() == 1, "reclaim");
	gone_device(unplugged);
	CHECK(!fq_queue_destroy(q), "queue");
	CHECK(fq_queue_destroy(q) == -EINVAL, "queue destroyed twice");
	CHECK(fq_queue_drain(q, 1) == 0 && fq_queue_poll(q, 1) == 0, "drain");
	gone_pool();
	puts("ok");
	return 0;
}
