/* SPDX-License-Identifier: MIT */
#ifndef FQ_VRING_MACHINE_H
#define FQ_VRING_MACHINE_H

/*
 * A guest's memory with a ring in it, its owner, and operations of both: a header that says what ring
 * it is, then for each operation a byte and what it wants. All of them check what must hold.
 *
 *   0     features (FQ_VRING_*)        4  max_chain (0: the default)
 *   1     size - 1, in six bits        5  room for so many pieces
 *   2, 3  chains before these          6  0x5a: another thread writes over the ring meanwhile
 *   8, 9  bytes of memory that follow before the first operation
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include <fenceq/mem.h>
#include <fenceq/vring.h>

#include "../unit/ring_driver.h"
#include "fuzz.h"

#define GPA UINT64_C(0x10000)
#define RING_BYTES 2048u /* and as much for tables and buffers, and more elsewhere */
#define BYTES 4096u
#define MORE_BYTES 1024u
#define SIZE_MAX_HERE 64u
#define HEADER 10u
#define SCRIBBLE 0x5a

enum {
	OP_POP,
	OP_PUT, /* which, two bytes of length */
	OP_PUBLISH,
	OP_DISABLE_KICK,
	OP_ENABLE_KICK,
	OP_STOP,
	OP_START,
	OP_RESTORE,
	OP_WRITE, /* two bytes of offset, how many, and these */
	OPS
};

struct machine {
	uint8_t *memory; /* BYTES, then elsewhere MORE_BYTES */
	uint8_t *more;
	uint8_t *shadow; /* memory as it should be, but for what the device may write */
	struct fq_mem *mem;
	struct fq_vring_config config;
	struct fq_vring *vr;
	uint32_t iov_max;
	bool scribble;
	bool stopped;
	bool broken;
	struct fq_vring_buf held[SIZE_MAX_HERE];
	uint32_t count;
	unsigned long popped;
};

/* -- the other thread -------------------------------------------------------------------------- */

static _Atomic(uint8_t *) scribble_on;
static atomic_bool scribbling;

static inline void *scribbler(void *arg)
{
	uint64_t state = 1;

	(void)arg;
	for (;;) {
		uint8_t *memory = atomic_load(&scribble_on);

		atomic_store(&scribbling, memory);
		if (!memory || atomic_load(&scribble_on) != memory) {
			atomic_store(&scribbling, false);
			sched_yield();
			continue;
		}
		for (unsigned i = 0; i < 64; i++) {
			uint64_t r = fuzz_random(&state);
			uint16_t *word = (uint16_t *)(void *)(memory + r % BYTES / 2 * 2);

			drv_set16(word, (unsigned)(r >> 32 & (r >> 16 & 1 ? 0xffff : 0x8087)),
				  memory_order_relaxed);
		}
	}
	return NULL;
}

static inline void scribble_begin(const struct machine *m)
{
	static pthread_t thread;

	if (!m->scribble)
		return;
	if (!thread)
		FUZZ_CHECK(!pthread_create(&thread, NULL, scribbler, NULL));
	atomic_store(&scribble_on, m->memory);
}

static inline void scribble_end(void)
{
	atomic_store(&scribble_on, NULL);
	while (atomic_load(&scribbling))
		sched_yield();
}

/* -- a machine --------------------------------------------------------------------------------- */

static inline void interrupt(void *opaque)
{
	(void)opaque;
}

/* The header gives a ring that can be created. */
static inline void open_machine(struct machine *m, const uint8_t header[HEADER],
				struct ring_driver *drv)
{
	uint32_t features = header[0] & 31u, size = header[1] % SIZE_MAX_HERE + 1;
	struct fq_mem_region regions[2];

