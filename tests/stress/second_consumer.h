/* SPDX-License-Identifier: MIT */
#ifndef FQ_STRESS_SECOND_CONSUMER_H
#define FQ_STRESS_SECOND_CONSUMER_H

/* A thread that drains under the host's lock while the owner may be asleep (trap 16). */

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include <fenceq/queue.h>

#include "stress.h"

struct second_consumer {
	struct fq_queue *queue;
	pthread_mutex_t *host_lock;
	atomic_bool *stop;
	uint64_t seed;
	unsigned budget; /* of every other drain; the rest have a small one */
};

static inline void *second_consumer_run(void *arg)
{
	struct second_consumer *c = arg;

	while (!atomic_load(c->stop)) {
		const uint64_t r = stress_random(&c->seed);

		pthread_mutex_lock(c->host_lock);
		(void)fq_queue_poll(c->queue, r % 2 ? 3 : c->budget);
		pthread_mutex_unlock(c->host_lock);
		if (r >> 8 & 1)
			sched_yield();
		else
			poll(NULL, 0, 1);
	}
	return NULL;
}

#endif /* FQ_STRESS_SECOND_CONSUMER_H */
