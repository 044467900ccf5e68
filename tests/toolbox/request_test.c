/* SPDX-License-Identifier: MIT */
/* Ids, and the ways a request ends. */
#define _GNU_SOURCE
#include "request_host.h"

TestSuite(request, .init = setup, .fini = teardown, .timeout = 60);

/* -- one request ------------------------------------------------------------------------------- */

Test(request, carries_reply_status_and_size)
{
	char reply[16] = "";
	struct fq_request req = {.reply = reply, .room = sizeof(reply)};
	uint64_t id;

	open_table(4, 16);
	id = submit(&req);
	cr_assert_eq(fq_request_complete(table, id, 0, "hello", 6), 0);
	cr_assert_eq(wait_foreign(&req, -1), 0);
	cr_assert_str_eq(reply, "hello");
	cr_assert_eq(req.size, 6);
	id = submit(&req);
	cr_assert_eq(fq_request_complete(table, id, -EIO, NULL, 0), 0);
	cr_assert_eq(fq_request_wait(&req, -1, NULL), -EIO);
	cr_assert_eq(req.size, 0);
	cr_assert_eq(stats().completed, 2);
	cr_assert_eq(stats().submitted, 2);
}

Test(request, reply_too_large_is_not_copied)
{
	char reply[8] = "1234567";
	struct fq_request req = {.reply = reply, .room = 4};

	open_table(4, 16);
	cr_assert_eq(fq_request_complete(table, submit(&req), 0, "abcde", 5), 0);
	cr_assert_eq(wait_foreign(&req, -1), -EMSGSIZE);
	cr_assert_eq(req.size, 5);
	cr_assert_str_eq(reply, "1234567");
	cr_assert_eq(fq_request_complete(table, submit(&req), 0, "abcd", 4), 0);
	cr_assert_eq(wait_foreign(&req, -1), 0);
	cr_assert_str_eq(reply, "abcd567");
	cr_assert_eq(stats().oversized, 1);
}

Test(request, bad_arguments_are_refused)
{
	struct fq_request_config config = {.queue = queue, .slots = 16, .id_bits = 6};
	struct fq_request req = {.room = 1};
	uint64_t id;

	open_table(4, 16);
	cr_assert_eq(fq_request_table_create(NULL, &config), -EINVAL);
	cr_assert_eq(fq_request_table_create(&table, NULL), -EINVAL);
	config.id_bits = 5;
	cr_assert_eq(fq_request_table_create(&table, &config), -EINVAL, "one bit of generation");
	config.id_bits = 65;
	cr_assert_eq(fq_request_table_create(&table, &config), -EINVAL);
	config.id_bits = 64;
	config.slots = 0;
	cr_assert_eq(fq_request_table_create(&table, &config), -EINVAL);
	config.slots = FQ_REQUEST_SLOTS_MAX + 1;
	cr_assert_eq(fq_request_table_create(&table, &config), -EINVAL);
	config = (struct fq_request_config){.slots = 1, .id_bits = 16};
	cr_assert_eq(fq_request_table_create(&table, &config), -EINVAL, "no queue");
	cr_assert_eq(fq_request_submit(table, NULL, &id), -EINVAL);
	cr_assert_eq(fq_request_submit(NULL, &req, &id), -EINVAL);
	cr_assert_eq(fq_request_submit(table, &req, &id), -EINVAL, "room without a buffer");
	cr_assert_eq(fq_request_complete(NULL, 1, 0, NULL, 0), -EINVAL);
	cr_assert_eq(fq_request_complete(table, 1, 0, NULL, 1), -EINVAL);
	cr_assert_eq(fq_request_wait(NULL, -1, NULL), -EINVAL);
	cr_assert_eq(fq_request_wait(&req, -1, NULL), -EINVAL, "not submitted");
	cr_assert_not(fq_request_cancel(NULL));
	cr_assert_not(fq_request_cancel(&req));
	cr_assert_eq(fq_request_table_destroy(NULL), 0);
}

Test(request, submitted_or_waited_for_twice_is_refused)
{
	struct fq_request req = {0};
	uint64_t id, other;

	open_table(4, 16);
	id = submit(&req);
	cr_assert_eq(fq_request_submit(table, &req, &other), -EBUSY);
	cr_assert_eq(fq_request_complete(table, id, 0, NULL, 0), 0);
	cr_assert_eq(fq_request_submit(table, &req, &other), -EBUSY, "not waited for");
	cr_assert_eq(wait_foreign(&req, -1), 0);
	cr_assert_eq(wait_foreign(&req, -1), -EINVAL);
}

