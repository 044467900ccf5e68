/* SPDX-License-Identifier: MIT */
#include "owner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* What one turn of the loop does at most, so that neither kind of work keeps the other waiting. */
#define DRAIN_BUDGET 256
#define POP_BUDGET 32

/* Pieces of one chain; this driver's have two. */
#define MAX_PIECES 8

void owner_answer(struct owner *o, struct command *cmd, uint32_t type)
{
	struct virtio_gpu_ctrl_hdr response = cmd->hdr;

	response.type = type;
	*cmd->response = response;
	if (fq_vring_put(o->vring, cmd->buf, sizeof(response)))
		run_fail(o->run, "the vring refused the answer to fence %llu",
			 (unsigned long long)cmd->hdr.fence_id);
	cmd->next_free = o->free;
	o->free = cmd;
}

/* fenceq: a fence is complete, or never will be. The device publishes the vring after the last. */
static void retire(struct fq_fence *fence, int status, void *opaque)
{
	struct owner *o = opaque;
	struct command *cmd = fence->tag;

	if (status)
		owner_answer(o, cmd, VIRTIO_GPU_RESP_ERR_UNSPEC);
	else if (!plant_answer(o, cmd))
		owner_answer(o, cmd, VIRTIO_GPU_RESP_OK_NODATA);
}

static void submit(struct owner *o, struct command *cmd)
{
	uint8_t ring_idx = cmd->hdr.ring_idx;
	int err;

	/* Recorded first: the renderer may call back before it returns. */
	if (cmd->timeline)
		err = fq_submit(o->device, cmd->timeline, ring_idx, &cmd->fence);
	else
		err = fq_submit_global(o->device, &cmd->fence);
	if (err) {
		run_fail(o->run, "fenceq refused a fence: %s", strerror(-err));
		return;
	}
	if (!oracle_submitted(o->oracle, cmd->timeline, cmd->fence.token)) {
		run_fail(o->run, "the renderer is so far behind that answers must be early");
		return;
	}
	plant_submit(o, cmd);
	if (renderer_fence(cmd->timeline, ring_idx, cmd->fence.token))
		run_fail(o->run, "virglrenderer refused a fence of timeline %u: context dead?",
			 cmd->timeline);
}

/* False when the chain is none that a driver of this example queues. */
static bool parse(struct owner *o, const struct fq_vring_chain *chain, struct command *cmd)
{
	const struct virtio_gpu_ctrl_hdr *hdr = &cmd->hdr;

	if (chain->readable != 1 || chain->writable != 1 ||
	    chain->readable_len != sizeof(cmd->hdr) || chain->writable_len != sizeof(cmd->hdr))
		return false;
	/* One copy, for guest memory may change between two looks. */
	memcpy(&cmd->hdr, chain->iov[0].iov_base, sizeof(cmd->hdr));
	cmd->response = chain->iov[1].iov_base;
	cmd->buf = chain->buf;
	cmd->timeline = hdr->flags & VIRTIO_GPU_FLAG_INFO_RING_IDX ? hdr->ctx_id : 0;
	cmd->fence = (struct fq_fence){.fence_id = hdr->fence_id, .tag = cmd};
	return hdr->flags & VIRTIO_GPU_FLAG_FENCE &&
	       cmd->timeline <= options_contexts(&o->run->opt);
}

/* True when commands may be left for the next turn of the loop. */
static bool pop_commands(struct owner *o)
{
	struct iovec pieces[MAX_PIECES];
	struct fq_vring_chain chain = {.iov = pieces, .iov_max = MAX_PIECES};

	fq_vring_disable_kick(o->vring);
	for (unsigned i = 0; i < POP_BUDGET; i++) {
		struct command *cmd = o->free;
		int popped = fq_vring_pop(o->vring, &chain);

		if (popped == 0)
			return fq_vring_enable_kick(o->vring);
		if (popped < 0) {
			run_fail(o->run, "the ring is broken: %s", strerror(-popped));
			return false;
		}
		if (!cmd || !parse(o, &chain, cmd)) {
			run_fail(o->run, "the driver sent a command it should not");
			return false;
		}
		o->free = cmd->next_free;
		submit(o, cmd);
	}
	return true;
}

