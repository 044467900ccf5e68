/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "debug.h"
#include "handle.h"
#include "park.h"

/* For the field that tells whether the host has registered the thread. */
#include <urcu/static/urcu-memb.h>

__thread struct fq_self fq_self;
bool fq_forked;

static fq_a64 threads_seen;

uint32_t fq_choose_shard(void)
{
	uint64_t n = fq_add_acqrel(&threads_seen, 1);

	fq_self.shard = (uint32_t)(n % FQ_SHARDS) + 1;
	return fq_self.shard;
}

/* A signal handler may post in between: it is counted until liburcu knows the thread. */
static void join(void)
{
	fq_self.ours = !URCU_TLS(urcu_memb_reader).registered;
	if (fq_self.ours)
		urcu_memb_register_thread();
	fq_self.rcu = true;
}

static void part(void)
{
	fq_self.rcu = false;
	if (fq_self.ours)
		urcu_memb_unregister_thread();
}

void *fq_thread_self(void)
{
	return &fq_self;
}

int fq_thread_register(void)
{
	if (fq_self.registrations == INT32_MAX)
		return -EOVERFLOW;
	if (!fq_self.registrations++ && !fq_forked)
		join();
	return 0;
}

int fq_thread_unregister(void)
{
	if (!fq_self.registrations)
		return -EPERM;
	if (!--fq_self.registrations && fq_self.rcu)
		part();
	return 0;
}

bool fq_thread_registered(void)
{
	return fq_self.registrations;
}

void fq_after_fork_child(void)
{
	/*
	 * The registry may hold threads that are not here: inside a read side for ever, or in stacks
	 * that new threads are given. So the thread that forked stays in it and does not look at it.
	 */
	fq_forked = true;
	fq_self.rcu = false;
	fq_handle_forget_readers();
	fq_park_after_fork_child();
	fq_debug_after_fork_child();
}
