/* SPDX-License-Identifier: MIT */
/*
 * Callbacks that do anything, inside calls that do anything: every call, in it every other one, in
 * that every third. A model beside the library knows what each fence is to be told: once, in order
 * on its timeline, with the status of the first call that took it, or 0 where its signal had come.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>

#include <fenceq/fenceq.h>

#include "../unit/host.h"
#include "../unit/unit.h"

#define LINES 4u /* 0: global; 1, 2: two rings of context A; 3: context B */
#define FENCES 64u
#define CTX_A 7u
#define CTX_B 8u

enum op {
	DRAIN,
	DRAIN_ONE,
	NEW_LIFE,
	RING_FAIL,
	GLOBAL_FAIL,
	CONTEXT_FAIL,
	DEVICE_FAIL,
	CONTEXT_DESTROY,
	RESET,
	UNPLUG,
	DESTROY,
	FREEZE,
	THAW,
	OPS,
};

/* What each tells those that were not signalled. */
static const int status_of[OPS] = {
	[RING_FAIL] = -EIO,
	[GLOBAL_FAIL] = -EPIPE,
	[CONTEXT_FAIL] = -ENXIO,
	[DEVICE_FAIL] = -EOWNERDEAD,
	[CONTEXT_DESTROY] = -ECANCELED,
	[RESET] = -ECONNRESET,
	[UNPLUG] = -ENODEV,
	[DESTROY] = -ENODEV,
};

struct modelled {
	struct fq_fence fence; /* first: a fence is its model */
	unsigned line, life;
	bool pending, condemned;
	int expected;
};

static struct host host;
static struct modelled pool[FENCES];
static unsigned used, life[LINES];
static uint64_t signalled[LINES];
static enum op script[4];
static unsigned at; /* the retire callback that runs script[1]; those after it run the rest */
static bool frozen, ended;

static void act(enum op op);

static void complete(struct modelled *m)
{
	int err = m->line ? fq_signal(host.handle, m->line == 3 ? CTX_B : CTX_A, m->line == 2,
				      m->fence.token)
			  : fq_signal_global(host.handle, m->fence.token);

	cr_assert_eq(err, 0);
	signalled[m->line] = m->fence.token;
}

static struct modelled *submit(unsigned line)
{
	struct modelled *m = &pool[used++];
	int err;

	cr_assert_lt(used, FENCES);
	memset(m, 0, sizeof(*m));
	m->line = line;
	m->life = life[line];
	err = line ? fq_submit(host.dev, line == 3 ? CTX_B : CTX_A, line == 2, &m->fence)
		   : fq_submit_global(host.dev, &m->fence);
	cr_assert_eq(err, ended ? -ENODEV : 0);
	m->pending = !err;
	return m;
}

static bool takes(enum op op, unsigned line)
{
	switch (op) {
	case RING_FAIL:
		return line == 1;
	case GLOBAL_FAIL:
		return line == 0;
	case CONTEXT_FAIL:
	case CONTEXT_DESTROY:
		return line == 1 || line == 2;
	default:
		return status_of[op];
	}
}

/* The first call that takes a fence decides what it is told. */
static void condemn(enum op op)
{
	for (unsigned i = 0; i < used; i++) {
		struct modelled *m = &pool[i];

		if (!m->pending || m->condemned || !takes(op, m->line))
			continue;
		m->condemned = true;
		m->expected = m->fence.token <= signalled[m->line] ? 0 : status_of[op];
	}
	for (unsigned l = 1; l < LINES; l++)
		life[l] += op == RESET || (op == CONTEXT_DESTROY && l < 3);
	frozen = (frozen || op == FREEZE) && op != RESET && op != THAW;
}

static void retire(struct host *h, struct fq_fence *f, int status)
{
	struct modelled *m = (struct modelled *)f;

	cr_assert(m->pending, "retired twice");
	m->pending = false;
	if (m->condemned) {
		cr_assert_eq(status, m->expected, "%d, not %d", status, m->expected);
	} else {
		cr_assert_eq(status, 0);
		cr_assert_leq(f->token, signalled[m->line], "early");
		cr_assert_not(frozen);
	}
	for (struct modelled *other = pool; other < m; other++)
		cr_assert_not(other->pending && other->line == m->line && other->life == m->life,
			      "out of order");
	if (h->count >= at && h->count - at < 3)
		act(script[1 + h->count - at]);
}

static void new_life(void)
{
	for (unsigned line = 0; line < LINES; line++) {
		struct modelled *first = submit(line);

		(void)submit(line);
		if (!ended)
			complete(first);
	}
}

static void end(enum op op)
{
	bool again = ended;
	int err;

	ended = true;
	err = op == UNPLUG ? fq_device_unplug(host.dev, NULL, NULL) : fq_device_destroy(host.dev);
	cr_assert_eq(err, again ? -EBUSY : 0);
}

static void fail(enum op op)
{
	int err = 0, known;

	if (op == RING_FAIL)
		err = fq_ring_fail(host.dev, CTX_A, 0, status_of[op]);
	else if (op == GLOBAL_FAIL)
		err = fq_global_fail(host.dev, status_of[op]);
	else if (op == CONTEXT_FAIL)
		err = fq_context_fail(host.dev, CTX_A, status_of[op]);
	else if (op == DEVICE_FAIL)
		err = fq_device_fail(host.dev, status_of[op]);
	else if (op == CONTEXT_DESTROY)
		err = fq_context_destroy(host.dev, CTX_A);
	known = op == GLOBAL_FAIL || op == DEVICE_FAIL ? 0 : -ENOENT;
	cr_assert(err == 0 || err == known, "%d", err);
}

