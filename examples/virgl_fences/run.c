/* SPDX-License-Identifier: MIT */
#include "run.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS 200

int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int run_init(struct run *run, const struct options *opt)
{
	memset(run, 0, sizeof(*run));
	run->opt = *opt;
	run->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return run->wake_fd < 0 ? -errno : 0;
}

void run_reach(struct run *run, enum stage stage)
{
	atomic_store(&run->stage, stage);
	eventfd_write(run->wake_fd, 1);
}

void run_fail(struct run *run, const char *fmt, ...)
{
	va_list ap;

	if (atomic_exchange(&run->failing, true))
		return;
	va_start(ap, fmt);
	vsnprintf(run->error, sizeof(run->error), fmt, ap);
	va_end(ap);
	atomic_store(&run->failed, true);
	eventfd_write(run->wake_fd, 1);
}

static const char *stage_task(enum stage stage)
{
	switch (stage) {
	case STAGE_START:
		return "starting the renderer";
	case STAGE_READY:
		return "waiting for fences to be answered";
	default:
		return "taking the renderer down";
	}
}

struct progress {
	bool terminal;
	int64_t shown_ns;
	uint64_t shown_answered;
	int64_t moved_ns;
	uint64_t moved_answered;
};

static void progress_show(struct progress *p, struct run *run, int64_t now, uint64_t answered)
{
	double seconds = (double)(now - p->shown_ns) / 1e9;
	uint64_t queued = atomic_load_explicit(&run->queued, memory_order_relaxed);

	fprintf(stderr, "\r%s: %llu", stage_task(atomic_load(&run->stage)),
		(unsigned long long)answered);
	if (run->opt.fences)
		fprintf(stderr, " of %llu", (unsigned long long)run->opt.fences);
	/* The two are read a moment apart, so their difference may come out below zero. */
	fprintf(stderr, ", %.0f/s, %llu in flight\033[K",
		(double)(answered - p->shown_answered) / seconds,
		(unsigned long long)(queued > answered ? queued - answered : 0));
	p->shown_ns = now;
	p->shown_answered = answered;
}

/* False when nothing has moved for too long. */
static bool progress_look(struct progress *p, struct run *run)
{
	int64_t now = now_ns();
	uint64_t answered = atomic_load_explicit(&run->answered, memory_order_relaxed);

	if (p->terminal && now - p->shown_ns >= LOOK_MS * INT64_C(1000000))
		progress_show(p, run, now, answered);
	if (answered != p->moved_answered) {
		p->moved_answered = answered;
		p->moved_ns = now;
	}
	return now - p->moved_ns < run->opt.stall * INT64_C(1000000000);
}

bool run_wait(struct run *run, enum stage stage)
{
	struct pollfd wake = {.fd = run->wake_fd, .events = POLLIN};
	struct progress p = {.terminal = isatty(STDERR_FILENO)};
	eventfd_t ignored;

	p.shown_ns = p.moved_ns = now_ns();
	p.shown_answered = p.moved_answered = atomic_load(&run->answered);
	while (!atomic_load(&run->failed) && atomic_load(&run->stage) < stage) {
		poll(&wake, 1, LOOK_MS);
		eventfd_read(run->wake_fd, &ignored);
		if (!progress_look(&p, run))
			run_fail(run, "no progress for %u s while %s: is the render server dead?",
				 run->opt.stall, stage_task(atomic_load(&run->stage)));
	}
	if (p.terminal)
		fputs("\r\033[K", stderr);
	return !atomic_load(&run->failed);
}
