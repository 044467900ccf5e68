/* SPDX-License-Identifier: MIT */
/* The road of a register access: look up, take a reference, enter, dispatch, leave, drop. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <fenceq/fenceq.h>

#include "../unit/unit.h"

#define REGISTERS 16u

/* What a host has behind a device; freed when fenceq says that nobody can reach it. */
struct card {
	struct fq_gate gate;
	uint32_t reg[REGISTERS];
};

static struct fq_queue *q;
static struct fq_device *dev;
static struct card *card;
static fq_handle_t handle;
static unsigned released;

static struct {
	void (*run)(void *arg);
	void *arg;
	unsigned calls;
} deferred;

static void defer(void (*run)(void *arg), void *arg, void *opaque)
{
	(void)opaque;
	deferred.run = run;
	deferred.arg = arg;
	deferred.calls++;
}

static void retire(struct fq_fence *fence, int status, void *opaque)
{
	(void)fence;
	(void)status;
	(void)opaque;
}

static void release(void *opaque)
{
	struct card *c = opaque;

	cr_assert_eq(fq_gate_fini(&c->gate), 0);
	free(c);
	released++;
}

static void plug_in(void)
{
	struct fq_device_config config = {.queue = q, .retire = retire, .release = release};

	card = calloc(1, sizeof(*card));
	cr_assert_not_null(card);
	cr_assert_eq(fq_gate_init(&card->gate, NULL), 0);
	config.opaque = card;
	cr_assert_eq(fq_device_create(&dev, &config), 0);
	handle = fq_device_handle(dev);
}

static void setup(void)
{
	released = 0;
	memset(&deferred, 0, sizeof(deferred));
	cr_assert_eq(fq_queue_create(&q, 0), 0);
	plug_in();
}

static void teardown(void)
{
	cr_expect_eq(fq_reclaim(), 0, "every test frees what it has");
	cr_expect_eq(fq_queue_destroy(q), 0);
}

TestSuite(road, .init = setup, .fini = teardown, .timeout = 60);

static struct fq_device *get(void)
{
	struct fq_device *got = NULL;

	cr_assert_eq(fq_device_get(handle, &got), 0);
	cr_assert_not_null(got);
	return got;
}

Test(road, there_and_back)
{
	struct fq_device *got = get();

	cr_assert_eq(got, dev);
	cr_assert_eq(fq_device_opaque(got), card);
	cr_assert_not(fq_device_ended(got));
	cr_assert_not(fq_device_put(got));
	cr_assert_eq(fq_device_destroy(dev), 0);
	cr_assert_eq(released, 1);
}

Test(road, what_is_no_handle_or_gone_is_refused)
{
	struct fq_process_stats before, after;
	struct fq_device *got = NULL;

	fq_process_get_stats(&before);
	cr_assert_eq(fq_device_get(0, &got), -EINVAL);
	cr_assert_eq(fq_device_get(handle, NULL), -EINVAL);
	cr_assert_eq(fq_device_destroy(dev), 0);
	cr_assert_eq(fq_device_get(handle, &got), -ENODEV);
	fq_process_get_stats(&after);
	cr_assert_eq(after.refused_handle, before.refused_handle + 1);
	cr_assert_eq(after.refused_gone, before.refused_gone + 1);
	cr_assert_null(got);
}

/* Seen to fail (the memory is gone): with a reclaim that does not look at references. */
Test(road, a_reference_keeps_what_was_unplugged)
{
	struct fq_device *first = get(), *second = get(), *none = NULL;

	card->reg[3] = 7;
	cr_assert_eq(fq_device_unplug(dev, NULL, NULL), 0);
	cr_assert_eq(fq_reclaim(), 0);
	cr_assert_eq(fq_device_get(handle, &none), -ENODEV);
	cr_assert(fq_device_ended(first));
	cr_assert_eq(((struct card *)fq_device_opaque(first))->reg[3], 7);
	cr_assert_not(fq_device_put(first), "there is another one");
	cr_assert_eq(fq_reclaim(), 0);
	cr_assert_eq(released, 0);
	cr_assert_eq(fq_queue_destroy(q), -EBUSY);
	cr_assert(fq_device_put(second));
	cr_assert_eq(released, 0, "not by the one who puts");
	cr_assert_eq(fq_reclaim(), 1);
	cr_assert_eq(released, 1);
}

Test(road, given_back_before_the_reclaim)
{
	struct fq_device *got = get();

	cr_assert_eq(fq_device_unplug(dev, NULL, NULL), 0);
	cr_assert(fq_device_put(got));
	cr_assert_eq(fq_reclaim(), 1);
	cr_assert_eq(released, 1);
}

Test(road, given_back_before_the_deferred_run)
{
	struct fq_device *got = get();

	cr_assert_eq(fq_device_unplug(dev, defer, NULL), 0);
	cr_assert(fq_device_put(got));
	cr_assert_eq(fq_reclaim(), 0, "it is the defer function's");
	cr_assert_eq(deferred.calls, 1);
	deferred.run(deferred.arg);
	cr_assert_eq(released, 1);
}

/* The deferred run does not wait for a reference. */
Test(road, given_back_after_the_deferred_run)
{
	struct fq_device *got = get();

	cr_assert_eq(fq_device_unplug(dev, defer, NULL), 0);
	deferred.run(deferred.arg);
	cr_assert_eq(released, 0);
	cr_assert(fq_device_ended(got));
	cr_assert_eq(fq_reclaim(), 0);
	cr_assert(fq_device_put(got));
	cr_assert_eq(fq_reclaim(), 1);
	cr_assert_eq(released, 1);
	cr_assert_eq(deferred.calls, 1);
}

