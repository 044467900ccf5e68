/* SPDX-License-Identifier: MIT */
/*
 * Channels with a peer that is slow at times, and small socket buffers: messages of any size are
 * queued, half written, withdrawn by a time-out or a cancel, sent back, and lost with the connection.
 * The memory of each message and reply is freed as soon as its wait has returned.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fenceq/fenceq.h>

#include "stress.h"

#define WORDS 2000u
#define ROUND_NS 50000000

struct message {
	uint64_t id;
	uint32_t size;
	uint32_t reply;
	uint64_t word[WORDS];
};

#define HEADER offsetof(struct message, word)

static struct fq_queue *queue;
static struct fq_channel *channel;
static int pair[2];
static atomic_uint askers;
static uint64_t replied, timed_out, lost; /* atomic builtins below: counted by all */

static int parse(const void *data, struct fq_header *out, void *opaque)
{
	const struct message *m = data;

	(void)opaque;
	*out = (struct fq_header){.id = m->id, .size = m->size, .reply = m->reply};
	return 0;
}

static void put_id(void *data, uint64_t id, void *opaque)
{
	(void)opaque;
	((struct message *)data)->id = id;
}

/* -- the peer ----------------------------------------------------------------------------------- */

static bool transfer(bool sending, void *data, size_t size, uint64_t *random)
{
	char *p = data;

	while (size) {
		size_t most = 1 + stress_random(random) % 4096;
		size_t n = size < most ? size : most;
		ssize_t got = sending ? send(pair[1], p, n, MSG_NOSIGNAL) : recv(pair[1], p, n, 0);

		if (got <= 0)
			return false;
		p += got;
		size -= (size_t)got;
	}
	return true;
}

static void *echo_main(void *arg)
{
	uint64_t random = (uint64_t)(uintptr_t)arg;
	struct message *m = calloc(1, sizeof(*m));

	while (transfer(false, m, HEADER, &random)) {
		STRESS_CHECK(m->size >= HEADER && m->size <= sizeof(*m) && !m->reply,
			     "the stream is corrupt: size %u", m->size);
		if (!transfer(false, m->word, m->size - HEADER, &random))
			break;
		for (size_t i = 1; i < (m->size - HEADER) / 8; i++)
			STRESS_CHECK(m->word[i] == m->word[0], "messages are mixed");
		m->reply = 1;
		if (!transfer(true, m, m->size, &random))
			break;
		if (stress_random(&random) % 64 == 0)
			usleep(1000);
	}
	free(m);
	return NULL;
}

/* -- we ask ------------------------------------------------------------------------------------- */

static int ask_one(uint64_t r)
{
	size_t words = 1 + r % (r >> 63 ? 8 : WORDS);
	size_t size = HEADER + words * 8;
	struct message *out = malloc(size), *in = malloc(size);
	struct fq_exchange exchange = {.message = {.data = out, .size = size},
				       .request = {.reply = in, .room = size}};
	int err;

	out->size = (uint32_t)size;
	out->reply = 0;
	for (size_t i = 0; i < words; i++)
		out->word[i] = r;
	err = fq_channel_exchange(channel, &exchange);
	if (!err) {
		if (r % 32 == 0)
			(void)fq_request_cancel(&exchange.request);
		err = fq_request_wait(&exchange.request, (int64_t)(r >> 20) % 2000000, NULL);
		if (!err)
			STRESS_CHECK(in->size == size && in->word[0] == r &&
					     in->word[words - 1] == r,
				     "another's reply");
		__atomic_fetch_add(!err                ? &replied
				   : err == -ETIMEDOUT ? &timed_out
						       : &lost,
				   1, __ATOMIC_RELAXED);
	}
	free(out);
	free(in);
	return err;
}

static void *asker_main(void *arg)
{
	uint64_t random = (uint64_t)(uintptr_t)arg;

	while (ask_one(stress_random(&random)) != -ENOTCONN)
		;
	atomic_fetch_sub(&askers, 1);
	return NULL;
}

static void open_round(void)
{
	struct fq_channel_config config = {.queue = queue,
					   .header_size = HEADER,
					   .max_message = sizeof(struct message),
					   .slots = 16,
					   .id_bits = 64,
					   .parse = parse,
					   .put_id = put_id};
	const int size = 1;

	STRESS_CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
	(void)setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	(void)setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	config.fd = pair[0];
	STRESS_CHECK(!fq_channel_create(&channel, &config), "channel");
}

/* The connection ends by either side, while all are at it. */
static void run_round(uint64_t *random, unsigned threads)
{
	pthread_t thread[64];
	int64_t end = stress_now_ns() + ROUND_NS;
	bool ours;

	open_round();
	atomic_store(&askers, threads);
	for (unsigned i = 0; i <= threads; i++)
		STRESS_CHECK(!pthread_create(&thread[i], NULL, i ? asker_main : echo_main,
					     (void *)(uintptr_t)stress_random(random)),
			     "thread");
	while (stress_now_ns() < end) {
		(void)ask_one(stress_random(random));
		(void)fq_queue_drain(queue, (unsigned)stress_random(random) % 16 + 1);
	}
	ours = stress_random(random) % 2;
	if (ours)
		fq_channel_close(channel, -EPIPE);
	else
		(void)shutdown(pair[1], SHUT_RDWR);
	while (atomic_load(&askers))
		(void)fq_queue_drain(queue, FQ_NO_BUDGET);
	fq_channel_destroy(channel);
	(void)shutdown(pair[0], SHUT_RDWR);
	for (unsigned i = 0; i <= threads; i++)
		pthread_join(thread[i], NULL);
	(void)fq_queue_drain(queue, FQ_NO_BUDGET);
	close(pair[0]);
	close(pair[1]);
}

int main(int argc, char **argv)
{
	struct stress_options o = stress_parse(argc, argv, 3);
	int64_t end = stress_now_ns() + (int64_t)(o.seconds * 1e9);
	uint64_t random = o.seed;

	alarm((unsigned)o.seconds * 2 + 120);
	STRESS_CHECK(o.threads < 64, "at most 63 threads");
	STRESS_CHECK(!fq_queue_create(&queue, FQ_QUEUE_EPOLL | (random % 2 ? FQ_QUEUE_HOOKS : 0)),
		     "queue");
	do {
		run_round(&random, o.threads);
	} while (stress_now_ns() < end);
	STRESS_CHECK(!fq_queue_destroy(queue), "queue");
	printf("replied %llu, timed out %llu, cancelled or lost %llu\n",
	       (unsigned long long)replied, (unsigned long long)timed_out,
	       (unsigned long long)lost);
	STRESS_CHECK(replied && timed_out && lost, "something never happened");
	puts("ok");
	return 0;
}
