/* SPDX-License-Identifier: MIT */

/*
 * Where it all began: the callback itself answers the command, which injects an interrupt, which
 * needs the big lock. It works until somebody who holds that lock waits for the callback's thread.
 */

#include <errno.h>

#include "biglock.h"
#include "machine.h"
#include "pending.h"

static struct device *device;

static void way_done(uint64_t cookie, uint32_t ctx_id, uint32_t ring_idx, uint64_t token)
{
	(void)cookie;
	biglock_lock("to inject an interrupt from the renderer's callback");
	pending_complete(device, ctx_id, ring_idx, token);
	device_publish(device);
	biglock_unlock();
}

static void way_start(struct device *d)
{
	device = d;
}

static void nothing(struct device *d)
{
	(void)d;
}

static void way_end_context(struct device *d, uint32_t ctx_id)
{
	pending_fail(d, ctx_id, -ECANCELED);
}

static void way_unplug(struct device *d)
{
	for (uint32_t i = 1; i <= CONTEXTS; i++)
		pending_fail(d, i, -ENODEV);
}

static uint64_t way_writes(void)
{
	return 0;
}

const struct way way_direct = {
	.name = "direct",
	.start = way_start,
	.stop = nothing,
	.plug = nothing,
	.unplug = way_unplug,
	.end_context = way_end_context,
	.submit = pending_add,
	.done = way_done,
	.writes = way_writes,
};
