/* SPDX-License-Identifier: MIT */
#ifndef MONITOR_H
#define MONITOR_H

/*
 * The one who disturbs: again and again, when some more fences have been answered, the main loop
 * tears down the busiest context, or unplugs the device and plugs in another one.
 */

#include <stdint.h>

#include <glib.h>

#define MONITOR_STEPS 64u
#define MONITOR_UNPLUG_EVERY 8u

struct machine;

struct monitor {
	struct machine *machine;
	GSource *call;
	uint64_t answered;
	uint64_t next; /* when so many are */
	unsigned steps;
};

void monitor_init(struct monitor *mon, struct machine *m);

/* One more fence was answered. With the big lock held. */
void monitor_answered(struct monitor *mon);

#endif /* MONITOR_H */
