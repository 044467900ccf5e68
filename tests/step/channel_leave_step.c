/* SPDX-License-Identifier: MIT */
/*
 * A thread still waits when its channel is destroyed, and is the last to leave. Before each of its steps
 * the owner drains and tries to destroy the queue: it is not, until the thread has let go of it.
 *
 * Seen to fail: with a queue that only the table holds, which goes while the thread is in its push.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "internal.h"
#include "step.h"

void (*fq_step_hook)(void);

static int parse(const void *data, struct fq_header *out, void *opaque)
{
	(void)data;
	(void)out;
	(void)opaque;
	return -1;
}

static void put_id(void *data, uint64_t id, void *opaque)
{
	(void)opaque;
	memcpy(data, &id, sizeof(id));
}

static bool no(void *opaque)
{
	(void)opaque;
	return false;
}

static const struct fq_wait_hooks foreign = {.may_drain = no};

static void wait_for_it(void *req)
{
	STEP_CHECK(fq_request_wait(req, -1, &foreign) == -ENOTCONN, "wait");
}

/* True when the thread came as far as that. */
static bool run(unsigned stop_at)
{
	uint64_t header = 0;
	struct fq_exchange exchange = {.message = {.data = &header, .size = sizeof(header)}};
	struct fq_channel_config config = {.header_size = sizeof(header),
					   .max_message = sizeof(header),
					   .slots = 1,
					   .id_bits = 64,
					   .parse = parse,
					   .put_id = put_id};
	struct fq_channel *channel;
	struct stopper waiter;
	bool stopped;
	int pair[2];

	STEP_CHECK(!fq_queue_create(&config.queue, FQ_QUEUE_EPOLL), "queue");
	STEP_CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
	config.fd = pair[0];
	STEP_CHECK(!fq_channel_create(&channel, &config), "channel");
	STEP_CHECK(!fq_channel_exchange(channel, &exchange), "exchange");
	(void)fq_queue_drain(config.queue, FQ_NO_BUDGET);
	fq_channel_destroy(channel);
	stopped = stopper_start(&waiter, wait_for_it, &exchange.request, stop_at);
	(void)fq_queue_drain(config.queue, FQ_NO_BUDGET);
	if (stopped)
		STEP_CHECK(fq_queue_destroy(config.queue) == -EBUSY, "step %u: gone", stop_at);
	stopper_finish(&waiter);
	(void)fq_queue_drain(config.queue, FQ_NO_BUDGET);
	STEP_CHECK(!fq_queue_destroy(config.queue), "step %u: not gone", stop_at);
	close(pair[0]);
	close(pair[1]);
	return stopped;
}

int main(void)
{
	unsigned steps = 0;

	alarm(60);
	fq_step_hook = step_hook;
	while (run(steps))
		steps++;
	printf("steps: %u\n", steps);
	STEP_CHECK(steps > 3, "hardly anything happened");
	puts("ok");
	return 0;
}
