/* SPDX-License-Identifier: MIT */
/*
 * fork while another thread is in the midst of a call: a poster, or the owner of another queue that
 * makes and ends devices, stopped before each of its atomic operations in turn. In the child that
 * thread does not exist; the child drains, posts and ends everything, and nothing hangs or is lost
 * that had been posted. In the parent the thread goes on as if nothing had happened.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "handle.h"
#include "step.h"

void (*fq_step_hook)(void);

enum kind {
	PUSH,
	SIGNAL,
	REGISTERED,
	DESTROYER, /* device create, submit, destroy, on a queue of its own */
	UNPLUGGER, /* ... unplug, reclaim */
	KINDS
};

static enum kind kind;
static struct fq_queue *queue, *other;
static struct fq_device *device;
static struct fq_node node;
static struct fq_fence fence[2], foreign;
static unsigned arrived, retired;

static void arrive(struct fq_node *n)
{
	(void)n;
	arrived++;
}

static void retire(struct fq_fence *f, int status, void *opaque)
{
	(void)opaque;
	if (f == &foreign) {
		STEP_CHECK(status == -ENODEV, "status %d", status);
		return;
	}
	STEP_CHECK(f == &fence[retired] && !status, "fence %u, status %d", retired, status);
	retired++;
}

static struct fq_device *create(struct fq_queue *q)
{
	const struct fq_device_config config = {.queue = q, .retire = retire};
	struct fq_device *dev;

	STEP_CHECK(!fq_device_create(&dev, &config), "device");
	return dev;
}

static void signal_fence(const struct fq_fence *f)
{
	STEP_CHECK(!fq_signal(fq_device_handle(device), 7, 3, f->token), "signal");
}

static void own_other(void)
{
	struct fq_device *dev = create(other);

	STEP_CHECK(!fq_submit(dev, 1, 1, &foreign), "submit");
	if (kind == DESTROYER) {
		STEP_CHECK(!fq_device_destroy(dev), "destroy");
		return;
	}
	STEP_CHECK(!fq_device_unplug(dev, NULL, NULL), "unplug");
	(void)fq_reclaim();
}

static void call(void *arg)
{
	struct stopper *self = step_self;

	(void)arg;
	if (kind == REGISTERED) {
		step_self = NULL; /* stopped in it a thread holds liburcu's mutex */
		STEP_CHECK(!fq_thread_register(), "register");
		step_self = self;
	}
	if (kind == PUSH)
		fq_queue_push(queue, &node);
	else if (kind == SIGNAL || kind == REGISTERED)
		signal_fence(&fence[0]);
	else
		own_other();
	step_self = NULL;
	if (kind == REGISTERED)
		STEP_CHECK(!fq_thread_unregister(), "unregister");
}

static void *signal_last(void *arg)
{
	(void)arg;
	STEP_CHECK(!fq_thread_register(), "register");
	signal_fence(&fence[1]);
	STEP_CHECK(!fq_thread_unregister(), "unregister");
	return NULL;
}

static bool readable(void)
{
	struct pollfd pfd = {.fd = fq_queue_fd(queue), .events = POLLIN};

	return poll(&pfd, 1, 0) == 1;
}

static void expect_no_readers(void)
{
	for (unsigned s = 0; s < FQ_SLOTS; s++) {
		for (unsigned i = 0; i < FQ_SHARDS; i++)
			STEP_CHECK(!(fq_load_rlx(&fq_slots[s].shard[i].word) & FQ_READERS),
				   "slot %u counts a reader", s);
	}
}

/* A push that the parent's thread had made, though not the wake-up that belongs to it, counts. */
static void live_on(bool pushed)
{
	struct fq_device *extra;
	pthread_t thread;

	alarm(60);
	fq_after_fork_child();
	expect_no_readers();
	STEP_CHECK(!fq_queue_after_fork_child(queue), "hook");
	STEP_CHECK(readable(), "readable");
	(void)fq_queue_drain(queue, FQ_NO_BUDGET);
	STEP_CHECK(!pushed || arrived == 1, "a node arrived %u times", arrived);
	STEP_CHECK(!pthread_create(&thread, NULL, signal_last, NULL), "thread");
	while (retired < 2) {
		STEP_CHECK(fq_queue_wait(queue, INT64_C(20000000000)) == 1, "lost wake-up");
		(void)fq_queue_drain(queue, FQ_NO_BUDGET);
	}
	pthread_join(thread, NULL);
	extra = create(queue);
	STEP_CHECK(!fq_device_destroy(device), "destroy");
	STEP_CHECK(!fq_device_unplug(extra, NULL, NULL), "unplug");
	(void)fq_reclaim();
	STEP_CHECK(!fq_queue_destroy(queue), "queue");
	_exit(0);
}

static void fork_and_live_on(unsigned stop_at)
{
	const bool pushed = fq_queue_pending(queue) && kind == PUSH;
	int status;
	pid_t pid = fork();

	STEP_CHECK(pid >= 0, "fork");
	if (!pid)
		live_on(pushed);
	STEP_CHECK(waitpid(pid, &status, 0) == pid && !status,
		   "kind %d stopped at %u: child: status %#x", kind, stop_at, (unsigned)status);
}

/* Returns false when the call was over before it came to its stop. */
static bool run(unsigned stop_at)
{
	struct stopper stopper;
	bool stopped;

	arrived = retired = 0;
	node = (struct fq_node){.run = arrive};
	device = create(queue);
	STEP_CHECK(!fq_submit(device, 7, 3, &fence[0]) && !fq_submit(device, 7, 3, &fence[1]),
		   "submit");
	stopped = stopper_start(&stopper, call, NULL, stop_at);
	fork_and_live_on(stop_at);
	stopper_finish(&stopper);
	signal_fence(&fence[1]);
	STEP_CHECK(readable(), "the parent's wake-up");
	(void)fq_queue_drain(queue, FQ_NO_BUDGET);
	STEP_CHECK(arrived == (kind == PUSH) && retired == 2, "%u, %u", arrived, retired);
	STEP_CHECK(!fq_device_destroy(device), "destroy");
	expect_no_readers();
	return stopped;
}

int main(void)
{
	unsigned stops = 0;

#ifdef FQ_TSAN
	/* glibc gives threads of a child the stacks of threads it does not have. */
	puts("ThreadSanitizer dies of it: not tried");
	return 77;
#endif
	fq_step_hook = step_hook;
	STEP_CHECK(!fq_queue_create(&queue, 0) && !fq_queue_create(&other, 0), "queues");
	for (kind = 0; kind < KINDS; kind++) {
		unsigned stop_at = 0;

		for (; run(stop_at); stop_at++)
			stops++;
		STEP_CHECK(stop_at > 2, "kind %d hardly stopped", kind);
	}
	STEP_CHECK(!fq_queue_destroy(queue) && !fq_queue_destroy(other), "queues");
	printf("forks while a thread was stopped: %u\nok\n", stops);
	return 0;
}
