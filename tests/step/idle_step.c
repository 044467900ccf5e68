/* SPDX-License-Identifier: MIT */
/*
 * Handlers that no completion has brought: deadlines, watches, idle calls. They may sleep on the fd of
 * a queue without hooks, too, in a loop of the host's. So whatever was posted before them, at whatever
 * step, and came to nothing: a post from inside them makes the fd readable.
 *
 * Seen to fail: with a take_posted that lets the fd be when nothing came of what was posted (all three).
 */
#include <poll.h>
#include <unistd.h>

#include "internal.h"
#include "step.h"

void (*fq_step_hook)(void);

static struct fq_queue *queue;
static struct fq_call call;
static struct fq_deadline deadline;
static struct fq_watch watch;
static struct fq_node node;
static int fds[2];
static unsigned posted, arrived, handlers, countdown;
static bool armed_hook;

static bool readable(void)
{
	struct pollfd pfd = {.fd = queue->notifier.rfd, .events = POLLIN};

	return poll(&pfd, 1, 0) == 1;
}

static void arrive(struct fq_node *n)
{
	(void)n;
	arrived++;
}

static void handler(const char *who)
{
	handlers++;
	if (posted != arrived)
		return;
	posted++;
	fq_queue_push(queue, &node);
	STEP_CHECK(readable(), "asleep in a handler (%s), and a post has returned", who);
}

static void on_idle(struct fq_call *c)
{
	(void)c;
	handler("idle call");
}

static void on_deadline(struct fq_deadline *d)
{
	(void)d;
	handler("deadline");
}

static void on_watch(struct fq_watch *w, unsigned events)
{
	(void)events;
	fq_watch_remove(w);
	handler("watch");
}

static void come_to_rest(void)
{
	for (unsigned i = 0; i < 8 && readable(); i++)
		(void)fq_queue_drain(queue, FQ_NO_BUDGET);
	STEP_CHECK(!readable(), "the fd does not come to rest");
	STEP_CHECK(posted == arrived, "%u of %u have arrived", arrived, posted);
}

/* -- an idle call that is scheduled at each step of a drain ---------------------------------------- */

static void schedule_in_between(void)
{
	if (!armed_hook || countdown--)
		return;
	armed_hook = false;
	STEP_CHECK(!fq_call_schedule_idle(&call), "idle");
}

static bool idle_at(unsigned step)
{
	bool came;

	countdown = step;
	armed_hook = true;
	(void)fq_queue_drain(queue, FQ_NO_BUDGET);
	came = !armed_hook;
	armed_hook = false;
	/* One that came too late for this drain waits for one that finds nothing else. */
	(void)fq_queue_drain(queue, FQ_NO_BUDGET);
	come_to_rest();
	return came;
}

/* -- one that is cancelled before its poster has come to the fd ------------------------------------ */

static void schedule(void *arg)
{
	(void)arg;
	STEP_CHECK(!fq_call_schedule(&call), "schedule");
}

static bool cancelled_at(unsigned step, bool watches)
{
	struct stopper s;
	bool stopped = stopper_start(&s, schedule, NULL, step);
	unsigned before = handlers;

	(void)fq_call_cancel(&call);
	if (watches)
		STEP_CHECK(!fq_watch_add(queue, &watch, fds[0], FQ_WATCH_IN), "watch");
	else
		STEP_CHECK(!fq_deadline_set(queue, &deadline, 0), "deadline");
	(void)fq_queue_drain(queue, FQ_NO_BUDGET);
	STEP_CHECK(handlers > before, "no handler");
	stopper_finish(&s);
	(void)fq_call_cancel(&call);
	come_to_rest();
	return stopped;
}

int main(void)
{
	unsigned idle = 0, cancelled = 0;

	node.run = arrive;
	deadline.run = on_deadline;
	watch.run = on_watch;
	STEP_CHECK(!pipe(fds) && write(fds[1], "", 1) == 1, "pipe");
	STEP_CHECK(!fq_queue_create(&queue, FQ_QUEUE_EPOLL), "queue");
	STEP_CHECK(!fq_call_init(&call, queue, on_idle), "init");
	fq_step_hook = schedule_in_between;
	while (idle_at(idle))
		idle++;
	fq_step_hook = step_hook;
	for (int watches = 0; watches < 2; watches++) {
		for (unsigned i = 0; cancelled_at(i, watches); i++)
			cancelled++;
	}
	STEP_CHECK(!fq_call_fini(&call) && !fq_queue_destroy(queue), "queue");
	STEP_CHECK(idle > 10 && cancelled > 10, "hardly stopped at all");
	printf("ok, %u steps, %u stops\n", idle, cancelled);
	return 0;
}
