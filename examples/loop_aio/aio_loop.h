/* SPDX-License-Identifier: MIT */
#ifndef AIO_LOOP_H
#define AIO_LOOP_H

/*
 * A small event loop of the shape that block layers like: handlers have an fd, and, so that a busy
 * loop need not sleep and be woken, a way to be polled. Before it sleeps the loop polls for a while;
 * how long, it learns. Handlers run under a lock of the host's, which the loop lets go of while it
 * polls or sleeps, so that other threads can do its work meanwhile.
 */

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include <fenceq/fenceq.h>

#define AIO_HANDLERS 16u

/* All but fd and io_read may be left out. */
struct aio_handler {
	int fd;
	void (*io_read)(struct aio_handler *h); /* there is something to do */
	bool (*io_poll)(struct aio_handler *h); /* is there? Without a system call */
	void (*io_poll_begin)(
		struct aio_handler *h);             /* io_poll will be asked: the fd may be quiet */
	void (*io_poll_end)(struct aio_handler *h); /* asked once more, then only the fd counts */
	int64_t (*timeout)(struct aio_handler *h);  /* ns until io_poll says yes; -1 */
};

struct aio_loop {
	pthread_mutex_t *lock; /* held by the caller of everything here */
	struct aio_handler *handler[AIO_HANDLERS];
	unsigned handlers;
	int64_t poll_ns;     /* how long to poll before the next sleep */
	int64_t poll_max_ns; /* 0: never polls */
	uint64_t waits;      /* system calls that it waited in */
};

static inline int64_t aio_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static inline bool aio_any_ready(const struct aio_loop *loop)
{
	for (unsigned i = 0; i < loop->handlers; i++) {
		struct aio_handler *h = loop->handler[i];

		if (h->io_poll && h->io_poll(h))
			return true;
	}
	return false;
}

static inline int64_t aio_timeout(const struct aio_loop *loop)
{
	int64_t least = -1;

	for (unsigned i = 0; i < loop->handlers; i++) {
		struct aio_handler *h = loop->handler[i];
		int64_t ns = h->timeout ? h->timeout(h) : -1;

		if (ns >= 0 && (least < 0 || ns < least))
			least = ns;
	}
	return least;
}

static inline bool aio_poll_until(struct aio_loop *loop, int64_t until)
{
	bool ready;

	while (!(ready = aio_any_ready(loop)) && aio_now() < until) {
		pthread_mutex_unlock(loop->lock);
		sched_yield();
		pthread_mutex_lock(loop->lock);
	}
	return ready;
}

/* What a handler says after io_poll_end is the last word before the sleep. */
static inline bool aio_end_polling(struct aio_loop *loop)
{
	for (unsigned i = 0; i < loop->handlers; i++) {
		if (loop->handler[i]->io_poll_end)
			loop->handler[i]->io_poll_end(loop->handler[i]);
	}
	return aio_any_ready(loop);
}

static inline void aio_begin_polling(struct aio_loop *loop)
{
	for (unsigned i = 0; i < loop->handlers; i++) {
		if (loop->handler[i]->io_poll_begin)
			loop->handler[i]->io_poll_begin(loop->handler[i]);
	}
}

static inline void aio_look_at_fds(struct aio_loop *loop, struct pollfd *pfd, int64_t ns)
{
	const struct timespec ts = {.tv_sec = (time_t)(ns / 1000000000),
				    .tv_nsec = (long)(ns % 1000000000)};

	for (unsigned i = 0; i < loop->handlers; i++)
		pfd[i] = (struct pollfd){.fd = loop->handler[i]->fd, .events = POLLIN};
	loop->waits++;
	pthread_mutex_unlock(loop->lock);
	(void)ppoll(pfd, loop->handlers, ns < 0 ? NULL : &ts, NULL); /* EINTR: nothing is ready */
	pthread_mutex_lock(loop->lock);
}

