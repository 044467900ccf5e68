/* SPDX-License-Identifier: MIT */
#include "renderer.h"

#include "machine.h"

uint64_t render(uint64_t input)
{
	for (unsigned i = 0; i < 1000; i++)
		input = input * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return input;
}

void renderer_init(struct renderer *r, uint32_t ctx_id)
{
	r->ctx_id = ctx_id;
	actor_init(&r->actor, "renderer %u", (unsigned)ctx_id);
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->wake, NULL);
}

/* The rings in turn. False when there is nothing. */
static bool take(struct renderer *r, unsigned *ring, struct work *work)
{
	for (unsigned i = 0; i < RINGS; i++) {
		*ring = (*ring + 1) % RINGS;
		if (r->head[*ring] != r->tail[*ring]) {
			*work = r->fifo[*ring][r->head[*ring]++ % SLOTS];
			return true;
		}
	}
	return false;
}

static bool next(struct renderer *r, unsigned *ring, struct work *work)
{
	bool stop;

	pthread_mutex_lock(&r->lock);
	while (!r->stop && !take(r, ring, work)) {
		actor_does(ACTOR_SLEEPS, "nothing to render");
		pthread_cond_wait(&r->wake, &r->lock);
		actor_does(ACTOR_RUNS, NULL);
	}
	stop = r->stop;
	pthread_mutex_unlock(&r->lock);
	return !stop;
}

static void *run(void *opaque)
{
	struct renderer *r = opaque;
	struct work work;
	unsigned ring = 0;

	actor_be(&r->actor);
	actor_does(ACTOR_RUNS, NULL);
	while (next(r, &ring, &work)) {
		*work.output = render(work.input);
		atomic_store(&r->completed[ring], work.token);
		r->done(r->cookie, r->ctx_id, ring, work.token);
	}
	actor_does(ACTOR_GONE, NULL);
	return NULL;
}

void renderer_start(struct renderer *r, fence_done_fn *done, uint64_t cookie)
{
	r->done = done;
	r->cookie = cookie;
	r->stop = false;
	for (unsigned i = 0; i < RINGS; i++) {
		r->head[i] = r->tail[i] = 0;
		atomic_store(&r->completed[i], 0);
	}
	if (pthread_create(&r->thread, NULL, run, r))
		die("cannot start a renderer");
}

void renderer_submit(struct renderer *r, uint32_t ring_idx, const struct work *work)
{
	pthread_mutex_lock(&r->lock);
	if (r->tail[ring_idx] - r->head[ring_idx] == SLOTS)
		die("a renderer has more work than there are commands");
	r->fifo[ring_idx][r->tail[ring_idx]++ % SLOTS] = *work;
	pthread_mutex_unlock(&r->lock);
	pthread_cond_signal(&r->wake);
}

void renderer_stop(struct renderer *r)
{
	pthread_mutex_lock(&r->lock);
	r->stop = true;
	pthread_cond_signal(&r->wake);
	pthread_mutex_unlock(&r->lock);
	actor_joins(&r->actor, "to tear its context down");
	pthread_join(r->thread, NULL);
	actor_does(ACTOR_RUNS, NULL);
}
