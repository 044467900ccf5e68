/* SPDX-License-Identifier: MIT */
/*
 * vCPUs write a device's doorbell register, an owner retires what the device completes, and in the
 * middle of it the device is unplugged. A vCPU that finds the device busy leaves its access with
 * whoever is inside; the owner, whose loop has other things to do, has himself told when it is free.
 *
 *     vCPU                                        owner
 *     get a reference by handle                   fd readable:
 *     enter the gate, or leave the access         enter the gate, or be told
 *       dispatch: submit a fence, start work        drain the device's queue: retire
 *     leave the gate (running what was left)      leave the gate (running what was left)
 *     wait for the access, if it was left
 *     give the reference back
 *
 * Inside the gate one is the device's owner, whichever thread one is; so a vCPU may submit. A renderer
 * thread signals the fences from outside, as ever.
 *
 * At the end: each access was dispatched once or refused, none after the unplug, and each fence came
 * back. Exit status 0 if that is so.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <fenceq/fenceq.h>

#define VCPUS 4u
#define ACCESSES 100000u /* of all vCPUs, then the device is unplugged */
#define REFUSALS 100u    /* of each vCPU, which then ends */

#define CHECK(condition)                                                                \
	do {                                                                            \
		if (!(condition)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			exit(1);                                                        \
		}                                                                       \
	} while (0)

/* What the host has behind the device; freed when nobody can reach it any more. */
struct card {
	struct fq_gate gate;
	struct fq_device *device;
	struct fq_node burial;
	bool gone;          /* inside the gate, from here on */
	uint64_t doorbells; /* accesses dispatched */
	uint64_t submitted;
	uint64_t retired;
};

/* One access to a register, on the stack of its vCPU. */
struct access {
	struct fq_gate_op op;
	struct fq_device *device;
	struct fq_event done;
	unsigned dispatched;
};

struct vcpu {
	pthread_t thread;
	uint64_t dispatched, refused, left;
};

static struct fq_queue *main_queue;   /* the owner's loop */
static struct fq_queue *device_queue; /* drained inside the gate */
static struct card *card;             /* the owner's */
static bool plugged;                  /* the owner's */
static fq_handle_t handle;            /* what a vCPU's memory map holds: never a pointer */
static void unplug(struct fq_node *node);

static struct fq_node unplug_request = {.run = unplug};
static atomic_uint running;
static atomic_ullong accesses;
static atomic_ullong latest; /* token for the renderer */
static uint64_t doorbells, submitted, retired;

/* -- the device: everything here is inside the gate -------------------------------------------- */

static void retire(struct fq_fence *fence, int status, void *opaque)
{
	struct card *c = opaque;

	(void)status;
	CHECK(fq_gate_is_inside(&c->gate));
	c->retired++;
	free(fence);
}

static void ring_doorbell(struct card *c)
{
	struct fq_fence *fence;

	CHECK(!c->gone);
	c->doorbells++;
	if (c->doorbells % 64)
		return;
	fence = calloc(1, sizeof(*fence));
	CHECK(fence && !fq_submit_global(c->device, fence));
	c->submitted++;
	atomic_store(&latest, fence->token);
	sched_yield(); /* a device that is busy for a while */
}

static void dispatch(struct access *a)
{
	if (!fq_device_ended(a->device)) {
		ring_doorbell(fq_device_opaque(a->device));
		a->dispatched++;
	}
	fq_event_set(&a->done, a->dispatched ? 0 : -ENODEV);
}

static void run_access(struct fq_gate_op *op)
{
	dispatch((struct access *)(void *)((char *)op - offsetof(struct access, op)));
}

/* -- vCPUs ------------------------------------------------------------------------------------- */

static int write_doorbell(struct vcpu *vcpu)
{
	struct access a = {.op.run = run_access, .done = FQ_EVENT_INIT};
	struct card *c;
	int status;

	if (fq_device_get(handle, &a.device))
		return -ENODEV;
	c = fq_device_opaque(a.device);
	if (fq_gate_enter_or_leave(&c->gate, &a.op) == FQ_GATE_LEFT) {
		vcpu->left++;
	} else {
		dispatch(&a);
		fq_gate_leave(&c->gate);
	}
	/* A write could be posted, with an access that is not on the stack. */
	fq_event_wait(&a.done, -1, &status);
	CHECK(a.dispatched == (status == 0));
	if (fq_device_put(a.device))
		fq_reclaim();
	return status;
}

static void *run_vcpu(void *arg)
{
	struct vcpu *vcpu = arg;

	while (vcpu->refused < REFUSALS) {
		if (write_doorbell(vcpu))
			vcpu->refused++;
		else
			vcpu->dispatched++;
		if (atomic_fetch_add(&accesses, 1) == ACCESSES)
			fq_queue_push(main_queue, &unplug_request);
	}
	atomic_fetch_sub(&running, 1);
	return NULL;
}

