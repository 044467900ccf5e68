/* SPDX-License-Identifier: MIT */
/* The life of devices and their handles. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>

#include <fenceq/fenceq.h>

#include "host.h"
#include "unit.h"

#define CTX 7u
#define RING 3u
#define MOST_DEVICES 1024u

static struct host host, other;
static struct fq_fence fence[64];

static void setup(void)
{
	memset(fence, 0, sizeof(fence));
	host_open(&host, 0);
}

static void teardown(void)
{
	if (host.dev)
		host_close(&host);
}

TestSuite(device, .init = setup, .fini = teardown, .timeout = 120);

static unsigned drain(void)
{
	return fq_queue_drain(host.q, FQ_NO_BUDGET);
}

Test(device, bad_configuration)
{
	struct fq_device_config config = {.queue = host.q, .retire = host_retire};
	struct fq_device_config broken = config;
	struct fq_device *dev = NULL;

	cr_assert_eq(fq_device_create(NULL, &config), -EINVAL);
	cr_assert_eq(fq_device_create(&dev, NULL), -EINVAL);
	broken.queue = NULL;
	cr_assert_eq(fq_device_create(&dev, &broken), -EINVAL);
	broken = config;
	broken.retire = NULL;
	cr_assert_eq(fq_device_create(&dev, &broken), -EINVAL);
	for (unsigned i = 0; i < 7; i++) {
		broken = config;
		broken.reserved[i] = 1;
		cr_assert_eq(fq_device_create(&dev, &broken), -EINVAL);
	}
	cr_assert_null(dev);
	cr_assert_eq(fq_device_destroy(NULL), 0);
	cr_assert_eq(fq_device_create(&dev, &config), 0, "flush and opaque may be NULL");
	cr_assert_eq(fq_device_destroy(dev), 0);
}

Test(device, handle_is_never_0)
{
	cr_assert_neq(host.handle, 0);
	cr_assert_eq(fq_device_handle(host.dev), host.handle);
	cr_assert_eq((fq_handle_t)(uintptr_t)host.handle, host.handle, "fits a user_data");
}

Test(device, destroy_retires)
{
	struct fq_queue *q = host.q;

	submit_all(&host, CTX, RING, fence, 4);
	cr_assert_eq(fq_submit_global(host.dev, &fence[4]), 0);
	cr_assert_eq(fq_submit_global(host.dev, &fence[5]), 0);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[1].token), 0);
	cr_assert_eq(fq_signal_global(host.handle, fence[4].token), 0);
	cr_assert_eq(fq_device_destroy(host.dev), 0);
	host.dev = NULL;
	cr_assert_eq(host.count, 6);
	cr_assert_eq(host.flushes, 1);
	for (unsigned i = 0; i < 6; i++) {
		struct fq_fence *f = host.log[i].fence;
		const bool covered = f == &fence[0] || f == &fence[1] || f == &fence[4];

		cr_assert_eq(host.log[i].status, covered ? 0 : -ENODEV);
		for (unsigned j = 0; j < i; j++) {
			cr_assert_neq(host.log[j].fence, f, "twice");
			cr_assert(host.log[j].token < host.log[i].token || f >= &fence[4] ||
				  host.log[j].fence >= &fence[4]);
		}
	}
	(void)fq_queue_drain(q, FQ_NO_BUDGET); /* what was posted means nothing any more */
	cr_assert_eq(host.count, 6);
	cr_assert_eq(fq_queue_destroy(q), 0);
}

/* The part of a budget that is left for later is retired by destroy, too. */
Test(device, destroy_with_work_left_behind)
{
	submit_all(&host, CTX, RING, fence, 40);
	host_attach(&other, host.q, 0);
	cr_assert_eq(fq_submit(other.dev, CTX, RING, &fence[40]), 0);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[39].token), 0);
	cr_assert_eq(fq_signal(other.handle, CTX, RING, fence[40].token), 0);
	cr_assert_eq(fq_queue_drain(host.q, 1), 1);
	cr_assert_eq(fq_device_destroy(host.dev), 0);
	expect_retired(&host, 0, fence, 40, 0);
	host.dev = NULL;
	(void)drain();
	expect_retired(&other, 0, &fence[40], 1, 0);
	host_close(&other);
}

Test(device, slots_are_reused_handles_are_not)
{
	const uint64_t before = process_stats().refused_gone;
	static fq_handle_t stale[3 * MOST_DEVICES];
	fq_handle_t last = 0;

	for (unsigned i = 0; i < 3 * MOST_DEVICES; i++) {
		host_attach(&other, host.q, 1);
		stale[i] = other.handle;
		cr_assert_neq(other.handle, last);
		last = other.handle;
		if (i % 512 == 0) {
			for (unsigned j = 0; j < i; j++)
				cr_assert_eq(fq_signal_global(stale[j], 1), -ENODEV);
		}
		cr_assert_eq(fq_device_destroy(other.dev), 0);
	}
	cr_assert_eq(process_stats().refused_gone, before + 512 * (1 + 2 + 3 + 4 + 5));
}

