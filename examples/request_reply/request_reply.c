/* SPDX-License-Identifier: MIT */
/*
 * A device in another process, as with vfio-user: threads that run guest CPUs, and the owner of the
 * device model as well, send requests on one connection and wait for the replies. The device has
 * requests of its own (it reads guest memory), which the owner serves, also while it waits itself.
 * The CPUs' threads hold a lock, as they do in a host with a big lock, and let go of it while they
 * wait.
 *
 *     request_reply [--requests N] [--threads N] [--json]
 *
 * Every reply is checked: none is lost, or another's. Those that the device sends twice, or makes up,
 * are all refused and counted. Exit status 0 only if all of it holds.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fenceq/fenceq.h>
#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "wire.h"

enum {
	DEPTH = 8,
	THREADS_MAX = 256,
	ANSWERS = 64
};

static struct fq_queue *queue;
static struct fq_channel *channel;
static pthread_mutex_t big_lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_uint running;
static atomic_ullong wrong;

/* Of the owner alone. */
static bool owner_waits;
static uint64_t served, served_in_wait;
static int lost_status;

/* -- the format of the messages ---------------------------------------------------------------- */

static int parse(const void *data, struct fq_header *out, void *opaque)
{
	const struct header *h = data;

	(void)opaque;
	out->id = h->id;
	out->size = h->size;
	out->reply = h->kind == REPLY || h->kind == GOODBYE_REPLY;
	return h->kind > GOODBYE_REPLY ? -1 : 0;
}

static void put_id(void *data, uint64_t id, void *opaque)
{
	struct header *h = data;

	(void)opaque;
	h->id = (uint16_t)id;
}

/* -- the device asks ---------------------------------------------------------------------------- */

struct answer {
	struct fq_message message;
	struct message out;
	bool busy;
};

static struct answer answers[ANSWERS];

static void answered(struct fq_message *message, int status)
{
	(void)status;
	((struct answer *)message->opaque)->busy = false;
}

static void serve(struct fq_channel *ch, struct fq_received *received, void *opaque)
{
	struct answer *a = answers;
	struct message m;

	(void)opaque;
	if (received->size != sizeof(m))
		return;
	memcpy(&m, received->data, sizeof(m));
	served++;
	served_in_wait += owner_waits;
	while (a < answers + ANSWERS && a->busy)
		a++;
	if (a == answers + ANSWERS)
		return; /* more at one time than the device has; it would miss an answer, and say so */
	a->out = m;
	a->out.hash = hash_of(&m);
	a->out.header.kind = REPLY;
	a->message = (struct fq_message){
		.data = &a->out, .size = sizeof(a->out), .sent = answered, .opaque = a};
	a->busy = !fq_channel_post(ch, &a->message);
}

static void lost(struct fq_channel *ch, int status, void *opaque)
{
	(void)ch;
	(void)opaque;
	lost_status = status;
}

/* -- we ask ------------------------------------------------------------------------------------- */

static void unlock(void *opaque)
{
	pthread_mutex_unlock(opaque);
}

static void lock(void *opaque)
{
	pthread_mutex_lock(opaque);
}

/* For threads that hold the lock. The owner never sleeps with or for it, and needs no hooks. */
static const struct fq_wait_hooks let_go = {.release = unlock, .retake = lock, .opaque = &big_lock};

struct ask {
	struct fq_exchange exchange;
	struct message out;
	struct message in;
};

static int send_ask(struct ask *ask, uint32_t thread, uint64_t sequence)
{
	*ask = (struct ask){
		.out = {.header = {.kind = REQUEST, .size = sizeof(ask->out)},
			.thread = thread,
			.sequence = sequence},
		.exchange = {.message = {.data = &ask->out, .size = sizeof(ask->out)},
			     .request = {.reply = &ask->in, .room = sizeof(ask->in)}},
	};
	return fq_channel_exchange(channel, &ask->exchange);
}

static void check(struct ask *ask, const struct fq_wait_hooks *hooks)
{
	int status = fq_request_wait(&ask->exchange.request, -1, hooks);

	if (status || ask->in.thread != ask->out.thread || ask->in.sequence != ask->out.sequence ||
	    ask->in.hash != hash_of(&ask->out))
		atomic_fetch_add(&wrong, 1);
}

/* Keeps several under way; all live on this stack. */
static void ask_all(uint32_t thread, uint64_t count, const struct fq_wait_hooks *hooks)
{
	struct ask ask[DEPTH];
	uint64_t sent = 0, done = 0;

	while (done < count) {
		int err = -EAGAIN;

		if (sent < count && sent - done < DEPTH)
			err = send_ask(&ask[sent % DEPTH], thread, sent);
		if (!err) {
			sent++;
		} else if (done < sent) {
			check(&ask[done++ % DEPTH], hooks);
		} else if (err != -EAGAIN) {
			atomic_fetch_add(&wrong, count - done);
			return;
		} else {
			/* Others have all the slots. */
			if (hooks)
				unlock(&big_lock);
			sched_yield();
			if (hooks)
				lock(&big_lock);
			else
				(void)fq_queue_drain(queue, 64);
		}
	}
}

struct cpu {
	pthread_t thread;
	uint32_t number;
	uint64_t requests;
};

