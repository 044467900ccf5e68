/* SPDX-License-Identifier: MIT */
#include "plant.h"

#include <time.h>

#include "owner.h"

#define PLANT_EVERY 1000
#define PLANT_FIRST 100
#define PLANT_MAX 5

static bool due(struct plant_state *p)
{
	if (p->seen++ % PLANT_EVERY != PLANT_FIRST || p->planted == PLANT_MAX)
		return false;
	p->planted++;
	return true;
}

void plant_submit(struct owner *o, struct command *cmd)
{
	const struct timespec millisecond = {.tv_nsec = 1000000};
	uint64_t token = cmd->fence.token;

	if (o->run->opt.plant != PLANT_EARLY || !due(&o->plant))
		return;
	if (cmd->timeline)
		fq_signal(fq_device_handle(o->device), cmd->timeline, cmd->hdr.ring_idx, token);
	else
		fq_signal_global(fq_device_handle(o->device), token);
	fq_queue_drain(o->queue, FQ_NO_BUDGET);
	/* The renderer has not even heard of the fence: time for the driver to look. */
	nanosleep(&millisecond, NULL);
}

static uint64_t pending_behind(struct owner *o, const struct command *cmd)
{
	struct fq_timeline *tl = fq_device_global(o->device);

	if (cmd->timeline &&
	    fq_device_timeline(o->device, cmd->timeline, cmd->hdr.ring_idx, &tl) != 0)
		return 0;
	return fq_timeline_pending(tl);
}

/* The first of two answers waits until the second, of the same timeline, has been sent. */
static bool swap(struct owner *o, struct command *cmd)
{
	struct plant_state *p = &o->plant;
	struct command *held = p->held;

	if (!held) {
		/* Alone on its timeline it would wait for one that may never come. */
		if (pending_behind(o, cmd) == 0 || !due(p))
			return false;
		p->held = cmd;
		return true;
	}
	if (held->timeline != cmd->timeline)
		return false;
	p->held = NULL;
	owner_answer(o, cmd, VIRTIO_GPU_RESP_OK_NODATA);
	owner_answer(o, held, VIRTIO_GPU_RESP_OK_NODATA);
	return true;
}

bool plant_answer(struct owner *o, struct command *cmd)
{
	struct plant_state *p = &o->plant;

	switch (o->run->opt.plant) {
	case PLANT_SWAP:
		return swap(o, cmd);
	case PLANT_DROP:
		return due(p);
	case PLANT_DUP:
		if (due(p))
			cmd->hdr = p->last;
		p->last = cmd->hdr;
		return false;
	default:
		return false;
	}
}
