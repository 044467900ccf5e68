/* SPDX-License-Identifier: MIT */
#include "monitor.h"

#include "machine.h"

/* How long a device is away, for the vCPUs to find the place empty. */
#define AWAY_US 2000

static void set_next(struct monitor *mon)
{
	mon->next += mon->machine->opt.fences / (MONITOR_STEPS + 1) + 1;
}

/* From the main loop, in no callback of anybody's, as a monitor command would be. */
static void step(void *opaque)
{
	struct monitor *mon = opaque;
	struct machine *m = mon->machine;
	uint32_t busiest;

	if (!m->device.plugged) {
		device_plug(&m->device);
		set_next(mon);
	} else if (mon->steps++ % MONITOR_UNPLUG_EVERY == MONITOR_UNPLUG_EVERY - 1) {
		device_unplug(&m->device);
		loop_call_at(mon->call, g_get_monotonic_time() + AWAY_US);
	} else {
		busiest = device_busiest(&m->device);
		if (busiest)
			device_end_context(&m->device, busiest);
		set_next(mon);
	}
}

void monitor_init(struct monitor *mon, struct machine *m)
{
	mon->machine = m;
	mon->call = loop_add_call(&m->loop, step, mon);
	set_next(mon);
}

void monitor_answered(struct monitor *mon)
{
	if (++mon->answered == mon->next)
		loop_call_at(mon->call, 0);
}