/* The holder may be waiting for the owner: a destroy does not wait for it. */
Test(road, destroy_does_not_wait_for_a_reference)
{
	struct fq_device *got = get();

	cr_assert_eq(fq_device_destroy(dev), -EINPROGRESS);
	cr_assert_eq(released, 0);
	cr_assert(fq_device_ended(got));
	cr_assert_eq(fq_device_opaque(got), card);
	cr_assert_eq(fq_queue_destroy(q), -EBUSY);
	cr_assert_eq(fq_reclaim(), 0);
	cr_assert(fq_device_put(got));
	cr_assert_eq(fq_reclaim(), 1);
	cr_assert_eq(released, 1);
}

/* Others take its place, in the table of handles too, while a reference is held. */
Test(road, the_next_device_comes_at_once)
{
	struct fq_device *got = get(), *none;
	const fq_handle_t old = handle;

	cr_assert_eq(fq_device_unplug(dev, NULL, NULL), 0);
	cr_assert_eq(fq_reclaim(), 0);
	for (unsigned i = 0; i < 2000; i++) {
		plug_in();
		cr_assert_neq(handle, old);
		cr_assert_eq(fq_device_get(old, &none), -ENODEV);
		cr_assert_eq(fq_device_destroy(dev), 0);
	}
	cr_assert(fq_device_ended(got));
	cr_assert(fq_device_put(got));
	cr_assert_eq(fq_reclaim(), 1);
	cr_assert_eq(released, 2001);
}

static void destroy_inside(struct fq_node *node)
{
	(void)node;
	cr_assert_eq(fq_device_destroy(dev), -EINPROGRESS);
}

Test(road, destroyed_inside_a_drain)
{
	struct fq_node node = {.run = destroy_inside};
	struct fq_device *got = get();

	fq_queue_push(q, &node);
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 1);
	cr_assert_eq(fq_device_opaque(got), card);
	cr_assert(fq_device_put(got));
	cr_assert_eq(fq_reclaim(), 1);
}

/* A device that could not be made has not taken what is behind it. */
Test(road, a_failed_create_releases_nothing)
{
	const struct fq_device_config config = {
		.queue = q, .retire = retire, .release = release, .opaque = card};
	static struct fq_device *many[1024];
	struct fq_device_config plain = config;
	unsigned n = 0;
	struct fq_device *one;

	plain.release = NULL;
	while (n < 1024 && !fq_device_create(&many[n], &plain))
		n++;
	cr_assert_eq(n, 1023, "handles run out");
	cr_assert_eq(fq_device_create(&one, &config), -ENFILE);
	cr_assert_eq(released, 0);
	while (n)
		cr_assert_eq(fq_device_destroy(many[--n]), 0);
	cr_assert_eq(fq_device_destroy(dev), 0);
	cr_assert_eq(released, 1);
}

/* -- the whole of it --------------------------------------------------------------------------- */

struct access {
	struct fq_gate_op op;
	struct fq_device *dev;
	uint32_t index;
	int result; /* 1 when it has been done */
};

static void dispatch(struct fq_gate_op *op)
{
	struct access *a = (struct access *)(void *)((char *)op - offsetof(struct access, op));
	struct card *c = fq_device_opaque(a->dev);

	if (fq_device_ended(a->dev)) {
		a->result = -ENODEV;
		return;
	}
	c->reg[a->index]++;
	a->result = 1;
}

static int write_register(struct access *a, uint32_t index)
{
	struct card *c;
	int err;

	*a = (struct access){.op.run = dispatch, .index = index};
	err = fq_device_get(handle, &a->dev);
	if (err)
		return err;
	c = fq_device_opaque(a->dev);
	err = fq_gate_enter_or_leave(&c->gate, &a->op);
	if (!err) {
		dispatch(&a->op);
		cr_expect_eq(fq_gate_leave(&c->gate), 0);
	}
	return err;
}

static void *write_in_thread(void *arg)
{
	return (void *)(intptr_t)write_register(arg, 5);
}

static int written_by_another(struct access *a)
{
	pthread_t thread;
	void *got;

	cr_assert_eq(pthread_create(&thread, NULL, write_in_thread, a), 0);
	pthread_join(thread, &got);
	return (int)(intptr_t)got;
}

Test(road, a_device_that_goes_while_an_access_waits_refuses_it)
{
	struct access before, during, after;
	struct card *c = card;

	cr_assert_eq(written_by_another(&before), 0);
	cr_assert_eq(before.result, 1);
	cr_assert_not(fq_device_put(before.dev));
	cr_assert_eq(fq_gate_enter(&c->gate, -1), 0);
	cr_assert_eq(written_by_another(&during), FQ_GATE_LEFT);
	cr_assert_eq(fq_device_unplug(dev, NULL, NULL), 0);
	cr_assert_eq(fq_reclaim(), 0);
	cr_assert_eq(written_by_another(&after), -ENODEV);
	cr_assert_eq(during.result, 0, "not yet");
	cr_assert_eq(fq_gate_leave(&c->gate), 0);
	cr_assert_eq(during.result, -ENODEV);
	cr_assert_eq(c->reg[5], 1);
	cr_assert(fq_device_put(during.dev));
	cr_assert_eq(fq_reclaim(), 1);
	cr_assert_eq(released, 1);
}
