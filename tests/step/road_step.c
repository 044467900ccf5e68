/* SPDX-License-Identifier: MIT */
/*
 * A register access (get, enter or leave the operation, dispatch, leave, put) stopped before each of
 * its steps, while the owner unplugs the device and another thread reclaims it: the memory stays
 * until the reference is gone, is freed once, and no access is dispatched after the unplug. Then the
 * reclaim, and a destroy, stopped before each of its own steps, while the last reference is given back.
 *
 * The device's memory is poisoned when it goes; run under ASan a late access is reported as well.
 *
 * Seen to fail, each with one thing changed: a get that counts after its read side; a reclaim that
 * frees what is referenced, or does not go again when a last reference was given back in between; a
 * deferred run, or a destroy, that does not look again; a put that does not count; an end that does not
 * say so.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "device_internal.h"
#include "step.h"

void (*fq_step_hook)(void);

struct card {
	struct fq_gate gate;
	unsigned value;
};

struct access {
	struct fq_gate_op op;
	struct fq_device *dev;
	int result;
	unsigned dispatched;
	bool put_was_last;
};

static struct fq_queue *queue;
static struct fq_device *device;
static fq_handle_t handle;
static struct card *card;
static fq_a64 released, unplugged_at_all, tried;
static void (*deferred_run)(void *);
static void *deferred_arg;

static void retire(struct fq_fence *fence, int status, void *opaque)
{
	(void)fence;
	(void)status;
	(void)opaque;
}

static void release(void *opaque)
{
	struct card *c = opaque;

	STEP_CHECK(!fq_gate_fini(&c->gate), "somebody is inside");
	memset(c, 0xdb, sizeof(*c));
	free(c);
	fq_add_rel(&released, 1);
}

static void defer(void (*run)(void *), void *arg, void *opaque)
{
	(void)opaque;
	deferred_run = run;
	deferred_arg = arg;
}

static void plug_in(void)
{
	struct fq_device_config config = {.retire = retire, .release = release};

	STEP_CHECK(!fq_queue_create(&queue, 0), "queue");
	card = calloc(1, sizeof(*card));
	STEP_CHECK(card && !fq_gate_init(&card->gate, NULL), "card");
	config.queue = queue;
	config.opaque = card;
	STEP_CHECK(!fq_device_create(&device, &config), "device");
	handle = fq_device_handle(device);
	fq_store_rel(&released, 0);
	fq_store_rel(&unplugged_at_all, 0);
	fq_store_rel(&tried, 0);
	deferred_run = NULL;
}

static void dispatch(struct fq_gate_op *op)
{
	struct access *a = fq_container_of(op, struct access, op);
	struct card *c = fq_device_opaque(a->dev);

	a->dispatched++;
	if (fq_device_ended(a->dev)) {
		a->result = -ENODEV;
		return;
	}
	STEP_CHECK(!fq_load_acq(&unplugged_at_all), "dispatched after the unplug");
	a->result = 1;
	c->value++;
}

static void access_register(void *arg)
{
	struct access *a = arg;
	struct card *c;

	a->result = fq_device_get(handle, &a->dev);
	if (a->result)
		return;
	c = fq_device_opaque(a->dev);
	if (!fq_gate_enter_or_leave(&c->gate, &a->op)) {
		dispatch(&a->op);
		STEP_CHECK(!fq_gate_leave(&c->gate), "leave");
	}
	/* The others who are inside here leave before this one goes on. */
	STEP_CHECK(a->dispatched == 1, "dispatched %u times", a->dispatched);
	a->put_was_last = fq_device_put(a->dev);
	if (a->put_was_last)
		(void)fq_reclaim();
}

static void access_registered(void *arg)
{
	struct stopper *self = step_self;

	step_self = NULL;
	STEP_CHECK(!fq_thread_register(), "register");
	step_self = self;
	access_register(arg);
	step_self = NULL;
	STEP_CHECK(!fq_thread_unregister(), "unregister");
}

/* Once: what is left then is for whoever gives the last reference back. */
static void reap(void *arg)
{
	(void)arg;
	if (deferred_run)
		deferred_run(deferred_arg);
	else
		(void)fq_reclaim();
	fq_store_rel(&tried, 1);
}

static void *reap_in_thread(void *arg)
{
	reap(arg);
	return NULL;
}