/* -- the renderer ------------------------------------------------------------------------------ */

static void *render(void *unused)
{
	unsigned long long signalled = 0;

	(void)unused;
	while (atomic_load(&running)) {
		unsigned long long token = atomic_load(&latest);

		if (token != signalled)
			(void)fq_signal_global(handle, token);
		signalled = token;
		sched_yield();
	}
	return NULL;
}

/* -- the owner --------------------------------------------------------------------------------- */

static void bury(struct fq_node *node)
{
	struct card *c = (struct card *)(void *)((char *)node - offsetof(struct card, burial));

	CHECK(!fq_gate_fini(&c->gate));
	doorbells = c->doorbells;
	submitted = c->submitted;
	retired = c->retired;
	free(c);
	card = NULL;
}

/* On whichever thread frees the device. What the owner was left by the gate is run before this. */
static void release(void *opaque)
{
	struct card *c = opaque;

	c->burial.run = bury;
	fq_queue_push(main_queue, &c->burial);
}

static void plug_in(void)
{
	const struct fq_gate_config gate = {.queue = main_queue};
	struct fq_device_config config = {
		.queue = device_queue, .retire = retire, .release = release};

	card = calloc(1, sizeof(*card));
	CHECK(card && !fq_gate_init(&card->gate, &gate));
	config.opaque = card;
	CHECK(!fq_device_create(&card->device, &config));
	handle = fq_device_handle(card->device);
	plugged = true;
}

/* Inside, on a reference: what is left in the gate runs after this, and finds the device ended. */
static void unplug(struct fq_node *node)
{
	struct card *c = card;
	struct fq_device *device;

	(void)node;
	CHECK(!fq_device_get(handle, &device));
	CHECK(!fq_gate_enter(&c->gate, -1));
	c->gone = true;
	CHECK(!fq_device_unplug(device, NULL, NULL));
	CHECK(!fq_gate_leave(&c->gate));
	plugged = false;
	if (fq_device_put(device))
		fq_reclaim();
}

static bool asked; /* to be told when the device is free */

static void drain_device(void);

static void is_free(struct fq_gate_op *op)
{
	(void)op;
	asked = false;
	drain_device();
}

/* If a vCPU is inside, the loop goes on with other things, and is told. */
static void drain_device(void)
{
	static struct fq_gate_op op = {.run = is_free};

	if (!plugged)
		return;
	if (fq_gate_enter_or_tell(&card->gate, &op, main_queue) == FQ_GATE_LEFT) {
		asked = true;
		return;
	}
	fq_queue_drain(device_queue, 64);
	fq_gate_leave(&card->gate);
}

static void run_loop(void)
{
	while (atomic_load(&running) || card) {
		struct pollfd fds[] = {
			{.fd = fq_queue_fd(main_queue), .events = POLLIN},
			{.fd = fq_queue_fd(device_queue), .events = POLLIN},
		};

		(void)poll(fds, plugged && !asked ? 2 : 1, 10);
		if (fds[1].revents)
			drain_device();
		fq_queue_drain(main_queue, 64);
	}
}

int main(void)
{
	struct vcpu vcpu[VCPUS] = {0};
	uint64_t dispatched = 0, refused = 0, left = 0;
	pthread_t renderer;

	CHECK(!fq_queue_create(&main_queue, 0) && !fq_queue_create(&device_queue, 0));
	plug_in();
	atomic_store(&running, VCPUS);
	CHECK(!pthread_create(&renderer, NULL, render, NULL));
	for (unsigned i = 0; i < VCPUS; i++)
		CHECK(!pthread_create(&vcpu[i].thread, NULL, run_vcpu, &vcpu[i]));
	run_loop();
	for (unsigned i = 0; i < VCPUS; i++) {
		pthread_join(vcpu[i].thread, NULL);
		dispatched += vcpu[i].dispatched;
		refused += vcpu[i].refused;
		left += vcpu[i].left;
	}
	pthread_join(renderer, NULL);
	CHECK(!fq_queue_destroy(device_queue) && !fq_queue_destroy(main_queue));
	CHECK(dispatched == doorbells && dispatched > ACCESSES && refused == VCPUS * REFUSALS);
	CHECK(submitted == retired && submitted == doorbells / 64);
	printf("register_access: %llu accesses dispatched, %llu of all left with others, %llu "
	       "refused "
	       "after the unplug; %llu fences retired: ok\n",
	       (unsigned long long)dispatched, (unsigned long long)left,
	       (unsigned long long)refused, (unsigned long long)retired);
	return 0;
}
