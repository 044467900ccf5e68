/* SPDX-License-Identifier: MIT */
/*
 * vCPU-like threads access a device's registers through its handle while the owner unplugs one device
 * after the other: each access is dispatched once, inside the gate, or refused; none after the unplug;
 * the memory behind a device goes once, when nobody can reach it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include <fenceq/fenceq.h>

#include "stress.h"

#define THREADS 8u

struct card {
	struct fq_gate gate;
	struct fq_node burial;
	uint64_t accesses; /* guarded by the gate */
	bool gone;
};

struct access {
	struct fq_gate_op op;
	struct fq_device *dev;
	struct fq_event done;
	unsigned dispatched;
	int result;
};

static struct fq_queue *queue;
static _Atomic fq_handle_t handle;
static atomic_bool stop;
static atomic_uint running;
static atomic_ullong plugged, released, counted, done, refused;

static void retire(struct fq_fence *fence, int status, void *opaque)
{
	(void)fence;
	(void)status;
	(void)opaque;
}

/* The owner: a node of the gate's own, if there was one, came before this one. */
static void bury(struct fq_node *node)
{
	struct card *card = (struct card *)(void *)((char *)node - offsetof(struct card, burial));

	STRESS_CHECK(!fq_gate_fini(&card->gate), "somebody is inside");
	atomic_fetch_add(&counted, card->accesses);
	atomic_fetch_add(&released, 1);
	memset(card, 0xdb, sizeof(*card));
	free(card);
}

static void release(void *opaque)
{
	struct card *card = opaque;

	card->burial.run = bury;
	fq_queue_push(queue, &card->burial);
}

static void dispatch(struct access *a)
{
	struct card *card = fq_device_opaque(a->dev);

	a->dispatched++;
	a->result = -ENODEV;
	if (!fq_device_ended(a->dev)) {
		STRESS_CHECK(!card->gone, "after the unplug");
		card->accesses++;
		a->result = 0;
	}
	(void)fq_event_set(&a->done, 0);
}

static void run(struct fq_gate_op *op)
{
	dispatch((struct access *)(void *)((char *)op - offsetof(struct access, op)));
}

static int access_register(void)
{
	struct access a = {.op.run = run, .done = FQ_EVENT_INIT};
	struct card *card;
	int got = fq_device_get(atomic_load(&handle), &a.dev);

	if (got)
		return got;
	card = fq_device_opaque(a.dev);
	got = fq_gate_enter_or_leave(&card->gate, &a.op);
	if (!got) {
		dispatch(&a);
		STRESS_CHECK(!fq_gate_leave(&card->gate), "leave");
	}
	STRESS_CHECK(!fq_event_wait(&a.done, -1, NULL), "wait");
	if (fq_device_put(a.dev) && atomic_load(&handle) % 2)
		(void)fq_reclaim();
	STRESS_CHECK(a.dispatched == 1, "dispatched %u times", a.dispatched);
	return a.result;
}

static void *vcpu(void *arg)
{
	bool registered = (uintptr_t)arg & 1;

	if (registered)
		STRESS_CHECK(!fq_thread_register(), "register");
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		int got = access_register();

		STRESS_CHECK(!got || got == -ENODEV, "%d", got);
		atomic_fetch_add_explicit(got ? &refused : &done, 1, memory_order_relaxed);
		if (got)
			sched_yield();
	}
	if (registered)
		STRESS_CHECK(!fq_thread_unregister(), "unregister");
	atomic_fetch_sub(&running, 1);
	return NULL;
}

/* Beside those who give the last reference back. */
static void *reap(void *arg)
{
	(void)arg;
	while (!atomic_load(&stop)) {
		(void)fq_reclaim();
		sched_yield();
	}
	return NULL;
}

static struct fq_device *plug_in(void)
{
	const struct fq_gate_config limited = {.queue = queue, .limit = 2};
	struct fq_device_config config = {.queue = queue, .retire = retire, .release = release};
	struct card *card = calloc(1, sizeof(*card));
	struct fq_device *dev;

	STRESS_CHECK(card, "memory");
	STRESS_CHECK(!fq_gate_init(&card->gate, &limited), "gate");
	config.opaque = card;
	STRESS_CHECK(!fq_device_create(&dev, &config), "device");
	atomic_fetch_add(&plugged, 1);
	atomic_store(&handle, fq_device_handle(dev));
	return dev;
}

static void defer(void (*work)(void *), void *arg, void *opaque)
{
	*(void (**)(void *))opaque = work;
	((void **)opaque)[1] = arg;
}

/* Inside the gate, so that it is exact; on a reference of its own, for it is inside until the end. */
static void pull_out(struct fq_device *dev, uint64_t r)
{
	struct {
		void (*run)(void *);
		void *arg;
	} later = {NULL, NULL};
	struct card *card = fq_device_opaque(dev);
	struct fq_device *mine;

	STRESS_CHECK(!fq_device_get(fq_device_handle(dev), &mine), "get");
	STRESS_CHECK(!fq_gate_enter(&card->gate, -1), "enter");
	card->gone = true;
	if (r % 3 == 0)
		STRESS_CHECK(fq_device_destroy(dev) == -EINPROGRESS, "destroy");
	else
		STRESS_CHECK(!fq_device_unplug(dev, r % 3 == 1 ? defer : NULL, &later), "unplug");
	STRESS_CHECK(!fq_gate_leave(&card->gate), "leave");
	if (later.run)
		later.run(later.arg);
	if (fq_device_put(mine))
		(void)fq_reclaim();
}

static void own(struct stress_options *o)
{
	const int64_t end = stress_now_ns() + (int64_t)(o->seconds * 1e9);

	fq_queue_set_owner(queue);
	while (stress_now_ns() < end) {
		struct fq_device *dev = plug_in();
		uint64_t r = stress_random(&o->seed);

		for (uint64_t turns = r % 16; turns; turns--) {
			(void)fq_queue_drain(queue, FQ_NO_BUDGET);
			sched_yield();
		}
		pull_out(dev, r >> 8);
	}
}

int main(int argc, char **argv)
{
	struct stress_options o = stress_parse(argc, argv, THREADS);
	pthread_t *thread = calloc(o.threads, sizeof(*thread)), reaper;
	uintptr_t i;

	STRESS_CHECK(thread, "memory");
	STRESS_CHECK(!fq_queue_create(&queue, 0), "queue");
	atomic_store(&handle, 1u << 10); /* a generation that was never given out */
	atomic_store(&running, o.threads);
	for (i = 0; i < o.threads; i++)
		STRESS_CHECK(!pthread_create(&thread[i], NULL, vcpu, (void *)i), "thread");
	STRESS_CHECK(!pthread_create(&reaper, NULL, reap, NULL), "thread");
	own(&o);
	atomic_store(&stop, true);
	pthread_join(reaper, NULL);
	/* What was left to us some of them are waiting for. */
	while (atomic_load(&running))
		(void)fq_queue_drain(queue, FQ_NO_BUDGET);
	for (i = 0; i < o.threads; i++)
		pthread_join(thread[i], NULL);
	(void)fq_reclaim();
	(void)fq_queue_drain(queue, FQ_NO_BUDGET);
	printf("devices %llu, accesses %llu, refused %llu\n", atomic_load(&plugged),
	       atomic_load(&done), atomic_load(&refused));
	STRESS_CHECK(atomic_load(&released) == atomic_load(&plugged), "some memory is left");
	STRESS_CHECK(atomic_load(&counted) == atomic_load(&done), "lost or twice");
	STRESS_CHECK(!fq_queue_destroy(queue), "queue");
	free(thread);
	puts("ok");
	return 0;
}
