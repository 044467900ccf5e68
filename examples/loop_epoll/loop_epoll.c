/* SPDX-License-Identifier: MIT */
/*
 * A queue in a plain epoll loop, without hooks: watch its fd level-triggered, drain when it is
 * readable. Deadlines come by the time-out of epoll_wait, or, in the second run, through the fd.
 */
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <fenceq/fenceq.h>

#include "load.h"

static int milliseconds(int64_t ns)
{
	return ns < 0 ? -1 : (int)(ns / 1000000 + (ns % 1000000 != 0));
}

static int watch(const struct fq_queue *queue)
{
	struct epoll_event ev = {.events = EPOLLIN}; /* not EPOLLET */
	int ep = epoll_create1(EPOLL_CLOEXEC);

	if (ep >= 0 && epoll_ctl(ep, EPOLL_CTL_ADD, fq_queue_fd(queue), &ev)) {
		close(ep);
		return -1;
	}
	return ep;
}

static void loop_with_timeout(struct load *load, struct fq_queue *queue, int ep)
{
	while (!load_finished(load)) {
		struct epoll_event ev;
		int n = epoll_wait(ep, &ev, 1, milliseconds(fq_queue_timeout(queue)));

		load->waits++;
		if (n >= 0)
			fq_queue_drain(queue, load->budget);
	}
}

/* A queue with FQ_QUEUE_EPOLL: the loop knows nothing but the fd. */
static void loop_with_fd_alone(struct load *load, struct fq_queue *queue, int ep)
{
	while (!load_finished(load)) {
		struct epoll_event ev;

		load->waits++;
		if (epoll_wait(ep, &ev, 1, -1) == 1)
			fq_queue_drain(queue, load->budget);
	}
}

static int run(struct load load, const char *name, unsigned flags,
	       void (*loop)(struct load *, struct fq_queue *, int))
{
	struct fq_queue *queue;
	int ep, status;

	if (fq_queue_create(&queue, flags))
		return 1;
	ep = watch(queue);
	if (ep < 0 || load_start(&load, queue))
		return 1;
	loop(&load, queue, ep);
	status = load_end(&load, name);
	close(ep);
	return fq_queue_destroy(queue) || status;
}

int main(int argc, char **argv)
{
	struct load load;

	if (load_parse(&load, argc, argv))
		return 2;
	return run(load, "epoll", 0, loop_with_timeout) ||
	       run(load, "epoll, nested", FQ_QUEUE_EPOLL, loop_with_fd_alone);
}