	if (!(features & FQ_VRING_IN_ORDER))
		features &= ~FQ_VRING_BATCH;
	while (!(features & FQ_VRING_PACKED) && (size & (size - 1)))
		size &= size - 1;
	memset(m, 0, sizeof(*m));
	m->memory = calloc(1, BYTES);
	m->more = calloc(1, MORE_BYTES);
	m->shadow = malloc(BYTES + MORE_BYTES);
	FUZZ_CHECK(m->memory && m->more && m->shadow);
	regions[0] = (struct fq_mem_region){GPA, BYTES, m->memory};
	regions[1] = (struct fq_mem_region){GPA + BYTES, MORE_BYTES, m->more};
	FUZZ_CHECK(!fq_mem_create(&m->mem, regions, 2));
	FUZZ_CHECK(ring_driver_bytes(size) <= RING_BYTES);
	FUZZ_CHECK(ring_driver_init(drv, m->memory, GPA, size, features));
	m->config = (struct fq_vring_config){
		.mem = m->mem,
		.features = features,
		.max_chain = header[4],
		.interrupt = interrupt,
		.call_fd = -1,
	};
	m->config.avail_idx = m->config.used_idx =
		ring_driver_start_at(drv, (uint16_t)(header[2] | header[3] << 8));
	ring_driver_locate(drv, &m->config);
	m->iov_max = header[5];
	m->scribble = header[6] == SCRIBBLE;
}

static inline void close_machine(struct machine *m, struct ring_driver *drv)
{
	fq_vring_destroy(m->vr);
	fq_mem_destroy(m->mem);
	ring_driver_fini(drv);
	free(m->memory);
	free(m->more);
	free(m->shadow);
}

static inline void note(struct machine *m)
{
	memcpy(m->shadow, m->memory, BYTES);
	memcpy(m->shadow + BYTES, m->more, MORE_BYTES);
}

/* The device has written into its own part, and, in a packed ring, over descriptors. */
static inline void check_writes(const struct machine *m)
{
	bool packed = m->config.features & FQ_VRING_PACKED;
	uint64_t from = packed ? 16 * m->config.size : 0, device = m->config.device - GPA;
	uint64_t to = device + (packed ? 4 : 6 + 8 * m->config.size);

	if (m->scribble)
		return;
	FUZZ_CHECK(!memcmp(m->memory + from, m->shadow + from, device - from));
	FUZZ_CHECK(!memcmp(m->memory + to, m->shadow + to, BYTES - to));
	FUZZ_CHECK(!memcmp(m->more, m->shadow + BYTES, MORE_BYTES));
}

static inline bool inside(const struct iovec *v, uint8_t *memory, size_t bytes)
{
	uint8_t *p = v->iov_base;

	return p >= memory && p < memory + bytes && v->iov_len <= (size_t)(memory + bytes - p);
}

static inline void check_chain(const struct machine *m, const struct fq_vring_chain *chain)
{
	uint64_t sum[2] = {0, 0};

	FUZZ_CHECK(chain->readable + chain->writable <= chain->iov_max);
	for (uint32_t i = 0; i < chain->readable + chain->writable; i++) {
		FUZZ_CHECK(chain->iov[i].iov_len);
		FUZZ_CHECK(inside(&chain->iov[i], m->memory, BYTES) ||
			   inside(&chain->iov[i], m->more, MORE_BYTES));
		sum[i >= chain->readable] += chain->iov[i].iov_len;
	}
	FUZZ_CHECK(sum[0] == chain->readable_len && sum[1] == chain->writable_len);
	FUZZ_CHECK(chain->buf.id < m->config.size);
	for (uint32_t i = 0; i < m->count; i++)
		FUZZ_CHECK(m->held[i].id != chain->buf.id);
}

