/* SPDX-License-Identifier: MIT */
#include "driver.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>

static bool more_wanted(const struct driver *d, int64_t now)
{
	const struct options *opt = &d->run->opt;

	if (opt->seconds && now >= d->end_ns)
		return false;
	return !opt->fences || d->report.queued < opt->fences;
}

static void skip_answered(const struct driver *d, struct driver_timeline *tl)
{
	while (tl->first != tl->next && tl->sent[tl->first & d->mask].answered)
		tl->first++;
}

/*
 * As Linux does, one counter numbers the fences of all timelines; and only a command that names a
 * ring has a ring: all others are fenced on the global timeline.
 */
static void send_fence(struct driver *d, unsigned timeline)
{
	struct driver_timeline *tl = &d->timelines[timeline];
	struct virtio_gpu_ctrl_hdr hdr = {
		.type = VIRTIO_GPU_CMD_SUBMIT_3D,
		.flags = VIRTIO_GPU_FLAG_FENCE | (timeline ? VIRTIO_GPU_FLAG_INFO_RING_IDX : 0),
		.fence_id = ++d->report.queued,
		.ctx_id = timeline,
	};
	uint16_t slot = d->free_slots[--d->free_count];

	if (tl->next - tl->first > d->mask) {
		/* So many later ones were answered that nobody waits for this one any more. */
		d->report.lost++;
		tl->sent[tl->first & d->mask].answered = true;
		skip_answered(d, tl);
	}
	tl->sent[tl->next++ & d->mask] = (struct sent){.fence_id = hdr.fence_id};
	tl->in_flight++;
	d->requests[slot] = hdr;
	d->busy[slot] = true;
	ring_queue(&d->ring, slot, &hdr);
}

/* One for each timeline in turn, until all are at their depth. */
static void send_fences(struct driver *d, int64_t now)
{
	unsigned count = options_timelines(&d->run->opt);
	bool progress;

	do {
		progress = false;
		for (unsigned i = 0; i < count; i++) {
			if (d->timelines[i].in_flight >= d->run->opt.depth || !d->free_count)
				continue;
			if (!more_wanted(d, now))
				return;
			send_fence(d, i);
			progress = true;
		}
	} while (progress);
}

static bool header_echoed(const struct virtio_gpu_ctrl_hdr *request,
			  const struct virtio_gpu_ctrl_hdr *response, uint32_t len)
{
	return len == sizeof(*response) && response->flags == request->flags &&
	       response->fence_id == request->fence_id && response->ctx_id == request->ctx_id &&
	       response->ring_idx == request->ring_idx;
}

/* The number of a fence that waits for its answer; tl->next when there is none with that id. */
static uint64_t find_unanswered(const struct driver *d, const struct driver_timeline *tl,
				uint64_t fence_id)
{
	uint64_t n = tl->first;

	while (n != tl->next) {
		const struct sent *sent = &tl->sent[n & d->mask];

		if (sent->fence_id == fence_id && !sent->answered)
			break;
		n++;
	}
	return n;
}

static void check_fence(struct driver *d, const struct virtio_gpu_ctrl_hdr *response, int64_t now)
{
	unsigned timeline = response->flags & VIRTIO_GPU_FLAG_INFO_RING_IDX ? response->ctx_id : 0;
	struct driver_report *report = &d->report;
	struct driver_timeline *tl;
	uint64_t n;
	int64_t completed;

	if (timeline >= options_timelines(&d->run->opt))
		return; /* a bad header, and counted as one */
	tl = &d->timelines[timeline];
	n = find_unanswered(d, tl, response->fence_id);
	if (n == tl->next) {
		report->duplicated++;
		return;
	}
	tl->sent[n & d->mask].answered = true;
	skip_answered(d, tl);
	if (response->type != VIRTIO_GPU_RESP_OK_NODATA) {
		report->failed++;
		return;
	}
	report->retired++;
	if (n < tl->answered_end)
		report->out_of_order++;
	else
		tl->answered_end = n + 1;
	completed = oracle_when(d->oracle, timeline, n);
	if (completed)
		histogram_add(&report->latency, now - completed);
	else
		report->early++;
}

static void check_used(struct driver *d, struct vring_used_elem used, int64_t now)
{
	struct virtio_gpu_ctrl_hdr response;
	const struct virtio_gpu_ctrl_hdr *request;

	if (used.id >= d->machine->ring_size || !d->busy[used.id]) {
		d->report.duplicated++;
		return;
	}
	request = &d->requests[used.id];
	response = d->ring.slots[used.id].response;
	if (!header_echoed(request, &response, used.len))
		d->report.bad_header++;
	check_fence(d, &response, now);
	d->timelines[request->ctx_id].in_flight--;
	d->busy[used.id] = false;
	d->free_slots[d->free_count++] = (uint16_t)used.id;
}

static void *drive(void *opaque)
{
	struct driver *d = opaque;
	struct run *run = d->run;
	int64_t start = now_ns(), now = start;
	uint64_t answered = 0;

	d->end_ns = start + run->opt.seconds * INT64_C(1000000000);
	while (!atomic_load(&d->stop)) {
		uint16_t count;

		send_fences(d, now);
		atomic_store_explicit(&run->queued, d->report.queued, memory_order_relaxed);
		ring_kick(&d->ring);
		if (d->free_count == d->machine->ring_size)
			break;
		count = ring_used(&d->ring);
		if (count == 0)
			ring_sleep(&d->ring);
		now = now_ns();
		answered += count;
		for (; count; count--)
			check_used(d, ring_take(&d->ring), now);
		atomic_store_explicit(&run->answered, answered, memory_order_relaxed);
	}
	d->report.elapsed_ns = now - start;
	run_reach(run, STAGE_DRIVEN);
	return NULL;
}

static int driver_alloc(struct driver *d)
{
	uint32_t size = d->machine->ring_size;
	unsigned timelines = options_timelines(&d->run->opt);
	size_t window = 64;

	while (window < 4 * (size_t)d->run->opt.depth)
		window *= 2;
	d->mask = window - 1;
	d->timelines = calloc(timelines, sizeof(*d->timelines));
	d->requests = calloc(size, sizeof(*d->requests));
	d->busy = calloc(size, sizeof(*d->busy));
	d->free_slots = calloc(size, sizeof(*d->free_slots));
	if (!d->timelines || !d->requests || !d->busy || !d->free_slots)
		return -ENOMEM;
	for (unsigned i = 0; i < timelines; i++) {
		d->timelines[i].sent = calloc(window, sizeof(struct sent));
		if (!d->timelines[i].sent)
			return -ENOMEM;
	}
	while (d->free_count < size) {
		d->free_slots[d->free_count] = (uint16_t)d->free_count;
		d->free_count++;
	}
	return 0;
}

int driver_start(struct driver *d, struct run *run, const struct machine *m,
		 const struct oracle *oracle)
{
	int err;

	*d = (struct driver){.run = run, .machine = m, .oracle = oracle};
	err = ring_init(&d->ring, m);
	if (!err)
		err = driver_alloc(d);
	if (!err)
		err = -pthread_create(&d->thread, NULL, drive, d);
	return err;
}

void driver_stop(struct driver *d)
{
	atomic_store(&d->stop, true);
	eventfd_write(d->machine->call_fd, 1);
	pthread_join(d->thread, NULL);
	for (unsigned i = 0; i < options_timelines(&d->run->opt); i++) {
		struct driver_timeline *tl = &d->timelines[i];

		for (; tl->first != tl->next; tl->first++)
			d->report.lost += !tl->sent[tl->first & d->mask].answered;
	}
}
