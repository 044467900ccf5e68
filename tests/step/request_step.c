/* SPDX-License-Identifier: MIT */
/*
 * A completer stopped before each of its steps, against a waiter whose time-out comes; the converse;
 * a submitter stopped before each of its steps, against the loss of the connection; and the owner
 * stopped while it has borrowed a message, against a time-out. Each request lies on a page of its
 * own, which is gone as soon as its wait has returned.
 *
 * Seen to fail: with a completer that looks at the request once more after it was handed back
 * (fault); with a waiter that returns -ETIMEDOUT although it lost to a copy under way (fault); with a
 * loss that passes over slots that are TAKEN, or FREE (a request pending for ever); with a borrowed
 * message's request handed back at once.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "request_internal.h"
#include "step.h"

void (*fq_step_hook)(void);

static struct fq_queue *queue;
static struct fq_request_table *table;
static size_t page;
static unsigned runs;

/* What a thread is to do, and what came of it. */
struct job {
	struct fq_request *req;
	const struct fq_wait_hooks *hooks;
	int64_t timeout_ns;
	uint64_t id;
	int result;
	bool finished;
};

static bool yes(void *opaque)
{
	(void)opaque;
	return true;
}

static bool no(void *opaque)
{
	(void)opaque;
	return false;
}

static const struct fq_wait_hooks kinds[] = {{.may_drain = no}, {.may_drain = yes}};

static struct fq_request *fresh(void)
{
	struct fq_request *req =
		mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	STEP_CHECK(req != MAP_FAILED, "mmap");
	req->reply = req + 1;
	req->room = 64;
	return req;
}

static void submit(struct job *job)
{
	*job = (struct job){.req = fresh()};
	STEP_CHECK(!fq_request_submit(table, job->req, &job->id), "submit");
}

static void complete(void *arg)
{
	static const char data[64] = "reply";
	struct job *job = arg;

	job->result = fq_request_complete(table, job->id, 42, data, sizeof(data));
	__atomic_store_n(&job->finished, true, __ATOMIC_RELEASE);
}

static void wait_for_it(void *arg)
{
	struct job *job = arg;

	job->result = fq_request_wait(job->req, job->timeout_ns, job->hooks);
	munmap(job->req, page);
	__atomic_store_n(&job->finished, true, __ATOMIC_RELEASE);
}

static void *wait_thread(void *arg)
{
	wait_for_it(arg);
	return NULL;
}

static void expect_nothing_left(void)
{
	(void)fq_queue_drain(queue, FQ_NO_BUDGET);
	STEP_CHECK(!fq_load_acq(&table->users), "a user is left");
	STEP_CHECK(!(fq_load_acq(&table->room) & UINT32_MAX), "a slot is left");
}

/* The completer stopped; the waiter's time-out comes, and it goes as soon as it may. */
static void completers_steps(const struct fq_wait_hooks *hooks, bool asleep)
{
	bool stopped = true;

	for (unsigned at = 0; stopped; at++, runs++) {
		struct job waiter, completer;
		struct stopper s;
		pthread_t thread;

		submit(&waiter);
		completer = waiter;
		waiter.hooks = hooks;
		waiter.timeout_ns = asleep ? 2000000 : 0;
		if (asleep) /* the wait comes first, so that the completer has somebody to wake */
			STEP_CHECK(!pthread_create(&thread, NULL, wait_thread, &waiter), "thread");
		stopped = stopper_start(&s, complete, &completer, at);
		if (!asleep)
			STEP_CHECK(!pthread_create(&thread, NULL, wait_thread, &waiter), "thread");
		/* Before the claim and after the hand-over it does not depend on the completer. */
		for (int i = 0; i < 20 && !__atomic_load_n(&waiter.finished, __ATOMIC_ACQUIRE); i++)
			usleep(500);
		stopper_finish(&s);
		pthread_join(thread, NULL);
		if (completer.result)
			STEP_CHECK(waiter.result == -ETIMEDOUT && completer.result == -ESTALE,
				   "step %u: %d, %d", at, waiter.result, completer.result);
		else
			STEP_CHECK(waiter.result == 42, "step %u: %d", at, waiter.result);
		expect_nothing_left();
	}
}

/* The waiter stopped on its way into its time-out; the reply comes. */
static void waiters_steps(const struct fq_wait_hooks *hooks)
{
	bool stopped = true;

	for (unsigned at = 0; stopped; at++, runs++) {
		struct job waiter, completer;
		struct stopper s;

		submit(&waiter);
		completer = waiter;
		waiter.hooks = hooks;
		stopped = stopper_start(&s, wait_for_it, &waiter, at);
		complete(&completer);
		stopper_finish(&s);
		if (completer.result)
			STEP_CHECK(waiter.result == -ETIMEDOUT && completer.result == -ESTALE,
				   "step %u: %d, %d", at, waiter.result, completer.result);
		else
			STEP_CHECK(waiter.result == 42, "step %u: %d", at, waiter.result);
		expect_nothing_left();
	}
}

static void submit_only(void *arg)
{
	struct job *job = arg;

	job->result = fq_request_submit(table, job->req, NULL);
}