Test(request, destroy_is_refused_while_one_is_pending_or_not_waited_for)
{
	struct fq_request req = {0};
	uint64_t id;

	open_table(4, 16);
	id = submit(&req);
	cr_assert_eq(fq_request_table_destroy(table), -EBUSY);
	cr_assert_eq(fq_queue_destroy(queue), -EBUSY, "the table may still push");
	cr_assert_eq(fq_request_complete(table, id, 0, NULL, 0), 0);
	cr_assert_eq(fq_request_table_destroy(table), -EBUSY);
	cr_assert_eq(wait_foreign(&req, -1), 0);
}

/* -- ids --------------------------------------------------------------------------------------- */

Test(request, duplicate_late_and_forged_replies_are_told_apart)
{
	struct fq_request req = {0};
	uint64_t id, other;

	open_table(4, 64);
	id = submit(&req);
	cr_assert_eq(fq_request_complete(table, id ^ 1, 0, NULL, 0), -ENOENT);
	cr_assert_eq(fq_request_complete(table, id + 4, 0, NULL, 0), -ENOENT, "a later life");
	cr_assert_eq(fq_request_complete(table, id | UINT64_C(1) << 63, 0, NULL, 0), -ENOENT);
	cr_assert_eq(fq_request_complete(table, 0, 0, NULL, 0), -ENOENT);
	cr_assert_eq(fq_request_complete(table, id, 0, NULL, 0), 0);
	cr_assert_eq(fq_request_complete(table, id, 0, NULL, 0), -ESTALE, "a duplicate");
	cr_assert_eq(wait_foreign(&req, -1), 0);
	other = submit(&req);
	cr_assert_eq(wait_foreign(&req, 0), -ETIMEDOUT);
	cr_assert_eq(fq_request_complete(table, other, 0, NULL, 0), -ESTALE, "late");
	cr_assert_eq(fq_request_complete(table, id, 0, NULL, 0), -ESTALE);
	cr_assert_eq(stats().refused_late, 3);
	cr_assert_eq(stats().refused_forged, 4);
	cr_assert_eq(stats().timed_out, 1);
}

/* Every id there is, against a table with a few pending: those are found, nothing else is. */
Test(request, forged_ids_for_all_slots_and_generations)
{
	enum {
		SLOTS = 12,
		BITS = 10
	};
	struct fq_request req[SLOTS] = {{0}};
	uint64_t id[SLOTS];
	unsigned found = 0;

	open_table(SLOTS, BITS);
	for (unsigned i = 0; i < SLOTS; i++)
		id[i] = submit(&req[i]);
	for (unsigned i = 0; i < SLOTS; i += 2)
		cr_assert_eq(fq_request_complete(table, id[i], 0, NULL, 0), 0);
	for (uint64_t guess = 0; guess < UINT64_C(1) << (BITS + 2); guess++) {
		bool pending = false;
		int err;

		for (unsigned i = 1; i < SLOTS; i += 2)
			pending |= guess == id[i];
		err = fq_request_complete(table, guess, 0, NULL, 0);
		cr_assert_eq(err == 0, pending, "id %llu", (unsigned long long)guess);
		found += pending;
	}
	cr_assert_eq(found, SLOTS / 2);
	cr_assert_eq(stats().refused_late, SLOTS / 2);
	for (unsigned i = 0; i < SLOTS; i++)
		cr_assert_eq(wait_foreign(&req[i], -1), 0);
}

/* Ids of few bits come round; none is 0, none is pending twice, and they repeat as late as they can. */
Test(request, narrow_ids_wrap)
{
	enum {
		SLOTS = 4,
		BITS = 5,
		ALL = 1 << BITS
	};
	struct fq_request req[SLOTS] = {{0}};
	unsigned last_seen[ALL] = {0};

	open_table(SLOTS, BITS);
	for (unsigned n = 1; n < 5 * ALL; n++) {
		struct fq_request *r = &req[n % SLOTS];
		uint64_t id = submit(r);

		cr_assert_lt(id, ALL);
		/* One less: id 0 is left out. */
		if (last_seen[id])
			cr_assert_geq(n - last_seen[id], ALL - SLOTS, "after %u",
				      n - last_seen[id]);
		last_seen[id] = n;
		cr_assert_eq(fq_request_complete(table, id, 0, NULL, 0), 0);
		cr_assert_eq(fq_request_complete(table, id, 0, NULL, 0), -ESTALE);
		cr_assert_eq(wait_foreign(r, -1), 0);
	}
}

/* The free slots are taken in turn also when one is never free. */
Test(request, a_slot_is_not_used_again_at_once)
{
	struct fq_request stays = {0}, req = {0};
	uint64_t id, before = 0;

	open_table(4, 16);
	(void)submit(&stays);
	for (unsigned n = 0; n < 20; n++) {
		id = submit(&req);
		cr_assert_neq(id & 3, before & 3);
		before = id;
		cr_assert_eq(fq_request_complete(table, id, 0, NULL, 0), 0);
		cr_assert_eq(wait_foreign(&req, -1), 0);
	}
	cr_assert(fq_request_cancel(&stays));
	cr_assert_eq(wait_foreign(&stays, -1), -ECANCELED);
}

