/* SPDX-License-Identifier: MIT */
#include "device.h"

#include <errno.h>
#include <string.h>

#include "biglock.h"
#include "machine.h"

static struct context *context_of(struct device *d, uint32_t ctx_id)
{
	return &d->context[ctx_id - 1];
}

void device_init(struct device *d, struct machine *m)
{
	struct fq_mem_region ram = {.gpa = RAM_GPA, .size = RAM_SIZE, .hva = m->ram};

	d->machine = m;
	if (fq_mem_create(&d->mem, &ram, 1))
		die("no memory for the memory map");
	for (uint32_t i = 0; i < CONTEXTS; i++)
		renderer_init(&d->context[i].renderer, i + 1);
	for (unsigned i = 0; i < VCPUS; i++) {
		struct queue *q = &d->queue[i];

		q->device = d;
		q->vcpu = i;
		for (unsigned n = 0; n < SLOTS; n++) {
			q->commands[n] = (struct command){.device = d, .vcpu = i, .next = q->free};
			q->free = &q->commands[n];
		}
	}
}

/* -- from the guest ---------------------------------------------------------------------------- */

static void submit(struct command *cmd)
{
	struct device *d = cmd->device;
	const struct way *way = d->machine->opt.way;
	struct context *c = context_of(d, cmd->request.hdr.ctx_id);
	uint32_t ring_idx = cmd->request.hdr.ring_idx;
	struct work work = {.input = cmd->request.input, .output = &cmd->output};

	if (!c->alive) {
		renderer_start(&c->renderer, way->done, d->cookie);
		c->alive = true;
	}
	d->machine->counts.submitted++;
	c->in_flight++;
	/* Recorded first: the renderer may call back before its submit returns. */
	way->submit(cmd);
	work.token = cmd->token;
	renderer_submit(&c->renderer, ring_idx, &work);
}

/* One copy, for guest memory may change between two looks. */
static bool parse(const struct fq_vring_chain *chain, struct command *cmd)
{
	const struct virtio_gpu_ctrl_hdr *hdr = &cmd->request.hdr;

	if (chain->readable != 1 || chain->writable != 1 ||
	    chain->readable_len != sizeof(cmd->request) ||
	    chain->writable_len != sizeof(*cmd->response))
		return false;
	memcpy(&cmd->request, chain->iov[0].iov_base, sizeof(cmd->request));
	cmd->response = chain->iov[1].iov_base;
	cmd->buf = chain->buf;
	return hdr->ctx_id >= 1 && hdr->ctx_id <= CONTEXTS && hdr->ring_idx < RINGS;
}

static void pop_commands(struct queue *q)
{
	struct iovec pieces[2];
	struct fq_vring_chain chain = {.iov = pieces, .iov_max = 2};
	int popped;

	while ((popped = fq_vring_pop(q->vring, &chain)) > 0) {
		struct command *cmd = q->free;

		if (!cmd || !parse(&chain, cmd))
			die("a driver sent what it should not");
		q->free = cmd->next;
		submit(cmd);
	}
	if (popped < 0)
		die("a ring is broken: %s", strerror(-popped));
}

uint32_t device_read(struct device *d, enum reg reg, unsigned vcpu)
{
	uint32_t value = 0;

	biglock_assert();
	if (reg == REG_INTERRUPT) {
		value = d->queue[vcpu].interrupt;
		d->queue[vcpu].interrupt = 0;
	}
	return value;
}

void device_write(struct device *d, enum reg reg, unsigned vcpu)
{
	biglock_assert();
	if (reg == REG_DOORBELL)
		pop_commands(&d->queue[vcpu]);
}

/* -- to the guest ------------------------------------------------------------------------------ */

static void interrupt(struct queue *q, uint32_t bit)
{
	q->interrupt |= bit;
	vcpu_interrupt(&q->device->machine->vcpu[q->vcpu]);
}

/* From fq_vring_publish(): at the end of a drain, with the big lock held. */
static void interrupt_used(void *opaque)
{
	interrupt(opaque, INTERRUPT_USED);
}

/* What the status has to be, from what the renderer itself says. */
static int expected_status(const struct context *c, const struct command *cmd)
{
	uint32_t ring_idx = cmd->request.hdr.ring_idx;

	if (cmd->token <= atomic_load(&c->renderer.completed[ring_idx]))
		return 0;
	return c->ending ? c->ending : 1; /* too early, whatever it is */
}

