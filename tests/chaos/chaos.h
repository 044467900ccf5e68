/* SPDX-License-Identifier: MIT */
#ifndef FQ_CHAOS_H
#define FQ_CHAOS_H

/*
 * Owners live their devices' lives at random while threads that come and go signal whatever tokens
 * they have seen; a ledger beside the library knows what each fence must be told.
 *
 * Every actor draws from a stream of its own, which nothing but the seed determines: decision n of
 * an owner, of the k-th thread in a place, of a fence's callback is the same in every run with that
 * seed. What comes of it depends on timing, as it should.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <fenceq/fenceq.h>

#include "../stress/stress.h"

#define OWNERS 2u
#define SLOTS 3u /* devices of an owner, alive at one time */
#define CONTEXTS 4u
#define RINGS 3u
#define LINES (1u + CONTEXTS * RINGS) /* 0 is the global timeline */
#define WORKS 12u                     /* in flight on one line */
#define POSTERS 6u

/* A token together with the device's generation in its slot. */
#define TOKEN_BITS 48
#define TOKEN_MAX ((UINT64_C(1) << TOKEN_BITS) - 1)

static inline uint64_t stamp(uint64_t generation, uint64_t token)
{
	return generation << TOKEN_BITS | token;
}

static inline uint64_t stamp_generation(uint64_t s)
{
	return s >> TOKEN_BITS;
}

static inline uint64_t stamp_token(uint64_t s)
{
	return s & TOKEN_MAX;
}

struct work {
	struct fq_fence fence; /* first: a fence is its work */
	struct line *line;
	uint64_t fate; /* what its callback does */
	uint64_t order;
	unsigned life;
	bool in_flight;
	bool condemned; /* a call has taken it, which says: */
	bool complete;  /* a signal for it had returned 0, so it is to be told 0 */
	int expected;   /* else this, or 0 if a signal came in time */
};

/* A key of a slot's device: one timeline of the library, over all lives of all devices there. */
struct line {
	/* Stamps; the first is what posters signal up to, the next two are theirs. */
	atomic_ullong published, signalled, accepted;
	atomic_ullong dead; /* a signal that begins now with a token up to here must be refused */
	struct slot *slot;
	bool global;
	uint32_t ctx_id, ring_idx;
	uint64_t high, order;
	unsigned life;
	struct work work[WORKS];
};

enum slot_state {
	EMPTY,
	ALIVE,
	ENDING,
};

struct slot {
	_Atomic fq_handle_t handle;
	atomic_ullong generation;
	atomic_ullong ended; /* the last generation whose end has begun */
	struct owner *owner;
	struct fq_device *dev;
	enum slot_state state;
	bool frozen;
	bool live[CONTEXTS];
	uint64_t high; /* highest token the device gave out */
	struct line line[LINES];
};

struct owner {
	pthread_t thread;
	unsigned index;
	unsigned depth;   /* of act() */
	uint64_t decided; /* decisions of the main loop */
	uint64_t digest;  /* of the first of them */
	uint64_t flushes;
	uint32_t passing; /* contexts that came and went */
	uint64_t submitted, retired, devices, contexts;
	unsigned flags;
	struct fq_queue *queue;
	struct slot slot[SLOTS];
};

enum end {
	RING_FAIL,
	GLOBAL_FAIL,
	CONTEXT_FAIL,
	DEVICE_FAIL,
	CONTEXT_DESTROY,
	RESET,
	UNPLUG,
	DESTROY,
	ENDS,
};

struct ticket {
	struct line *line;
	uint64_t stamp;
	fq_handle_t handle;
};

extern uint64_t chaos_seed;
extern struct owner chaos_owner[OWNERS];
extern atomic_bool chaos_stop;
extern atomic_ullong chaos_refused;

/* Decision @p n of an actor. */
uint64_t chaos_draw(uint64_t actor, uint64_t n);

/* Counted, and the first few described. */
enum fault {
	LOST,
	DUPLICATED,
	OUT_OF_ORDER,
	EARLY,        /* told 0 before its signal, or while frozen */
	STALE,        /* a signal of an earlier life was accepted */
	WRONG_STATUS, /* not the one of the call that took it */
	WRONG_ERRNO,
	FAULTS,
};

extern atomic_ullong chaos_faults[FAULTS];
void chaos_fault(enum fault fault, const char *what, long long detail);
void chaos_expect(int err, int expected, const char *what);

/* ledger.c */
void line_publish(struct line *line, struct work *work);
struct work *line_free_work(struct line *line);
void ledger_renew(struct slot *slot);
void ledger_retired(struct work *work, int status);
/* A call takes what is in flight on the lines from..to-1 of a slot; they may end a life. */
void ledger_condemn(struct slot *slot, unsigned from, unsigned to, int status, bool ends);
/* It has returned; until[] is what each line had given out when it was called. */
void ledger_close(struct slot *slot, unsigned from, unsigned to, uint64_t generation,
		  const uint64_t *until);
/* What a signal that has returned made due. */
struct due {
	uint64_t accepted[SLOTS][LINES];
};
void ledger_note_due(const struct owner *owner, struct due *due);
bool ledger_is_due(const struct owner *owner, const struct due *due);
unsigned ledger_in_flight(const struct slot *slot);

/* poster.c */
bool ticket_take(struct line *line, uint64_t back, struct ticket *t);
void ticket_signal(const struct ticket *t, bool narrow);
void *poster_main(void *place);
void *foreign_main(void *unused);

struct place {
	pthread_t thread;
	unsigned index;
	uint64_t births;
	atomic_bool vacant;
};

/* ends.c */
void end_life(struct slot *slot, enum end end, uint64_t fate);

/* owner.c */
void *owner_main(void *owner);
void owner_finish(struct owner *owner);

/* reaper.c: frees what owners unplugged. */
void reaper_defer(void (*run)(void *arg), void *arg, void *opaque);
bool reaper_is_behind(void);
void *reaper_main(void *unused);
void reaper_finish(void);

/* heap.c */
long long heap_bytes(void);

#endif /* FQ_CHAOS_H */