Test(device, a_handle_of_the_reused_slot_is_refused)
{
	fq_handle_t stale;

	cr_assert_eq(fq_submit_global(host.dev, &fence[0]), 0);
	host_attach(&other, host.q, 1);
	stale = other.handle;
	do { /* until the slot comes round */
		cr_assert_eq(fq_device_destroy(other.dev), 0);
		host_attach(&other, host.q, 1);
	} while ((other.handle ^ stale) & (MOST_DEVICES - 1));
	cr_assert_eq(fq_submit_global(other.dev, &fence[1]), 0);
	cr_assert_eq(fq_signal_global(stale, fence[1].token), -ENODEV);
	(void)drain();
	cr_assert_eq(host.count + other.count, 0);
	cr_assert_eq(fq_signal_global(other.handle, fence[1].token), 0);
	cr_assert_eq(drain(), 1);
	cr_assert_eq(other.count, 1);
	cr_assert_eq(fq_device_destroy(other.dev), 0);
}

Test(device, too_many_at_once)
{
	const struct fq_device_config config = {
		.queue = host.q, .retire = host_retire, .opaque = &host};
	static struct fq_device *dev[MOST_DEVICES];
	unsigned count = 0;
	int err = 0;

	while (count < MOST_DEVICES && !(err = fq_device_create(&dev[count], &config)))
		count++;
	cr_assert_eq(count, MOST_DEVICES - 1, "one is there already");
	cr_assert_eq(err, -ENFILE);
	cr_assert_eq(fq_submit_global(dev[77], &fence[0]), 0);
	cr_assert_eq(fq_device_destroy(dev[500]), 0);
	cr_assert_eq(fq_device_create(&dev[500], &config), 0, "one was free again");
	cr_assert_eq(fq_device_create(&dev[count], &config), -ENFILE);
	cr_assert_eq(fq_signal_global(fq_device_handle(dev[77]), fence[0].token), 0);
	cr_assert_eq(drain(), 1, "the others go on");
	for (unsigned i = 0; i < count; i++)
		cr_assert_eq(fq_device_destroy(dev[i]), 0);
}

Test(device, two_on_one_queue)
{
	host_attach(&other, host.q, 0);
	for (unsigned i = 0; i < 8; i++)
		cr_assert_eq(fq_submit(i & 1 ? host.dev : other.dev, CTX, RING, &fence[i]), 0);
	cr_assert_eq(fence[6].token, fence[7].token, "the same key, the same token");
	cr_assert_eq(fq_signal(other.handle, CTX, RING, fence[6].token), 0);
	cr_assert_eq(drain(), 4);
	cr_assert_eq(host.count, 0);
	cr_assert_eq(other.count, 4);
	cr_assert_eq(host.flushes, 0, "not touched, not flushed");
	cr_assert_eq(other.flushes, 1);
	cr_assert_eq(fq_signal(host.handle, CTX, RING, fence[3].token), 0);
	cr_assert_eq(fq_device_destroy(other.dev), 0);
	cr_assert_eq(drain(), 2);
	cr_assert_eq(host.count, 2);
	cr_assert_eq(other.count, 4);
}

/* More devices than the queue has bits for: they share. */
Test(device, hundred_on_one_queue)
{
	static struct fq_fence one[100];
	struct host *many = calloc(100, sizeof(*many));

	cr_assert_not_null(many);
	memset(one, 0, sizeof(one));
	for (unsigned i = 0; i < 100; i++) {
		host_attach(&many[i], host.q, 0);
		submit_all(&many[i], CTX, RING, &one[i], 1);
	}
	for (unsigned i = 100; i-- > 0;) {
		cr_assert_eq(fq_signal(many[i].handle, CTX, RING, one[i].token), 0);
		if (i % 3 == 0)
			(void)drain();
	}
	for (unsigned i = 0; i < 100; i++) {
		expect_retired(&many[i], 0, &one[i], 1, 0);
		cr_assert_eq(many[i].flushes, 1);
	}
	/* Those that go leave the others on the same bit alone. */
	for (unsigned i = 0; i < 100; i += 2)
		cr_assert_eq(fq_device_destroy(many[i].dev), 0);
	for (unsigned i = 1; i < 100; i += 2) {
		submit_all(&many[i], CTX, RING, &one[i], 1);
		cr_assert_eq(fq_signal(many[i].handle, CTX, RING, one[i].token), 0);
	}
	cr_assert_eq(drain(), 50);
	for (unsigned i = 1; i < 100; i += 2)
		cr_assert_eq(fq_device_destroy(many[i].dev), 0);
	free(many);
}
