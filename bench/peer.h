/* SPDX-License-Identifier: MIT */
#ifndef BENCH_PEER_H
#define BENCH_PEER_H

/*
 * One way to get a completion from a foreign thread to its owner. Each workload is written once,
 * against this table, so that every peer is asked for exactly the same.
 *
 * A completion carries one number, 1 .. posters * items, each posted once; handling it means
 * peer_handle(). Requests (what a completion is about) exist before the clock runs, as they do in
 * a VMM: an intrusive peer embeds its node in them, one request to a cache line; a timeline embeds
 * its fence. Whatever a peer has to allocate for the post itself, it allocates in post().
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PEER_LINE 64

/* What the owner has seen; the first member of every peer's state, touched by the owner only. */
struct peer_seen {
	_Alignas(PEER_LINE) uint64_t handled;
	uint64_t sum;
};

struct peer_round {
	unsigned posters;
	uint64_t items; /* of each poster */
};

struct peer {
	const char *name;

	/* Owner, before the clock runs. NULL when it fails. */
	struct peer_seen *(*setup)(const struct peer_round *round);
	/* Poster's own thread, before and after the clock runs. May be NULL. */
	void (*enter)(struct peer_seen *self, unsigned poster);
	void (*leave)(struct peer_seen *self, unsigned poster);
	/* Poster: posts its items [first, first + count), one by one. The loop is in here so that
	 * nobody pays for an indirect call per post. */
	void (*post)(struct peer_seen *self, unsigned poster, uint64_t first, uint64_t count);
	/* Owner: handles what is there, does not wait. */
	void (*drain)(struct peer_seen *self);
	/* Owner: announces that it sleeps, looks again, and sleeps if there is nothing. */
	void (*wait)(struct peer_seen *self, int64_t timeout_ns);
	/* Owner, after the clock has stopped and the posters have gone. */
	uint64_t (*writes)(struct peer_seen *self);
	void (*teardown)(struct peer_seen *self);
};

static inline void peer_handle(struct peer_seen *seen, uint64_t value)
{
	seen->handled++;
	seen->sum += value;
}

/* The number that item k of a poster carries. */
static inline uint64_t peer_value(const struct peer_round *round, unsigned poster, uint64_t k)
{
	return poster * round->items + k + 1;
}

/* eventfd as the models use it: non-blocking, one ppoll to sleep, one read to clear. */
int peer_eventfd(void);
void peer_eventfd_set(int fd);
void peer_eventfd_sleep(int fd, int64_t timeout_ns);

/* Zeroed, cache-line aligned, touched; NULL when it fails. Free with free(). */
void *peer_alloc(size_t size);

extern const struct peer peer_fenceq_node;
extern const struct peer peer_fenceq_mark;
extern const struct peer peer_fenceq_mark_shared;
extern const struct peer peer_fenceq_signal;
extern const struct peer peer_fenceq_signal_unregistered;
extern const struct peer peer_wfcqueue;
extern const struct peer peer_qemu_bh;

#endif /* BENCH_PEER_H */
