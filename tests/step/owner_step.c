/* SPDX-License-Identifier: MIT */
/*
 * Two whole posts at every single step of the owner's drain, poll, or prepare: before each atomic
 * operation and each clearing of the fd in turn, as if another thread had had the processor just then.
 * Where somebody may be asleep all that was posted has arrived, or the fd is readable: afterwards, and
 * in every handler, which may sleep. Each arrives once, and then the fd comes to rest.
 *
 * Seen to fail: with settle clearing the fd while armed, with the fd cleared after the arm, with an arm
 * of one word only, without the write for leftovers, and with a check that disarms for others.
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
static struct fq_node node, early[3], last;
static bool hooks, fence_first;
static bool asleep; /* somebody may be, while the drain runs */
static unsigned posted, arrived, countdown;
static bool armed_hook;

static bool readable(void)
{
	struct pollfd pfd = {.fd = fq_queue_fd(queue), .events = POLLIN};

	return poll(&pfd, 1, 0) == 1;
}

static void arrive(struct fq_node *n)
{
	(void)n;
	arrived++;
	if (asleep && arrived < posted)
		STEP_CHECK(readable(), "%u of %u have arrived", arrived, posted);
}

static void retire(struct fq_fence *f, int status, void *opaque)
{
	(void)f;
	(void)opaque;
	STEP_CHECK(!status, "status %d", status);
	arrive(NULL);
}

static void push(struct fq_node *n)
{
	fq_queue_push(queue, n);
	posted++;
}

static void post(void)
{
	if (!fence_first)
		push(&node);
	STEP_CHECK(!fq_signal(fq_device_handle(device), 1, 0, fence.token), "signal");
	posted++;
	if (fence_first)
		push(&node);
}

static void post_in_between(void)
{
	if (!armed_hook || countdown--)
		return;
	armed_hook = false;
	post();
}

/* True when the caller is asleep at the end. */
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

static void all_arrive(void)
{
	for (unsigned i = 0; i < 8 && (arrived < posted || readable()); i++) {
		STEP_CHECK(hooks || readable(), "%u of %u have arrived", arrived, posted);
		(void)fq_queue_drain(queue, FQ_NO_BUDGET);
	}
	STEP_CHECK(arrived == posted, "%u of %u have arrived", arrived, posted);
	STEP_CHECK(hooks || !readable(), "the fd does not come to rest");
}

/* False when the act was over before the step came. */
static bool run(enum act what, unsigned before, bool other_sleeps, unsigned step)
{
	struct fq_waiter other = {false};
	bool came;

	posted = arrived = 0;
	STEP_CHECK(!fq_submit(device, 1, 0, &fence), "submit");
	if (other_sleeps)
		STEP_CHECK(fq_queue_prepare(queue, &other), "prepare");
	for (unsigned i = 0; i < before; i++)
		push(&early[i]);
	asleep = !hooks || other_sleeps;
	countdown = step;
	armed_hook = true;
	asleep |= act(what);
	came = !armed_hook;
	armed_hook = false;
	if (!came)
		post();
	if (asleep && arrived < posted)
		STEP_CHECK(readable(), "%u of %u, step %u", arrived, posted, step);
	asleep = !hooks;
	fq_queue_check(queue, &waiter);
	fq_queue_check(queue, &other);
	all_arrive();
	push(&last);
	all_arrive();
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
		fence_first = n & 1;
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

	node.run = last.run = arrive;
	for (unsigned i = 0; i < 3; i++)
		early[i].run = arrive;
	fq_step_hook = post_in_between;
	runs = explore(0) + explore(FQ_QUEUE_HOOKS) + explore(FQ_QUEUE_EPOLL);
	printf("ok, %u steps\n", runs);
	return 0;
}