/*
 * The submitter stopped; the connection is lost; nothing stays pending, and others go on. With
 * @reopened the table takes submits again before the submitter goes on: its request may then pend.
 */
static void submitters_steps(bool reopened)
{
	bool stopped = true;

	for (unsigned at = 0; stopped; at++, runs++) {
		struct job job = {.req = fresh()}, other;
		struct stopper s;
		int status = 0;

		stopped = stopper_start(&s, submit_only, &job, at);
		submit(&other);
		complete(&other);
		STEP_CHECK(!other.result, "step %u: another's reply: %d", at, other.result);
		wait_for_it(&other);
		fq_request_fail_all(table, -EPIPE);
		if (reopened)
			fq_request_table_reopen(table);
		stopper_finish(&s);
		/* Time-out 0: what is still pending shows. */
		if (!job.result)
			status = fq_request_wait(job.req, 0, &kinds[0]);
		STEP_CHECK(job.result ? job.result == -ENOTCONN
				      : status == -EPIPE || (reopened && status == -ETIMEDOUT),
			   "step %u: %d, %d", at, job.result, status);
		munmap(job.req, page);
		fq_request_table_reopen(table);
		submit(&other);
		complete(&other);
		STEP_CHECK(!other.result, "step %u: %d", at, other.result);
		wait_for_it(&other);
		expect_nothing_left();
	}
}

static unsigned calls;

static void done(struct fq_request *req)
{
	calls++;
	munmap(req, page);
}

/* With a callback and a time-out; from the owner's side everything happens while it is stopped. */
static void async_submitters_steps(void)
{
	bool stopped = true;

	for (unsigned at = 0; stopped; at++, runs++) {
		struct job job = {.req = fresh()};
		struct stopper s;

		calls = 0;
		job.req->done = done;
		job.req->timeout_ns = 1;
		stopped = stopper_start(&s, submit_only, &job, at);
		(void)fq_queue_drain(queue, FQ_NO_BUDGET);
		fq_request_fail_all(table, -EPIPE);
		(void)fq_queue_drain(queue, FQ_NO_BUDGET);
		stopper_finish(&s);
		(void)fq_queue_drain(queue, FQ_NO_BUDGET);
		(void)fq_queue_drain(queue, FQ_NO_BUDGET);
		STEP_CHECK(job.result ? job.result == -ENOTCONN && !calls : calls == 1,
			   "step %u: %d, %u", at, job.result, calls);
		if (job.result)
			munmap(job.req, page);
		fq_request_table_reopen(table);
		expect_nothing_left();
	}
}

static void end_it(void *arg)
{
	struct job *job = arg;

	job->result = fq_request_end(job->req, -ETIMEDOUT, &table->timed_out);
}

/*
 * A message on a list (as a channel's): whoever ends its request is stopped at each step, while the
 * owner borrows the message, gives it back and takes it off the list.
 */
static void enders_steps(unsigned stop_in_owner)
{
	bool stopped = true;

	for (unsigned at = 0; stopped; at++, runs++) {
		struct job job = {.req = fresh()};
		struct fq_slot *slot;
		struct stopper s;
		bool lent;

		STEP_CHECK(!fq_request_reserve(table, job.req), "reserve");
		slot = &table->slot[job.req->slot];
		STEP_CHECK(!fq_request_publish(table, job.req, true), "publish");
		lent = stop_in_owner > 0 && fq_request_borrow(slot);
		stopped = stopper_start(&s, end_it, &job, at);
		if (lent)
			STEP_CHECK(!fq_event_is_set(&job.req->over),
				   "step %u: handed back while its message is lent", at);
		else
			lent = fq_request_borrow(slot);
		if (lent)
			fq_request_settle(table, slot, stop_in_owner > 1);
		if (!lent || stop_in_owner < 2)
			fq_request_settle(table, slot, true);
		stopper_finish(&s);
		STEP_CHECK(job.result == 1, "ended by nobody else");
		STEP_CHECK(fq_request_wait(job.req, 0, &kinds[0]) == -ETIMEDOUT, "step %u", at);
		munmap(job.req, page);
		expect_nothing_left();
	}
}

int main(void)
{
	struct fq_request_config config = {.slots = 3, .id_bits = 16};

	page = (size_t)sysconf(_SC_PAGESIZE);
	alarm(120);
	fq_step_hook = step_hook;
	STEP_CHECK(!fq_queue_create(&queue, 0), "queue");
	config.queue = queue;
	STEP_CHECK(!fq_request_table_create(&table, &config), "table");
	for (unsigned kind = 0; kind < 2; kind++) {
		completers_steps(&kinds[kind], false);
		completers_steps(&kinds[kind], true);
		waiters_steps(&kinds[kind]);
	}
	submitters_steps(false);
	submitters_steps(true);
	async_submitters_steps();
	for (unsigned how = 0; how < 3; how++)
		enders_steps(how);
	STEP_CHECK(!fq_request_table_destroy(table), "table");
	STEP_CHECK(!fq_queue_destroy(queue), "queue");
	printf("stops: %u\n", runs);
	STEP_CHECK(runs > 60, "nobody was stopped at all");
	puts("ok");
	return 0;
}
