/* SPDX-License-Identifier: MIT */
#ifndef FQ_REQUEST_HOST_H
#define FQ_REQUEST_HOST_H

/* A queue and a table, for tests of one file. */

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <fenceq/fenceq.h>

#include "../unit/unit.h"

#define FOR_EVER (-1) /* the tests have time-outs */
#define LONG (INT64_C(3600) * 1000000000)

static struct fq_queue *queue;
static struct fq_request_table *table;

static inline void open_table(uint32_t slots, uint32_t id_bits)
{
	const struct fq_request_config config = {
		.queue = queue, .slots = slots, .id_bits = id_bits};

	cr_assert_eq(fq_request_table_create(&table, &config), 0);
}

static inline void setup(void)
{
	cr_assert_eq(fq_queue_create(&queue, 0), 0);
	table = NULL;
}

static inline void teardown(void)
{
	cr_assert_eq(fq_request_table_destroy(table), 0);
	cr_assert_eq(fq_queue_destroy(queue), 0);
}

static inline struct fq_request_stats stats(void)
{
	struct fq_request_stats s;

	fq_request_get_stats(table, &s);
	return s;
}

static inline uint64_t submit(struct fq_request *req)
{
	uint64_t id = 0;

	cr_assert_eq(fq_request_submit(table, req, &id), 0);
	cr_assert_neq(id, 0);
	return id;
}

static inline bool never(void *opaque)
{
	(void)opaque;
	return false;
}

/* Makes the thread of the test a foreign one. */
static const struct fq_wait_hooks foreign = {.may_drain = never};

static inline int wait_foreign(struct fq_request *req, int64_t timeout_ns)
{
	return fq_request_wait(req, timeout_ns, &foreign);
}

#endif /* FQ_REQUEST_HOST_H */
