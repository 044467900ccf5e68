/* SPDX-License-Identifier: MIT */
#ifndef FQ_POOL_INTERNAL_H
#define FQ_POOL_INTERNAL_H

/*
 * pool.c: works, from their submit to their completion. pool_steward.c: a pool's life, and who works
 * in it. pool_thread.c: what a thread of a pool is like.
 *
 *     submitter                   whoever has the lock: workers, the steward, fq_pool_drain()
 *     inbox  push (CAS) ───────▶  collect: all of it, numbered, to the ready list
 *     told?  ring the bell        take: the first that is not cancelled
 *     canceller
 *     word   QUEUED -> CANCELLED
 *     cancelled  push (CAS) ───▶  the steward: off the ready list, completes it
 */

#include <pthread.h>

#include "internal.h"

/*
 * Who sleeps for it takes `turn` first, then begins a round of the relay, then looks; and sleeps while
 * `turn` has not changed. Whoever has changed something rings, unless that is told in this round.
 */
struct fq_bell {
	struct fq_relay relay;
	fq_a64 turn;
};

struct fq_worker {
	struct fq_pool *pool;
	struct fq_worker *next; /* on the list `vacant` (the steward's) or `left` */
	pthread_t thread;
	uint64_t number; /* of the work that runs; 0: none */
	unsigned index;
};

struct fq_pool {
	/*
	 * The newest work, and a tag: who is to be told of the next one. Only under the lock is it
	 * anything but pushed on.
	 *   any    -> worker, steward, nobody  (collect; the stack is empty after it)
	 *   any    -> closed                   (collect, once the steward has seen `stopped`)
	 * Impossible: closed -> any; a push on closed.
	 */
	alignas(FQ_CACHELINE) fq_aptr inbox;
	struct fq_bell idlers; /* for whom workers wait */
	fq_a64 submitted;
	fq_a64 stopped;

	alignas(FQ_CACHELINE) fq_aptr cancelled; /* struct fq_node * in works */
	struct fq_bell steward_bell;
	fq_a64 ending; /* somebody has called destroy or end; which is in how the rest is set up */

	alignas(FQ_CACHELINE) fq_a64 lock; /* 0 free, 1 taken, 2 taken and somebody may sleep */
	fq_a64 turn_of_drain;              /* grows when something has finished while `drains` */
	struct fq_work *ready_first;       /* under the lock from here on */
	struct fq_work **ready_last;
	struct fq_work *over; /* cancelled, on no list: the steward completes them */
	struct fq_worker *left;
	uint64_t last_number;
	unsigned drains;
	unsigned limbo;     /* works in state HALF */
	unsigned starting;  /* hired, and not there yet */
	unsigned dismissed; /* are to leave when they find nothing to do */
	unsigned least_idle;
	bool closed;
	bool completing; /* the steward is about to push what was cancelled */
	bool short_of;   /* the system has refused a thread; the steward tries again later */
	fq_a64 workers;
	fq_a64 idle;
	fq_a64 peak;
	fq_a64 started;
	fq_a64 completed;
	fq_a64 cancels;
	fq_a64 hire_errors;

	struct fq_worker *vacant; /* the steward's from here on */
	int64_t window_ends_ns;
	int64_t hire_again_ns;

	pthread_t steward; /* constant from here on */
	int pid;
	unsigned min_workers;
	unsigned max_workers;
	int64_t idle_ns;
	size_t stack_size;
	uint32_t *cpus;
	unsigned cpu_count;
	bool pin;
	char name[16];
	struct fq_queue *end_queue;
	struct fq_node *end_node;
	struct fq_event *created;
	struct fq_worker worker[];
};

/* In steward_bell.turn: destroy or end has been called. Adding it is the caller's last access. */
#define FQ_POOL_ENDING (UINT64_C(1) << 62)

/* pool.c */
void fq_pool_lock(struct fq_pool *pool);
/* Also tells whoever is to know what has become ready. */
void fq_pool_unlock(struct fq_pool *pool);
void fq_pool_collect(struct fq_pool *pool);
/* To the list `over`: what cancellers have brought; all that has not started. */
void fq_pool_take_cancelled(struct fq_pool *pool);
void fq_pool_cancel_ready(struct fq_pool *pool);
void fq_work_complete(struct fq_work *work, int status);
bool fq_pool_may_hire(const struct fq_pool *pool);
void fq_pool_knock(struct fq_bell *bell);
void fq_pool_tell_drains(struct fq_pool *pool);
/* The thread's main. */
void *fq_pool_work(void *worker);
bool fq_pool_is_own_worker(const struct fq_pool *pool);

/* A counter that is written under the lock and read without. */
static inline void fq_pool_set(fq_a64 *counter, uint64_t value)
{
	fq_store_rlx(counter, value);
}

/* pool_thread.c */
int fq_pool_thread_start(pthread_t *out, size_t stack_size, void *(*run)(void *), void *arg);
/* The calling thread: worker @index, or the steward (-1). */
void fq_pool_thread_name(const char *name, int index);
int fq_pool_thread_bind(const uint32_t *cpus, unsigned count);

#endif /* FQ_POOL_INTERNAL_H */
