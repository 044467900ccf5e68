/* SPDX-License-Identifier: MIT */
#ifndef FQ_UNIT_HOST_H
#define FQ_UNIT_HOST_H

/*
 * The smallest host: a queue, a device, and a log of what was retired, in order. For tests of one
 * file; a hook stands in for what a host does in its retire callback.
 */

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <fenceq/fenceq.h>

#include "unit.h"

#define HOST_LOG 16384u

struct host;

struct host_entry {
	struct fq_fence *fence;
	uint64_t token;
	uint64_t fence_id;
	int status;
};

struct host {
	struct fq_queue *q;
	struct fq_device *dev;
	fq_handle_t handle;
	void (*on_retire)(struct host *host, struct fq_fence *fence, int status);
	void (*on_flush)(struct host *host);
	unsigned flushes;
	unsigned count; /* entries of the log */
	struct host_entry log[HOST_LOG];
};

static inline void host_retire(struct fq_fence *fence, int status, void *opaque)
{
	struct host *host = opaque;

	cr_assert_lt(host->count, HOST_LOG);
	host->log[host->count++] =
		(struct host_entry){fence, fence->token, fence->fence_id, status};
	if (host->on_retire)
		host->on_retire(host, fence, status);
}

static inline void host_flush(void *opaque)
{
	struct host *host = opaque;

	host->flushes++;
	if (host->on_flush)
		host->on_flush(host);
}

/* A device on a queue that is there. */
static inline void host_attach(struct host *host, struct fq_queue *q, uint32_t max_contexts)
{
	const struct fq_device_config config = {
		.queue = q,
		.retire = host_retire,
		.flush = host_flush,
		.opaque = host,
		.max_contexts = max_contexts,
	};

	memset(host, 0, sizeof(*host));
	host->q = q;
	cr_assert_eq(fq_device_create(&host->dev, &config), 0);
	host->handle = fq_device_handle(host->dev);
}

static inline void host_open(struct host *host, unsigned flags)
{
	struct fq_queue *q;

	cr_assert_eq(fq_queue_create(&q, flags), 0);
	host_attach(host, q, 0);
}

/* Does nothing to a host that is closed. */
static inline void host_close(struct host *host)
{
	host->on_retire = NULL;
	host->on_flush = NULL;
	cr_assert_eq(fq_device_destroy(host->dev), 0);
	host->dev = NULL;
	cr_assert_eq(fq_queue_destroy(host->q), 0);
	host->q = NULL;
}

static inline bool fd_readable(int fd)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};

	return poll(&pfd, 1, 0) == 1;
}

static inline bool readable(const struct fq_queue *q)
{
	return fd_readable(fq_queue_fd(q));
}

static inline struct fq_queue_stats queue_stats(const struct fq_queue *q)
{
	struct fq_queue_stats s;

	fq_queue_get_stats(q, &s);
	return s;
}

static inline struct fq_device_stats device_stats(const struct fq_device *dev)
{
	struct fq_device_stats s;

	fq_device_get_stats(dev, &s);
	return s;
}

static inline struct fq_process_stats process_stats(void)
{
	struct fq_process_stats s;

	fq_process_get_stats(&s);
	return s;
}

/* Submits @p count fences to one ring, in the order of the array. */
static inline void submit_all(struct host *host, uint32_t ctx_id, uint32_t ring_idx,
			      struct fq_fence *fence, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		cr_assert_eq(fq_submit(host->dev, ctx_id, ring_idx, &fence[i]), 0);
}

/* What was retired since entry @p from of the log is fence[0 .. count - 1], in order. */
static inline void expect_retired(const struct host *host, unsigned from,
				  const struct fq_fence *fence, unsigned count, int status)
{
	cr_assert_eq(host->count, from + count, "retired: %u, not %u", host->count - from, count);
	for (unsigned i = 0; i < count; i++) {
		cr_assert_eq(host->log[from + i].fence, &fence[i], "out of order at %u", i);
		cr_assert_eq(host->log[from + i].status, status);
	}
}

#endif /* FQ_UNIT_HOST_H */