/*
 * Something came within the time that may be spent on polling: next time poll a little longer, if
 * that was not enough. It took longer than that: polling would have been in vain, poll less.
 */
static inline void aio_adapt(struct aio_loop *loop, int64_t waited_ns)
{
	if (waited_ns <= loop->poll_ns)
		return;
	if (waited_ns > loop->poll_max_ns)
		loop->poll_ns /= 2;
	else if (loop->poll_ns)
		loop->poll_ns *= 2;
	else
		loop->poll_ns = 4000;
	if (loop->poll_ns > loop->poll_max_ns)
		loop->poll_ns = loop->poll_max_ns;
}

static inline void aio_wait(struct aio_loop *loop, struct pollfd *pfd)
{
	int64_t start = aio_now();

	if (loop->poll_ns && aio_poll_until(loop, start + loop->poll_ns))
		return;
	aio_look_at_fds(loop, pfd, aio_end_polling(loop) ? 0 : aio_timeout(loop));
	aio_begin_polling(loop);
	if (loop->poll_max_ns)
		aio_adapt(loop, aio_now() - start);
}

/*
 * One turn: waits, if asked to and there is nothing to do, and runs the handlers that are ready. May
 * be called from inside a handler. True when it ran one.
 */
static inline bool aio_loop_run(struct aio_loop *loop, bool blocking)
{
	struct pollfd pfd[AIO_HANDLERS] = {{0}};
	bool progress = false;

	if (!aio_any_ready(loop)) {
		if (blocking)
			aio_wait(loop, pfd);
		else
			aio_look_at_fds(loop, pfd, 0);
	}
	for (unsigned i = 0; i < loop->handlers; i++) {
		struct aio_handler *h = loop->handler[i];

		if (pfd[i].revents || (h->io_poll && h->io_poll(h))) {
			h->io_read(h);
			progress = true;
		}
	}
	return progress;
}

/* -- a queue as a handler ---------------------------------------------------------------------- */

/* The queue is created with FQ_QUEUE_HOOKS. */
struct aio_queue {
	struct aio_handler handler; /* first */
	struct fq_queue *queue;
	struct fq_waiter waiter;
	unsigned budget;
};

static inline void aio_queue_read(struct aio_handler *h)
{
	struct aio_queue *q = (struct aio_queue *)(void *)h;

	fq_queue_drain(q->queue, q->budget);
}

static inline bool aio_queue_poll(struct aio_handler *h)
{
	struct aio_queue *q = (struct aio_queue *)(void *)h;

	return fq_queue_pending(q->queue) || !fq_queue_timeout(q->queue);
}

static inline void aio_queue_poll_begin(struct aio_handler *h)
{
	struct aio_queue *q = (struct aio_queue *)(void *)h;

	fq_queue_check(q->queue, &q->waiter);
}

static inline void aio_queue_poll_end(struct aio_handler *h)
{
	struct aio_queue *q = (struct aio_queue *)(void *)h;

	/* Refused: io_poll, which is asked next, says why. */
	if (!fq_queue_prepare(q->queue, &q->waiter))
		fq_queue_check(q->queue, &q->waiter);
}

static inline int64_t aio_queue_timeout(struct aio_handler *h)
{
	return fq_queue_timeout(((struct aio_queue *)(void *)h)->queue);
}

static inline void aio_loop_add_queue(struct aio_loop *loop, struct aio_queue *q,
				      struct fq_queue *queue, unsigned budget)
{
	*q = (struct aio_queue){
		.handler = {.fd = fq_queue_fd(queue),
			    .io_read = aio_queue_read,
			    .io_poll = aio_queue_poll,
			    .io_poll_begin = aio_queue_poll_begin,
			    .io_poll_end = aio_queue_poll_end,
			    .timeout = aio_queue_timeout},
		.queue = queue,
		.budget = budget,
	};
	loop->handler[loop->handlers++] = &q->handler;
}

#endif /* AIO_LOOP_H */
