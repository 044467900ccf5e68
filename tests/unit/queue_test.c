/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fenceq/fenceq.h>

#include "host.h"
#include "unit.h"

#define ITEMS 1000u

struct item {
	struct fq_node node; /* first: a node is its item */
	struct fq_queue *q;
	unsigned id;
	unsigned again; /* times it pushes itself when it runs */
	unsigned inner; /* budget of the drain that it makes, 0: none */
};

static unsigned order[2 * ITEMS], ran, inner_ran;

static void run_item(struct fq_node *node)
{
	struct item *item = (struct item *)node;

	cr_assert_lt(ran, 2 * ITEMS);
	order[ran++] = item->id;
	if (item->again) {
		item->again--;
		fq_queue_push(item->q, node);
	}
	if (item->inner)
		inner_ran += fq_queue_drain(item->q, item->inner);
}

static struct fq_queue *open_queue(unsigned flags)
{
	struct fq_queue *q = NULL;

	ran = inner_ran = 0;
	cr_assert_eq(fq_queue_create(&q, flags), 0);
	return q;
}

static void set_items(struct fq_queue *q, struct item *item, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		item[i] = (struct item){.node.run = run_item, .q = q, .id = i};
}

static void push_items(struct fq_queue *q, struct item *item, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		fq_queue_push(q, &item[i].node);
}

static void expect_in_order(unsigned count)
{
	cr_assert_eq(ran, count, "ran: %u, not %u", ran, count);
	for (unsigned i = 0; i < count; i++)
		cr_assert_eq(order[i], i, "%u at place %u", order[i], i);
}

static void close_queue(struct fq_queue *q)
{
	cr_assert_eq(fq_queue_destroy(q), 0);
}

Test(queue, bad_arguments)
{
	struct fq_queue *q = NULL;

	cr_assert_eq(fq_queue_create(NULL, 0), -EINVAL);
	cr_assert_eq(fq_queue_create(&q, 8), -EINVAL);
	cr_assert_eq(fq_queue_create(&q, ~0u), -EINVAL);
	cr_assert_null(q);
	cr_assert_eq(fq_queue_destroy(NULL), 0);
	q = open_queue(0);
	fq_queue_push_batch(q, NULL);
	cr_assert_not(readable(q));
	cr_assert_eq(queue_stats(q).notifier_writes, 0);
	close_queue(q);
}

Test(queue, no_descriptors_left)
{
	struct fq_queue *q = NULL;
	struct rlimit limit, none;
	int err, fd = dup(STDERR_FILENO);

	close(fd);
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = (rlim_t)fd;
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	err = fq_queue_create(&q, 0);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	cr_assert_eq(err, -EMFILE);
	cr_assert_null(q);
	close_queue(open_queue(0));
}

static void fifo(unsigned flags)
{
	struct fq_queue *q = open_queue(flags);
	struct item item[100];

	set_items(q, item, 100);
	push_items(q, item, 100);
	cr_assert(fq_queue_pending(q));
	cr_assert_eq(readable(q), !(flags & FQ_QUEUE_HOOKS));
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 100);
	expect_in_order(100);
	cr_assert_not(fq_queue_pending(q));
	cr_assert_not(readable(q));
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 0);
	close_queue(q);
}

Test(queue, fifo)
{
	fifo(0);
	fifo(FQ_QUEUE_PIPE);
	fifo(FQ_QUEUE_HOOKS);
	fifo(FQ_QUEUE_HOOKS | FQ_QUEUE_PIPE);
}

#define POSTERS 4u

static unsigned next_of[POSTERS];

static void run_of_poster(struct fq_node *node)
{
	struct item *item = (struct item *)node;

	cr_assert_eq(item->id, next_of[item->again], "out of order");
	next_of[item->again]++;
	ran++;
}

static void *push_all(void *arg)
{
	struct item *item = arg;

	push_items(item->q, item, ITEMS);
	return NULL;
}

Test(queue, fifo_per_poster, .timeout = 60)
{
	static struct item item[POSTERS][ITEMS];
	struct fq_queue *q = open_queue(0);
	pthread_t thread[POSTERS];

	for (unsigned p = 0; p < POSTERS; p++) {
		set_items(q, item[p], ITEMS);
		next_of[p] = 0;
		for (unsigned i = 0; i < ITEMS; i++) {
			item[p][i].node.run = run_of_poster;
			item[p][i].again = p;
		}
		cr_assert_eq(pthread_create(&thread[p], NULL, push_all, item[p]), 0);
	}
	while (ran < POSTERS * ITEMS) {
		cr_assert_eq(fq_queue_wait(q, -1), 1);
		(void)fq_queue_drain(q, 17);
	}
	for (unsigned p = 0; p < POSTERS; p++)
		pthread_join(thread[p], NULL);
	cr_assert_eq(ran, POSTERS * ITEMS);
	close_queue(q);
}

