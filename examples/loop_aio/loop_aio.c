/* SPDX-License-Identifier: MIT */
/*
 * A queue in an AioContext-like loop (aio_loop.h) under a big lock, while a vCPU-like thread drains
 * it, too, whenever it has the lock: also when the loop sleeps, which thereby must not miss a thing.
 */
#define _GNU_SOURCE
#include "aio_loop.h"
#include "load.h"

static pthread_mutex_t big_lock = PTHREAD_MUTEX_INITIALIZER;
static struct load load;
static struct fq_node last;

static void nothing(struct fq_node *node)
{
	(void)node;
}

/* Whoever drained it: the loop may be asleep. */
static void wake_loop(void *queue)
{
	fq_queue_push(queue, &last);
}

static void *vcpu(void *queue)
{
	const struct timespec in_the_guest = {.tv_nsec = 50000};
	bool over;

	do {
		nanosleep(&in_the_guest, NULL);
		pthread_mutex_lock(&big_lock);
		over = load_finished(&load);
		if (!over)
			fq_queue_poll(queue, 8);
		pthread_mutex_unlock(&big_lock);
	} while (!over);
	return NULL;
}

static int run(struct load options, int64_t poll_max_ns, const char *name)
{
	struct aio_loop loop = {.lock = &big_lock, .poll_max_ns = poll_max_ns};
	struct fq_queue *queue;
	struct aio_queue handler;
	pthread_t thread;
	int status;

	if (fq_queue_create(&queue, FQ_QUEUE_HOOKS))
		return 1;
	load = options;
	aio_loop_add_queue(&loop, &handler, queue, load.budget);
	last.run = nothing;
	load.done = wake_loop;
	load.opaque = queue;

	pthread_mutex_lock(&big_lock);
	if (load_start(&load, queue) || pthread_create(&thread, NULL, vcpu, queue))
		return 1;
	while (!load_finished(&load) || fq_queue_pending(queue))
		aio_loop_run(&loop, true);
	pthread_mutex_unlock(&big_lock);

	pthread_join(thread, NULL);
	load.waits = loop.waits;
	status = load_end(&load, name);
	return fq_queue_destroy(queue) || status;
}

int main(int argc, char **argv)
{
	struct load options;

	if (load_parse(&options, argc, argv))
		return 2;
	return run(options, 0, "aio, always sleeps") || run(options, 200000, "aio, polls first");
}
