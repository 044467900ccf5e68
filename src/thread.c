/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "handle.h"

/* For the field that tells whether the host has registered the thread. */
#include <urcu/static/urcu-memb.h>

__thread struct fq_self fq_self;

static fq_a64 threads_seen;

uint32_t fq_choose_shard(void)
{
	uint64_t n = fq_add_acqrel(&threads_seen, 1);

	fq_self.shard = (uint32_t)(n % FQ_SHARDS) + 1;
	return fq_self.shard;
}

int fq_thread_register(void)
{
	if (fq_self.registrations == INT32_MAX)
		return -EOVERFLOW;
	if (!fq_self.registrations) {
		fq_self.ours = !URCU_TLS(urcu_memb_reader).registered;
		if (fq_self.ours)
			urcu_memb_register_thread();
	}
	fq_self.registrations++;
	return 0;
}

int fq_thread_unregister(void)
{
	if (!fq_self.registrations)
		return -EPERM;
	if (!--fq_self.registrations && fq_self.ours)
		urcu_memb_unregister_thread();
	return 0;
}

bool fq_thread_registered(void)
{
	return fq_self.registrations;
}