Test(queue, batch_keeps_its_order)
{
	struct fq_queue *q = open_queue(0);
	struct item item[8];

	set_items(q, item, 8);
	fq_queue_push(q, &item[0].node);
	for (unsigned i = 1; i < 6; i++)
		item[i].node.next = &item[i + 1].node;
	fq_queue_push_batch(q, &item[1].node);
	fq_queue_push(q, &item[7].node);
	cr_assert_eq(queue_stats(q).notifier_writes, 1);
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 8);
	expect_in_order(8);
	item[3].node.next = NULL;
	fq_queue_push_batch(q, &item[3].node); /* a chain of one */
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 1);
	close_queue(q);
}

Test(queue, batch_wakes_once)
{
	struct fq_queue *q = open_queue(0);
	struct item item[100];

	set_items(q, item, 100);
	for (unsigned i = 0; i < 99; i++)
		item[i].node.next = &item[i + 1].node;
	fq_queue_push_batch(q, &item[0].node);
	cr_assert(readable(q));
	cr_assert_eq(queue_stats(q).notifier_writes, 1);
	cr_assert_eq(fq_queue_drain(q, 60), 60);
	cr_assert_eq(fq_queue_drain(q, 60), 40);
	expect_in_order(100);
	close_queue(q);
}

/* Invariant 10. */
static void budget(unsigned flags)
{
	struct fq_queue *q = open_queue(flags);
	struct item item[10];

	set_items(q, item, 10);
	push_items(q, item, 10);
	cr_assert_eq(fq_queue_drain(q, 0), 0);
	cr_assert(readable(q), "a budget of 0 leaves all");
	for (unsigned left = 10; left > 3; left -= 3) {
		cr_assert_eq(fq_queue_drain(q, 3), 3);
		cr_assert(readable(q), "forgot what its budget left behind");
		cr_assert(fq_queue_pending(q));
	}
	cr_assert_eq(fq_queue_drain(q, 3), 1);
	cr_assert_not(readable(q));
	expect_in_order(10);
	cr_assert_eq(queue_stats(q).budget_stops, 4);
	push_items(q, item, 5);
	cr_assert_eq(fq_queue_drain(q, 5), 5); /* to the last one */
	cr_assert_not(readable(q));
	cr_assert_eq(queue_stats(q).budget_stops, 4);
	close_queue(q);
}

Test(queue, budget_leaves_the_fd_readable)
{
	budget(0);
	budget(FQ_QUEUE_PIPE);
}

/* The inner drain goes on where the outer one stands (trap 7). */
static void nested(unsigned at, unsigned inner, unsigned inner_expected)
{
	struct fq_queue *q = open_queue(0);
	struct item item[8];
	unsigned outer;

	set_items(q, item, 8);
	item[at].inner = inner;
	push_items(q, item, 8);
	outer = fq_queue_drain(q, FQ_NO_BUDGET);
	expect_in_order(8);
	cr_assert_eq(inner_ran, inner_expected);
	cr_assert_eq(outer + inner_ran, 8, "each counted once");
	cr_assert_not(fq_queue_pending(q));
	cr_assert_eq(queue_stats(q).completions, 8);
	push_items(q, &item[7], 1); /* and the queue is armed */
	cr_assert(readable(q));
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 1);
	close_queue(q);
}

Test(queue, nested_drain)
{
	nested(2, FQ_NO_BUDGET, 5);
	nested(0, FQ_NO_BUDGET, 7);
	nested(7, FQ_NO_BUDGET, 0);
	nested(2, 3, 3);
}

/* The outer drain's budget is its own, and an inner one that stops leaves the rest to it. */
Test(queue, nested_budgets)
{
	struct fq_queue *q = open_queue(0);
	struct item item[9];

	set_items(q, item, 9);
	item[1].inner = 4;
	push_items(q, item, 9);
	cr_assert_eq(fq_queue_drain(q, 3), 3); /* 0, 1 (in it 2, 3, 4, 5), 6 */
	cr_assert_eq(inner_ran, 4);
	expect_in_order(7);
	cr_assert(readable(q));
	cr_assert_eq(fq_queue_drain(q, 3), 2);
	expect_in_order(9);
	cr_assert_not(readable(q));
	close_queue(q);
}

static void run_and_free(struct fq_node *node)
{
	memset(node, 0xa5, sizeof(struct item));
	free(node);
	ran++;
}

Test(queue, node_is_freed_by_its_handler)
{
	struct fq_queue *q = open_queue(0);

	for (unsigned i = 0; i < 50; i++) {
		struct item *item = malloc(sizeof(*item));

		cr_assert_not_null(item);
		*item = (struct item){.node.run = run_and_free};
		fq_queue_push(q, &item->node);
	}
	cr_assert_eq(fq_queue_drain(q, 20), 20);
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 30);
	cr_assert_eq(ran, 50);
	close_queue(q);
}

