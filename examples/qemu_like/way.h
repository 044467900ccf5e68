/* SPDX-License-Identifier: MIT */
#ifndef WAY_H
#define WAY_H

/*
 * The way of a fence from the renderer's thread to device_answer(): three to choose from. All but
 * `done` is called with the big lock held.
 */

#include <stdint.h>

#include "renderer.h"

struct command;
struct device;

struct way {
	const char *name;
	void (*start)(struct device *d);  /* once, before the first plug */
	void (*stop)(struct device *d);   /* after the last unplug */
	void (*plug)(struct device *d);   /* may set d->cookie */
	void (*unplug)(struct device *d); /* all renderers are gone: answers what is pending */
	void (*end_context)(struct device *d, uint32_t ctx_id); /* its renderer is gone: as well */
	void (*submit)(struct command *cmd);                    /* records it, sets cmd->token */
	fence_done_fn *done;                                    /* on the renderer's thread */
	uint64_t (*writes)(void); /* to the fd that wakes the loop; between start and stop */
};

extern const struct way way_fenceq;      /* the one to copy */
extern const struct way way_bottom_half; /* what VMMs do today */
extern const struct way way_direct;      /* what they cannot do, and have tried */

#endif /* WAY_H */
