/* SPDX-License-Identifier: MIT */
/*
 * A handler may sleep on the fd of a queue without hooks, in a loop of its own, although a drain is
 * under way outside (traps 5 and 7); also when a poster is stopped for ever at any instruction. A
 * poster is stopped before each of its atomic operations in turn; the owner drains, or polls; from
 * inside a handler, of the stopped poster's own completion where that has come so far, posts are made,
 * and each must make the fd readable.
 *
 * Seen to fail: with the fd cleared at the start of a drain; without the kick in take_posted; with
 * take_posted trusting every arm to have been told.
 */
#include <poll.h>

#include "internal.h"
#include "step.h"

void (*fq_step_hook)(void);

struct post {
	struct fq_node node;
	struct fq_fence fence;
	bool is_fence;
	unsigned arrived;
};

static struct fq_queue *queue;
static struct fq_device *device;
static struct post stopped, marker, inside[2];
static bool drain_first; /* the handler does, before it sleeps */
static bool nested;

static bool readable(void)
{
	struct pollfd pfd = {.fd = fq_queue_fd(queue), .events = POLLIN};

	return poll(&pfd, 1, 0) == 1;
}

static void post(void *arg)
{
	struct post *p = arg;

	if (p->is_fence)
		STEP_CHECK(!fq_signal(fq_device_handle(device), 1, 0, p->fence.token), "signal");
	else
		fq_queue_push(queue, &p->node);
}

static void sleep_in_handler(void)
{
	if (drain_first)
		(void)fq_queue_drain(queue, FQ_NO_BUDGET);
	for (unsigned i = 0; i < 2; i++) {
		post(&inside[i]);
		STEP_CHECK(readable(), "asleep in a handler, and post %u has returned", i);
		(void)fq_queue_drain(queue, FQ_NO_BUDGET);
		STEP_CHECK(inside[i].arrived == 1, "post %u arrived %u times", i,
			   inside[i].arrived);
	}
}

static void arrive(struct post *p)
{
	p->arrived++;
	if (nested)
		return;
	nested = true;
	sleep_in_handler();
}

static void arrive_node(struct fq_node *node)
{
	arrive(fq_container_of(node, struct post, node));
}

static void arrive_fence(struct fq_fence *fence, int status, void *opaque)
{
	(void)opaque;
	STEP_CHECK(!status, "status %d", status);
	arrive(fq_container_of(fence, struct post, fence));
}

static void submit(struct post *p, bool is_fence)
{
	*p = (struct post){.is_fence = is_fence, .node = {.run = arrive_node}};
	if (is_fence)
		STEP_CHECK(!fq_submit(device, 1, 0, &p->fence), "submit");
}

static unsigned owner(bool polls)
{
	return polls ? fq_queue_poll(queue, FQ_NO_BUDGET) : fq_queue_drain(queue, FQ_NO_BUDGET);
}

/* False when the poster finished before it came to its stop. */
static bool run(unsigned variant, unsigned stop_at)
{
	bool polls = variant & 4, was_stopped;
	struct stopper s;

	nested = false;
	drain_first = variant & 8;
	submit(&stopped, variant & 1);
	submit(&marker, false);
	submit(&inside[0], variant & 2);
	submit(&inside[1], variant & 2);
	was_stopped = stopper_start(&s, post, &stopped, stop_at);
	(void)owner(polls);
	post(&marker);
	STEP_CHECK(readable(), "asleep, and a post has returned");
	(void)owner(polls);
	STEP_CHECK(marker.arrived == 1 && nested, "the marker arrived %u times", marker.arrived);
	stopper_finish(&s);
	(void)fq_queue_drain(queue, FQ_NO_BUDGET);
	STEP_CHECK(stopped.arrived == 1, "the stopped one arrived %u times", stopped.arrived);
	return was_stopped;
}

static unsigned explore(unsigned flags)
{
	struct fq_device_config config = {.retire = arrive_fence};
	unsigned runs = 0;

	STEP_CHECK(!fq_queue_create(&queue, flags), "queue");
	config.queue = queue;
	STEP_CHECK(!fq_device_create(&device, &config), "device");
	for (unsigned variant = 0; variant < 16; variant++) {
		for (unsigned i = 0; run(variant, i); i++)
			runs++;
	}
	STEP_CHECK(!fq_device_destroy(device), "device");
	STEP_CHECK(!fq_queue_destroy(queue), "queue");
	return runs;
}

int main(void)
{
	unsigned runs;

	fq_step_hook = step_hook;
	runs = explore(0) + explore(FQ_QUEUE_EPOLL);
	printf("ok, %u stops\n", runs);
	return 0;
}