Test(queue, node_pushes_itself_again)
{
	struct fq_queue *q = open_queue(0);
	struct item item[2];

	set_items(q, item, 2);
	item[0].again = 9;
	push_items(q, item, 2);
	cr_assert_eq(fq_queue_drain(q, 4), 4); /* 0 1 0 0 */
	cr_assert_eq(order[1], 1, "kept the others waiting");
	cr_assert(readable(q));
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 7);
	cr_assert_eq(ran, 11);
	cr_assert_not(readable(q));
	close_queue(q);
}

/* With one poster, exactly one write for each arm that is posted to. */
static void one_write(unsigned flags)
{
	static struct item item[ITEMS];
	struct fq_queue *q = open_queue(flags);

	set_items(q, item, ITEMS);
	for (unsigned round = 1; round <= 20; round++) {
		push_items(q, item, ITEMS);
		cr_assert_eq(queue_stats(q).notifier_writes, round);
		cr_assert_eq(queue_stats(q).arms, round);
		ran = 0;
		cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), ITEMS);
		cr_assert_eq(queue_stats(q).notifier_clears, round);
		cr_assert_not(readable(q));
	}
	close_queue(q);
}

Test(queue, one_write_per_arm)
{
	one_write(0);
	one_write(FQ_QUEUE_PIPE);
}

/* A handler's own posts are found by the drain that runs it; nobody has to be woken. */
Test(queue, no_write_while_a_drain_runs)
{
	struct fq_queue *q = open_queue(0);
	struct item item;

	set_items(q, &item, 1);
	item.again = 100;
	fq_queue_push(q, &item.node);
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 101);
	cr_assert_eq(queue_stats(q).notifier_writes, 1);
	cr_assert_not(readable(q));
	close_queue(q);
}

Test(queue, poll_leaves_the_fd_alone)
{
	struct fq_queue *q = open_queue(0);
	struct item item[3];

	set_items(q, item, 3);
	cr_assert_eq(fq_queue_poll(q, FQ_NO_BUDGET), 0);
	push_items(q, item, 3);
	cr_assert(readable(q));
	cr_assert_eq(fq_queue_poll(q, 2), 2);
	cr_assert(readable(q));
	cr_assert_eq(fq_queue_poll(q, 2), 1);
	expect_in_order(3);
	cr_assert(readable(q), "poll read the fd");
	cr_assert_eq(queue_stats(q).notifier_clears, 0);
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 0);
	cr_assert_not(readable(q));
	/* Whoever sleeps on the fd relies on an armed queue (trap 16). */
	push_items(q, item, 1);
	cr_assert_eq(fq_queue_poll(q, FQ_NO_BUDGET), 1);
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 0);
	push_items(q, item, 1);
	cr_assert(readable(q));
	cr_assert_eq(fq_queue_drain(q, FQ_NO_BUDGET), 1);
	close_queue(q);
}

Test(queue, stats)
{
	struct fq_queue *q = open_queue(0);
	struct fq_queue_stats s;
	struct item item[5];

	set_items(q, item, 5);
	push_items(q, item, 5);
	(void)fq_queue_drain(q, 3);
	(void)fq_queue_poll(q, 10);
	(void)fq_queue_drain(q, 10);
	(void)fq_queue_poll(q, 10);
	s = queue_stats(q);
	cr_assert_eq(s.completions, 5);
	cr_assert_eq(s.drains, 4);
	cr_assert_eq(s.empty_drains, 2);
	cr_assert_eq(s.budget_stops, 1);
	cr_assert_eq(s.notifier_writes, 1); /* the poster's serves the leftovers, too */
	cr_assert_eq(s.notifier_clears, 1);
	close_queue(q);
}

static int destroyed_inside;

static void destroy_inside(struct fq_node *node)
{
	destroyed_inside = fq_queue_destroy(((struct item *)node)->q);
}

Test(queue, destroy_when_busy)
{
	struct fq_queue *q = open_queue(0);
	static struct host host;
	struct item item[2];

	set_items(q, item, 2);
	push_items(q, item, 2);
	cr_assert_eq(fq_queue_destroy(q), -EBUSY); /* posted */
	cr_assert_eq(fq_queue_drain(q, 1), 1);
	cr_assert_eq(fq_queue_destroy(q), -EBUSY); /* left behind */
	cr_assert_eq(fq_queue_drain(q, 1), 1);
	expect_in_order(2); /* nothing was done to it */
	item[0].node.run = destroy_inside;
	fq_queue_push(q, &item[0].node);
	cr_assert_eq(fq_queue_drain(q, 1), 1);
	cr_assert_eq(destroyed_inside, -EBUSY);
	host_attach(&host, q, 0);
	cr_assert_eq(fq_queue_destroy(q), -EBUSY);
	host_close(&host);
}
