/* SPDX-License-Identifier: MIT */
/*
 * A whole post at every single step of the owner's drain (or poll, or prepare, or check): before each
 * atomic operation and each clearing of the fd in turn, as if another thread had had the processor just
 * then. Afterwards, where somebody may be asleep, the post has arrived or the fd is readable; it never
 * arrives twice; and when everything has arrived the fd comes to rest.
 *
 * Seen to fail: with settle clearing the fd while armed, with an arm that does not look at what was
 * posted, and with the fd cleared after the arm.
 */
#include <poll.h>

#include "internal.h"

#include "step.h"

void (*fq_step_hook)(void);

enum act {
	DRAIN,
	DRAIN_ONE,
	POLL,
	POLL_ONE,
	SLEEP,
	ACTS
};

static struct fq_queue *queue;
static struct fq_device *device;
static struct fq_waiter waiter;
static struct fq_fence fence;
static struct fq_node node, early[3];
static bool hooks, by_fence;
static unsigned arrived, countdown;
static bool armed_hook;

static void arrive(struct fq_node *n)
{
	(void)n;
	arrived++;
}

static void retire(struct fq_fence *f, int status, void *opaque)
{
	(void)f;
	(void)opaque;
	STEP_CHECK(!status, "status %d", status);
	arrived++;
}

static bool readable(void)
{
	struct pollfd pfd = {.fd = fq_queue_fd(queue), .events = POLLIN};

	return poll(&pfd, 1, 0) == 1;
}

static void post(void)
{
	if (by_fence)
		STEP_CHECK(!fq_signal(fq_device_handle(device), 1, 0, fence.token), "signal");
	else
		fq_queue_push(queue, &node);
}

static void post_in_between(void)
{
	if (!armed_hook || countdown--)
		return;
	armed_hook = false;
	post();
}

/* True when somebody is asleep at the end. */
static bool act(enum act what)
{
	switch (what) {
	case DRAIN:
	case DRAIN_ONE:
		(void)fq_queue_drain(queue, what == DRAIN ? FQ_NO_BUDGET : 1);
		return !hooks;
	case POLL:
	case POLL_ONE:
		(void)fq_queue_poll(queue, what == POLL ? FQ_NO_BUDGET : 1);
		return !hooks;
	default:
		return fq_queue_prepare(queue, &waiter) || !hooks;
	}
}

static void all_arrive(unsigned n)
{
	for (unsigned i = 0; i < 8 && (arrived < n || readable()); i++) {
		STEP_CHECK(hooks || readable(), "%u of %u have arrived", arrived, n);
		fq_queue_check(queue, &waiter);
		(void)fq_queue_drain(queue, FQ_NO_BUDGET);
	}
	STEP_CHECK(arrived == n, "%u of %u have arrived", arrived, n);
	STEP_CHECK(hooks || !readable(), "the fd does not come to rest");
}

/* False when the act was over before the step came. */
static bool run(enum act what, unsigned before, bool other_sleeps, unsigned step)
{
	struct fq_waiter other = {false};
	bool asleep, came;

	arrived = 0;
	STEP_CHECK(!fq_submit(device, 1, 0, &fence), "submit");
	if (other_sleeps)
		STEP_CHECK(fq_queue_prepare(queue, &other), "prepare");
	for (unsigned i = 0; i < before; i++)
		fq_queue_push(queue, &early[i]);
	countdown = step;
	armed_hook = true;
	asleep = act(what);
	came = !armed_hook;
	armed_hook = false;
	if (!came)
		post();
	if ((asleep || other_sleeps) && arrived < before + 1)
		STEP_CHECK(readable(), "asleep after %u of %u, step %u", arrived, before + 1, step);
	fq_queue_check(queue, &waiter);
	fq_queue_check(queue, &other);
	if (!by_fence)
		STEP_CHECK(!fq_signal(fq_device_handle(device), 1, 0, fence.token), "signal");
	else
		fq_queue_push(queue, &node);
	all_arrive(before + 2);
	return came;
}

static unsigned explore(unsigned flags)
{
	struct fq_device_config config = {.retire = retire};
	unsigned runs = 0;

	hooks = flags & FQ_QUEUE_HOOKS;
	STEP_CHECK(!fq_queue_create(&queue, flags), "queue");
	config.queue = queue;
	STEP_CHECK(!fq_device_create(&device, &config), "device");
	for (unsigned n = 0; n < ACTS * 3 * 4; n++) {
		by_fence = n & 1;
		for (unsigned i = 0; run(n / 4 % ACTS, n / 4 / ACTS, n & 2, i); i++)
			runs++;
	}
	STEP_CHECK(!fq_device_destroy(device), "device");
	STEP_CHECK(!fq_queue_destroy(queue), "queue");
	return runs;
}

int main(void)
{
	unsigned runs;

	node.run = arrive;
	for (unsigned i = 0; i < 3; i++)
		early[i].run = arrive;
	fq_step_hook = post_in_between;
	runs = explore(0) + explore(FQ_QUEUE_HOOKS) + explore(FQ_QUEUE_EPOLL);
	printf("ok, %u steps\n", runs);
	return 0;
}
