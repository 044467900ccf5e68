/* SPDX-License-Identifier: MIT */
/*
 * A poster stopped for ever at any instruction blocks nobody and hides no other post that has
 * returned (invariant 3). Two posters are stopped, each before each of its atomic operations in
 * turn, all pairs; then a third posts, and its post must show: the fd is readable where the owner
 * may be asleep, and the drain delivers it. At the end the two go on, and theirs arrive as well,
 * each once.
 *
 * Seen to fail: without the helping (return from fq_timeline_signal for a covered token; telling
 * the level above only by the poster that found the word clean; waking only by the poster whose
 * push found an empty queue).
 */
#include <errno.h>
#include <poll.h>

#include "internal.h"
#include "step.h"

void (*fq_step_hook)(void);

enum kind {
	PUSH,       /* a node */
	SAME,       /* a fence of the timeline everybody signals */
	OTHER_RING, /* ... of another ring of its context */
	OTHER_CTX,  /* ... of another context */
	GLOBAL,     /* ... of the global timeline */
	REGISTERED, /* as SAME, from a registered thread */
	KINDS
};

static struct fq_queue *queue;
static struct fq_device *device;
static bool hooks;
static bool newest_first; /* the first to stop has the highest token, and covers the others */

/* One post: a node to push, or a fence to signal. */
struct post {
	enum kind kind;
	struct fq_node node;
	struct fq_fence fence;
	unsigned arrived;
};

static void arrive(struct fq_node *node)
{
	fq_container_of(node, struct post, node)->arrived++;
}

static void retire(struct fq_fence *fence, int status, void *opaque)
{
	(void)opaque;
	STEP_CHECK(status == 0, "status %d", status);
	((struct post *)fence->tag)->arrived++;
}

static void submit(struct post *p, enum kind kind)
{
	int err = 0;

	*p = (struct post){.kind = kind, .node = {.run = arrive}};
	p->fence.tag = p;
	if (kind == GLOBAL)
		err = fq_submit_global(device, &p->fence);
	else if (kind != PUSH)
		err = fq_submit(device, kind == OTHER_CTX ? 8 : 7, kind == OTHER_RING ? 5 : 3,
				&p->fence);
	STEP_CHECK(!err, "submit %d", err);
}

static void post(void *arg)
{
	struct post *p = arg;
	fq_handle_t handle = fq_device_handle(device);
	int err = 0;

	if (p->kind == PUSH)
		fq_queue_push(queue, &p->node);
	else if (p->kind == GLOBAL)
		err = fq_signal_global(handle, p->fence.token);
	else
		err = fq_signal(handle, p->kind == OTHER_CTX ? 8 : 7, p->kind == OTHER_RING ? 5 : 3,
				p->fence.token);
	STEP_CHECK(!err, "signal %d", err);
}

static void post_registered(void *arg)
{
	/* Registration is no part of a post: a thread stopped in it holds liburcu's mutex. */
	struct stopper *self = step_self;

	step_self = NULL;
	STEP_CHECK(!fq_thread_register(), "register");
	step_self = self;
	post(arg);
	step_self = NULL;
	STEP_CHECK(!fq_thread_unregister(), "unregister");
}

static bool start(struct stopper *s, struct post *p, unsigned stop_at)
{
	return stopper_start(s, p->kind == REGISTERED ? post_registered : post, p, stop_at);
}

static bool readable(void)
{
	struct pollfd pfd = {.fd = fq_queue_fd(queue), .events = POLLIN};

	return poll(&pfd, 1, 0) == 1;
}

/* The owner's turn after a post that has returned: asleep before it, woken by it. */
static void owner_sees(struct fq_waiter *waiter, const struct post *p, bool asleep)
{
	if (asleep)
		STEP_CHECK(readable(), "asleep, and a post of kind %d has returned", p->kind);
	if (hooks)
		fq_queue_check(queue, waiter);
	(void)fq_queue_drain(queue, FQ_NO_BUDGET);
	STEP_CHECK(p->arrived == 1, "a post of kind %d arrived %u times", p->kind, p->arrived);
}

