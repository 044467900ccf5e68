/* SPDX-License-Identifier: MIT */
#ifndef RENDERER_H
#define RENDERER_H

/*
 * Stands for a renderer library: a thread for each context, which works through the context's rings
 * and calls back when a fence is complete. It has never heard of the machine or its big lock.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "ring.h"
#include "vcpu.h"
#include "watchdog.h"

/* Called on the renderer's thread. What was written for this fence and all before it is there. */
typedef void fence_done_fn(uint64_t cookie, uint32_t ctx_id, uint32_t ring_idx, uint64_t token);

struct work {
	uint64_t token;
	uint64_t input;
	uint64_t *output;
};

struct renderer {
	uint32_t ctx_id;
	fence_done_fn *done;
	uint64_t cookie;
	struct actor actor;
	pthread_t thread;
	pthread_mutex_t lock; /* of what follows, its own affair */
	pthread_cond_t wake;
	bool stop;
	struct work fifo[RINGS][SLOTS];
	uint64_t head[RINGS], tail[RINGS];
	/* Outside of all that, for the checks: the highest token before whose callback it has come. */
	_Atomic uint64_t completed[RINGS];
};

/* What rendering comes to. */
uint64_t render(uint64_t input);

void renderer_init(struct renderer *r, uint32_t ctx_id);
void renderer_start(struct renderer *r, fence_done_fn *done, uint64_t cookie);

/* Hands over work; there is always room for what one vCPU has in flight. */
void renderer_submit(struct renderer *r, uint32_t ring_idx, const struct work *work);

/* Joins its thread, which ends after the callback it is in, if any. Work left over is dropped. */
void renderer_stop(struct renderer *r);

#endif /* RENDERER_H */
