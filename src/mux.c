/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/epoll.h>
#include <sys/timerfd.h>
#endif

#include "internal.h"

/* What stands behind the fd of a queue with FQ_QUEUE_EPOLL besides its notifier. */

#ifdef __linux__

#define ALL_EVENTS (FQ_WATCH_IN | FQ_WATCH_HANGUP | FQ_WATCH_OUT)

static int control(struct fq_queue *q, int op, int fd, uint32_t events, struct fq_watch *watch)
{
	struct epoll_event ev = {.events = events, .data = {.ptr = watch}};

	return epoll_ctl(q->epoll_fd, op, fd, &ev) ? -errno : 0;
}

static int add(struct fq_queue *q, int fd, uint32_t events, struct fq_watch *watch)
{
	return control(q, EPOLL_CTL_ADD, fd, events, watch);
}

static uint32_t to_epoll(unsigned events)
{
	return EPOLLRDHUP | (events & FQ_WATCH_IN ? EPOLLIN : 0u) |
	       (events & FQ_WATCH_OUT ? EPOLLOUT : 0u);
}

static unsigned from_epoll(uint32_t events)
{
	return (events & EPOLLIN ? FQ_WATCH_IN : 0) | (events & EPOLLOUT ? FQ_WATCH_OUT : 0) |
	       (events & ~(uint32_t)(EPOLLIN | EPOLLOUT) ? FQ_WATCH_HANGUP : 0);
}

static int add_watch(struct fq_queue *q, struct fq_watch *watch)
{
	return add(q, watch->fd, to_epoll(watch->events), watch);
}

static int add_own(struct fq_queue *q)
{
	int err = add(q, q->notifier.rfd, EPOLLIN, NULL);

	return err ? err : add(q, q->timer_fd, EPOLLIN, NULL);
}

static int open_epoll(void)
{
	return epoll_create1(EPOLL_CLOEXEC);
}

static int open_timer(void)
{
	return timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
}

int fq_mux_open(struct fq_queue *q)
{
	int err;

	q->epoll_fd = open_epoll();
	err = q->epoll_fd < 0 ? -errno : 0;
	if (!err) {
		q->timer_fd = open_timer();
		err = q->timer_fd < 0 ? -errno : add_own(q);
	}
	if (err)
		fq_mux_close(q);
	return err;
}

int fq_mux_after_fork_child(struct fq_queue *q)
{
	int err = fq_take_place(open_epoll(), q->epoll_fd);

	if (!err)
		err = fq_take_place(open_timer(), q->timer_fd);
	if (!err)
		err = add_own(q);
	for (struct fq_watch *w = q->watches; w && !err; w = w->next)
		err = add_watch(q, w);
	q->timer_at_ns = 0;
	fq_mux_set_timer(q);
	return err;
}

/* Setting it also makes it unreadable again. */
void fq_mux_set_timer(struct fq_queue *q)
{
	int64_t at = q->deadlines ? q->deadlines->at_ns : 0;
	struct itimerspec its = {.it_value = {.tv_sec = (time_t)(at / 1000000000),
					      .tv_nsec = (long)(at % 1000000000)}};

	if (q->timer_fd < 0 || q->timer_at_ns == at)
		return;
	q->timer_at_ns = at;
	(void)timerfd_settime(q->timer_fd, TFD_TIMER_ABSTIME, &its, NULL);
}

int fq_watch_add(struct fq_queue *q, struct fq_watch *watch, int fd, unsigned events)
{
	int err;

	if (!q || !watch || !watch->run || (events & ~ALL_EVENTS) || q->epoll_fd < 0)
		return -EINVAL;
	if (watch->queue)
		return -EBUSY;
	watch->fd = fd;
	watch->events = events;
	watch->turn = 0;
	err = add_watch(q, watch);
	if (err)
		return err;
	watch->queue = q;
	watch->next = q->watches;
	q->watches = watch;
	return 0;
}

int fq_watch_change(struct fq_watch *watch, unsigned events)
{
	int err;

	if (!watch || (events & ~ALL_EVENTS))
		return -EINVAL;
	if (!watch->queue)
		return -ENOENT;
	err = control(watch->queue, EPOLL_CTL_MOD, watch->fd, to_epoll(events), watch);
	if (!err)
		watch->events = events;
	return err;
}

void fq_watch_remove(struct fq_watch *watch)
{
	struct fq_watch **link;

	if (!watch || !watch->queue)
		return;
	/* Fails when the host has closed the fd already, which removed it. */
	(void)epoll_ctl(watch->queue->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
	for (link = &watch->queue->watches; *link != watch; link = &(*link)->next)
		;
	*link = watch->next;
	watch->queue = NULL;
}

/*
 * One event at a time: what a callback removes is not in a batch that was fetched before. epoll takes
 * those that are ready in turn, so at the first that comes again all have had theirs; also where it
 * had it in a drain inside of another's callback.
 */
bool fq_watches_run(struct fq_queue *q)
{
	const uint64_t turn = ++q->watch_turn;
	unsigned n = 2; /* the notifier and the timer */
	bool ran = false;

	for (const struct fq_watch *w = q->watches; w; w = w->next)
		n++;
	for (; n && q->watches; n--) {
		struct epoll_event ev;
		struct fq_watch *watch;

		if (epoll_wait(q->epoll_fd, &ev, 1, 0) != 1)
			break;
		watch = ev.data.ptr;
		if (!watch)
			continue;
		if (watch->turn >= turn)
			break;
		watch->turn = turn;
		ran = true;
		watch->run(watch, from_epoll(ev.events));
	}
	return ran;
}

#else

int fq_mux_open(struct fq_queue *q)
{
	(void)q;
	return -ENOSYS;
}

int fq_mux_after_fork_child(struct fq_queue *q)
{
	(void)q;
	return -ENOSYS;
}

void fq_mux_set_timer(struct fq_queue *q)
{
	(void)q;
}

int fq_watch_add(struct fq_queue *q, struct fq_watch *watch, int fd, unsigned events)
{
	(void)q;
	(void)watch;
	(void)fd;
	(void)events;
	return -EINVAL;
}

int fq_watch_change(struct fq_watch *watch, unsigned events)
{
	(void)watch;
	(void)events;
	return -EINVAL;
}

void fq_watch_remove(struct fq_watch *watch)
{
	(void)watch;
}

bool fq_watches_run(struct fq_queue *q)
{
	(void)q;
	return false;
}

#endif

void fq_mux_close(struct fq_queue *q)
{
	if (q->timer_fd >= 0)
		close(q->timer_fd);
	if (q->epoll_fd >= 0)
		close(q->epoll_fd);
	q->timer_fd = q->epoll_fd = -1;
}