Test(request, slots_exhausted_is_eagain_and_counted)
{
	struct fq_request req[3] = {{0}}, more = {0};
	uint64_t id = 0;

	open_table(3, 16);
	for (unsigned i = 0; i < 3; i++)
		id = submit(&req[i]);
	cr_assert_eq(fq_request_submit(table, &more, NULL), -EAGAIN);
	cr_assert_eq(fq_request_submit(table, &more, NULL), -EAGAIN);
	cr_assert_eq(stats().exhausted, 2);
	cr_assert_eq(fq_request_complete(table, id, 0, NULL, 0), 0);
	cr_assert_eq(fq_request_submit(table, &more, NULL), 0, "free before it is waited for");
	fq_request_fail_all(table, -EIO);
	for (unsigned i = 0; i < 3; i++)
		(void)wait_foreign(&req[i], -1);
	cr_assert_eq(wait_foreign(&more, -1), -EIO);
}

Test(request, as_many_slots_as_there_can_be)
{
	struct fq_request *req = calloc(FQ_REQUEST_SLOTS_MAX, sizeof(*req));
	struct fq_request more = {0};

	open_table(FQ_REQUEST_SLOTS_MAX, 64);
	for (unsigned i = 0; i < FQ_REQUEST_SLOTS_MAX; i++)
		(void)submit(&req[i]);
	cr_assert_eq(fq_request_submit(table, &more, NULL), -EAGAIN);
	cr_assert(fq_request_cancel(&req[4711]));
	(void)submit(&more);
	fq_request_fail_all(table, -EPIPE);
	for (unsigned i = 0; i < FQ_REQUEST_SLOTS_MAX; i++)
		cr_assert_eq(wait_foreign(&req[i], -1), i == 4711 ? -ECANCELED : -EPIPE);
	cr_assert_eq(wait_foreign(&more, -1), -EPIPE);
	free(req);
}

/* -- loss, cancel ------------------------------------------------------------------------------ */

Test(request, loss_ends_all_and_refuses_until_reopened)
{
	struct fq_request req[3] = {{0}};
	uint64_t id[3];

	open_table(3, 16);
	for (unsigned i = 0; i < 3; i++)
		id[i] = submit(&req[i]);
	fq_request_fail_all(table, -ECONNRESET);
	for (unsigned i = 0; i < 3; i++) {
		cr_assert_eq(fq_request_complete(table, id[i], 0, NULL, 0), -ESTALE);
		cr_assert_eq(wait_foreign(&req[i], -1), -ECONNRESET);
	}
	cr_assert_eq(fq_request_submit(table, &req[0], NULL), -ENOTCONN);
	fq_request_fail_all(table, -EIO);
	cr_assert_eq(fq_request_submit(table, &req[0], NULL), -ENOTCONN);
	fq_request_table_reopen(table);
	for (unsigned i = 0; i < 3; i++)
		cr_assert_neq(submit(&req[i]), id[i], "generations go on");
	cr_assert_eq(stats().lost, 3);
	cr_assert_eq(stats().submitted, 6, "refused ones do not count");
	fq_request_fail_all(table, -EIO);
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(wait_foreign(&req[i], -1), -EIO);
}

struct foreign_wait {
	pthread_t thread;
	struct fq_request req;
	int64_t timeout_ns;
	int status;
};

static void *wait_in_thread(void *arg)
{
	struct foreign_wait *w = arg;

	w->status = fq_request_wait(&w->req, w->timeout_ns, NULL);
	return NULL;
}

static void start_wait(struct foreign_wait *w, int64_t timeout_ns)
{
	w->timeout_ns = timeout_ns;
	cr_assert_eq(pthread_create(&w->thread, NULL, wait_in_thread, w), 0);
}

Test(request, sleepers_are_woken_by_reply_cancel_and_loss)
{
	struct foreign_wait w[3] = {{.status = 1}, {.status = 1}, {.status = 1}};
	uint64_t id;

	open_table(3, 16);
	id = submit(&w[0].req);
	(void)submit(&w[1].req);
	(void)submit(&w[2].req);
	for (unsigned i = 0; i < 3; i++)
		start_wait(&w[i], -1);
	usleep(2000);
	cr_assert_eq(fq_request_complete(table, id, 7, NULL, 0), 0);
	cr_assert(fq_request_cancel(&w[1].req));
	fq_request_fail_all(table, -EPIPE);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(w[i].thread, NULL);
	cr_assert_eq(w[0].status, 7);
	cr_assert_eq(w[1].status, -ECANCELED);
	cr_assert_eq(w[2].status, -EPIPE);
}
