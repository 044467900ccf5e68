/* SPDX-License-Identifier: MIT */
/*
 * Threads by the thousand whose life is one post: from their body, from the last round of their
 * thread-specific destructors, registered or not. None of them leaves anything behind.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>

#include "threads.h"

#define AT_ONCE 8u

/* ThreadSanitizer's own state of a thread goes in the last round. */
#define LAST_ROUND (PTHREAD_DESTRUCTOR_ITERATIONS - WATCHED_BY_TSAN)

static pthread_key_t key;

struct poster {
	pthread_t thread;
	unsigned number;
	unsigned round; /* of its destructors */
	int err;
};

/* Until the system runs no more of them. */
static void destruct(void *arg)
{
	struct poster *p = arg;

	if (++p->round < LAST_ROUND) {
		pthread_setspecific(key, p);
		return;
	}
	p->err |= scene_signal(p->number);
	if (fq_thread_registered())
		p->err |= fq_thread_unregister();
}

static void *post(void *arg)
{
	struct poster *p = arg;

	if (p->number & 1)
		p->err = fq_thread_register();
	if (p->number & 2)
		p->err |= pthread_setspecific(key, p); /* post later, and unregister after it */
	else
		p->err |= scene_signal(p->number);
	if (!(p->number & 2) && (p->number & 1))
		p->err |= fq_thread_unregister();
	return NULL;
}

static void churn(unsigned count)
{
	struct poster poster[AT_ONCE];

	for (unsigned done = 0; done < count; done += AT_ONCE) {
		scene_submit(AT_ONCE);
		for (unsigned i = 0; i < AT_ONCE; i++) {
			struct poster *p = &poster[i];

			*p = (struct poster){.number = scene.submitted - AT_ONCE + 1 + i};
			CHECK(!pthread_create(&p->thread, NULL, post, p), "thread");
		}
		scene_expect(scene.submitted);
		for (unsigned i = 0; i < AT_ONCE; i++) {
			struct poster *p = &poster[i];

			pthread_join(p->thread, NULL);
			CHECK(!p->err, "post: %d", p->err);
			CHECK(p->round == (p->number & 2 ? LAST_ROUND : 0), "destructed %u times",
			      p->round);
		}
	}
	scene_nothing_left();
}

int main(void)
{
	const unsigned count = scene_slow() ? 160 : 4000;
	long before;

	CHECK(!pthread_key_create(&key, destruct), "key");
	scene_open(0);
	churn(count / 2); /* what the C library keeps for threads to come */
	before = scene_allocated();
	churn(count);
	CHECK(scene_allocated() == before, "%ld allocations left behind",
	      scene_allocated() - before);
	scene_close();
	scene_nothing_left();
	pthread_key_delete(key);
	puts("ok");
	return 0;
}
