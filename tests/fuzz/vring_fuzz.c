/* SPDX-License-Identifier: MIT */
/*
 * Bytes as a guest (vring_machine.h): what its memory holds at first, and then what owner and guest do
 * in turn. Whatever the guest writes, the pieces of a chain lie in its memory, the device writes where
 * a device may and nowhere else, and owner and ring agree on what is in flight.
 */
#include <fenceq/stats.h>

#include "vring_machine.h"

unsigned long fuzz_accepted;
const char fuzz_name[] = "vring";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *p = data + HEADER, *end = data + size;
	struct ring_driver drv;
	struct fq_vring_stats s;
	struct machine m;
	size_t image;

	if (size < HEADER)
		return 0;
	open_machine(&m, data, &drv);
	image = (size_t)data[8] | (size_t)data[9] << 8;
	image = image < BYTES ? image : BYTES;
	image = image < size - HEADER ? image : size - HEADER;
	memcpy(m.memory, p, image);
	FUZZ_CHECK(!fq_vring_create(&m.vr, &m.config));
	scribble_begin(&m);
	for (p += image; p < end;)
		do_operation(&m, &p, end);
	scribble_end();
	fq_vring_get_stats(m.vr, &s);
	FUZZ_CHECK(s.broken == m.broken);
	fuzz_accepted += m.popped && !m.broken;
	close_machine(&m, &drv);
	return 0;
}

/* A crash with two threads need not come again; most inputs have one. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
	size = LLVMFuzzerMutate(data, size, max);
	if (size > 6 && seed % 8 == 0)
		data[6] = seed % 16 ? 0 : SCRIBBLE;
	return size;
}

/* -- a driver that does as it should ----------------------------------------------------------- */

struct script {
	struct machine m;
	struct ring_driver drv;
	uint64_t random;
	uint8_t *bytes;
	size_t size;
	size_t max;
};

static uint64_t below(struct script *s, uint64_t limit)
{
	return fuzz_random(&s->random) % limit;
}

/* Appends an operation, and does it. */
static void say(struct script *s, unsigned op, unsigned a, unsigned b)
{
	uint8_t said[4] = {(uint8_t)op, (uint8_t)a, (uint8_t)b, (uint8_t)(b >> 8)};
	const uint8_t *p = said;
	size_t n = op == OP_PUT ? 4 : 1;

	if (s->size + n > s->max)
		return;
	memcpy(s->bytes + s->size, said, n);
	s->size += n;
	do_operation(&s->m, &p, said + n);
}

/* What the driver has written since the shadow was drawn, for the input to write again. */
static void say_writes(struct script *s)
{
	for (unsigned at = 0; at < BYTES; at++) {
		unsigned n = 0;

		while (at + n < BYTES && n < 255 && s->m.memory[at + n] != s->m.shadow[at + n])
			n++;
		if (!n || s->size + 4 + n > s->max)
			continue;
		s->bytes[s->size++] = OP_WRITE;
		s->bytes[s->size++] = (uint8_t)at;
		s->bytes[s->size++] = (uint8_t)(at >> 8);
		s->bytes[s->size++] = (uint8_t)n;
		memcpy(s->bytes + s->size, s->m.memory + at, n);
		s->size += n;
		at += n;
	}
	note(&s->m);
}

static void drive(struct script *s)
{
	uint32_t count = 1 + (uint32_t)below(s, 3), slot = ring_driver_next_id(&s->drv), id, len;
	uint32_t table = RING_BYTES + slot % 32 * 64;
	struct drv_buf bufs[3];
	bool writable = false;

	note(&s->m);
	for (uint32_t i = 0; i < count; i++) {
		writable |= below(s, 2);
		bufs[i] = (struct drv_buf){GPA + RING_BYTES + below(s, RING_BYTES),
					   (uint32_t)below(s, 1000), writable};
	}
	if ((s->m.config.features & FQ_VRING_INDIRECT) && below(s, 2) && ring_driver_free(&s->drv))
		(void)ring_driver_queue_indirect(&s->drv, bufs, count,
						 (uint64_t *)(void *)(s->m.memory + table),
						 GPA + table);
	else
		(void)ring_driver_queue(&s->drv, bufs, count);
	if (below(s, 4))
		ring_driver_show(&s->drv);
	while (below(s, 4) && ring_driver_take(&s->drv, &id, &len))
		;
	if (!below(s, 4))
		(void)ring_driver_ask_interrupt(&s->drv);
	else if (!below(s, 4))
		ring_driver_stop_interrupts(&s->drv);
	say_writes(s);
}

static void own(struct script *s)
{
	switch (below(s, 16)) {
	case 0:
		say(s, OP_STOP + (unsigned)s->m.stopped, 0, 0);
		break;
	case 1:
		say(s, OP_DISABLE_KICK, 0, 0);
		break;
	case 2:
		say(s, OP_ENABLE_KICK, 0, 0);
		break;
	case 3:
	case 4:
		say(s, OP_PUBLISH, 0, 0);
		break;
	case 5:
	case 6:
	case 7:
	case 8:
		say(s, OP_PUT, (unsigned)below(s, 256), (unsigned)below(s, 2000));
		break;
	default:
		say(s, OP_POP, 0, 0);
	}
}

size_t fuzz_seed(uint64_t seed, uint8_t *data, size_t max)
{
	struct script s = {.random = seed, .bytes = data, .size = HEADER, .max = max};

	for (unsigned i = 0; i < HEADER; i++)
		data[i] = (uint8_t)fuzz_random(&s.random);
	data[1] = (uint8_t)(data[1] % 16);
	data[4] = 0;
	data[5] = (uint8_t)(data[5] | 8);
	data[6] = 0;
	open_machine(&s.m, data, &s.drv);
	data[8] = (uint8_t)(ring_driver_bytes(s.m.config.size));
	data[9] = (uint8_t)(ring_driver_bytes(s.m.config.size) >> 8);
	s.size += ring_driver_bytes(s.m.config.size);
	memcpy(data + HEADER, s.m.memory, ring_driver_bytes(s.m.config.size));
	FUZZ_CHECK(!fq_vring_create(&s.m.vr, &s.m.config));
	for (uint64_t n = 20 + below(&s, 60); n; n--) {
		drive(&s);
		for (unsigned i = 0; i < 3; i++)
			own(&s);
	}
	ring_driver_show(&s.drv);
	say_writes(&s);
	say(&s, OP_START, 0, 0);
	say(&s, OP_POP, 0, 0);
	say(&s, OP_PUT, 0, 1);
	while (s.m.count && s.size + 8 <= max)
		say(&s, OP_PUT, 0, 1);
	say(&s, OP_PUBLISH, 0, 0);
	FUZZ_CHECK(!s.m.broken && !ring_driver_fault(&s.drv));
	close_machine(&s.m, &s.drv);
	return s.size;
}
