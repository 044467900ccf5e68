/* SPDX-License-Identifier: MIT */
/* Threads that signal: registered or not, for a while or for ever, with tickets fresh and stale. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include "chaos.h"

#define KEPT 512u

/*
 * The handle belongs to the stamp's generation: a newer one is stored after the slot's generation
 * has moved on, and that is read last.
 */
bool ticket_take(struct line *line, uint64_t back, struct ticket *t)
{
	uint64_t s = atomic_load(&line->published);

	t->line = line;
	t->handle = atomic_load(&line->slot->handle);
	if (!stamp_token(s) || atomic_load(&line->slot->generation) != stamp_generation(s))
		return false;
	t->stamp = stamp_token(s) > back ? s - back : s;
	return true;
}

/* To a higher token of the same generation. */
static void raise_stamp(atomic_ullong *word, unsigned long long s)
{
	unsigned long long old = atomic_load(word);

	while (stamp_generation(old) == stamp_generation(s) && old < s &&
	       !atomic_compare_exchange_weak(word, &old, s))
		;
}

static int call(const struct ticket *t, bool narrow)
{
	const struct line *line = t->line;
	uint64_t token = stamp_token(t->stamp);

	if (line->global)
		return narrow ? fq_signal_global32(t->handle, (uint32_t)token)
			      : fq_signal_global(t->handle, token);
	return narrow ? fq_signal32(t->handle, line->ctx_id, line->ring_idx, (uint32_t)token)
		      : fq_signal(t->handle, line->ctx_id, line->ring_idx, token);
}

/* A device cannot be gone while its end has not begun. The order of the loads is that of the stores. */
static bool is_alive(const struct ticket *t)
{
	const struct slot *slot = t->line->slot;
	uint64_t ended = atomic_load(&slot->ended);

	return atomic_load(&slot->generation) == stamp_generation(t->stamp) &&
	       ended != stamp_generation(t->stamp);
}

void ticket_signal(const struct ticket *t, bool narrow)
{
	struct line *line = t->line;
	uint64_t dead = atomic_load(&line->dead);
	bool gone = stamp_generation(dead) != stamp_generation(t->stamp) ||
		    stamp_token(dead) == TOKEN_MAX;
	int err;

	raise_stamp(&line->signalled, t->stamp);
	err = call(t, narrow);
	if (!err) {
		raise_stamp(&line->accepted, t->stamp);
		if (gone || t->stamp <= dead)
			chaos_fault(STALE, "accepted", (long long)stamp_token(t->stamp));
		return;
	}
	atomic_fetch_add_explicit(&chaos_refused, 1, memory_order_relaxed);
	if (err == -EINVAL && narrow && !(uint32_t)t->stamp) /* no token, where none is known */
		return;
	if (err == -ENODEV && !gone && is_alive(t))
		chaos_fault(WRONG_ERRNO, "refused by a device that is alive", err);
	if (err != -ENODEV && (gone || (err != -ESTALE && err != -ENOENT)))
		chaos_fault(WRONG_ERRNO, "signal", err);
}

static struct line *any_line(uint64_t r)
{
	struct slot *slot = &chaos_owner[r % OWNERS].slot[(r >> 8) % SLOTS];

	return &slot->line[(r >> 16) % LINES];
}

static void pause_a_little(uint64_t r)
{
	const struct timespec ts = {.tv_nsec = 200000};

	if (r % 256 == 0)
		nanosleep(&ts, NULL);
	else if (r % 8 == 0)
		sched_yield();
}

static void expect(int err, int expected)
{
	chaos_expect(err, expected, "bad input");
	atomic_fetch_add_explicit(&chaos_refused, 1, memory_order_relaxed);
}

/* What no renderer should say, to a device that may be there. */
static void post_nonsense(uint64_t r)
{
	struct line *line = any_line(r);
	fq_handle_t handle = atomic_load(&line->slot->handle);
	int err;

	expect(fq_signal(0, 0, 0, 1), -EINVAL);
	if (!handle)
		return;
	err = fq_signal(handle, line->ctx_id, 64 + (uint32_t)(r >> 40), 1);
	expect(err, err == -ENODEV ? -ENODEV : -EINVAL);
	err = fq_signal_global(handle, 0);
	expect(err, err == -ENODEV ? -ENODEV : -EINVAL);
	err = fq_signal(handle, 0x7654321, 0, 1);
	expect(err, err == -ENODEV ? -ENODEV : -ENOENT);
	err = fq_signal_global(handle, UINT64_MAX - r % 1000);
	expect(err, err == -ENODEV || err == -ESTALE ? err : -ERANGE);
}

static void post(uint64_t r)
{
	struct ticket t;

	if (r % 512 == 7)
		post_nonsense(r >> 9);
	else if (ticket_take(any_line(r >> 9), r >> 40 & 3 ? 0 : r >> 44 & 7, &t))
		ticket_signal(&t, r >> 60 & 1);
	pause_a_little(r >> 48);
}

/* One life. How long, and what kind of thread: the first draws of its stream. */
void *poster_main(void *arg)
{
	struct place *place = arg;
	uint64_t state = chaos_draw(100 + place->index, place->births);
	uint64_t kind = stress_random(&state) % 4;
	uint64_t posts = stress_random(&state) % 4000;
	bool registered = false;

	if (stress_random(&state) % 16 == 0)
		posts = 0;
	for (uint64_t n = 0; n < posts && !atomic_load(&chaos_stop); n++) {
		/* Unknown; for the whole life; twice; now and then. */
		if ((kind == 1 || kind == 2) && n == 0)
			registered = !fq_thread_register();
		if (kind == 2 && n == 10)
			(void)fq_thread_register();
		if (kind == 2 && n == 20)
			(void)fq_thread_unregister();
		if (kind == 3 && n % 100 == 0)
			registered = registered ? fq_thread_unregister() : !fq_thread_register();
		post(stress_random(&state));
	}
	while (fq_thread_registered())
		(void)fq_thread_unregister();
	atomic_store(&place->vacant, true);
	return NULL;
}

/* Never registered, never told of anything: goes on using whatever it has ever seen. */
void *foreign_main(void *unused)
{
	static struct ticket kept[KEPT];
	uint64_t state = chaos_draw(99, 0);
	unsigned count = 0;

	(void)unused;
	while (!atomic_load(&chaos_stop)) {
		uint64_t r = stress_random(&state);
		struct ticket t;

		if (r % 8 == 0 && ticket_take(any_line(r >> 8), 0, &t)) {
			unsigned i = count < KEPT ? count++ : (unsigned)(r >> 40) % KEPT;

			kept[i] = t;
		}
		if (count)
			ticket_signal(&kept[(r >> 32) % count], r >> 60 & 1);
		pause_a_little(r >> 48);
	}
	return NULL;
}
