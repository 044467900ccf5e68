/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "vring_host.h"

/* Creating. */

static void expect_create(const struct fq_vring_config *config, int expected)
{
	struct fq_vring *vr = ring.vr;

	cr_assert_eq(fq_vring_create(&vr, config), expected);
	cr_assert((vr != NULL) == (expected == 0));
	fq_vring_destroy(vr);
}

Test(vring, create_refuses_null, .init = plain, .fini = teardown)
{
	struct fq_vring_config config = ring.config;

	cr_assert_eq(fq_vring_create(NULL, &config), -EINVAL);
	expect_create(NULL, -EINVAL);
	config.mem = NULL;
	expect_create(&config, -EINVAL);
}

Test(vring, create_refuses_size, .init = plain, .fini = teardown)
{
	static const uint32_t bad[] = {0, 3, 6, 7, 255, 32767, 32769, 65536, UINT32_MAX, 1u << 31};
	struct fq_vring_config config = ring.config;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		config.size = bad[i];
		expect_create(&config, -EINVAL);
	}
	other_is_fine();
}

Test(vring, create_takes_every_power_of_two, .init = plain, .fini = teardown)
{
	struct fq_vring_config config = ring.config;

	config.driver = RING_GPA + 16 * FQ_VRING_SIZE_MAX;
	config.device = config.driver + 2 * FQ_VRING_SIZE_MAX + 8;
	for (config.size = 1; config.size <= FQ_VRING_SIZE_MAX; config.size *= 2)
		expect_create(&config, 0);
}

Test(vring, create_refuses_features_and_reserved_fields, .init = plain, .fini = teardown)
{
	struct fq_vring_config config = ring.config;

	config.features = FQ_VRING_BATCH << 1;
	expect_create(&config, -EINVAL);
	config.features = FQ_VRING_BATCH;
	expect_create(&config, -EINVAL);
	config.features = FQ_VRING_BATCH | FQ_VRING_IN_ORDER;
	expect_create(&config, 0);
	config.features = 1u << 31 | FQ_VRING_INDIRECT;
	expect_create(&config, -EINVAL);
	config.features = FQ_VRING_INDIRECT | FQ_VRING_EVENT_IDX;
	expect_create(&config, 0);
	config.max_chain = FQ_VRING_CHAIN_MAX + 1;
	expect_create(&config, -EINVAL);
	config.max_chain = FQ_VRING_CHAIN_MAX;
	expect_create(&config, 0);
	config.reserved[4] = 1;
	expect_create(&config, -EINVAL);
}

Test(vring, create_refuses_misaligned_addresses, .init = plain, .fini = teardown)
{
	struct fq_vring_config config = ring.config;

	config.desc += 8;
	expect_create(&config, -EINVAL);
	config = ring.config;
	config.driver += 1;
	expect_create(&config, -EINVAL);
	config = ring.config;
	config.device += 2;
	expect_create(&config, -EINVAL);
}

Test(vring, create_refuses_memory_misaligned_here, .init = plain, .fini = teardown)
{
	const struct fq_mem_region region = {0, DATA_BYTES - 1, data + 1};
	struct fq_mem *skewed;
	struct fq_vring_config config = {.size = 4, .driver = 256, .device = 512, .call_fd = -1};

	cr_assert_eq(fq_mem_create(&skewed, &region, 1), 0);
	config.mem = skewed;
	expect_create(&config, -EINVAL);
	fq_mem_destroy(skewed);
}

Test(vring, create_refuses_addresses_aligned_only_here, .init = plain, .fini = teardown)
{
	const struct fq_mem_region region = {8, DATA_BYTES, data};
	struct fq_mem *skewed;
	struct fq_vring_config config = {
		.size = 4, .desc = 8, .driver = 264, .device = 520, .call_fd = -1};

	cr_assert_eq(fq_mem_create(&skewed, &region, 1), 0);
	config.mem = skewed;
	expect_create(&config, -EINVAL);
	fq_mem_destroy(skewed);
}

/* Each part at the very end of a region, then one step too far. */
Test(vring, create_refuses_parts_out_of_bounds, .init = plain, .fini = teardown)
{
	struct fq_vring_config config = ring.config;

	config.desc = HOLE_GPA - 16 * 8;
	expect_create(&config, 0);
	config.desc += 16;
	expect_create(&config, -EFAULT);
	config.desc = UINT64_MAX - 15;
	expect_create(&config, -EFAULT);
	config = ring.config;
	config.driver = HOLE_GPA - (4 + 2 * 8);
	expect_create(&config, 0);
	config.driver += 2;
	expect_create(&config, -EFAULT);
	config = ring.config;
	config.device = HOLE_GPA - (4 + 8 * 8);
	expect_create(&config, 0);
	config.device += 4;
	expect_create(&config, -EFAULT);
	config.device = 0;
	expect_create(&config, -EFAULT);
	other_is_fine();
}

Test(vring, create_refuses_parts_that_cross_regions, .init = plain, .fini = teardown)
{
	struct fq_vring_config config = ring.config;

	config.desc = MORE_GPA - 16;
	expect_create(&config, -EFAULT);
}

Test(vring, create_counts_the_event_words, .init = plain, .fini = teardown)
{
	struct fq_vring_config config = ring.config;

	config.features = FQ_VRING_EVENT_IDX;
	config.driver = HOLE_GPA - (4 + 2 * 8);
	expect_create(&config, -EFAULT);
	config.driver -= 2;
	expect_create(&config, 0);
	config.device = HOLE_GPA - (4 + 8 * 8);
	expect_create(&config, -EFAULT);
	config.device -= 4;
	expect_create(&config, 0);
}

