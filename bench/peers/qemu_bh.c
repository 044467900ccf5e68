/* SPDX-License-Identifier: MIT */

/*
 * A model of QEMU's one-shot bottom half, the way a renderer's fence callback reaches the owner's
 * loop today: aio_bh_schedule_oneshot(), aio_notify() and aio_bh_poll() of util/async.c, and the
 * sleep of aio_poll() in util/aio-posix.c. Our own code; it follows the published algorithm:
 *
 *   poster  allocate the record; set PENDING|SCHEDULED|ONESHOT in its flags with one atomic
 *           operation; if it was not pending, insert it at the head of the context's list with
 *           compare-and-swap; notify: set "notified", full barrier, and if "notify_me" is set write
 *           the eventfd (every post that sees it set writes, not only the first).
 *   owner   take the list with one exchange; for each record: clear the flags with one atomic
 *           operation, call it, free it. To sleep: set notify_me, full barrier, ppoll unless
 *           "notified" is set, read the eventfd; then clear notify_me and notified, full barrier.
 *
 * Where it is no slower than the original, on purpose:
 * - the loop has one fd, no timers, no other sources, no handler lists, no lock counts, no tracing,
 *   no adaptive polling;
 * - notified is cleared, and its barrier paid, once for every sleep; the original's turns all do it.
 *   (The main loop's GSource looks at the list instead of "notified" before it sleeps; measured the
 *   same way that is slower, because it sleeps more often.)
 * - the record has the original's size, and nothing to check in it (name, reentrancy guard);
 * - no record of the device's own is allocated along with it, as virtio-gpu's callbacks do, and the
 *   completion travels by value: the request is never touched;
 * - completions are run as the list has them (newest first); nobody pays for putting them in order;
 * - the context's words have cache lines of their own, which measured a little faster than the
 *   original's neighbourhood;
 * - malloc keeps its memory (M_TRIM_THRESHOLD), so that later rounds take no page faults.
 */

#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "peer.h"

enum {
	BH_PENDING = 1 << 0,
	BH_SCHEDULED = 1 << 1,
	BH_DELETED = 1 << 2,
	BH_ONESHOT = 1 << 3,
	BH_IDLE = 1 << 4,
};

struct context;

struct bh {
	struct context *ctx;
	const char *name;
	void (*cb)(struct context *ctx, void *opaque);
	void *opaque;
	struct bh *next;
	atomic_uint flags;
	void *reentrancy_guard;
};

struct context {
	struct peer_seen seen;
	struct peer_round round;
	uint64_t *writes; /* one line for each poster */
	_Alignas(PEER_LINE) atomic_uint notify_me;
	_Alignas(PEER_LINE) struct bh *_Atomic bh_list;
	_Alignas(PEER_LINE) atomic_bool notified;
	_Alignas(PEER_LINE) int fd;
};

static void handle(struct context *ctx, void *opaque)
{
	peer_handle(&ctx->seen, (uintptr_t)opaque);
}

static void notify(struct context *ctx, unsigned poster)
{
	atomic_thread_fence(memory_order_release);
	atomic_store_explicit(&ctx->notified, true, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&ctx->notify_me, memory_order_relaxed)) {
		ctx->writes[poster * (PEER_LINE / sizeof(uint64_t))]++;
		peer_eventfd_set(ctx->fd);
	}
}

static void enqueue(struct bh *bh, unsigned new_flags, unsigned poster)
{
	struct context *ctx = bh->ctx;

	if (!(atomic_fetch_or(&bh->flags, BH_PENDING | new_flags) & BH_PENDING)) {
		struct bh *head = atomic_load_explicit(&ctx->bh_list, memory_order_relaxed);

		do {
			bh->next = head;
		} while (!atomic_compare_exchange_strong(&ctx->bh_list, &head, bh));
	}
	notify(ctx, poster);
}

static int schedule_oneshot(struct context *ctx, unsigned poster, uint64_t value)
{
	struct bh *bh = malloc(sizeof(*bh));

	if (!bh)
		return -1;
	*bh = (struct bh){.ctx = ctx, .cb = handle, .opaque = (void *)(uintptr_t)value};
	enqueue(bh, BH_SCHEDULED | BH_ONESHOT, poster);
	return 0;
}

static void teardown(struct peer_seen *self)
{
	struct context *ctx = (struct context *)self;

	if (ctx->fd >= 0)
		close(ctx->fd);
	free(ctx->writes);
	free(ctx);
}

static struct peer_seen *setup(const struct peer_round *round)
{
	struct context *ctx;

	mallopt(M_TRIM_THRESHOLD, 1 << 30);
	ctx = peer_alloc(sizeof(*ctx));
	if (!ctx)
		return NULL;
	ctx->round = *round;
	ctx->fd = peer_eventfd();
	ctx->writes = peer_alloc((size_t)round->posters * PEER_LINE);
	if (ctx->fd < 0 || !ctx->writes) {
		teardown(&ctx->seen);
		return NULL;
	}
	return &ctx->seen;
}

static void post(struct peer_seen *self, unsigned poster, uint64_t first, uint64_t count)
{
	struct context *ctx = (struct context *)self;
	uint64_t value = peer_value(&ctx->round, poster, first);

	/* One that cannot be allocated is lost, and found missing at the end. */
	for (; count; count--, value++)
		(void)schedule_oneshot(ctx, poster, value);
}

static void drain(struct peer_seen *self)
{
	struct context *ctx = (struct context *)self;
	struct bh *bh = atomic_exchange(&ctx->bh_list, NULL);

	while (bh) {
		struct bh *next = bh->next;
		unsigned flags = atomic_fetch_and(&bh->flags,
						  ~(unsigned)(BH_PENDING | BH_SCHEDULED | BH_IDLE));

		if ((flags & (BH_SCHEDULED | BH_DELETED)) == BH_SCHEDULED)
			bh->cb(ctx, bh->opaque);
		if (flags & (BH_DELETED | BH_ONESHOT))
			free(bh);
		bh = next;
	}
}

static void wait(struct peer_seen *self, int64_t timeout_ns)
{
	struct context *ctx = (struct context *)self;

	atomic_store_explicit(&ctx->notify_me, 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
	if (!atomic_load_explicit(&ctx->notified, memory_order_relaxed))
		peer_eventfd_sleep(ctx->fd, timeout_ns);
	atomic_store_explicit(&ctx->notify_me, 0, memory_order_release);
	atomic_store_explicit(&ctx->notified, false, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
}

static uint64_t writes(struct peer_seen *self)
{
	struct context *ctx = (struct context *)self;
	uint64_t sum = 0;

	for (unsigned p = 0; p < ctx->round.posters; p++)
		sum += ctx->writes[p * (PEER_LINE / sizeof(uint64_t))];
	return sum;
}

const struct peer peer_qemu_bh = {
	.name = "qemu_bh",
	.setup = setup,
	.post = post,
	.drain = drain,
	.wait = wait,
	.writes = writes,
	.teardown = teardown,
};
