/* SPDX-License-Identifier: MIT */
/*
 * The owner stopped before each of its steps while it writes an exchange's message; that is cancelled,
 * its memory goes as soon as its wait has returned, and another takes the only slot as soon as it is
 * free. The peer gets the second message once, and whole.
 *
 * Seen to fail: with a slot that is given free before its message is off the list (fault); with a withdrawn message that is written all the same (fault).
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "internal.h"
#include "step.h"

void (*fq_step_hook)(void);

struct message {
	uint32_t size;
	uint32_t reply;
	uint64_t id;
	uint64_t value;
};

struct ask {
	struct fq_exchange exchange;
	struct message out;
	struct message in;
};

static struct fq_queue *queue;
static struct fq_channel *channel;
static int pair[2];

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

static bool no(void *opaque)
{
	(void)opaque;
	return false;
}

static const struct fq_wait_hooks foreign = {.may_drain = no};

static int exchange(struct ask *ask, uint64_t value)
{
	memset(ask, 0, sizeof(*ask));
	ask->out.size = sizeof(ask->out);
	ask->out.value = value;
	ask->exchange.message.data = &ask->out;
	ask->exchange.message.size = sizeof(ask->out);
	ask->exchange.request.reply = &ask->in;
	ask->exchange.request.room = sizeof(ask->in);
	return fq_channel_exchange(channel, &ask->exchange);
}

static void drain(void *arg)
{
	(void)arg;
	(void)fq_queue_drain(queue, FQ_NO_BUDGET);
}

/* Answers the second; the first may come before it, or not at all. */
static void peer_answers(unsigned at)
{
	unsigned seconds = 0;
	struct message m;

	while (recv(pair[1], &m, sizeof(m), MSG_DONTWAIT) == sizeof(m)) {
		STEP_CHECK(m.value == 1 || m.value == 2, "step %u: garbage", at);
		STEP_CHECK(m.value == 2 || !seconds, "step %u: out of order", at);
		seconds += m.value == 2;
	}
	STEP_CHECK(seconds == 1, "step %u: the second message came %u times", at, seconds);
	m.reply = 1;
	STEP_CHECK(send(pair[1], &m, sizeof(m), 0) == sizeof(m), "send");
}

static void open_channel(void)
{
	struct fq_channel_config config = {.queue = queue,
					   .header_size = 16,
					   .max_message = sizeof(struct message),
					   .slots = 1,
					   .id_bits = 64,
					   .parse = parse,
					   .put_id = put_id};

	STEP_CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
	config.fd = pair[0];
	STEP_CHECK(!fq_channel_create(&channel, &config), "channel");
}

static void run_other(struct fq_node *node)
{
	(void)node;
}

static bool run(unsigned at, size_t page, unsigned *reused)
{
	struct ask *first =
		mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct fq_node other = {.run = run_other};
	struct stopper owner;
	struct ask second;
	bool stopped;
	int err;

	STEP_CHECK(first != MAP_FAILED, "mmap");
	open_channel();
	STEP_CHECK(!exchange(first, 1), "exchange");
	stopped = stopper_start(&owner, drain, NULL, at);
	STEP_CHECK(fq_request_cancel(&first->exchange.request), "step %u: nobody else ends it", at);
	if (fq_event_is_set(&first->exchange.request.over)) {
		STEP_CHECK(fq_request_wait(&first->exchange.request, -1, &foreign) == -ECANCELED,
			   "wait");
		munmap(first, page);
		first = NULL;
	}
	/* What the second is queued behind is no message. */
	fq_queue_push(queue, &other);
	err = exchange(&second, 2);
	STEP_CHECK(!err || err == -EAGAIN, "step %u: %d", at, err);
	*reused += stopped && !err;
	stopper_finish(&owner);
	if (first) {
		STEP_CHECK(fq_request_wait(&first->exchange.request, -1, &foreign) == -ECANCELED,
			   "wait");
		munmap(first, page);
	}
	drain(NULL);
	if (err)
		STEP_CHECK(!exchange(&second, 2), "step %u: the slot is not given back", at);
	drain(NULL);
	peer_answers(at);
	drain(NULL);
	STEP_CHECK(!fq_request_wait(&second.exchange.request, 0, &foreign), "step %u", at);
	fq_channel_destroy(channel);
	close(pair[0]);
	close(pair[1]);
	return stopped;
}

int main(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	unsigned at = 0, reused = 0;

	alarm(60);
	fq_step_hook = step_hook;
	STEP_CHECK(!fq_queue_create(&queue, FQ_QUEUE_EPOLL), "queue");
	while (run(at, page, &reused))
		at++;
	STEP_CHECK(!fq_queue_destroy(queue), "queue");
	printf("stops: %u, the slot used again in %u\n", at, reused);
	STEP_CHECK(at > 20 && reused, "the owner was hardly stopped at all");
	puts("ok");
	return 0;
}
