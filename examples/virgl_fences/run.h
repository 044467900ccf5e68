/* SPDX-License-Identifier: MIT */
#ifndef RUN_H
#define RUN_H

/*
 * What all threads of one run share: the options, how far the run is, and the first error.
 *
 * Only the main thread waits for the others, and only with a watchdog: the owner calls into a
 * renderer that may hang or whose server may die, and a run must end all the same.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Faults of a broken device, planted to show that the driver side would see a real one. */
enum plant {
	PLANT_NOTHING,
	PLANT_EARLY, /* a fence is signalled before the renderer completed it */
	PLANT_SWAP,  /* two responses of one timeline change places */
	PLANT_DROP,  /* a response is never sent */
	PLANT_DUP,   /* a fence is answered a second time, in place of the next one */
};

struct options {
	unsigned venus_contexts; /* each calls back on a thread of its own */
	unsigned gl_contexts;    /* all of them, and the global timeline, share one more */
	unsigned depth;          /* fences in flight on each timeline */
	uint64_t fences;         /* 0: no limit but the seconds */
	unsigned seconds;        /* 0: no limit but the fences */
	unsigned stall;          /* seconds without any progress that end the run */
	bool json;
	enum plant plant;
};

/*
 * Timelines are numbered as contexts are, 1 .. contexts (ring 0 of each), and 0 is the global one.
 * Venus contexts come first.
 */
static inline unsigned options_contexts(const struct options *opt)
{
	return opt->venus_contexts + opt->gl_contexts;
}

static inline unsigned options_timelines(const struct options *opt)
{
	return options_contexts(opt) + 1;
}

enum stage {
	STAGE_START,
	STAGE_READY,   /* the owner has its renderer and its device */
	STAGE_DRIVEN,  /* the driver has every answer it asked for */
	STAGE_STOPPED, /* the owner has taken everything down */
};

struct run {
	struct options opt;
	int wake_fd; /* written when stage or failed change */
	_Atomic(enum stage) stage;
	_Atomic uint64_t queued;   /* by the driver */
	_Atomic uint64_t answered; /* to the driver */
	_Atomic bool failing;      /* somebody is writing the error */
	_Atomic bool failed;       /* the error can be read */
	char error[256];
};

int run_init(struct run *run, const struct options *opt);

/* Any thread. */
void run_reach(struct run *run, enum stage stage);

/* Any thread; the first error counts. The main thread ends the run. */
__attribute__((format(printf, 2, 3))) void run_fail(struct run *run, const char *fmt, ...);

/*
 * Main thread: waits for the stage, showing progress if stderr is a terminal.
 * False when the run failed, or nothing moved for opt.stall seconds.
 */
bool run_wait(struct run *run, enum stage stage);

int64_t now_ns(void);

#endif /* RUN_H */
