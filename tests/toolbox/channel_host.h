/* SPDX-License-Identifier: MIT */
#ifndef FQ_CHANNEL_HOST_H
#define FQ_CHANNEL_HOST_H

/*
 * A channel, the host's format of messages, and its peer: the other end of a socket pair, which
 * blocks. For tests of one file; hooks stand in for what the host does in its callbacks.
 */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fenceq/fenceq.h>

#include "../unit/unit.h"

#define FOR_EVER (-1) /* the tests have time-outs */
#define BODY 65536u
#define FDS 4u
#define NESTING 3u

/* The host's format. */
struct header {
	uint32_t size;
	uint32_t reply; /* 0 or 1; anything else is garbage */
	uint64_t id;
};

struct small {
	struct header h;
	uint64_t value;
};

static struct fq_queue *queue;
static struct fq_channel *channel;
static int pair[2]; /* ours, the peer's */
static int fds_at_start;

static unsigned lost, served, refused;
static int lost_status;
static void (*on_serve)(struct fq_received *received);
static void (*on_refuse)(struct fq_received *received);
static void (*on_lost)(void);

static inline int parse(const void *header, struct fq_header *out, void *opaque)
{
	const struct header *h = header;

	cr_assert_eq(opaque, &queue);
	if (h->reply > 1)
		return -1;
	*out = (struct fq_header){.id = h->id, .size = h->size, .reply = h->reply};
	return 0;
}

static inline void put_id(void *header, uint64_t id, void *opaque)
{
	(void)opaque;
	((struct header *)header)->id = id;
}

static inline void serve(struct fq_channel *ch, struct fq_received *received, void *opaque)
{
	(void)ch;
	(void)opaque;
	served++;
	if (on_serve)
		on_serve(received);
}

static inline void refuse(struct fq_channel *ch, struct fq_received *received, void *opaque)
{
	(void)ch;
	(void)opaque;
	refused++;
	if (on_refuse)
		on_refuse(received);
}

static inline void connection_lost(struct fq_channel *ch, int status, void *opaque)
{
	(void)ch;
	(void)opaque;
	lost++;
	lost_status = status;
	if (on_lost)
		on_lost();
}

static inline int open_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static struct fq_channel_config config;

static inline void open_channel(void)
{
	cr_assert_eq(fq_channel_create(&channel, &config), 0);
}

static inline void setup(void)
{
	fds_at_start = open_fds();
	cr_assert_eq(fq_queue_create(&queue, FQ_QUEUE_EPOLL), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	config = (struct fq_channel_config){
		.queue = queue,
		.fd = pair[0],
		.header_size = sizeof(struct header),
		.max_message = sizeof(struct header) + BODY,
		.max_fds = FDS,
		.nesting = NESTING,
		.slots = 64,
		.id_bits = 64,
		.parse = parse,
		.put_id = put_id,
		.serve = serve,
		.refuse = refuse,
		.lost = connection_lost,
		.opaque = &queue,
	};
	lost = served = refused = 0;
	on_serve = on_refuse = NULL;
	on_lost = NULL;
	channel = NULL;
}

static inline void close_pair(unsigned i)
{
	if (pair[i] >= 0)
		close(pair[i]);
	pair[i] = -1;
}

/* Once more than it seems needed: what goes last may go in a drain. */
static inline void teardown(void)
{
	fq_channel_destroy(channel);
	for (int i = 0; i < 3; i++)
		(void)fq_queue_drain(queue, FQ_NO_BUDGET);
	cr_assert_eq(fq_queue_destroy(queue), 0);
	close_pair(0);
	close_pair(1);
	cr_assert_eq(open_fds(), fds_at_start, "fds are leaked");
}

static inline struct fq_channel_stats stats(void)
{
	struct fq_channel_stats s;

	fq_channel_get_stats(channel, &s);
	return s;
}

/* -- the peer, which blocks -------------------------------------------------------------------- */

static inline void peer_write(const void *data, size_t size)
{
	const char *p = data;

	while (size) {
		ssize_t n = send(pair[1], p, size, MSG_NOSIGNAL);

		cr_assert_gt(n, 0);
		p += n;
		size -= (size_t)n;
	}
}

static inline bool peer_read(void *data, size_t size)
{
	char *p = data;

	while (size) {
		ssize_t n = recv(pair[1], p, size, 0);

		if (n <= 0)
			return false;
		p += n;
		size -= (size_t)n;
	}
	return true;
}

static inline void peer_pass(const void *data, size_t size, const int *fds, unsigned nfds)
{
	alignas(struct cmsghdr) char control[CMSG_SPACE(64 * sizeof(int))] = {0};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control,
			     .msg_controllen = CMSG_SPACE(nfds * sizeof(int))};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
	cr_assert_eq(sendmsg(pair[1], &msg, MSG_NOSIGNAL), size);
}

static inline void peer_asks(uint64_t value)
{
	const struct small m = {.h = {.size = sizeof(m), .id = value}, .value = value};

	peer_write(&m, sizeof(m));
}

static inline void peer_replies(uint64_t id, uint64_t value)
{
	const struct small m = {.h = {.size = sizeof(m), .reply = 1, .id = id}, .value = value};

	peer_write(&m, sizeof(m));
}

/* Answers each request with its value plus one, until it is told 0 or the connection is over. */
static inline void *peer_main(void *arg)
{
	struct small m;

	(void)arg;
	while (peer_read(&m, sizeof(m)) && m.value)
		peer_replies(m.h.id, m.value + 1);
	return NULL;
}

static inline void drain(void)
{
	for (int i = 0; i < 4; i++)
		(void)fq_queue_drain(queue, FQ_NO_BUDGET);
}

/* One of ours, with room for its reply. */
struct ask {
	struct fq_exchange exchange;
	struct small out;
	struct small in;
	int fds[FDS];
};

static inline void prepare(struct ask *ask, uint64_t value)
{
	*ask = (struct ask){
		.out = {.h.size = sizeof(ask->out), .value = value},
		.exchange = {.message = {.data = &ask->out, .size = sizeof(ask->out)},
			     .request = {.reply = &ask->in, .room = sizeof(ask->in)}},
	};
}

static inline void ask_peer(struct ask *ask, uint64_t value)
{
	prepare(ask, value);
	cr_assert_eq(fq_channel_exchange(channel, &ask->exchange), 0);
}

static inline int wait_for(struct ask *ask, int64_t timeout_ns)
{
	return fq_request_wait(&ask->exchange.request, timeout_ns, NULL);
}

/* -- for several threads -------------------------------------------------------------------------- */

#define ASKERS 8u

static struct {
	atomic_uint left;
	atomic_uint wrong;
	unsigned each;
} askers;

static inline void owner_loop(void)
{
	while (atomic_load(&askers.left)) {
		if (!fq_queue_drain(queue, FQ_NO_BUDGET))
			(void)fq_queue_wait(queue, 10000000);
	}
}

/* -- for small socket buffers ---------------------------------------------------------------------- */

static inline void shrink_buffers(void)
{
	const int small = 1;

	cr_assert_eq(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	cr_assert_eq(setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
}

struct big {
	struct header h;
	uint64_t value[BODY / 8];
};

static inline void fill(struct big *b, uint64_t value, size_t words)
{
	b->h.size = (uint32_t)(sizeof(b->h) + words * 8);
	for (size_t i = 0; i < words; i++)
		b->value[i] = value;
}

#endif /* FQ_CHANNEL_HOST_H */
