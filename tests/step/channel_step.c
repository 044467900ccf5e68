/* SPDX-License-Identifier: MIT */
/*
 * The owner writes a call's message. Before each of its steps the call is cancelled, its memory goes as
 * soon as its wait would return, and before each later step another call takes the only slot, if it is
 * free by then: all pairs. The peer gets the second message once, and whole.
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

static void drain(void)
{
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

/* What others do, as if on their threads, before the owner's steps of these numbers. */
static struct {
	bool on;
	unsigned step;
	unsigned cancel_at;
	unsigned call_at;
	size_t page;
	struct ask *first; /* NULL: its wait has returned */
	struct fq_node other;
	struct ask second;
	int called; /* what the second's call returned; 1: not called yet */
} others;

static void cancel_first(void)
{
	STEP_CHECK(fq_request_cancel(&others.first->exchange.request), "nobody else ends it");
}

static void leave_if_over(void)
{
	struct fq_request *req;

	if (!others.first)
		return;
	req = &others.first->exchange.request;
	if (!fq_event_is_set(&req->over))
		return;
	STEP_CHECK(fq_request_wait(req, -1, &foreign) == -ECANCELED, "wait");
	munmap(others.first, others.page);
	others.first = NULL;
}

static void call_second(void)
{
	/* What it is queued behind is no message. */
	fq_queue_push(queue, &others.other);
	others.called = exchange(&others.second, 2);
	STEP_CHECK(!others.called || others.called == -EAGAIN, "exchange: %d", others.called);
}

static void hook(void)
{
	if (!others.on)
		return;
	others.on = false;
	if (others.step == others.cancel_at)
		cancel_first();
	if (others.step >= others.cancel_at)
		leave_if_over();
	if (others.step == others.call_at)
		call_second();
	others.step++;
	others.on = true;
}

/* True when the owner came as far as that. */
static bool run(unsigned cancel_at, unsigned call_at, unsigned *reused)
{
	const unsigned run_number = cancel_at * 1000 + call_at;
	bool reached;

	open_channel();
	others.cancel_at = cancel_at;
	others.call_at = call_at;
	others.called = 1;
	others.step = 0;
	others.other.run = run_other;
	others.first =
		mmap(NULL, others.page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	STEP_CHECK(others.first != MAP_FAILED, "mmap");
	STEP_CHECK(!exchange(others.first, 1), "exchange");
	others.on = true;
	drain();
	others.on = false;
	reached = others.called != 1;
	*reused += !others.called;
	if (others.step <= cancel_at)
		cancel_first();
	leave_if_over();
	STEP_CHECK(!others.first, "step %u: not handed back", run_number);
	drain();
	if (others.called)
		STEP_CHECK(!exchange(&others.second, 2), "step %u: the slot is kept", run_number);
	drain();
	peer_answers(run_number);
	drain();
	STEP_CHECK(!fq_request_wait(&others.second.exchange.request, 0, &foreign), "step %u",
		   run_number);
	fq_channel_destroy(channel);
	close(pair[0]);
	close(pair[1]);
	return reached;
}

int main(void)
{
	unsigned runs = 0, reused = 0;

	alarm(60);
	others.page = (size_t)sysconf(_SC_PAGESIZE);
	fq_step_hook = hook;
	STEP_CHECK(!fq_queue_create(&queue, FQ_QUEUE_EPOLL), "queue");
	for (unsigned cancel_at = 0; run(cancel_at, cancel_at, &reused); cancel_at++) {
		for (unsigned call_at = cancel_at + 1; run(cancel_at, call_at, &reused); call_at++)
			runs++;
	}
	STEP_CHECK(!fq_queue_destroy(queue), "queue");
	printf("runs: %u, the slot used again at once in %u\n", runs, reused);
	STEP_CHECK(runs > 100 && reused > 10, "hardly anything happened");
	puts("ok");
	return 0;
}
