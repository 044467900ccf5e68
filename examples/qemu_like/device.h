/* SPDX-License-Identifier: MIT */
#ifndef DEVICE_H
#define DEVICE_H

/*
 * The device, a small virtio-gpu: a queue for each vCPU, contexts with a renderer each. Everything
 * here is for whoever holds the big lock; no renderer's thread comes here.
 * (In way_direct.c one does, and see what comes of it.)
 */

#include <stdbool.h>
#include <stdint.h>

#include <fenceq/fenceq.h>

#include "renderer.h"
#include "ring.h"
#include "vcpu.h"

#define CONTEXTS (VCPUS * CONTEXTS_PER_VCPU) /* ids from 1 */

enum reg {
	REG_DOORBELL,  /* write: look at this vCPU's queue */
	REG_INTERRUPT, /* read: why it was interrupted; clears */
};

/* Bits of REG_INTERRUPT. */
#define INTERRUPT_USED 1u
#define INTERRUPT_PLUGGED 2u
#define REG_ABSENT UINT32_MAX

struct device;

/* A command of the guest, from the pop of its chain until it is answered. */
struct command {
	struct device *device;
	unsigned vcpu;
	struct fq_vring_buf buf;
	struct request request;
	struct response *response; /* in guest memory */
	uint64_t output;           /* the renderer's */
	struct command *next;      /* free, or see pending.h */
	/* The ways': */
	struct fq_fence fence;
	uint64_t token;
};

struct context {
	struct renderer renderer;
	bool alive;
	int ending; /* while it is torn down: the status of what the renderer did not complete */
	unsigned in_flight;
};

struct queue {
	struct device *device;
	unsigned vcpu;
	struct fq_vring *vring;
	uint16_t avail_idx; /* where the ring was left by an unplug */
	uint16_t used_idx;
	uint32_t interrupt; /* bits */
	struct command commands[SLOTS];
	struct command *free;
};

struct device {
	struct machine *machine;
	bool plugged;
	uint64_t cookie; /* for the renderers' callback */
	struct fq_mem *mem;
	struct queue queue[VCPUS];
	struct context context[CONTEXTS];
};

void device_init(struct device *d, struct machine *m);

uint32_t device_read(struct device *d, enum reg reg, unsigned vcpu);
void device_write(struct device *d, enum reg reg, unsigned vcpu);

/* Shows itself to the guest; its queues go on where the last unplug left them. */
void device_plug(struct device *d);

/* Joins every renderer and answers everything. */
void device_unplug(struct device *d);

/* Joins the context's renderer and answers its commands. The guest's next one creates it anew. */
void device_end_context(struct device *d, uint32_t ctx_id);

/* The context with the most commands in flight; 0 when none has any. */
uint32_t device_busiest(const struct device *d);

/* For the ways. Answers a command: @p status 0 or why it never will be complete. */
void device_answer(struct command *cmd, int status);

/* For ways without fenceq, which does it by itself: shows the guest what has been answered. */
void device_publish(struct device *d);

#endif /* DEVICE_H */