/* Returns when it is asked to stop (true) or the run failed. */
static bool loop(struct owner *o)
{
	struct epoll_event events[3];
	eventfd_t ignored;
	bool commands_wait = false;

	while (!atomic_load(&o->run->failed)) {
		int count = epoll_wait(o->epoll_fd, events, 3, commands_wait ? 0 : -1);

		for (int i = 0; i < count; i++) {
			int fd = events[i].data.fd;

			if (fd == fq_queue_fd(o->queue)) {
				fq_queue_drain(o->queue, DRAIN_BUDGET);
				continue;
			}
			eventfd_read(fd, &ignored);
			if (fd == o->stop_fd)
				return true;
			commands_wait = true; /* kicked */
		}
		if (commands_wait)
			commands_wait = pop_commands(o);
	}
	return false;
}

static int watch(struct owner *o, int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	return epoll_ctl(o->epoll_fd, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

static int create_vring(struct owner *o)
{
	const struct machine *m = o->machine;
	struct fq_mem_region ram = {.gpa = MACHINE_RAM_GPA, .size = m->ram_size};
	struct fq_vring_config config = {
		.desc = MACHINE_RAM_GPA + m->desc,
		.driver = MACHINE_RAM_GPA + m->avail,
		.device = MACHINE_RAM_GPA + m->used,
		.size = m->ring_size,
		.features = FQ_VRING_INDIRECT | FQ_VRING_EVENT_IDX,
		.call_fd = m->call_fd,
	};
	int err;

	ram.hva = machine_map(m);
	if (!ram.hva)
		return -ENOMEM;
	err = fq_mem_create(&o->mem, &ram, 1);
	if (err)
		return err;
	config.mem = o->mem;
	return fq_vring_create(&o->vring, &config);
}

static int create_device(struct owner *o)
{
	struct fq_device_config config = {.retire = retire, .opaque = o};
	int err = fq_queue_create(&o->queue, 0);

	if (err)
		return err;
	config.queue = o->queue;
	err = fq_device_create(&o->device, &config);
	for (unsigned i = 1; !err && i <= options_contexts(&o->run->opt); i++)
		err = fq_context_create(o->device, i);
	return err ? err : fq_device_attach_vring(o->device, o->vring);
}

static int create_commands(struct owner *o)
{
	o->commands = calloc(o->machine->ring_size, sizeof(*o->commands));
	if (!o->commands)
		return -ENOMEM;
	for (uint32_t i = 0; i < o->machine->ring_size; i++) {
		o->commands[i].next_free = o->free;
		o->free = &o->commands[i];
	}
	return 0;
}

static int create_all(struct owner *o)
{
	int err = create_commands(o);

	if (!err)
		err = create_vring(o);
	if (!err)
		err = create_device(o);
	if (!err)
		err = watch(o, o->machine->kick_fd);
	if (!err)
		err = watch(o, o->stop_fd);
	if (!err)
		err = watch(o, fq_queue_fd(o->queue));
	return err;
}

/* The renderer first: once its threads are gone nobody can signal any more. */
static void destroy_all(struct owner *o)
{
	renderer_stop(&o->renderer);
	fq_device_destroy(o->device);
	fq_queue_destroy(o->queue);
	fq_vring_destroy(o->vring);
	fq_mem_destroy(o->mem);
	free(o->commands);
	close(o->epoll_fd);
	close(o->stop_fd);
}

/* After a failure everything is left as it lies: the renderer may hang, and the process ends. */
static void *own(void *opaque)
{
	struct owner *o = opaque;
	int err = create_all(o);

	if (err) {
		run_fail(o->run, "cannot create the device: %s", strerror(-err));
		return NULL;
	}
	if (renderer_start(&o->renderer, o->run, fq_device_handle(o->device), o->oracle))
		return NULL;
	run_reach(o->run, STAGE_READY);
	if (loop(o)) {
		destroy_all(o);
		run_reach(o->run, STAGE_STOPPED);
	}
	return NULL;
}

int owner_start(struct owner *o, struct run *run, const struct machine *m, struct oracle *oracle)
{
	*o = (struct owner){.run = run, .machine = m, .oracle = oracle};
	o->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	o->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (o->epoll_fd < 0 || o->stop_fd < 0)
		return -errno;
	return -pthread_create(&o->thread, NULL, own, o);
}

void owner_get_report(const struct owner *o, struct owner_report *report)
{
	fq_queue_get_stats(o->queue, &report->queue);
	fq_device_get_stats(o->device, &report->device);
	fq_vring_get_stats(o->vring, &report->vring);
	report->threads = atomic_load(&o->renderer.threads);
	report->planted = atomic_load(&o->plant.planted);
}

void owner_stop(struct owner *o)
{
	eventfd_write(o->stop_fd, 1);
}
