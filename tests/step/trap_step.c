/* SPDX-License-Identifier: MIT */
/*
 * Traps of tests/toolbox/trap_test.c that need a poster stopped inside of the library, at each of
 * its atomic operations in turn.
 */
#include <errno.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"
#include "step.h"

#define CTX 7u
#define RING 3u

/* A reclaim that takes so many steps waits for somebody: to free this device takes under 150. */
#define WAITS 600u

void (*fq_step_hook)(void);

static struct fq_queue *queue;
static struct fq_device *device;
static fq_handle_t handle;
static struct fq_fence fence[2];
static int status_of[2]; /* 1: pending */

static void retire(struct fq_fence *f, int status, void *opaque)
{
	(void)opaque;
	STEP_CHECK(status_of[f - fence] == 1, "retired twice");
	status_of[f - fence] = status;
}

static void plug(void)
{
	const struct fq_device_config config = {.queue = queue, .retire = retire};

	/* One life. Who waits for a stopped poster waits for ever: no limit for anybody else. */
	alarm(100);
	STEP_CHECK(!fq_device_create(&device, &config), "device");
	handle = fq_device_handle(device);
	for (unsigned i = 0; i < 2; i++) {
		fence[i] = (struct fq_fence){0};
		status_of[i] = 1;
		STEP_CHECK(!fq_submit(device, CTX, RING, &fence[i]), "submit");
	}
}

/* One signal for a fence, from a thread that liburcu knows or not. */
struct post {
	unsigned fence;
	bool known;
	int err;
};

static void post(void *arg)
{
	struct post *p = arg;
	struct stopper *self = step_self;

	/* Registration is no part of a post: a thread stopped in it holds liburcu's mutex. */
	step_self = NULL;
	STEP_CHECK(!p->known || !fq_thread_register(), "register");
	step_self = self;
	p->err = fq_signal(handle, CTX, RING, fence[p->fence].token);
	step_self = NULL;
	STEP_CHECK(!p->known || !fq_thread_unregister(), "unregister");
}

/* -- t02 --------------------------------------------------------------------------------------- */

/*
 * The poster of the lower token stops, that of the higher comes and goes, the first goes on: the
 * mark stays where it is.
 *
 * Seen to fail: with a mark that is compared and then stored.
 */
static void t02_high_water_regression(void)
{
	bool stopped = true;

	for (unsigned at = 0; stopped; at++) {
		struct post low = {.fence = 0}, high = {.fence = 1};
		struct stopper s;

		plug();
		stopped = stopper_start(&s, post, &low, at);
		post(&high);
		stopper_finish(&s);
		STEP_CHECK(!low.err && !high.err, "at %u: %d, %d", at, low.err, high.err);
		(void)fq_queue_drain(queue, FQ_NO_BUDGET);
		STEP_CHECK(!status_of[0] && !status_of[1], "at %u: the mark went back", at);
		STEP_CHECK(!fq_device_destroy(device), "destroy");
	}
}

/* -- t09 --------------------------------------------------------------------------------------- */

static __thread bool reclaims;
static atomic_uint reclaim_steps;
static atomic_bool reclaimed;

static void hook(void)
{
	if (reclaims)
		atomic_fetch_add(&reclaim_steps, 1);
	step_hook();
}

static void *reclaim(void *arg)
{
	reclaims = true;
	STEP_CHECK(fq_reclaim() == 1, "reclaim");
	atomic_store(&reclaimed, true);
	return arg;
}

/* Returns when the thread has freed the device, or waits for somebody inside of it. */
static bool start_reclaim(pthread_t *thread)
{
	const struct timespec pause = {.tv_nsec = 100000};

	atomic_store(&reclaim_steps, 0);
	atomic_store(&reclaimed, false);
	STEP_CHECK(!pthread_create(thread, NULL, reclaim, NULL), "thread");
	while (!atomic_load(&reclaimed) && atomic_load(&reclaim_steps) < WAITS)
		nanosleep(&pause, NULL);
	return atomic_load(&reclaimed);
}

/*
 * Whether a poster that is stopped there is inside when the device is unplugged: it goes on, and
 * has found the device, and the end of its timeline. False at the end, too: it finished before its
 * stop.
 */
