/* SPDX-License-Identifier: MIT */
/*
 * A disk whose reads block: workers do them, and the owner, who must never block, is told in its own
 * loop. Some reads are cancelled; the pool is ended while there is work in flight, and the owner goes
 * on with its loop until the pool says that it is gone.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <fenceq/fenceq.h>

#define READS 200u
#define BLOCK 512u

struct read_request {
	struct fq_work work; /* first: the work is the request */
	unsigned block;
	unsigned char data[BLOCK];
};

static struct fq_pool *pool;
static struct read_request request[READS];
static unsigned good, bad, cancelled;
static bool ended;

/* On a worker. */
static int read_block(struct fq_work *work)
{
	struct read_request *r = (struct read_request *)work;
	const struct timespec seek = {.tv_nsec = 200000};

	nanosleep(&seek, NULL);
	memset(r->data, (int)(r->block & 0xff), sizeof(r->data));
	return (int)sizeof(r->data);
}

/* On the owner. From here on the request is ours again. */
static void block_was_read(struct fq_work *work, int status)
{
	struct read_request *r = (struct read_request *)work;

	if (status == -ECANCELED)
		cancelled++;
	else if (status == (int)BLOCK && r->data[BLOCK - 1] == (r->block & 0xff))
		good++;
	else
		bad++;
}

static void pool_is_gone(struct fq_node *node)
{
	(void)node;
	ended = true;
}

static void turn(struct fq_queue *queue)
{
	(void)fq_queue_wait(queue, -1);
	(void)fq_queue_drain(queue, FQ_NO_BUDGET);
}

int main(void)
{
	const struct fq_pool_config config = {.min_workers = 1, .max_workers = 8, .name = "disk"};
	struct fq_node end = {.run = pool_is_gone};
	struct fq_pool_stats stats;
	struct fq_queue *queue;
	unsigned asked = 0;
	int err;

	if (fq_queue_create(&queue, FQ_QUEUE_HOOKS) || fq_pool_create(&pool, &config))
		return 1;
	for (unsigned i = 0; i < READS; i++) {
		request[i].block = i;
		request[i].work =
			(struct fq_work){.run = read_block, .done = block_was_read, .queue = queue};
		if (fq_pool_submit(pool, &request[i].work))
			return 1;
	}
	/* The guest thinks better of every other of the last. */
	for (unsigned i = READS / 2; i < READS; i += 2)
		asked += !fq_pool_cancel(pool, &request[i].work);
	while (good < READS / 4)
		turn(queue);
	fq_pool_get_stats(pool, &stats);
	if (fq_pool_end(pool, queue, &end))
		return 1;
	while (!ended)
		turn(queue);

	printf("%s: %u read, %u cancelled (%u one by one), by up to %u workers\n",
	       !bad && good + cancelled == READS && cancelled >= asked ? "ok" : "FAILED", good,
	       cancelled, asked, (unsigned)stats.peak);
	/* The steward's thread may still be on its way out of its last push. */
	while ((err = fq_queue_destroy(queue)) == -EBUSY)
		;
	return err || bad || good + cancelled != READS || cancelled < asked;
}
