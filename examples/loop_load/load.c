/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct request {
	struct fq_node node; /* or */
	struct fq_fence fence;
	struct load_poster *poster;
	unsigned index;
};

struct load_poster {
	pthread_t thread;
	struct load *load;
	uint32_t ctx_id;
	unsigned next[2]; /* the index expected next, of nodes and of fences */
	struct request request[LOAD_BURST];
};

static bool is_fence(unsigned index)
{
	return index % 2;
}

/* -- posters ----------------------------------------------------------------------------------- */

/* A poll, so that the owner need not make a system call for the posters' sake. */
static void await_burst(struct load *load, unsigned burst)
{
	const struct timespec pause = {.tv_nsec = 100000};

	while (atomic_load_explicit(&load->burst, memory_order_acquire) < burst)
		nanosleep(&pause, NULL);
}

static void *post(void *arg)
{
	struct load_poster *p = arg;
	struct load *load = p->load;

	for (unsigned burst = 1; burst <= load->bursts; burst++) {
		await_burst(load, burst);
		for (unsigned i = 0; i < LOAD_BURST; i++) {
			struct request *r = &p->request[i];

			if (is_fence(i))
				(void)fq_signal(load->handle, p->ctx_id, 0, r->fence.token);
			else
				fq_queue_push(load->queue, &r->node);
		}
	}
	return NULL;
}

/* -- owner ------------------------------------------------------------------------------------- */

/* What the posters will complete is recorded before they may. */
static int begin_burst(struct load *load)
{
	load->arrived = 0;
	for (unsigned i = 0; i < LOAD_POSTERS; i++) {
		struct load_poster *p = &load->poster[i];

		p->next[0] = 0;
		p->next[1] = 1;
		for (unsigned n = 1; n < LOAD_BURST; n += 2) {
			int err = fq_submit(load->device, p->ctx_id, 0, &p->request[n].fence);

			if (err)
				return err;
		}
	}
	atomic_fetch_add_explicit(&load->burst, 1, memory_order_release);
	return 0;
}

static void time_has_come(struct fq_deadline *deadline)
{
	struct load *load =
		(struct load *)(void *)((char *)deadline - offsetof(struct load, deadline));

	load->finished = true;
	if (load->done)
		load->done(load->opaque);
}

static void arrive(struct request *r)
{
	struct load_poster *p = r->poster;
	struct load *load = p->load;
	unsigned *next = &p->next[is_fence(r->index)];

	if (r->index != *next)
		load->out_of_order++;
	*next = r->index + 2;
	load->delivered++;
	if (++load->arrived < LOAD_POSTERS * LOAD_BURST)
		return;
	if (load->delivered < (uint64_t)load->bursts * LOAD_POSTERS * LOAD_BURST) {
		if (begin_burst(load))
			load->out_of_order++;
	} else {
		(void)fq_deadline_set(load->queue, &load->deadline, 2000000);
	}
}

static void node_arrives(struct fq_node *node)
{
	arrive((struct request *)(void *)((char *)node - offsetof(struct request, node)));
}

static void fence_arrives(struct fq_fence *fence, int status, void *opaque)
{
	struct load *load = opaque;

	if (status)
		load->out_of_order++;
	arrive((struct request *)(void *)((char *)fence - offsetof(struct request, fence)));
}

static void set_up(struct load *load, struct load_poster *p, unsigned i)
{
	p->load = load;
	p->ctx_id = i + 1;
	for (unsigned n = 0; n < LOAD_BURST; n++) {
		p->request[n].node.run = node_arrives;
		p->request[n].poster = p;
		p->request[n].index = n;
	}
}

int load_start(struct load *load, struct fq_queue *queue)
{
	const struct fq_device_config config = {
		.queue = queue, .retire = fence_arrives, .opaque = load};
	int err;

	load->queue = queue;
	load->deadline.run = time_has_come;
	load->poster = calloc(LOAD_POSTERS, sizeof(*load->poster));
	if (!load->poster)
		return -ENOMEM;
	err = fq_device_create(&load->device, &config);
	if (err)
		return err;
	load->handle = fq_device_handle(load->device);
	for (unsigned i = 0; i < LOAD_POSTERS; i++)
		set_up(load, &load->poster[i], i);
	for (unsigned i = 0; i < LOAD_POSTERS && !err; i++)
		err = -pthread_create(&load->poster[i].thread, NULL, post, &load->poster[i]);
	return err ? err : begin_burst(load);
}

bool load_finished(const struct load *load)
{
	return load->finished;
}

/* -- options and the result -------------------------------------------------------------------- */

int load_parse(struct load *load, int argc, char **argv)
{
	static const struct option options[] = {{"json", no_argument, NULL, 'j'},
						{"bursts", required_argument, NULL, 'b'},
						{"budget", required_argument, NULL, 'd'},
						{NULL, 0, NULL, 0}};
	int c;

	*load = (struct load){.bursts = 200, .budget = 32};
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'j')
			load->json = true;
		else if (c == 'b')
			load->bursts = (unsigned)strtoul(optarg, NULL, 0);
		else if (c == 'd')
			load->budget = (unsigned)strtoul(optarg, NULL, 0);
		else
			return -1;
	}
	return load->bursts && load->budget ? 0 : -1;
}

static void print(const struct load *load, const char *name, const struct fq_queue_stats *s)
{
	const char *format =
		load->json ? "{\"loop\": \"%s\", \"completions\": %" PRIu64 ", \"writes\": %" PRIu64
			     ", \"reads\": %" PRIu64 ", \"waits\": %" PRIu64
			     ", \"writes_per_completion\": %.4f, \"calls_per_completion\": %.4f, "
			     "\"completions_per_drain\": %.1f}\n"
			   : "%s: %" PRIu64 " completions, %" PRIu64 " writes, %" PRIu64
			     " reads, %" PRIu64 " waits; a completion: %.4f writes, %.4f system "
			     "calls; a drain: %.1f completions\n";
	double n = (double)s->completions, drains = (double)(s->drains - s->empty_drains);
	double calls = (double)(s->notifier_writes + s->notifier_clears + load->waits);

	printf(format, name, s->completions, s->notifier_writes, s->notifier_clears, load->waits,
	       (double)s->notifier_writes / n, calls / n, n / drains);
}

int load_end(struct load *load, const char *name)
{
	uint64_t expected = (uint64_t)load->bursts * LOAD_POSTERS * LOAD_BURST;
	struct fq_queue_stats s;

	for (unsigned i = 0; i < LOAD_POSTERS; i++)
		pthread_join(load->poster[i].thread, NULL);
	fq_queue_get_stats(load->queue, &s);
	(void)fq_device_destroy(load->device);
	free(load->poster);
	print(load, name, &s);
	/* One write for an arm, and one of everybody who raced with it. */
	if (load->delivered == expected && !load->out_of_order && load->finished &&
	    s.completions >= expected && s.notifier_writes <= s.arms * (2 + LOAD_POSTERS))
		return 0;
	fprintf(stderr, "%s: %" PRIu64 " of %" PRIu64 " arrived, %" PRIu64 " out of order\n", name,
		load->delivered, expected, load->out_of_order);
	return 1;
}