static bool fall_asleep(struct fq_waiter *waiter)
{
	return !hooks || fq_queue_prepare(queue, waiter);
}

/* Returns false when the first poster finished before it came to its stop. */
static bool run(const enum kind kind[3], unsigned stop_first, unsigned stop_second,
		bool *second_stopped, bool drain_between)
{
	struct fq_waiter waiter = {false};
	struct stopper first, second;
	bool first_stopped, asleep;
	struct post p[4];

	for (unsigned i = 0; i < 3; i++)
		submit(&p[newest_first ? 2 - i : i], kind[newest_first ? 2 - i : i]);
	asleep = fall_asleep(&waiter);
	first_stopped = start(&first, &p[0], stop_first);
	if (drain_between) {
		if (hooks)
			fq_queue_check(queue, &waiter);
		(void)fq_queue_drain(queue, FQ_NO_BUDGET);
		asleep = fall_asleep(&waiter);
	}
	*second_stopped = start(&second, &p[1], stop_second);
	post(&p[2]);
	owner_sees(&waiter, &p[2], asleep);

	/* And once more, from the owner's next sleep. */
	submit(&p[3], kind[2]);
	asleep = fall_asleep(&waiter);
	post(&p[3]);
	owner_sees(&waiter, &p[3], asleep);

	stopper_finish(&first);
	stopper_finish(&second);
	if (hooks)
		fq_queue_check(queue, &waiter);
	(void)fq_queue_drain(queue, FQ_NO_BUDGET);
	for (unsigned i = 0; i < 4; i++)
		STEP_CHECK(p[i].arrived == 1, "post %u arrived %u times", i, p[i].arrived);
	STEP_CHECK(!fq_device_pending(device), "pending");
	return first_stopped;
}

static unsigned all_pairs(const enum kind kind[3], bool drain_between)
{
	unsigned runs = 0;
	bool first_stopped = true, second_stopped;

	for (unsigned i = 0; first_stopped; i++) {
		second_stopped = true;
		for (unsigned j = 0; second_stopped; j++, runs++)
			first_stopped = run(kind, i, j, &second_stopped, drain_between);
	}
	return runs;
}

static unsigned explore(unsigned flags)
{
	const struct fq_device_config config = {.retire = retire, .queue = NULL};
	struct fq_device_config with_queue = config;
	unsigned runs = 0;

	hooks = flags & FQ_QUEUE_HOOKS;
	STEP_CHECK(!fq_queue_create(&queue, flags), "queue");
	with_queue.queue = queue;
	STEP_CHECK(!fq_device_create(&device, &with_queue), "device");
	for (unsigned n = 0; n < KINDS * KINDS; n++) {
		/* The third is of the kind that is most likely hidden: the second's. */
		const enum kind kind[3] = {n % KINDS, n / KINDS,
					   n / KINDS == REGISTERED ? SAME : n / KINDS};

		newest_first = false;
		runs += all_pairs(kind, false);
		runs += all_pairs(kind, true);
		newest_first = true;
		if (kind[2] != PUSH && (kind[0] == kind[2] || kind[1] == kind[2]))
			runs += all_pairs(kind, false);
	}
	STEP_CHECK(!fq_device_destroy(device), "device");
	STEP_CHECK(!fq_queue_destroy(queue), "queue");
	return runs;
}

int main(void)
{
	unsigned plain, hooked;

	fq_step_hook = step_hook;
	plain = explore(0);
	hooked = explore(FQ_QUEUE_HOOKS);
	printf("pairs of stops: %u with a plain fd, %u with hooks\n", plain, hooked);
	STEP_CHECK(plain > 1000 && hooked > 1000, "the posters were hardly stopped at all");
	puts("ok");
	return 0;
}