static bool is_inside(unsigned at, bool *stopped)
{
	struct post p = {.fence = 0};
	struct stopper s;

	plug();
	*stopped = stopper_start(&s, post, &p, at);
	STEP_CHECK(!fq_device_unplug(device, NULL, NULL), "unplug");
	stopper_finish(&s);
	STEP_CHECK(fq_reclaim() == 1, "reclaim");
	STEP_CHECK(!p.err || p.err == -ENODEV || p.err == -ESTALE, "signal: %d", p.err);
	return *stopped && p.err != -ENODEV;
}

static void reclaim_beside_poster(unsigned at, bool inside)
{
	struct post p = {.fence = 0};
	struct stopper s;
	pthread_t thread;
	bool freed, stopped;

	plug();
	stopped = stopper_start(&s, post, &p, at);
	STEP_CHECK(!fq_device_unplug(device, NULL, NULL), "unplug");
	freed = start_reclaim(&thread);
	STEP_CHECK(!inside || !freed, "at %u: freed under the poster's feet", at);
	STEP_CHECK(stopped || freed, "waits for nobody");
	stopper_finish(&s);
	pthread_join(thread, NULL);
}

/*
 * A thread that liburcu has never heard of, for which its grace periods do not wait, is stopped in
 * a signal when the device is unplugged. The memory waits for it.
 *
 * Seen to fail: with readers that are let in and not counted; with fq_handle_wait waiting for
 * liburcu only.
 */
static void t09_unknown_thread_reads(void)
{
	unsigned inside = 0, at = 0;
	bool stopped = true;

	for (; stopped; at++) {
		bool in = is_inside(at, &stopped);

		reclaim_beside_poster(at, in);
		inside += in;
	}
	printf("t09: %u stops, %u of them inside\n", at - 1, inside);
	STEP_CHECK(inside > 2 && inside < at - 1, "the poster was hardly stopped at all");
}

/* -- t10 --------------------------------------------------------------------------------------- */

static int end_context(struct fq_device *dev)
{
	return fq_context_destroy(dev, CTX);
}

static int fail(struct fq_device *dev)
{
	return fq_device_fail(dev, -EIO);
}

static int unplug(struct fq_device *dev)
{
	return fq_device_unplug(dev, NULL, NULL);
}

static int (*const ending[])(struct fq_device *dev) = {end_context, fail, fq_device_reset, unplug};

#define ENDINGS (sizeof(ending) / sizeof(ending[0]))

/* False when the poster finished before it came to its stop. */
static bool end_beside_poster(unsigned n, bool known, unsigned at)
{
	struct post p = {.fence = 0, .known = known};
	struct stopper s;
	bool stopped;

	plug();
	stopped = stopper_start(&s, post, &p, at);
	/* The poster goes on when this thread lets it, which it does after the next lines only. */
	STEP_CHECK(!ending[n](device), "ending %u", n);
	STEP_CHECK(status_of[0] != 1 && status_of[1] < 0, "ending %u left one behind", n);
	if (ending[n] != unplug)
		STEP_CHECK(!fq_device_unplug(device, NULL, NULL), "unplug");
	stopper_finish(&s);
	STEP_CHECK(fq_reclaim() == 1, "reclaim");
	/* Accepted is complete, refused is not: no third way. */
	STEP_CHECK((p.err == 0) == (status_of[0] == 0), "ending %u at %u: %d, but status %d", n, at,
		   p.err, status_of[0]);
	return stopped;
}

/*
 * A reset that waits for a thread which waits for the resetting thread: here the poster, wherever
 * it stands, goes on only when the call has returned.
 *
 * Seen to fail (by the alarm): with fq_device_reset waiting for readers of the handle; with
 * fq_device_unplug doing so.
 */
static void t10_waits_for_nobody(void)
{
	for (unsigned n = 0; n < ENDINGS; n++) {
		for (int known = 0; known < 2; known++) {
			for (unsigned at = 0; end_beside_poster(n, known, at); at++)
				;
		}
	}
}

int main(void)
{
	fq_step_hook = hook;
	STEP_CHECK(!fq_queue_create(&queue, 0), "queue");
	t02_high_water_regression();
	t09_unknown_thread_reads();
	t10_waits_for_nobody();
	STEP_CHECK(!fq_queue_destroy(queue), "queue");
	puts("ok");
	return 0;
}