static void *cpu_main(void *arg)
{
	const struct cpu *cpu = arg;

	pthread_mutex_lock(&big_lock);
	ask_all(cpu->number, cpu->requests, &let_go);
	pthread_mutex_unlock(&big_lock);
	atomic_fetch_sub(&running, 1);
	return NULL;
}

/* -- a run -------------------------------------------------------------------------------------- */

struct options {
	uint64_t requests;
	unsigned threads;
	bool json;
};

static void run_cpus(const struct options *o)
{
	static struct cpu cpu[THREADS_MAX];
	const uint64_t each = o->requests / (o->threads + 1);

	atomic_store(&running, o->threads);
	for (unsigned i = 0; i < o->threads; i++) {
		cpu[i] = (struct cpu){.number = i + 1, .requests = each};
		if (pthread_create(&cpu[i].thread, NULL, cpu_main, &cpu[i]))
			exit(1);
	}
	owner_waits = true;
	ask_all(0, o->requests - each * o->threads, NULL);
	owner_waits = false;
	while (atomic_load(&running)) {
		if (!fq_queue_drain(queue, FQ_NO_BUDGET))
			(void)fq_queue_wait(queue, 10000000);
	}
	for (unsigned i = 0; i < o->threads; i++)
		pthread_join(cpu[i].thread, NULL);
}

/* Whatever was sent before the reply to this has been read when it comes. */
static int say_goodbye(void)
{
	struct message out = {.header = {.kind = GOODBYE, .size = sizeof(out)}}, in;
	struct fq_exchange exchange = {.message = {.data = &out, .size = sizeof(out)},
				       .request = {.reply = &in, .room = sizeof(in)}};
	int err = fq_channel_exchange(channel, &exchange);

	return err ? err : fq_request_wait(&exchange.request, -1, NULL);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static bool report(const struct options *o, const struct server *s, double seconds)
{
	struct fq_channel_stats st;
	bool ok;

	fq_channel_get_stats(channel, &st);
	ok = !atomic_load(&wrong) && !lost_status && st.requests.completed == o->requests + 1 &&
	     s->replies == o->requests && st.requests.refused_late == s->duplicates &&
	     st.requests.refused_forged == s->forged && s->asked == s->answered && !s->wrong &&
	     served == s->asked;
	printf(o->json ? "{\"requests\":%llu,\"threads\":%u,\"seconds\":%.3f,\"wrong\":%llu,"
			 "\"reordered\":%llu,\"duplicates_refused\":%llu,\"forged_refused\":%llu,"
			 "\"served\":%llu,\"served_while_the_owner_waited\":%llu,\"ok\":%s}\n"
		       : "%llu requests of %u threads and the owner in %.3f s: %llu wrong, "
			 "%llu reordered, %llu duplicates and %llu forged replies refused; "
			 "%llu requests of the device served, %llu while the owner waited; ok: "
			 "%s\n",
	       (unsigned long long)o->requests, o->threads, seconds,
	       (unsigned long long)atomic_load(&wrong), (unsigned long long)s->reordered,
	       (unsigned long long)st.requests.refused_late,
	       (unsigned long long)st.requests.refused_forged, (unsigned long long)served,
	       (unsigned long long)served_in_wait, ok ? "true" : "false");
	return ok;
}

static bool parse_options(int argc, char **argv, struct options *o)
{
	static const struct option longopts[] = {{"requests", required_argument, NULL, 'r'},
						 {"threads", required_argument, NULL, 't'},
						 {"json", no_argument, NULL, 'j'},
						 {NULL, 0, NULL, 0}};
	int c;

	*o = (struct options){.requests = 1000000, .threads = 4};
	while ((c = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
		if (c == 'r')
			o->requests = strtoull(optarg, NULL, 0);
		else if (c == 't')
			o->threads = (unsigned)strtoul(optarg, NULL, 0);
		else if (c == 'j')
			o->json = true;
		else
			return false;
	}
	return o->threads <= THREADS_MAX && optind == argc;
}

int main(int argc, char **argv)
{
	struct fq_channel_config config = {.header_size = sizeof(struct header),
					   .max_message = sizeof(struct message),
					   .slots = SLOTS,
					   .id_bits = ID_BITS,
					   .parse = parse,
					   .put_id = put_id,
					   .serve = serve,
					   .lost = lost};
	static struct server server;
	struct options options;
	pthread_t thread;
	double start;
	int pair[2];
	bool ok;

	if (!parse_options(argc, argv, &options)) {
		fprintf(stderr, "usage: %s [--requests N] [--threads 0..%d] [--json]\n", argv[0],
			THREADS_MAX);
		return 2;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) ||
	    fq_queue_create(&config.queue, FQ_QUEUE_HOOKS | FQ_QUEUE_EPOLL))
		return 1;
	queue = config.queue;
	config.fd = pair[0];
	server.fd = pair[1];
	if (fq_channel_create(&channel, &config) ||
	    pthread_create(&thread, NULL, server_main, &server))
		return 1;
	start = now();
	run_cpus(&options);
	ok = !say_goodbye();
	pthread_join(thread, NULL);
	ok = report(&options, &server, now() - start) && ok;
	fq_channel_destroy(channel);
	close(pair[0]);
	close(pair[1]);
	return fq_queue_destroy(queue) || !ok;
}
