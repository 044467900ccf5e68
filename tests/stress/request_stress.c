/* SPDX-License-Identifier: MIT */
/*
 * Requests that are replied to, time out, are cancelled and lost, all at the same time. Submitters
 * wait (the owner too) or leave a callback; repliers reply in any order, some of it twice or by
 * guessing; the connection is lost and found again.
 *
 * Each request lives on its submitter's stack, with a canary around its reply buffer, and ends once;
 * in the end the counters add up: submitted = completed + timed out + cancelled + lost.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include <fenceq/fenceq.h>

#include "stress.h"

#define MAILBOX 64u
#define REPLIERS 2u
#define SLOTS 48u
#define CANARY UINT64_C(0x5afe5afe5afe5afe)

static struct fq_queue *queue;
static struct fq_request_table *table;
static atomic_bool stop;         /* submitters */
static atomic_bool stop_replies; /* repliers, when they are through */
static atomic_uint submitters;

/* What the repliers are to answer: ids, in no order. */
static _Atomic uint64_t mailbox[MAILBOX];

struct outcomes {
	atomic_ullong replied;
	atomic_ullong timed_out;
	atomic_ullong cancelled;
	atomic_ullong lost;
	atomic_ullong callbacks;
};

static struct outcomes outcomes;

struct reply {
	uint64_t before;
	uint64_t id;
	uint64_t after;
};

static void post_id(uint64_t id, uint64_t random)
{
	/* One that is there already never gets its reply, and times out. */
	atomic_store(&mailbox[random % MAILBOX], id);
}

static void *replier_main(void *arg)
{
	uint64_t random = (uint64_t)(uintptr_t)arg;

	while (!atomic_load(&stop_replies)) {
		uint64_t r = stress_random(&random);
		uint64_t id = atomic_exchange(&mailbox[r % MAILBOX], 0);
		int err;

		if (r >> 56 == 0)
			(void)fq_request_complete(table, r << 30, 0, &r, sizeof(r));
		if (!id)
			continue;
		err = fq_request_complete(table, id, 0, &id, sizeof(id));
		STRESS_CHECK(!err || err == -ESTALE, "reply to %llu: %d", (unsigned long long)id,
			     err);
		if (r >> 60 == 0)
			STRESS_CHECK(fq_request_complete(table, id, 0, &id, sizeof(id)) == -ESTALE,
				     "a duplicate");
	}
	return NULL;
}

static void count(int status, const struct reply *reply, uint64_t id)
{
	STRESS_CHECK(reply->before == CANARY && reply->after == CANARY, "overrun");
	if (!status) {
		STRESS_CHECK(reply->id == id, "another's reply");
		atomic_fetch_add(&outcomes.replied, 1);
	} else if (status == -ETIMEDOUT) {
		atomic_fetch_add(&outcomes.timed_out, 1);
	} else if (status == -ECANCELED) {
		atomic_fetch_add(&outcomes.cancelled, 1);
	} else {
		STRESS_CHECK(status == -EPIPE, "status %d", status);
		atomic_fetch_add(&outcomes.lost, 1);
	}
}

static void wait_for_one(uint64_t r)
{
	struct reply reply = {CANARY, 0, CANARY};
	struct fq_request req = {.reply = &reply.id, .room = sizeof(reply.id)};
	uint64_t id;
	int err = fq_request_submit(table, &req, &id);

	if (err) {
		STRESS_CHECK(err == -EAGAIN || err == -ENOTCONN, "submit: %d", err);
		return;
	}
	post_id(id, r >> 8);
	if (r % 16 == 0)
		(void)fq_request_cancel(&req);
	err = fq_request_wait(&req, (int64_t)(r >> 16) % 300000, NULL);
	count(err, &reply, id);
}

/* With a callback: from the heap, each freed by its callback. */
struct later {
	struct fq_request req;
	struct reply reply;
	uint64_t id;
};

static void done(struct fq_request *req)
{
	struct later *l = (struct later *)(void *)req;

	STRESS_CHECK(fq_queue_is_owner(queue), "called back on a foreign thread");
	/* The id is in the reply itself, if there is one. */
	count(req->status, &l->reply, l->reply.id);
	atomic_fetch_add(&outcomes.callbacks, 1);
	free(l);
}

