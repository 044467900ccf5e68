/* SPDX-License-Identifier: MIT */
/*
 * A signal handler that posts, at each step of what it has interrupted: a push, a drain, a sleep, a
 * submit, a cancel, the setting of an event. Both posts count, and the owner is woken for them.
 *
 * Seen to fail: with a push that stores its node instead of exchanging it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <fenceq/fenceq.h>

#define STEP_CHECK(condition, ...)                                                      \
	do {                                                                            \
		if (!(condition)) {                                                     \
			fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
			fprintf(stderr, __VA_ARGS__);                                   \
			fputc('\n', stderr);                                            \
			exit(1);                                                        \
		}                                                                       \
	} while (0)

void (*fq_step_hook)(void);

enum op {
	PUSH,
	DRAIN,
	SLEEP,
	SUBMIT,
	CANCEL,
	SET,
	OPS
};

static struct fq_queue *queue;
static struct fq_pool *pool;
static struct fq_node own, handlers;
static struct fq_work own_work, handlers_work;
static struct fq_event own_event, handlers_event;
static unsigned arrived, dones;
static __thread bool armed;
static unsigned steps, at;
static bool fired;

static void arrive(struct fq_node *node)
{
	(void)node;
	arrived++;
}

static int run(struct fq_work *work)
{
	(void)work;
	return 0;
}

static void done(struct fq_work *work, int status)
{
	(void)work;
	(void)status;
	dones++;
}

static void handler(void)
{
	fq_queue_push(queue, &handlers);
	STEP_CHECK(!fq_event_set(&handlers_event, 0), "set");
	STEP_CHECK(!fq_pool_submit(pool, &handlers_work), "submit");
}

static void hook(void)
{
	if (!armed || steps++ != at)
		return;
	armed = false;
	fired = true;
	handler();
}

static void operate(enum op op)
{
	int err;

	if (op == PUSH)
		fq_queue_push(queue, &own);
	else if (op == DRAIN)
		(void)fq_queue_drain(queue, FQ_NO_BUDGET);
	else if (op == SLEEP)
		(void)fq_queue_wait(queue, 0);
	else if (op == SUBMIT)
		STEP_CHECK(!fq_pool_submit(pool, &own_work), "submit");
	else if (op == SET)
		STEP_CHECK(!fq_event_set(&own_event, 0), "set");
	else if ((err = fq_pool_cancel(pool, &own_work)))
		STEP_CHECK(err == -EBUSY || err == -EALREADY, "cancel: %d", err);
}

static void interrupt(enum op op, unsigned flags)
{
	const struct fq_pool_config config = {.max_workers = 1};
	unsigned want_nodes, want_works;

	STEP_CHECK(!fq_queue_create(&queue, flags), "queue");
	STEP_CHECK(!fq_pool_create(&pool, &config), "pool");
	arrived = dones = steps = 0;
	own.run = handlers.run = arrive;
	own_work = handlers_work = (struct fq_work){.run = run, .done = done, .queue = queue};
	fq_event_init(&own_event);
	fq_event_init(&handlers_event);
	if (op == DRAIN)
		fq_queue_push(queue, &own);
	if (op == CANCEL)
		STEP_CHECK(!fq_pool_submit(pool, &own_work), "submit");
	fired = false;
	armed = true;
	operate(op);
	armed = false;
	want_nodes = (op <= DRAIN) + fired;
	want_works = (op == SUBMIT || op == CANCEL) + fired;
	while (arrived < want_nodes || dones < want_works) {
		STEP_CHECK(fq_queue_wait(queue, INT64_C(20000000000)) == 1,
			   "op %d, step %u: %u of %u nodes, %u of %u works", (int)op, at, arrived,
			   want_nodes, dones, want_works);
		(void)fq_queue_drain(queue, FQ_NO_BUDGET);
	}
	STEP_CHECK(arrived == want_nodes && dones == want_works, "op %d, step %u: twice", (int)op,
		   at);
	STEP_CHECK(fq_event_is_set(&handlers_event) == fired, "event");
	STEP_CHECK(fq_event_is_set(&own_event) == (op == SET), "event");
	STEP_CHECK(!fq_pool_destroy(pool), "pool");
	STEP_CHECK(!fq_queue_destroy(queue), "queue");
}

int main(void)
{
	unsigned runs = 0;

	alarm(120);
	fq_step_hook = hook;
	for (unsigned n = 0; n < OPS * 2; n++) {
		fired = true;
		for (at = 0; fired; at++, runs++)
			interrupt(n / 2, n % 2 ? FQ_QUEUE_HOOKS : 0);
	}
	STEP_CHECK(runs > 50, "hardly interrupted: %u", runs);
	printf("interrupted at %u steps\nok\n", runs);
	return 0;
}
