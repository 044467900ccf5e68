/* SPDX-License-Identifier: MIT */
#ifndef DRIVER_H
#define DRIVER_H

/*
 * The guest's driver, on a thread of its own: keeps `depth` fenced commands in flight on every
 * timeline, sleeps on the call fd, and believes nothing: each response is checked against what it
 * asked for and against the oracle.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "histogram.h"
#include "machine.h"
#include "oracle.h"
#include "ring.h"
#include "run.h"

struct driver_report {
	uint64_t queued;
	uint64_t retired;      /* answered with success, each counted once */
	uint64_t failed;       /* answered with an error */
	uint64_t lost;         /* not answered */
	uint64_t duplicated;   /* answered again */
	uint64_t out_of_order; /* answered after a later one of its timeline */
	uint64_t early;        /* answered before the renderer completed it */
	uint64_t bad_header;   /* response does not echo the request */
	int64_t elapsed_ns;
	struct histogram latency;
};

struct sent {
	uint64_t fence_id;
	bool answered;
};

/* Fences sent on one timeline, from the oldest unanswered one on; number n at n & mask. */
struct driver_timeline {
	struct sent *sent;
	uint64_t first;
	uint64_t next;
	uint64_t answered_end; /* one past the highest number answered */
	unsigned in_flight;    /* chains */
};

struct driver {
	struct run *run;
	const struct machine *machine;
	const struct oracle *oracle;
	struct ring ring;
	struct driver_timeline *timelines;
	uint64_t mask;
	struct virtio_gpu_ctrl_hdr *requests; /* by slot: a guest trusts its own memory only */
	bool *busy;                           /* by slot */
	uint16_t *free_slots;
	uint32_t free_count;
	int64_t end_ns;
	pthread_t thread;
	_Atomic bool stop;
	struct driver_report report;
};

/* Starts the thread; the run reaches STAGE_DRIVEN when every answer is in. @return 0 or -errno. */
int driver_start(struct driver *d, struct run *run, const struct machine *m,
		 const struct oracle *oracle);

/* Ends the thread, whatever is missing, and completes the report. */
void driver_stop(struct driver *d);

#endif /* DRIVER_H */
