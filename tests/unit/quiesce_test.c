/* SPDX-License-Identifier: MIT */
/* Everything submitted until now has retired: when is that said, and when not. */
#define _GNU_SOURCE
#include <errno.h>

#include <fenceq/fenceq.h>

#include "host.h"
#include "unit.h"

#define CTX 7u
#define HOUR INT64_C(3600000000000)

static struct host host;
static struct fq_fence fence[32];
static struct fq_quiesce quiesce[3];
static unsigned order[8], count, flushes_at[3];
static int status[3];

static void done(struct fq_quiesce *z, int s)
{
	flushes_at[z - quiesce] = host.flushes;
	status[z - quiesce] = s;
	order[count++] = (unsigned)(z - quiesce);
}

static void setup(void)
{
	memset(fence, 0, sizeof(fence));
	memset(quiesce, 0, sizeof(quiesce));
	count = 0;
	for (unsigned i = 0; i < 3; i++) {
		quiesce[i].done = done;
		status[i] = 1;
	}
	host_open(&host, 0);
}

static void teardown(void)
{
	if (host.dev)
		host_close(&host);
}

TestSuite(quiesce, .init = setup, .fini = teardown);

static void begin(unsigned i, int64_t timeout_ns)
{
	cr_assert_eq(fq_device_quiesce(host.dev, &quiesce[i], timeout_ns), 0);
}

static void complete(const struct fq_fence *f, uint32_t ctx_id)
{
	cr_assert_eq(fq_signal(host.handle, ctx_id, 0, f->token), 0);
	(void)fq_queue_drain(host.q, FQ_NO_BUDGET);
}

Test(quiesce, at_once_when_nothing_is_pending)
{
	begin(0, -1);
	cr_assert_eq(count, 1);
	cr_assert_eq(status[0], 0);
}

Test(quiesce, waits_for_what_came_before_and_nothing_else)
{
	submit_all(&host, CTX, 0, fence, 2);
	submit_all(&host, CTX + 1, 0, fence + 2, 1);
	begin(0, HOUR);
	submit_all(&host, CTX + 2, 0, fence + 3, 1);
	complete(&fence[3], CTX + 2);
	complete(&fence[1], CTX);
	cr_assert_eq(count, 0);
	complete(&fence[2], CTX + 1);
	cr_assert_eq(count, 1);
	cr_assert_eq(status[0], 0);
	cr_assert_eq(flushes_at[0], host.flushes, "its responses have been published");
	cr_assert_eq(fq_queue_timeout(host.q), -1, "and its deadline is gone");
}

Test(quiesce, several_complete_in_order)
{
	submit_all(&host, CTX, 0, fence, 1);
	begin(0, -1);
	submit_all(&host, CTX + 1, 0, fence + 1, 1);
	begin(1, -1);
	begin(2, -1);
	complete(&fence[1], CTX + 1);
	cr_assert_eq(count, 0, "the first holds up the others, which cover it, too");
	complete(&fence[0], CTX);
	cr_assert_eq(count, 3);
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(order[i], i);
}

static uint64_t pending;

static bool see(const struct fq_pending *p, void *opaque)
{
	(void)opaque;
	cr_assert_eq(p->fence, &fence[1]);
	return true;
}

static void late(struct fq_quiesce *z, int s)
{
	done(z, s);
	pending = fq_device_walk(host.dev, see, NULL);
}

Test(quiesce, deadline_comes_first)
{
	submit_all(&host, CTX, 0, fence, 2);
	complete(&fence[0], CTX);
	quiesce[0].done = late;
	begin(0, 0);
	begin(1, -1);
	(void)fq_queue_drain(host.q, FQ_NO_BUDGET);
	cr_assert_eq(count, 1);
	cr_assert_eq(status[0], -ETIMEDOUT);
	cr_assert_eq(pending, 1, "it can say what is still pending");
	complete(&fence[1], CTX);
	cr_assert_eq(count, 2, "the one after it waits for what it left");
	cr_assert_eq(status[1], 0);
	begin(0, -1);
	cr_assert_eq(count, 3, "and the memory may be used again");
}

Test(quiesce, last_one_forgotten_leaves_it_to_the_next)
{
	submit_all(&host, CTX, 0, fence, 2);
	begin(0, -1);
	cr_assert(fq_quiesce_cancel(&quiesce[0]));
	cr_assert_not(fq_quiesce_cancel(&quiesce[0]));
	cr_assert_not(fq_quiesce_cancel(NULL));
	complete(&fence[0], CTX);
	cr_assert_eq(count, 0);
	begin(1, -1);
	cr_assert_eq(count, 0, "one is pending yet");
	complete(&fence[1], CTX);
	cr_assert_eq(count, 1);
	cr_assert_eq(order[0], 1);
}

Test(quiesce, freeze_holds_it_up_and_reset_completes_it)
{
	submit_all(&host, CTX, 0, fence, 2);
	begin(0, -1);
	cr_assert_eq(fq_device_freeze(host.dev), 0);
	complete(&fence[1], CTX);
	cr_assert_eq(count, 0);
	cr_assert_eq(fq_device_reset(host.dev), 0);
	cr_assert_eq(count, 1);
	cr_assert_eq(status[0], 0);
}

Test(quiesce, end_of_the_device_completes_it)
{
	submit_all(&host, CTX, 0, fence, 2);
	begin(0, HOUR);
	cr_assert_eq(fq_device_destroy(host.dev), 0);
	host.dev = NULL;
	cr_assert_eq(count, 1);
	cr_assert_eq(status[0], 0);
	cr_assert_eq(fq_queue_timeout(host.q), -1);
	cr_assert_eq(fq_queue_destroy(host.q), 0);
}

static void then_destroy(struct fq_quiesce *z, int s)
{
	done(z, s);
	cr_assert_eq(fq_device_destroy(host.dev), 0);
	host.dev = NULL;
}

Test(quiesce, and_then_destroy)
{
	quiesce[0].done = then_destroy;
	submit_all(&host, CTX, 0, fence, 3);
	begin(0, -1);
	begin(1, -1);
	submit_all(&host, CTX + 1, 0, fence + 3, 2);
	complete(&fence[2], CTX);
	cr_assert_eq(count, 2);
	cr_assert_eq(host.count, 5);
	cr_assert_eq(fq_queue_destroy(host.q), 0);
}

static void begin_another(struct fq_quiesce *z, int s)
{
	done(z, s);
	submit_all(&host, CTX, 0, fence + 8, 1);
	begin(1, -1);
}

Test(quiesce, callback_begins_another)
{
	quiesce[0].done = begin_another;
	submit_all(&host, CTX, 0, fence, 1);
	begin(0, -1);
	complete(&fence[0], CTX);
	cr_assert_eq(count, 1);
	complete(&fence[8], CTX);
	cr_assert_eq(count, 2);
}

Test(quiesce, bad_input)
{
	cr_assert_eq(fq_device_quiesce(NULL, &quiesce[0], -1), -EINVAL);
	cr_assert_eq(fq_device_quiesce(host.dev, NULL, -1), -EINVAL);
	quiesce[2].done = NULL;
	cr_assert_eq(fq_device_quiesce(host.dev, &quiesce[2], -1), -EINVAL);
	submit_all(&host, CTX, 0, fence, 1);
	begin(0, -1);
	cr_assert_eq(fq_device_quiesce(host.dev, &quiesce[0], -1), -EBUSY);
}
