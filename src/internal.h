/* SPDX-License-Identifier: MIT */
#ifndef FQ_INTERNAL_H
#define FQ_INTERNAL_H

/*
 * What the sources share and hosts do not see. Order of knowledge: queue < timeline < device.
 *
 * The way of a signal, poster's side, is a climb through words that each tell the one above:
 *
 *     timeline.mark -> bank.dirty -> source.dirty -> queue.dirty (with the ARMED bit) -> fd
 *
 * and the owner walks the same way down. Each step is idempotent, so whoever finds a step
 * unconfirmed does it himself; docs/memory-model.md has the argument.
 */

#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <fenceq/fenceq.h>

#include "atomics.h"
#include "debug.h"

#define FQ_CACHELINE 64
#define FQ_WORD_BITS 64u

#define fq_container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* CLOCK_MONOTONIC as of the last tick, in ns: no more than a load or two, where there is a vDSO. */
static inline int64_t fq_now_coarse(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* CLOCK_MONOTONIC in ns. */
static inline int64_t fq_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* So long after now, which is no later than INT64_MAX. */
static inline int64_t fq_after(int64_t now, int64_t timeout_ns)
{
	return timeout_ns > INT64_MAX - now ? INT64_MAX : now + timeout_ns;
}

/* The time at which a time-out from now ends; INT64_MAX for ever. */
static inline int64_t fq_until(int64_t timeout_ns)
{
	return timeout_ns < 0 ? INT64_MAX : fq_after(fq_now(), timeout_ns);
}

/* What is left until then, as a time-out: 0 when it has come, -1 for ever. */
static inline int64_t fq_left(int64_t until_ns)
{
	int64_t left;

	if (until_ns == INT64_MAX)
		return -1;
	left = until_ns - fq_now();
	return left > 0 ? left : 0;
}

/* The atomic inside an object of the host's. */
static inline fq_a64 *fq_atomic(struct fq_word *word)
{
	return (fq_a64 *)(void *)word;
}

static inline const fq_a64 *fq_atomic_const(const struct fq_word *word)
{
	return (const fq_a64 *)(const void *)word;
}

_Static_assert(sizeof(fq_a64) == sizeof(struct fq_word), "hosts make room for it");

/* thread.c: tells threads that are alive apart; never NULL. */
void *fq_thread_self(void);

/* Zeroed, on a cache line of its own. Free with free(). */
void *fq_alloc_aligned(size_t size);

/* -- relay: has this round's change been told to the level above? ------------------------------ */

/*
 * A word that posters change by read-modify-write is watched by the owner through one bit (or tag)
 * of a word above it. The owner takes that bit, begins a new round, then takes the word by a
 * read-modify-write of his own. A poster changes the word, and unless somebody has already told the
 * level above in the round it finds, does so and says that it is told.
 */
struct fq_relay {
	fq_a64 round; /* owner writes */
	fq_a64 told;  /* posters write: the round in which the level above was told */
};

/* Poster, after its change of the word. False: the level above has been told. */
static inline bool fq_relay_untold(const struct fq_relay *r, uint64_t *round)
{
	*round = fq_load_acq(&r->round);        /* R1: pairs with R1 in fq_relay_begin */
	return fq_load_acq(&r->told) != *round; /* R2: pairs with R2 in fq_relay_tell */
}

/* Poster, when the level above, and all above that, have been told. */
static inline void fq_relay_tell(struct fq_relay *r, uint64_t round)
{
	fq_store_rel(&r->told, round); /* R2: the steps above come before this */
}

/*
 * Owner, when the word is set up (nothing is told in its first round), and from then on between
 * taking the bit above and taking the word.
 */
static inline void fq_relay_begin(struct fq_relay *r)
{
	/* R1: taking the bit above comes before this */
	fq_store_rel(&r->round, fq_load_rlx(&r->round) + 1);
}

/* -- queue ------------------------------------------------------------------------------------- */

/* Bit 0 of queue.dirty and the tag of queue.head. */
#define FQ_ARMED 1u

/* Something other than nodes that posters can make dirty; each has a bit of queue.dirty. */
struct fq_source {
	alignas(FQ_CACHELINE) fq_a64 dirty;
	struct fq_relay relay;
	struct fq_queue *queue;
	uint64_t bit;
	/* Owner: move what is dirty to the queue's ready list. */
	void (*collect)(struct fq_source *source);
	struct fq_source *next; /* owner: the others on the same bit */
};

/* A run of completions that a nested drain has to go on with. On the stack of a node's run. */
struct fq_turn {
	struct fq_turn *outer;
	void (*resume)(struct fq_turn *turn); /* put what is left on the ready list */
};

/* What is to be done once when a drain ends, or when the last one on the stack has ended. */
struct fq_later {
	struct fq_later *next;
	void (*run)(struct fq_later *later);
	bool listed;
};

#define FQ_DIRTY_BITS 63u /* bit 0 of the word is FQ_ARMED */

/* The deferred calls of a queue (call.c). */
struct fq_calls {
	struct fq_call_group *groups; /* all there ever were */
	struct fq_call_slot *free;
	unsigned group_count;
	unsigned live;
	unsigned idle; /* idle calls that wait */
	struct fq_deadline idle_until;
};

/*
 * Two words that posters change, head (nodes) and dirty (sources); both carry the armed mark, so
 * that a poster learns from its own read-modify-write whether anybody may be asleep.
 *
 * States of each: empty -> armed          (owner: arm)
 *                 empty, armed -> posted  (poster; the armed mark stays as it was)
 *                 any -> empty            (owner: collect)
 * Impossible: armed -> empty other than by collect, posted -> armed.
 *
 * From collect to the next arm, while handlers run and somebody may be asleep, the fd is readable: a
 * handler may run the host's loop again, which then sleeps on it. It is cleared when nothing is left.
 *
 * The armed mark stays when something is posted: the poster that wakes the owner may be stopped
 * before its write, and the next one must see that it is still to be done.
 */
struct fq_queue {
	alignas(FQ_CACHELINE) fq_aptr head;
	fq_a64 dirty;

	alignas(FQ_CACHELINE) struct fq_relay wake; /* round: number of the arm; told: fd written */
	struct fq_notifier notifier;
	fq_a64 notifier_writes;

	alignas(FQ_CACHELINE) struct fq_node *ready_first; /* owner from here on */
	struct fq_node **ready_last;
	struct fq_later *flush_first;
	struct fq_later **flush_last;
	struct fq_later *burials;
	struct fq_turn *turn; /* on the stack, interrupted by the handlers that run */
	unsigned left;        /* budget of the innermost drain */
	unsigned depth;       /* drains on the stack */
	unsigned sleepers;    /* who may be asleep */
	unsigned attached;    /* sources */
	unsigned next_slot;   /* where the next source goes */
	fq_aptr owner;        /* fq_thread_self() of the thread that drains */
	bool kicked;          /* the fd is readable: known to be written and not cleared since */
	bool hooks;
	struct fq_deadline *deadlines; /* a heap: the next one, and below it the others */
	uint64_t deadlines_set;        /* how often one was set */
	int64_t timer_at_ns;           /* what timer_fd is set to, no later than the next one */
	struct fq_calls calls;
	struct fq_watch *watches;
	uint64_t watch_turn; /* of the last fq_watches_run() */
	int epoll_fd;        /* FQ_QUEUE_EPOLL; else -1, as is timer_fd */
	int timer_fd;
	fq_a64 completions;
	fq_a64 drains;
	fq_a64 empty_drains;
	fq_a64 budget_stops;
	fq_a64 notifier_clears;
	fq_a64 held; /* by what posters may still reach the queue through */
	struct fq_source *sources[FQ_DIRTY_BITS];
};

/* Called for every completion, hence inline. */
static inline void fq_queue_ready(struct fq_queue *q, struct fq_node *node)
{
	node->next = NULL;
	*q->ready_last = node;
	q->ready_last = &node->next;
}

static inline bool fq_queue_spend(struct fq_queue *q)
{
	if (!q->left)
		return false;
	q->left--;
	return true;
}

static inline void fq_queue_refund(struct fq_queue *q)
{
	q->left++;
}

static inline void fq_queue_flush_later(struct fq_queue *q, struct fq_later *flush)
{
	if (flush->listed)
		return;
	flush->listed = true;
	flush->next = NULL;
	*q->flush_last = flush;
	q->flush_last = &flush->next;
}

/* Owner. */
void fq_queue_attach(struct fq_queue *q, struct fq_source *source);
void fq_queue_detach(struct fq_queue *q, struct fq_source *source);
/*
 * Around everything that calls the host and goes on using its own objects afterwards: what a
 * callback destroys is buried when the outermost of these (or drain) ends.
 */
void fq_queue_enter(struct fq_queue *q);
void fq_queue_leave(struct fq_queue *q);
void fq_queue_bury_later(struct fq_queue *q, struct fq_later *burial);
/* Something was made ready outside of a drain. */
void fq_queue_wake_owner(struct fq_queue *q);
/* Who is between prepare and check has something to look at again. */
void fq_queue_wake_sleepers(struct fq_queue *q);
/* Memory that posters may still reach the queue through; the second from any thread. */
void fq_queue_hold(struct fq_queue *q);
void fq_queue_release(struct fq_queue *q);
void fq_queue_forget(struct fq_queue *q, bool (*match)(struct fq_node *, void *), void *arg);

/* deadline.c, mux.c: the owner's */
bool fq_deadlines_run(struct fq_queue *q); /* true when one ran */
int fq_mux_open(struct fq_queue *q);
void fq_mux_close(struct fq_queue *q);
void fq_mux_set_timer(struct fq_queue *q);
bool fq_watches_run(struct fq_queue *q); /* true when one ran */
int fq_mux_after_fork_child(struct fq_queue *q);

/* call.c: the owner's */
void fq_calls_run_idle(struct fq_queue *q);
void fq_calls_idle_wait(struct fq_queue *q); /* those that have not run: not for ever */
void fq_calls_free(struct fq_queue *q);
void fq_calls_after_fork_child(struct fq_queue *q);

/* Makes the descriptor fd the same as fresh, and closes that. */
int fq_take_place(int fresh, int fd);

/* Posters: the source's dirty word has changed. */
void fq_source_tell(struct fq_source *source);

/* -- timeline ---------------------------------------------------------------------------------- */

/* What a timeline reports to; a device embeds one. */
struct fq_sink {
	struct fq_queue *queue;
	fq_retire_fn *retire; /* the host's */
	void *opaque;
	struct fq_later flush;
	bool frozen;            /* owner: nothing is retired but by failing it */
	uint32_t epoch;         /* how many quiesces have begun */
	uint64_t epoch_pending; /* submitted since the last one, and pending */
	struct fq_quiesce *quiesces;
	fq_a64 retired;
	fq_a64 failed;
	fq_a64 refused_unknown;
	fq_a64 refused_invalid;
	fq_a64 refused_range;
	fq_a64 refused_stale;
};

/* quiesce.c */
void fq_quiesce_retired(struct fq_sink *sink, uint32_t epoch);
void fq_quiesce_complete(struct fq_sink *sink);

static inline void fq_sink_retire(struct fq_sink *sink, struct fq_fence *fence)
{
	uint32_t epoch = fence->epoch;

	fq_count_owner(&sink->retired, 1);
	if (fence->status)
		fq_count_owner(&sink->failed, 1);
	fq_queue_flush_later(sink->queue, &sink->flush);
	sink->retire(fence, fence->status, sink->opaque);
	/* Once more, for a callback that drained, and so flushed, before it was done. */
	fq_queue_flush_later(sink->queue, &sink->flush);
	if (epoch == sink->epoch)
		sink->epoch_pending--;
	else
		fq_quiesce_retired(sink, epoch);
}

/* In the mark's word below the token. A closed timeline takes no mark. */
#define FQ_MARK_CLOSED 1u
#define FQ_MARK_SHIFT 1

struct fq_bank;

/*
 * States of the mark's word, and what may follow:
 *   closed        -> open at base                     (owner: fq_timeline_open)
 *   open at n     -> open at m, n < m <= submitted    (posters: fq_timeline_signal)
 *   open at n     -> closed at n                      (owner: fq_timeline_close)
 * Impossible: a smaller token, also across closed -> open (base is no smaller than any token that
 * this device has given out to a timeline now closed); a poster changing a closed word.
 */
struct fq_timeline {
	alignas(FQ_CACHELINE) fq_a64 mark;
	struct fq_relay relay;
	fq_a64 submitted; /* highest token given out */
	fq_a64 base;      /* tokens up to here belong to earlier lives */
	struct fq_bank *bank;
	uint8_t ring;

	alignas(FQ_CACHELINE) struct fq_node node; /* owner from here on */
	struct fq_sink *sink; /* posters look only when they refuse: not on their line */
	struct fq_fence *first;
	struct fq_fence **last;
	uint64_t limit; /* the mark as last seen */
	uint64_t pending;
	uint64_t failed; /* fences up to here retire without a signal, each with its own status */
	bool ready;      /* node is on the ready list */
};

_Static_assert(offsetof(struct fq_timeline, ring) < FQ_CACHELINE, "a poster touches one line");

/* The timelines of one context. Recycled within its device, never freed before it. */
struct fq_bank {
	alignas(FQ_CACHELINE) fq_a64 dirty; /* a bit for each ring */
	struct fq_relay relay;
	struct fq_source *source;
	uint8_t slot; /* bit in source->dirty */
	bool live;    /* owner: a context of the guest's, in the table */

	/* What every signal reads is not on the line that signals and drains write. */
	alignas(FQ_CACHELINE) fq_a64 ctx_id; /* FQ_CTX_NONE while on the free list */
	struct fq_bank *next_free;
	fq_aptr ring[FQ_RINGS]; /* struct fq_timeline *, never replaced */
};

#define FQ_CTX_NONE UINT64_MAX

/* 64 banks of one device. */
struct fq_bank_group {
	struct fq_source source;
	struct fq_bank *bank[FQ_WORD_BITS];
	unsigned used;
	struct fq_bank_group *next;
};

struct fq_timeline *fq_timeline_create(struct fq_bank *bank, uint8_t ring, struct fq_sink *sink);
void fq_timeline_open(struct fq_timeline *tl, uint64_t base);
/* fq_timeline_open() in the middle of a life, whose pending fences may be there already. */
void fq_timeline_restore(struct fq_timeline *tl, uint64_t base, uint64_t mark, uint64_t submitted);
bool fq_timeline_is_open(const struct fq_timeline *tl);
/* Also true when it was closed since. */
bool fq_timeline_was_opened(const struct fq_timeline *tl);
void fq_timeline_append(struct fq_timeline *tl, struct fq_fence *fence, uint64_t token);
/*
 * Takes no mark from here on: what the mark covers will retire with 0, the rest with this status.
 * Returns the highest token it gave out. Calls nobody.
 */
uint64_t fq_timeline_close(struct fq_timeline *tl, int status);
/* Retires what was pending when the timeline was closed. */
void fq_timeline_fail(struct fq_timeline *tl);
/* The next life is another context's, and has not used it. */
void fq_timeline_forget(struct fq_timeline *tl);
/* The owner may retire again what it was kept from. */
void fq_timeline_thaw(struct fq_timeline *tl);
static inline uint64_t fq_timeline_mark(const struct fq_timeline *tl)
{
	return fq_load_rlx(&tl->mark) >> FQ_MARK_SHIFT;
}

bool fq_timeline_owns(struct fq_node *node, void *sink);
void fq_bank_group_collect(struct fq_source *source);

/* -- table: context id -> bank ----------------------------------------------------------------- */

struct fq_table_slots;

struct fq_table {
	fq_a64 version;
	fq_aptr current; /* struct fq_table_slots * */
	uint32_t multiplier;
	uint32_t live; /* owner from here on */
	uint32_t used; /* live and removed */
	struct fq_table_slots *spare;
	struct fq_table_slots *outgrown;
};

int fq_table_init(struct fq_table *t);
void fq_table_fini(struct fq_table *t);
int fq_table_insert(struct fq_table *t, struct fq_bank *bank);
void fq_table_remove(struct fq_table *t, const struct fq_bank *bank);
struct fq_bank *fq_table_find(const struct fq_table *t, uint32_t ctx_id);

#endif /* FQ_INTERNAL_H */
