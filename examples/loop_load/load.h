/* SPDX-License-Identifier: MIT */
#ifndef LOOP_LOAD_H
#define LOOP_LOAD_H

/*
 * The load that every loop example runs: posters on threads of their own complete work in bursts, one
 * half nodes, the other half fences of a device; between bursts there is nothing to do, and the loop
 * sleeps. Each completion is to arrive once and in its poster's order. Last comes a deadline, which
 * the loop must wake up for although nobody posts.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <fenceq/fenceq.h>

#define LOAD_POSTERS 4u
#define LOAD_BURST 64u /* completions of one poster in one burst */

struct load_poster;

/* What the example's own loop does once everything has arrived: leave. Runs on the owner. */
typedef void load_done_fn(void *opaque);

struct load {
	unsigned bursts; /* how many; set by load_start */
	unsigned budget; /* of each drain */
	bool json;
	load_done_fn *done;
	void *opaque;
	uint64_t waits; /* the loop adds one for each system call it waits in */

	struct fq_queue *queue; /* load_start's from here on */
	struct fq_device *device;
	fq_handle_t handle;
	struct load_poster *poster;
	struct fq_deadline deadline;
	atomic_uint burst; /* the posters' go */
	unsigned arrived;  /* of this burst */
	uint64_t delivered;
	uint64_t out_of_order;
	bool finished;
};

/* --json, --bursts N, --budget N. 0, or -1 after a complaint. */
int load_parse(struct load *load, int argc, char **argv);

/* Creates the device on the queue and starts the posters. Owner. 0 or -errno. */
int load_start(struct load *load, struct fq_queue *queue);

/* Everything has arrived, the deadline too. Owner. */
bool load_finished(const struct load *load);

/*
 * Joins the posters, ends the device (the queue stays), checks what has arrived, and prints one line
 * of counts. Owner. An exit status.
 */
int load_end(struct load *load, const char *name);

#endif /* LOOP_LOAD_H */
