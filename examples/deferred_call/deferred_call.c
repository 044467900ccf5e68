/* SPDX-License-Identifier: MIT */
/*
 * A network card's transmit ring, emptied by a deferred call.
 *
 * Four virtual CPUs put packets into the ring and kick: fq_call_schedule(), from any thread. However
 * many kicks come before the owner gets to it, it looks once, sends a burst at most, and schedules
 * itself again if there is more, so that other work has its turn. An idle call writes statistics when
 * there is nothing better to do. What happens once, the stop of a CPU, is a node. When all have
 * stopped and everything is sent, the card is unplugged from inside its own callback.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <fenceq/fenceq.h>

#define CPUS 4
#define PACKETS 50000u /* of each CPU */
#define BURST 64u
#define RING 1024u

#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

struct card {
	struct fq_call transmit;
	struct fq_call statistics;
	atomic_uint put, sent; /* packets so far: the ring's two ends */
	unsigned looks, written, cpus;
};

struct cpu {
	struct fq_node stopped;
	struct card *card;
	pthread_t thread;
};

static bool unplugged, good;

/* -- the owner ----------------------------------------------------------------------------------- */

static void unplug(struct card *card)
{
	const unsigned sent = atomic_load(&card->sent);

	good = !fq_call_fini(&card->transmit) && !fq_call_fini(&card->statistics) &&
	       sent == CPUS * PACKETS && card->written;
	printf("%u packets sent in %u looks, statistics written while idle: %s\n", sent,
	       card->looks, card->written ? "yes" : "no");
	free(card);
	unplugged = true;
}

static void transmit(struct fq_call *call)
{
	struct card *card = CONTAINER_OF(call, struct card, transmit);
	const unsigned put = atomic_load(&card->put), sent = atomic_load(&card->sent);
	const unsigned burst = put - sent < BURST ? put - sent : BURST;

	card->looks++;
	atomic_store(&card->sent, sent + burst);
	if (burst < put - sent)
		fq_call_schedule(&card->transmit);
	else if (!card->cpus && card->written)
		unplug(card);
	else
		fq_call_schedule_idle(&card->statistics);
}

static void write_statistics(struct fq_call *call)
{
	struct card *card = CONTAINER_OF(call, struct card, statistics);

	card->written++;
	if (!card->cpus)
		fq_call_schedule(&card->transmit);
}

static void cpu_stopped(struct fq_node *node)
{
	struct card *card = CONTAINER_OF(node, struct cpu, stopped)->card;

	card->cpus--;
	fq_call_schedule(&card->transmit);
}

/* -- the virtual CPUs ---------------------------------------------------------------------------- */

static struct fq_queue *queue;

static void *run_cpu(void *arg)
{
	struct cpu *cpu = arg;
	struct card *card = cpu->card;

	for (unsigned n = 0; n < PACKETS; n++) {
		while (atomic_load(&card->put) - atomic_load(&card->sent) > RING - CPUS)
			sched_yield();
		atomic_fetch_add(&card->put, 1);
		fq_call_schedule(&card->transmit);
	}
	fq_queue_push(queue, &cpu->stopped); /* from here on the card may be gone */
	return NULL;
}

int main(void)
{
	struct card *card = calloc(1, sizeof(*card));
	struct cpu cpu[CPUS];

	if (!card || fq_queue_create(&queue, FQ_QUEUE_HOOKS) ||
	    fq_call_init(&card->transmit, queue, transmit) ||
	    fq_call_init(&card->statistics, queue, write_statistics))
		return 1;
	card->cpus = CPUS;
	for (int i = 0; i < CPUS; i++) {
		cpu[i] = (struct cpu){.stopped = {.run = cpu_stopped}, .card = card};
		if (pthread_create(&cpu[i].thread, NULL, run_cpu, &cpu[i]))
			return 1;
	}
	while (!unplugged) {
		fq_queue_wait(queue, -1);
		fq_queue_drain(queue, 16);
	}
	for (int i = 0; i < CPUS; i++)
		pthread_join(cpu[i].thread, NULL);
	return fq_queue_destroy(queue) || !good;
}
