/* SPDX-License-Identifier: MIT */
/*
 * The device's end, with plain blocking calls and nothing of fenceq: it answers, out of order at
 * times, and asks for things of its own, as a device does that wants to read guest memory. To show
 * that it makes no difference it also sends replies twice, and replies to requests nobody made.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "wire.h"

enum {
	HELD = 16,
	BUFFERED = 256,
	ASKS = 16
};

struct state {
	struct server *s;
	struct message out[BUFFERED];
	unsigned outgoing;
	struct message held[HELD];
	unsigned holding;
	struct message asks[ASKS]; /* by id; sequence 0: none */
	struct message goodbye;
	uint64_t received;
	uint64_t random;
	bool told_goodbye;
};

static bool flush(struct state *st)
{
	const char *p = (const char *)st->out;
	size_t left = st->outgoing * sizeof(st->out[0]);

	st->outgoing = 0;
	while (left) {
		ssize_t n = send(st->s->fd, p, left, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		p += n;
		left -= (size_t)n;
	}
	return true;
}

static bool put(struct state *st, const struct message *m)
{
	st->out[st->outgoing++] = *m;
	return st->outgoing < BUFFERED || flush(st);
}

static bool reply(struct state *st, const struct message *request)
{
	struct message m = *request;
	bool ok;

	m.header.kind = REPLY;
	m.hash = hash_of(request);
	ok = put(st, &m);
	st->s->replies++;
	if (st->s->replies % 61 == 0) {
		st->s->duplicates++;
		m.hash = 0; /* and would be noticed */
		ok = ok && put(st, &m);
	}
	if (st->s->replies % 67 == 0) {
		st->s->forged++;
		m.header.id = (uint16_t)(m.header.id | NO_SLOT);
		ok = ok && put(st, &m);
	}
	return ok;
}

/* The next one to go of those held back: any. */
static bool release_one(struct state *st)
{
	unsigned i;

	st->random = st->random * 6364136223846793005u + 1442695040888963407u;
	i = (unsigned)(st->random >> 33) % st->holding;
	st->s->reordered += i != 0;
	if (!reply(st, &st->held[i]))
		return false;
	memmove(&st->held[i], &st->held[i + 1], (--st->holding - i) * sizeof(st->held[0]));
	return true;
}

static bool release_all(struct state *st)
{
	while (st->holding) {
		if (!release_one(st))
			return false;
	}
	return true;
}

static bool ask(struct state *st)
{
	for (unsigned i = 0; i < ASKS; i++) {
		struct message *m = &st->asks[i];

		if (m->sequence)
			continue;
		*m = (struct message){.header = {.id = (uint16_t)i, .size = sizeof(*m)},
				      .sequence = ++st->s->asked};
		return put(st, m);
	}
	return true;
}

static void take_answer(struct state *st, const struct message *m)
{
	struct message *asked = &st->asks[m->header.id % ASKS];

	if (m->header.id < ASKS && m->sequence == asked->sequence && m->hash == hash_of(asked))
		st->s->answered++;
	else
		st->s->wrong++;
	asked->sequence = 0;
}

static bool handle(struct state *st, const struct message *m)
{
	switch (m->header.kind) {
	case REQUEST:
		st->held[st->holding++] = *m;
		if (++st->received % 47 == 0 && !ask(st))
			return false;
		return st->holding < HELD || release_one(st);
	case REPLY:
		take_answer(st, m);
		return true;
	default:
		st->goodbye = *m;
		st->told_goodbye = true;
		return release_all(st);
	}
}

/* Nothing more has come: whoever waits should not have to wait for others. */
static ssize_t receive(struct state *st, void *buffer, size_t room)
{
	ssize_t n = recv(st->s->fd, buffer, room, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
		if (!release_all(st) || !flush(st))
			return -1;
		n = recv(st->s->fd, buffer, room, 0);
	}
	return n;
}

static bool over(const struct state *st)
{
	return st->told_goodbye && st->s->asked == st->s->answered + st->s->wrong;
}

void *server_main(void *server)
{
	static struct state state;
	struct message in[64];
	size_t have = 0;

	state.s = server;
	while (!over(&state)) {
		ssize_t n = receive(&state, (char *)in + have, sizeof(in) - have);
		size_t whole;

		if (n <= 0)
			return NULL;
		have += (size_t)n;
		whole = have / sizeof(in[0]);
		for (size_t i = 0; i < whole; i++) {
			if (!handle(&state, &in[i]))
				return NULL;
		}
		have -= whole * sizeof(in[0]);
		memmove(in, &in[whole], have);
	}
	state.goodbye.header.kind = GOODBYE_REPLY;
	if (put(&state, &state.goodbye))
		(void)flush(&state);
	return NULL;
}
