/* SPDX-License-Identifier: MIT */
/* A queue in a libuv loop. */
#define _GNU_SOURCE /* uv.h wants pthread_rwlock_t */
#include <fenceq/fenceq.h>
#include <fenceq/loop_uv.h>

#include "load.h"

static struct load load;
static struct fq_uv glue;

/* libuv waits once on each turn. */
static void count_turn(uv_prepare_t *handle)
{
	(void)handle;
	load.waits++;
}

static void quit(void *opaque)
{
	uv_prepare_t *counter = opaque;

	uv_close((uv_handle_t *)counter, NULL);
	fq_uv_close(&glue, NULL);
}

int main(int argc, char **argv)
{
	uv_prepare_t counter;
	struct fq_queue *queue;
	uv_loop_t loop;
	int status;

	if (load_parse(&load, argc, argv))
		return 2;
	if (fq_queue_create(&queue, FQ_QUEUE_HOOKS) || uv_loop_init(&loop))
		return 1;
	uv_prepare_init(&loop, &counter);
	uv_prepare_start(&counter, count_turn);
	load.done = quit;
	load.opaque = &counter;

	if (fq_uv_init(&glue, &loop, queue, load.budget) || load_start(&load, queue))
		return 1;
	uv_run(&loop, UV_RUN_DEFAULT); /* returns when the handles are closed */

	status = load_end(&load, "libuv");
	return uv_loop_close(&loop) || fq_queue_destroy(queue) || status;
}
