/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdio.h>

#include "device_internal.h"

/* What is pending: for watchdogs, logs and snapshots. */

static struct fq_pending describe(const struct fq_device *dev, const struct fq_timeline *tl,
				  const struct fq_fence *fence, int64_t now)
{
	bool global = tl == dev->global;

	return (struct fq_pending){
		.fence = fence,
		.global = global,
		.ctx_id = global ? 0 : (uint32_t)fq_load_rlx(&tl->bank->ctx_id),
		.ring_idx = tl->ring,
		.signalled = fence->token <= fq_timeline_mark(tl),
		.age_ns = now - fence->submitted_ns,
	};
}

/* The groups stand newest first, so the global timeline's bank is not where it should be shown. */
static bool walk_timeline(struct fq_device *dev, struct fq_timeline *tl, fq_walk_fn *fn,
			  void *opaque, uint64_t *shown)
{
	int64_t now = fq_now_coarse();

	for (const struct fq_fence *fence = tl->first; fence; fence = fence->next) {
		struct fq_pending pending = describe(dev, tl, fence, now);

		++*shown;
		if (!fn(&pending, opaque))
			return false;
	}
	return true;
}

uint64_t fq_device_walk(struct fq_device *dev, fq_walk_fn *fn, void *opaque)
{
	uint64_t shown = 0;

	if (!walk_timeline(dev, dev->global, fn, opaque, &shown))
		return shown;
	FQ_FOR_EACH_TIMELINE (dev, tl) {
		if (tl != dev->global && !walk_timeline(dev, tl, fn, opaque, &shown))
			return shown;
	}
	return shown;
}

bool fq_device_oldest(struct fq_device *dev, struct fq_pending *out)
{
	int64_t now = fq_now_coarse();
	bool found = false;

	FQ_FOR_EACH_TIMELINE (dev, tl) {
		/* The first of a timeline is its oldest. */
		if (!tl->first || (found && tl->first->submitted_ns >= out->fence->submitted_ns))
			continue;
		*out = describe(dev, tl, tl->first, now);
		found = true;
	}
	return found;
}

struct dump {
	int64_t older_than_ns;
	fq_line_fn *line;
	void *opaque;
	uint64_t count;
};

static bool dump_one(const struct fq_pending *p, void *arg)
{
	struct dump *d = arg;
	char where[48], text[192];

	if (p->age_ns < d->older_than_ns)
		return true;
	d->count++;
	if (p->global)
		snprintf(where, sizeof(where), "global timeline");
	else
		snprintf(where, sizeof(where), "context %" PRIu32 " ring %" PRIu32, p->ctx_id,
			 p->ring_idx);
	snprintf(text, sizeof(text),
		 "%s: fence %" PRIu64 " (token %" PRIu64 ") pending for %" PRId64 " ms, %s", where,
		 p->fence->fence_id, p->fence->token, p->age_ns / 1000000,
		 p->signalled ? "signalled" : "not signalled");
	d->line(text, d->opaque);
	return true;
}

uint64_t fq_device_dump(struct fq_device *dev, int64_t older_than_ns, fq_line_fn *line,
			void *opaque)
{
	struct dump d = {.older_than_ns = older_than_ns, .line = line, .opaque = opaque};

	(void)fq_device_walk(dev, dump_one, &d);
	return d.count;
}
