/* SPDX-License-Identifier: MIT */
/* A queue in a loop over io_uring: once with a one-shot poll of its fd, once with a multishot one. */
#define _GNU_SOURCE
#include <fenceq/fenceq.h>
#include <fenceq/loop_uring.h>
#include <stdio.h>
#include <string.h>

#include "load.h"

/* Submits, and waits unless told not to. */
static void submit(struct io_uring *ring, int64_t ns, struct load *load)
{
	struct __kernel_timespec ts = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
	struct io_uring_cqe *cqe;

	if (!ns && !io_uring_sq_ready(ring))
		return;
	load->waits++;
	if (!ns)
		(void)io_uring_submit(ring);
	else
		(void)io_uring_submit_and_wait_timeout(ring, &cqe, 1, ns > 0 ? &ts : NULL, NULL);
}

static void reap(struct io_uring *ring, struct fq_uring *glue)
{
	struct io_uring_cqe *cqe;

	while (!io_uring_peek_cqe(ring, &cqe)) {
		if (!fq_uring_complete(glue, cqe))
			fprintf(stderr, "what the host does with its own requests\n");
		io_uring_cqe_seen(ring, cqe);
	}
}

static void loop(struct load *load, struct io_uring *ring, struct fq_uring *glue)
{
	while (!load_finished(load)) {
		submit(ring, fq_uring_prepare(glue), load);
		reap(ring, glue);
		fq_uring_run(glue);
	}
}

static int run(struct load load, const char *name, struct io_uring *ring, unsigned flags)
{
	struct fq_queue *queue;
	struct fq_uring glue;
	int status;

	if (fq_queue_create(&queue, FQ_QUEUE_HOOKS))
		return 1;
	fq_uring_init(&glue, ring, queue, load.budget, flags);
	if (load_start(&load, queue))
		return 1;
	loop(&load, ring, &glue);
	status = load_end(&load, name);
	while (fq_uring_cancel(&glue), glue.polling) {
		submit(ring, 1000000, &load);
		reap(ring, &glue);
	}
	return fq_queue_destroy(queue) || status;
}

int main(int argc, char **argv)
{
	struct io_uring ring;
	struct load load;
	int err;

	err = io_uring_queue_init(64, &ring, 0);
	if (err) {
		printf("io_uring: not to be had here (%s), nothing was shown\n", strerror(-err));
		return 77;
	}
	if (load_parse(&load, argc, argv))
		return 2;
	err = run(load, "io_uring, one-shot", &ring, 0) ||
	      run(load, "io_uring, multishot", &ring, FQ_URING_MULTISHOT);
	io_uring_queue_exit(&ring);
	return err;
}