Test(vring, null_is_refused_everywhere, .init = plain, .fini = teardown)
{
	struct fq_vring_chain no_iov = {.iov_max = 1};
	struct fq_vring_stats s;

	memset(&s, 0xff, sizeof(s));
	cr_assert_eq(fq_vring_pop(NULL, &chain), -EINVAL);
	cr_assert_eq(fq_vring_pop(ring.vr, NULL), -EINVAL);
	cr_assert_eq(fq_vring_pop(ring.vr, &no_iov), -EINVAL);
	cr_assert_eq(fq_vring_put(NULL, (struct fq_vring_buf){0, 0}, 0), -EINVAL);
	cr_assert_eq(fq_vring_publish(NULL), -EINVAL);
	cr_assert_not(fq_vring_enable_kick(NULL));
	fq_vring_disable_kick(NULL);
	fq_vring_set_call(NULL, 0);
	cr_assert_eq(fq_vring_config_base(NULL, 0), -EINVAL);
	cr_assert_eq(fq_vring_base(NULL), 0);
	cr_assert_eq(fq_vring_avail_idx(NULL), 0);
	cr_assert_eq(fq_vring_used_idx(NULL), 0);
	cr_assert_eq(fq_vring_in_flight(NULL), 0);
	fq_vring_get_stats(ring.vr, NULL);
	fq_vring_get_stats(NULL, &s);
	cr_assert_eq(s.popped | s.errors | s.broken, 0);
	fq_vring_destroy(NULL);
}

/* Packed. */

static void packed(void)
{
	open_ring(7, FQ_VRING_PACKED, 0);
}

Test(vring, create_packed_takes_every_size, .init = packed, .fini = teardown)
{
	static const uint32_t sizes[] = {1, 2, 3, 5, 7, 100, 255, 257, 32767, 32768};
	struct fq_vring_config config = ring.config;

	config.driver = RING_GPA + 16 * FQ_VRING_SIZE_MAX;
	config.device = config.driver + 4;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		config.size = sizes[i];
		expect_create(&config, 0);
	}
	config.size = 0;
	expect_create(&config, -EINVAL);
	config.size = 32769;
	expect_create(&config, -EINVAL);
}

Test(vring, create_packed_refuses_misaligned_addresses, .init = packed, .fini = teardown)
{
	struct fq_vring_config config = ring.config;

	config.desc += 8;
	expect_create(&config, -EINVAL);
	config = ring.config;
	config.driver += 2;
	expect_create(&config, -EINVAL);
	config = ring.config;
	config.device += 2;
	expect_create(&config, -EINVAL);
}

Test(vring, create_packed_refuses_parts_out_of_bounds, .init = packed, .fini = teardown)
{
	struct fq_vring_config config = ring.config;

	config.desc = HOLE_GPA - 16 * 7;
	expect_create(&config, 0);
	config.desc += 16;
	expect_create(&config, -EFAULT);
	config = ring.config;
	config.driver = HOLE_GPA - 4;
	expect_create(&config, 0);
	config.driver = HOLE_GPA;
	expect_create(&config, -EFAULT);
	config = ring.config;
	config.device = HOLE_GPA - 4;
	expect_create(&config, 0);
	config.device = HOLE_GPA;
	expect_create(&config, -EFAULT);
	other_is_fine();
}

/* The last offset, in either lap; and never more than a ring's size of descriptors in flight. */
Test(vring, create_packed_refuses_impossible_bases, .init = packed, .fini = teardown)
{
	static const struct {
		uint16_t avail, used;
		int expected;
	} tries[] = {
		{0x8000, 0x8000, 0},       {0, 0, 0},           {6, 6, 0},
		{0x8007, 0x8007, -EINVAL}, {7, 7, -EINVAL},     {0x8000, 7, -EINVAL},
		{0x7fff, 0x8000, -EINVAL}, {3, 0x8003, 0},      {4, 0x8003, -EINVAL},
		{0x8003, 0x8004, -EINVAL}, {0x8002, 3, 0},      {0x8000, 0, 0},
		{1, 0x8000, -EINVAL},      {0x8004, 0x8003, 0}, {2, 0x8003, 0},
	};

	for (size_t i = 0; i < sizeof(tries) / sizeof(*tries); i++) {
		struct fq_vring_config config = ring.config;
		uint32_t base = tries[i].avail | (uint32_t)tries[i].used << 16;

		cr_assert_eq(fq_vring_config_base(&config, base), 0);
		cr_assert_eq(config.avail_idx, tries[i].avail);
		cr_assert_eq(config.used_idx, tries[i].used);
		expect_create(&config, tries[i].expected);
	}
}

Test(vring, base_of_a_new_packed_ring, .init = packed, .fini = teardown)
{
	cr_assert_eq(fq_vring_base(ring.vr), FQ_VRING_PACKED_BASE);
}

/* As vhost-user has it: the used index is not in the message, but in the ring. */
Test(vring, base_of_a_split_ring, .init = plain, .fini = teardown)
{
	struct fq_vring_config config = ring.config;

	for (int i = 0; i < 3; i++)
		round_trip(&ring);
	(void)offer(&ring);
	(void)pop(&ring);
	cr_assert_eq(fq_vring_base(ring.vr), 4);
	cr_assert_eq(fq_vring_config_base(&config, 4), 0);
	cr_assert_eq(config.avail_idx, 4);
	cr_assert_eq(config.used_idx, 3);
	config.device = HOLE_GPA;
	cr_assert_eq(fq_vring_config_base(&config, 4), -EFAULT);
	config.device = RING_GPA + 2;
	cr_assert_eq(fq_vring_config_base(&config, 4), -EINVAL);
}
