/* SPDX-License-Identifier: MIT */
#ifndef RENDERER_H
#define RENDERER_H

/*
 * virglrenderer, with venus contexts in its render server and classic GL contexts in this process
 * at once. Every function belongs to the owner thread: a GL context is current on one thread only.
 */

#include <stdatomic.h>
#include <stdint.h>

#include <fenceq/device.h>

#include "oracle.h"
#include "run.h"

struct renderer {
	fq_handle_t handle; /* whom the callbacks signal */
	struct oracle *oracle;
	unsigned contexts;
	_Atomic unsigned threads; /* that called back, each counted once */
};

/* Starts it with the contexts of the run. On failure it has called run_fail(). */
int renderer_start(struct renderer *r, struct run *run, fq_handle_t handle, struct oracle *oracle);

/* Asks for a call back with the token when the work of the timeline so far is done. 0 or -errno. */
int renderer_fence(unsigned timeline, uint32_t ring_idx, uint64_t token);

/* After this nothing calls back. */
void renderer_stop(struct renderer *r);

#endif /* RENDERER_H */