static void act(enum op op)
{
	int gone = ended ? -ENODEV : 0;

	condemn(op);
	switch (op) {
	case DRAIN:
		(void)fq_queue_drain(host.q, FQ_NO_BUDGET);
		return;
	case DRAIN_ONE:
		(void)fq_queue_drain(host.q, 1);
		return;
	case NEW_LIFE:
		new_life();
		return;
	case RESET:
		cr_assert_eq(fq_device_reset(host.dev), gone);
		return;
	case UNPLUG:
	case DESTROY:
		end(op);
		return;
	case FREEZE:
		cr_assert_eq(fq_device_freeze(host.dev), 0);
		return;
	case THAW:
		cr_assert_eq(fq_device_thaw(host.dev), 0);
		return;
	default:
		fail(op);
	}
}

/* Signals of lives that ended: refused. */
static void expect_stale(void)
{
	for (unsigned i = 0; i < used; i++) {
		struct modelled *m = &pool[i];
		int err;

		if (!m->condemned)
			continue;
		err = m->line ? fq_signal(host.handle, m->line == 3 ? CTX_B : CTX_A, m->line == 2,
					  m->fence.token)
			      : fq_signal_global(host.handle, m->fence.token);
		cr_assert(err == -ESTALE || err == -ENOENT || err == -ENODEV, "%d", err);
	}
}

static void begin(void)
{
	used = 0;
	ended = frozen = false;
	memset(signalled, 0, sizeof(signalled));
	memset(life, 0, sizeof(life));
	host_open(&host, 0);
	host.on_retire = retire;
	new_life();
	new_life();
}

static void finish(void)
{
	at = UINT32_MAX;
	if (!ended) {
		act(THAW);
		while (readable(host.q))
			act(DRAIN);
		for (unsigned i = 0; i < used; i++)
			cr_assert_not(pool[i].pending &&
					      pool[i].fence.token <= signalled[pool[i].line],
				      "signalled, and still pending");
		expect_stale();
		act(DESTROY);
	}
	for (unsigned i = 0; i < used; i++)
		cr_assert_not(pool[i].pending, "lost");
	expect_stale();
	(void)fq_reclaim();
	cr_assert_eq(fq_queue_destroy(host.q), 0);
	host.q = NULL;
	host.dev = NULL;
}

static void play(enum op first, enum op second, enum op third, enum op fourth, unsigned when)
{
	script[0] = first;
	script[1] = second;
	script[2] = third;
	script[3] = fourth;
	at = when;
	begin();
	act(first);
	finish();
}

TestSuite(nested, .timeout = 600);

Test(nested, every_call_in_every_call_in_every_call)
{
	for (unsigned n = 0; n < OPS * OPS * OPS; n++)
		play(n % OPS, n / OPS % OPS, n / OPS / OPS, NEW_LIFE, 1 + n % 7);
}

/* The same, when the life in which it happens began in a callback and ends in another. */
Test(nested, lives_that_begin_inside)
{
	for (unsigned n = 0; n < OPS * OPS * OPS; n++)
		play(n % OPS, NEW_LIFE, n / OPS % OPS, n / OPS / OPS, 1 + n % 5);
}

/* The same, while frozen. */
Test(nested, frozen)
{
	for (unsigned n = 0; n < OPS * OPS * OPS; n++) {
		script[1] = n / OPS % OPS;
		script[2] = n / OPS / OPS;
		script[3] = THAW;
		at = 1 + n % 3;
		begin();
		act(FREEZE);
		act(DRAIN);
		act(n % OPS);
		finish();
	}
}

/* What a callback does after a drain of its own is flushed as well, and quiesces see it. */
static unsigned flushes_after_drain;

static void drain_first(struct host *h, struct fq_fence *f, int status)
{
	(void)f;
	(void)status;
	(void)fq_queue_drain(h->q, FQ_NO_BUDGET);
	flushes_after_drain = h->flushes;
	/* ... here a host puts the response into its virtqueue ... */
}

static void note(struct fq_quiesce *quiesce, int status)
{
	(void)quiesce;
	cr_assert_eq(status, 0);
	frozen = false; /* done */
}

Test(nested, flushed_after_a_drain_inside)
{
	struct fq_quiesce quiesce = {.done = note};
	struct fq_fence fence = {0};

	host_open(&host, 0);
	host.on_retire = drain_first;
	submit_all(&host, CTX_A, 0, &fence, 1);
	frozen = true;
	cr_assert_eq(fq_device_quiesce(host.dev, &quiesce, -1), 0);
	cr_assert(frozen);
	cr_assert_eq(fq_signal(host.handle, CTX_A, 0, fence.token), 0);
	cr_assert_eq(fq_queue_drain(host.q, FQ_NO_BUDGET), 1);
	cr_assert_gt(host.flushes, flushes_after_drain, "what the callback did is not published");
	cr_assert_not(frozen, "nobody told the quiesce");
	host_close(&host);
}
