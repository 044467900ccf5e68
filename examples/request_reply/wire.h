/* SPDX-License-Identifier: MIT */
#ifndef REQUEST_REPLY_WIRE_H
#define REQUEST_REPLY_WIRE_H

/* The messages of this example, and the server's account of what it did. */

#include <stdint.h>

/* 16-bit ids, as in vfio-user. Slots that do not fill the index's bits leave ids nobody is given. */
enum {
	ID_BITS = 16,
	SLOTS = 200,
	NO_SLOT = 255
};

enum kind {
	REQUEST,
	REPLY,
	GOODBYE,
	GOODBYE_REPLY
};

struct header {
	uint16_t id;
	uint16_t kind;
	uint32_t size;
};

struct message {
	struct header header;
	uint32_t thread;
	uint32_t hash; /* of a reply: of what was asked, and by whom */
	uint64_t sequence;
};

static inline uint32_t hash_of(const struct message *request)
{
	uint64_t z = request->sequence * 0x9e3779b97f4a7c15u + request->thread;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u + request->header.id;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return (uint32_t)(z ^ (z >> 31));
}

struct server {
	int fd;
	uint64_t replies;
	uint64_t reordered;  /* of these, held back until later ones had gone */
	uint64_t duplicates; /* one in 61 replies is sent twice */
	uint64_t forged;     /* and one more in 67 is nobody's */
	uint64_t asked;      /* its own requests, one for 47 of the client's */
	uint64_t answered;
	uint64_t wrong; /* answers that were not to what it had asked */
};

/* The other end. Runs until it has been told goodbye, or the connection is over. */
void *server_main(void *server);

#endif /* REQUEST_REPLY_WIRE_H */