/* The owner does it inside the gate if that is free; it waits for nobody. */
static void unplug(bool deferred)
{
	bool inside = !fq_gate_try_enter(&card->gate);

	STEP_CHECK(!fq_device_unplug(device, deferred ? defer : NULL, NULL), "unplug");
	if (inside) {
		fq_store_rel(&unplugged_at_all, 1);
		STEP_CHECK(!fq_gate_leave(&card->gate), "leave");
	}
}

static void unplug_against_an_access(bool deferred, bool registered)
{
	bool stopped = true;

	for (unsigned at = 0; stopped; at++) {
		struct access a = {.op.run = dispatch};
		struct stopper s;
		pthread_t reaper;

		plug_in();
		stopped =
			stopper_start(&s, registered ? access_registered : access_register, &a, at);
		unplug(deferred);
		STEP_CHECK(!pthread_create(&reaper, NULL, reap_in_thread, NULL), "thread");
		/* It is through unless the other one is stopped inside a read side. */
		for (unsigned i = 0; i < 100 && !fq_load_acq(&tried); i++)
			usleep(50);
		stopper_finish(&s);
		pthread_join(reaper, NULL);
		STEP_CHECK(a.result == -ENODEV || a.result == 1, "step %u: %d", at, a.result);
		STEP_CHECK(fq_load_acq(&released) == 1, "step %u: released %llu times", at,
			   (unsigned long long)fq_load_acq(&released));
		STEP_CHECK(!fq_reclaim(), "step %u: something is left", at);
		STEP_CHECK(!fq_queue_destroy(queue), "step %u: queue", at);
	}
}

/* A last reference that is given back while its device is off the list is not lost. */
static void reclaim_against_a_put(bool deferred, bool destroyed)
{
	bool stopped = true;

	for (unsigned at = 0; stopped; at++) {
		struct fq_device *dev;
		struct stopper s;

		plug_in();
		STEP_CHECK(!fq_device_get(handle, &dev), "get");
		if (destroyed)
			STEP_CHECK(fq_device_destroy(device) == -EINPROGRESS, "destroy");
		else
			unplug(deferred);
		stopped = stopper_start(&s, reap, NULL, at);
		STEP_CHECK(fq_device_put(dev), "the last one");
		(void)fq_reclaim();
		stopper_finish(&s);
		STEP_CHECK(fq_load_acq(&released) == 1, "step %u: released %llu times", at,
			   (unsigned long long)fq_load_acq(&released));
		STEP_CHECK(!fq_queue_destroy(queue), "step %u: queue", at);
	}
}

static void destroy(void *arg)
{
	int err = fq_device_destroy(device);

	(void)arg;
	STEP_CHECK(!err || err == -EINPROGRESS, "%d", err);
}

/* Destroyed in a callback, it ends at once, and is left to fq_reclaim() when that returns. */
static void destroy_in_a_drain(struct fq_node *node)
{
	(void)node;
	destroy(NULL);
}

static struct fq_node destruction = {.run = destroy_in_a_drain};

static void drain(void *arg)
{
	(void)arg;
	STEP_CHECK(fq_queue_drain(queue, 1) == 1, "drain");
}

/* Nor is one that is given back after the destroy has seen it, and before the device is on the list. */
static void destroy_against_a_put(bool inside)
{
	bool stopped = true;

	for (unsigned at = 0; stopped; at++) {
		struct fq_device *dev;
		struct stopper s;

		plug_in();
		STEP_CHECK(!fq_device_get(handle, &dev), "get");
		if (inside)
			fq_queue_push(queue, &destruction);
		stopped = stopper_start(&s, inside ? drain : destroy, NULL, at);
		if (fq_device_put(dev))
			(void)fq_reclaim();
		stopper_finish(&s);
		STEP_CHECK(fq_load_acq(&released) == 1, "step %u: released %llu times", at,
			   (unsigned long long)fq_load_acq(&released));
		STEP_CHECK(!fq_queue_destroy(queue), "step %u: queue", at);
	}
}

int main(void)
{
	alarm(100);
	fq_step_hook = step_hook;
	for (unsigned i = 0; i < 4; i++)
		unplug_against_an_access(i & 1, i & 2);
	reclaim_against_a_put(false, false);
	reclaim_against_a_put(true, false);
	reclaim_against_a_put(false, true);
	destroy_against_a_put(false);
	destroy_against_a_put(true);
	puts("ok");
	return 0;
}