static inline void do_pop(struct machine *m)
{
	struct iovec iov[256];
	struct fq_vring_chain chain = {.iov = iov, .iov_max = m->iov_max};
	int r = fq_vring_pop(m->vr, &chain);

	if (m->broken)
		FUZZ_CHECK(r == -EIO);
	else if (m->stopped)
		FUZZ_CHECK(r == 0);
	if (r == 1) {
		FUZZ_CHECK(m->count < m->config.size);
		check_chain(m, &chain);
		m->held[m->count++] = chain.buf;
		m->popped++;
	} else if (r == -E2BIG) {
		FUZZ_CHECK(chain.readable + chain.writable > m->iov_max);
	} else if (r && !m->broken) {
		FUZZ_CHECK(r == -EPROTO || r == -ELOOP || r == -EBADMSG || r == -EFAULT);
		m->broken = true;
	}
	FUZZ_CHECK(fq_vring_in_flight(m->vr) == m->count);
}

static inline void do_put(struct machine *m, uint32_t which, uint32_t len)
{
	if (!m->count)
		return;
	which %= m->count;
	FUZZ_CHECK(!fq_vring_put(m->vr, m->held[which], len));
	FUZZ_CHECK(fq_vring_put(m->vr, m->held[which], len) == -EINVAL);
	m->held[which] = m->held[--m->count];
}

static inline void check_published(const struct machine *m, int r)
{
	FUZZ_CHECK(m->broken ? r == -EIO : r == 0 || r == 1);
}

/* As a backend that is started anew: what was in flight is forgotten. */
static inline void do_restore(struct machine *m)
{
	uint32_t base = fq_vring_base(m->vr);

	(void)fq_vring_publish(m->vr);
	m->config.avail_idx = fq_vring_avail_idx(m->vr);
	m->config.used_idx = fq_vring_used_idx(m->vr);
	fq_vring_destroy(m->vr);
	if (m->config.features & FQ_VRING_PACKED)
		FUZZ_CHECK((base & 0xffff) == m->config.avail_idx);
	FUZZ_CHECK(!fq_vring_create(&m->vr, &m->config));
	m->count = 0;
	m->broken = m->stopped = false;
}

/* What is missing at the end is zero. */
static inline uint32_t get(const uint8_t **p, const uint8_t *end, unsigned bytes)
{
	uint32_t v = 0;

	for (unsigned i = 0; i < bytes; i++)
		v |= *p < end ? (uint32_t) * (*p)++ << 8 * i : 0;
	return v;
}

static inline void do_write(struct machine *m, const uint8_t **p, const uint8_t *end)
{
	uint32_t at = get(p, end, 2), n = get(p, end, 1);

	while (n--) {
		uint8_t byte = (uint8_t)get(p, end, 1);

		at %= BYTES + MORE_BYTES;
		atomic_store_explicit(
			(_Atomic uint8_t *)(at < BYTES ? &m->memory[at] : &m->more[at - BYTES]),
			byte, memory_order_relaxed);
		at++;
	}
}

static inline void do_operation(struct machine *m, const uint8_t **p, const uint8_t *end)
{
	uint32_t which;

	note(m);
	switch (get(p, end, 1) % OPS) {
	case OP_PUT:
		which = get(p, end, 1);
		do_put(m, which, get(p, end, 2));
		break;
	case OP_PUBLISH:
		if (m->stopped)
			FUZZ_CHECK(fq_vring_publish(m->vr) == (m->broken ? -EIO : 0));
		else
			check_published(m, fq_vring_publish(m->vr));
		break;
	case OP_DISABLE_KICK:
		fq_vring_disable_kick(m->vr);
		break;
	case OP_ENABLE_KICK:
		FUZZ_CHECK(!fq_vring_enable_kick(m->vr) || (!m->broken && !m->stopped));
		break;
	case OP_STOP:
		fq_vring_stop(m->vr);
		m->stopped = true;
		break;
	case OP_START:
		m->stopped = false;
		check_published(m, fq_vring_start(m->vr));
		break;
	case OP_RESTORE:
		do_restore(m);
		break;
	case OP_WRITE:
		do_write(m, p, end);
		return;
	default:
		do_pop(m);
	}
	check_writes(m);
}

#endif /* FQ_VRING_MACHINE_H */
