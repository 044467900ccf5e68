/* SPDX-License-Identifier: MIT */
/* Requests that nobody waits for: a callback, and a time-out. */
#define _GNU_SOURCE
#include "request_host.h"

TestSuite(request_done, .init = setup, .fini = teardown, .timeout = 60);

static unsigned calls;
static int last_status;
static pthread_t called_on;

static void done(struct fq_request *req)
{
	calls++;
	last_status = req->status;
	called_on = pthread_self();
	memset(req, 0xee, sizeof(*req)); /* may be freed */
}

static void drain_until(unsigned n)
{
	while (calls < n) {
		if (!fq_queue_drain(queue, FQ_NO_BUDGET))
			(void)fq_queue_wait(queue, FOR_EVER);
	}
	(void)fq_queue_drain(queue, FQ_NO_BUDGET);
	cr_assert_eq(calls, n);
}

Test(request_done, done_runs_on_the_owner_whichever_way_it_ends)
{
	struct fq_request req[4] = {{.done = done}, {.done = done}, {.done = done}, {.done = done}};
	uint64_t id;

	open_table(4, 16);
	calls = 0;
	id = submit(&req[0]);
	cr_assert_eq(fq_request_wait(&req[0], 0, NULL), -EINVAL, "nobody waits for it");
	cr_assert_eq(fq_request_complete(table, id, 8, NULL, 0), 0);
	cr_assert_eq(calls, 0, "not from inside");
	drain_until(1);
	cr_assert_eq(last_status, 8);
	(void)submit(&req[1]);
	cr_assert(fq_request_cancel(&req[1]));
	drain_until(2);
	cr_assert_eq(last_status, -ECANCELED);
	req[2].timeout_ns = 1000000;
	(void)submit(&req[2]);
	drain_until(3);
	cr_assert_eq(last_status, -ETIMEDOUT);
	req[3].timeout_ns = LONG;
	(void)submit(&req[3]);
	(void)fq_queue_drain(queue, FQ_NO_BUDGET); /* its deadline is set */
	fq_request_fail_all(table, -EPIPE);
	drain_until(4);
	cr_assert_eq(last_status, -EPIPE);
	cr_assert_lt(fq_queue_timeout(queue), 0, "no deadline is left behind");
}

/* It ends before the owner has come to set the deadline. */
Test(request_done, over_before_its_time_out_is_set)
{
	struct fq_request req = {.done = done, .timeout_ns = LONG};

	open_table(4, 16);
	calls = 0;
	cr_assert_eq(fq_request_complete(table, submit(&req), 8, NULL, 0), 0);
	drain_until(1);
	cr_assert_eq(last_status, 8);
	cr_assert_lt(fq_queue_timeout(queue), 0);
}

static void *submit_in_thread(void *req)
{
	return (void *)(intptr_t)fq_request_submit(table, req, NULL);
}

Test(request_done, a_foreign_thread_submits_with_a_time_out)
{
	struct fq_request req = {.done = done, .timeout_ns = 1000000};
	pthread_t thread;
	void *err;

	open_table(4, 16);
	calls = 0;
	cr_assert_eq(pthread_create(&thread, NULL, submit_in_thread, &req), 0);
	drain_until(1);
	pthread_join(thread, &err);
	cr_assert_eq((intptr_t)err, 0);
	cr_assert_eq(last_status, -ETIMEDOUT);
	cr_assert(pthread_equal(called_on, pthread_self()));
}

#define MANY 10000u

static unsigned timed_out, answered;

static void count(struct fq_request *req)
{
	calls++;
	if (req->status == -ETIMEDOUT)
		timed_out++;
	else if (!req->status)
		answered++;
}

/* Every other one is answered in time; the rest time out, and their replies come late. */
Test(request_done, ten_thousand_with_time_outs)
{
	struct fq_request *req = calloc(MANY, sizeof(*req));
	uint64_t *id = calloc(MANY, sizeof(*id));

	open_table(16384, 64);
	calls = timed_out = answered = 0;
	for (unsigned i = 0; i < MANY; i++) {
		req[i].done = count;
		req[i].timeout_ns = i % 2 ? 1000000 : LONG;
		id[i] = submit(&req[i]);
	}
	for (unsigned i = 0; i < MANY; i += 2)
		cr_assert_eq(fq_request_complete(table, id[i], 0, NULL, 0), 0);
	drain_until(MANY);
	cr_assert_eq(timed_out, MANY / 2);
	cr_assert_eq(answered, MANY / 2);
	for (unsigned i = 0; i < MANY; i++)
		cr_assert_eq(fq_request_complete(table, id[i], 0, NULL, 0), -ESTALE);
	cr_assert_eq(stats().timed_out, MANY / 2);
	cr_assert_eq(stats().refused_late, MANY);
	free(id);
	free(req);
}

static void again(struct fq_request *req)
{
	calls++;
	if (calls < 10) {
		uint64_t id;

		cr_assert_eq(fq_request_submit(table, req, &id), 0);
		cr_assert_eq(fq_request_complete(table, id, 0, NULL, 0), 0);
	}
}

Test(request_done, done_may_submit_again)
{
	struct fq_request req = {.done = again};

	open_table(1, 16);
	calls = 0;
	cr_assert_eq(fq_request_complete(table, submit(&req), 0, NULL, 0), 0);
	drain_until(10);
}

static void destroy_table(struct fq_request *req)
{
	(void)req;
	calls++;
	cr_assert_eq(fq_request_table_destroy(table), 0);
	table = NULL;
}

Test(request_done, done_of_the_last_one_may_destroy_the_table)
{
	struct fq_request req = {.done = destroy_table};

	open_table(4, 16);
	calls = 0;
	cr_assert_eq(fq_request_complete(table, submit(&req), 0, NULL, 0), 0);
	drain_until(1);
}