static void leave_one(uint64_t r)
{
	struct later *l = calloc(1, sizeof(*l));
	uint64_t id;

	l->reply = (struct reply){CANARY, 0, CANARY};
	l->req = (struct fq_request){.reply = &l->reply.id,
				     .room = sizeof(l->reply.id),
				     .done = done,
				     .timeout_ns = 1 + (int64_t)(r >> 16) % 300000};
	if (fq_request_submit(table, &l->req, &id))
		free(l);
	else
		post_id(id, r >> 8);
}

static void submit_one(uint64_t *random)
{
	uint64_t r = stress_random(random);

	if (r >> 62)
		wait_for_one(r);
	else
		leave_one(r);
}

static void *submitter_main(void *arg)
{
	uint64_t random = (uint64_t)(uintptr_t)arg;

	while (!atomic_load(&stop))
		submit_one(&random);
	atomic_fetch_sub(&submitters, 1);
	return NULL;
}

static void run_owner(uint64_t random, double seconds)
{
	int64_t end = stress_now_ns() + (int64_t)(seconds * 1e9);

	while (stress_now_ns() < end) {
		uint64_t r = stress_random(&random);

		submit_one(&random);
		(void)fq_queue_drain(queue, (unsigned)r % 16 + 1);
		if (r >> 55 == 0) {
			fq_request_fail_all(table, -EPIPE);
			(void)fq_queue_drain(queue, FQ_NO_BUDGET);
			fq_request_table_reopen(table);
		}
	}
	atomic_store(&stop, true);
	/* Whoever waits has a time-out, or a reply. */
	while (atomic_load(&submitters))
		(void)fq_queue_drain(queue, FQ_NO_BUDGET);
	atomic_store(&stop_replies, true);
	fq_request_fail_all(table, -EPIPE);
	(void)fq_queue_drain(queue, FQ_NO_BUDGET);
}

static void expect_sums(void)
{
	struct fq_request_stats s;

	fq_request_get_stats(table, &s);
	printf("submitted %llu: completed %llu, timed out %llu, cancelled %llu, lost %llu; late "
	       "%llu, "
	       "forged %llu, exhausted %llu\n",
	       (unsigned long long)s.submitted, (unsigned long long)s.completed,
	       (unsigned long long)s.timed_out, (unsigned long long)s.cancelled,
	       (unsigned long long)s.lost, (unsigned long long)s.refused_late,
	       (unsigned long long)s.refused_forged, (unsigned long long)s.exhausted);
	STRESS_CHECK(s.completed == outcomes.replied, "%llu", outcomes.replied);
	STRESS_CHECK(s.timed_out == outcomes.timed_out, "%llu", outcomes.timed_out);
	STRESS_CHECK(s.cancelled == outcomes.cancelled, "%llu", outcomes.cancelled);
	STRESS_CHECK(s.lost == outcomes.lost, "%llu", outcomes.lost);
	STRESS_CHECK(s.submitted == s.completed + s.timed_out + s.cancelled + s.lost, "sum");
	STRESS_CHECK(s.completed && s.timed_out && s.cancelled && s.lost && s.refused_late,
		     "something never happened");
}

int main(int argc, char **argv)
{
	struct stress_options o = stress_parse(argc, argv, 4);
	struct fq_request_config config = {.slots = SLOTS, .id_bits = 64};
	pthread_t *thread = calloc(o.threads + REPLIERS, sizeof(*thread));
	uint64_t random = o.seed;
	unsigned n = 0;

	alarm((unsigned)o.seconds * 2 + 120);
	STRESS_CHECK(!fq_queue_create(&queue, random % 2 ? FQ_QUEUE_HOOKS : 0), "queue");
	config.queue = queue;
	STRESS_CHECK(!fq_request_table_create(&table, &config), "table");
	atomic_store(&submitters, o.threads);
	while (n < o.threads + REPLIERS) {
		STRESS_CHECK(!pthread_create(&thread[n], NULL,
					     n < REPLIERS ? replier_main : submitter_main,
					     (void *)(uintptr_t)stress_random(&random)),
			     "thread");
		n++;
	}
	run_owner(stress_random(&random), o.seconds);
	while (n--)
		pthread_join(thread[n], NULL);
	(void)fq_queue_drain(queue, FQ_NO_BUDGET);
	expect_sums();
	STRESS_CHECK(!fq_request_table_destroy(table), "table");
	STRESS_CHECK(!fq_queue_destroy(queue), "queue");
	free(thread);
	puts("ok");
	return 0;
}
