/* SPDX-License-Identifier: MIT */
#ifndef FQ_STEP_GATE_H
#define FQ_STEP_GATE_H

/* What the stepping tests of gates share: one gate, on a page of its own, and operations that count. */

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"
#include "step.h"

#define OPS 8u

struct work {
	struct fq_gate_op op;
	unsigned ran;
};

static struct fq_queue *queue;
static struct fq_gate *gate; /* on a page of its own, so that a late access faults */
static struct work work[OPS];
static pthread_mutex_t big = PTHREAD_MUTEX_INITIALIZER;

static inline void run(struct fq_gate_op *op)
{
	STEP_CHECK(fq_gate_is_inside(gate), "outside");
	fq_container_of(op, struct work, op)->ran++;
}

static inline bool big_try(void *opaque)
{
	(void)opaque;
	return !pthread_mutex_trylock(&big);
}

static inline void big_lock(void *opaque)
{
	(void)opaque;
	pthread_mutex_lock(&big);
}

static inline void big_unlock(void *opaque)
{
	(void)opaque;
	pthread_mutex_unlock(&big);
}

static inline void open_gate(uint32_t limit, bool hosted)
{
	struct fq_gate_config config = {.limit = limit};

	if (hosted)
		config.host = (struct fq_gate_host){big_try, big_lock, big_unlock, NULL, NULL};
	STEP_CHECK(!fq_queue_create(&queue, 0), "queue");
	config.queue = queue;
	gate = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	STEP_CHECK(gate != MAP_FAILED && !fq_gate_init(gate, &config), "gate");
	memset(work, 0, sizeof(work));
	for (unsigned i = 0; i < OPS; i++)
		work[i].op.run = run;
}

static inline void end_gate(unsigned at)
{
	STEP_CHECK(!fq_gate_fini(gate), "step %u: something is left", at);
	munmap(gate, (size_t)sysconf(_SC_PAGESIZE));
	gate = NULL;
}

/* Everything has come to rest: each of the first @count ran once. */
static inline void close_gate(unsigned count, unsigned at)
{
	while (fq_queue_drain(queue, FQ_NO_BUDGET))
		;
	for (unsigned i = 0; i < count; i++)
		STEP_CHECK(work[i].ran == 1, "step %u: %u ran %u times", at, i, work[i].ran);
	if (gate)
		end_gate(at);
	STEP_CHECK(!fq_queue_destroy(queue), "step %u: the queue", at);
}

static inline void enter(void)
{
	STEP_CHECK(!fq_gate_try_enter(gate), "enter");
}

static inline void leave(void)
{
	STEP_CHECK(!fq_gate_leave(gate), "leave");
}

static inline void defer(unsigned first, unsigned count)
{
	for (unsigned i = first; i < first + count; i++)
		STEP_CHECK(!fq_gate_defer(gate, &work[i].op), "defer");
}

/* Does it at once or leaves it; never waits. */
static inline void do_work(void *arg)
{
	struct work *w = arg;
	int got = fq_gate_enter_or_leave(gate, &w->op);

	if (got == FQ_GATE_LEFT)
		return;
	STEP_CHECK(!got, "%d", got);
	run(&w->op);
	leave();
}

static inline void drain(void *arg)
{
	(void)arg;
	(void)fq_queue_drain(queue, FQ_NO_BUDGET);
}

#endif /* FQ_STEP_GATE_H */