static uint32_t count_answer(struct counts *counts, int status)
{
	switch (status) {
	case 0:
		counts->completed++;
		return VIRTIO_GPU_RESP_OK_NODATA;
	case -ECANCELED:
		counts->cancelled++;
		return VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID;
	default:
		counts->unplugged++;
		return VIRTIO_GPU_RESP_ERR_UNSPEC;
	}
}

void device_answer(struct command *cmd, int status)
{
	struct device *d = cmd->device;
	struct queue *q = &d->queue[cmd->vcpu];
	struct context *c = context_of(d, cmd->request.hdr.ctx_id);
	struct counts *counts = &d->machine->counts;

	biglock_assert();
	counts->wrong_status += status != expected_status(c, cmd);
	cmd->response->hdr = cmd->request.hdr;
	cmd->response->hdr.type = count_answer(counts, status);
	if (!status)
		cmd->response->output = cmd->output;
	if (fq_vring_put(q->vring, cmd->buf, sizeof(*cmd->response)))
		die("the vring refused an answer");
	c->in_flight--;
	cmd->next = q->free;
	q->free = cmd;
	monitor_answered(&d->machine->monitor);
}

void device_publish(struct device *d)
{
	for (unsigned i = 0; i < VCPUS; i++)
		(void)fq_vring_publish(d->queue[i].vring);
}

/* -- life -------------------------------------------------------------------------------------- */

/* Plain virtio: every publish that shows something interrupts. */
static void create_vring(struct queue *q)
{
	struct fq_vring_config config = {
		.mem = q->device->mem,
		.desc = RING_GPA(q->vcpu, desc),
		.driver = RING_GPA(q->vcpu, avail),
		.device = RING_GPA(q->vcpu, used),
		.size = RING_SIZE,
		.interrupt = interrupt_used,
		.opaque = q,
		.call_fd = -1,
		.avail_idx = q->avail_idx,
		.used_idx = q->used_idx,
	};
	int err = fq_vring_create(&q->vring, &config);

	if (err)
		die("no vring: %s", strerror(-err));
}

void device_plug(struct device *d)
{
	biglock_assert();
	for (unsigned i = 0; i < VCPUS; i++)
		create_vring(&d->queue[i]);
	d->machine->opt.way->plug(d);
	d->plugged = true;
	for (unsigned i = 0; i < VCPUS; i++)
		interrupt(&d->queue[i], INTERRUPT_PLUGGED);
}

/* The big lock is held while the thread is joined: nothing it still does may want that lock. */
static void stop_renderer(struct context *c, struct counts *counts, int ending)
{
	if (!c->alive)
		return;
	c->ending = ending;
	renderer_stop(&c->renderer);
	counts->joined++;
	c->alive = false;
}

void device_end_context(struct device *d, uint32_t ctx_id)
{
	struct context *c = context_of(d, ctx_id);

	biglock_assert();
	stop_renderer(c, &d->machine->counts, -ECANCELED);
	d->machine->opt.way->end_context(d, ctx_id);
	c->ending = 0;
	d->machine->counts.tear_downs++;
}

void device_unplug(struct device *d)
{
	biglock_assert();
	for (unsigned i = 0; i < CONTEXTS; i++)
		stop_renderer(&d->context[i], &d->machine->counts, -ENODEV);
	d->machine->opt.way->unplug(d);
	d->plugged = false;
	for (unsigned i = 0; i < CONTEXTS; i++)
		d->context[i].ending = 0;
	d->machine->counts.unplugs++;
	for (unsigned i = 0; i < VCPUS; i++) {
		struct queue *q = &d->queue[i];

		q->avail_idx = fq_vring_avail_idx(q->vring);
		q->used_idx = fq_vring_used_idx(q->vring);
		fq_vring_destroy(q->vring);
	}
}

uint32_t device_busiest(const struct device *d)
{
	uint32_t busiest = 0;

	for (uint32_t i = 0; i < CONTEXTS; i++) {
		if (d->context[i].in_flight > (busiest ? d->context[busiest - 1].in_flight : 0))
			busiest = i + 1;
	}
	return busiest;
}
