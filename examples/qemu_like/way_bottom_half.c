/* SPDX-License-Identifier: MIT */

/*
 * The usual work-around: the callback allocates a record, puts it on a list under a mutex of its
 * own and writes an eventfd; the main loop does the rest. No deadlock, for that mutex is never held
 * while anybody waits; but an allocation, a lock and a system call for each fence, on a thread that
 * is not the VMM's.
 */

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "machine.h"
#include "pending.h"

struct record {
	struct record *next;
	uint32_t ctx_id;
	uint32_t ring_idx;
	uint64_t token;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct record *first;
static struct record **end = &first;
static uint64_t writes;
static int fd;

static void way_done(uint64_t cookie, uint32_t ctx_id, uint32_t ring_idx, uint64_t token)
{
	struct record *r = malloc(sizeof(*r));

	(void)cookie;
	if (!r)
		die("a completion was lost for want of memory");
	*r = (struct record){.ctx_id = ctx_id, .ring_idx = ring_idx, .token = token};
	pthread_mutex_lock(&lock);
	*end = r;
	end = &r->next;
	writes++;
	pthread_mutex_unlock(&lock);
	eventfd_write(fd, 1);
}

static void run_records(struct device *d)
{
	struct record *r, *next;

	pthread_mutex_lock(&lock);
	r = first;
	first = NULL;
	end = &first;
	pthread_mutex_unlock(&lock);
	for (; r; r = next) {
		next = r->next;
		pending_complete(d, r->ctx_id, r->ring_idx, r->token);
		free(r);
	}
}

static void bottom_half(void *opaque)
{
	struct device *d = opaque;
	eventfd_t ignored;

	eventfd_read(fd, &ignored);
	run_records(d);
	/* Nothing can be left of a device that was unplugged: see way_unplug(). */
	if (d->plugged)
		device_publish(d);
}

static void way_start(struct device *d)
{
	fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (fd < 0)
		die("no eventfd");
	loop_add_fd(&d->machine->loop, fd, bottom_half, d);
}

static void way_stop(struct device *d)
{
	(void)d;
	close(fd);
}

static void way_plug(struct device *d)
{
	(void)d;
}

/* What is on the list was completed, and is not to fail: run it first. */
static void way_end_context(struct device *d, uint32_t ctx_id)
{
	run_records(d);
	pending_fail(d, ctx_id, -ECANCELED);
}

static void way_unplug(struct device *d)
{
	run_records(d);
	for (uint32_t i = 1; i <= CONTEXTS; i++)
		pending_fail(d, i, -ENODEV);
}

static uint64_t way_writes(void)
{
	uint64_t value;

	pthread_mutex_lock(&lock);
	value = writes;
	pthread_mutex_unlock(&lock);
	return value;
}

const struct way way_bottom_half = {
	.name = "bottom half",
	.start = way_start,
	.stop = way_stop,
	.plug = way_plug,
	.unplug = way_unplug,
	.end_context = way_end_context,
	.submit = pending_add,
	.done = way_done,
	.writes = way_writes,
};
