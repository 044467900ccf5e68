/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "pool_internal.h"

#define NAME_MAX_BYTES 15

/*
 * A thread starts with its creator's mask. What a thread does to itself must find the host's handler,
 * if there is one: blocked, the kernel would kill the process.
 */
static void block_signals(sigset_t *old)
{
	static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
	sigset_t all;

	sigfillset(&all);
	for (size_t i = 0; i < sizeof(own) / sizeof(*own); i++)
		sigdelset(&all, own[i]);
	pthread_sigmask(SIG_SETMASK, &all, old);
}

int fq_pool_thread_start(pthread_t *out, size_t stack_size, void *(*run)(void *), void *arg)
{
	pthread_attr_t attr;
	sigset_t old;
	int err = pthread_attr_init(&attr);

	if (err)
		return -err;
	if (stack_size)
		err = pthread_attr_setstacksize(&attr, stack_size);
	if (!err) {
		block_signals(&old);
		err = pthread_create(out, &attr, run, arg);
		pthread_sigmask(SIG_SETMASK, &old, NULL);
	}
	pthread_attr_destroy(&attr);
	return -err;
}

#ifdef __linux__

void fq_pool_thread_name(const char *name, int index)
{
	char whole[NAME_MAX_BYTES + 1], number[12] = "";
	int length = index < 0 ? 0 : snprintf(number, sizeof(number), "-%d", index);

	snprintf(whole, sizeof(whole), "%.*s%s", NAME_MAX_BYTES - length, name, number);
	(void)pthread_setname_np(pthread_self(), whole);
}

int fq_pool_thread_bind(const uint32_t *cpus, unsigned count)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	for (unsigned i = 0; i < count; i++) {
		if (cpus[i] >= CPU_SETSIZE)
			return -EINVAL;
		CPU_SET(cpus[i], &set);
	}
	return sched_setaffinity(0, sizeof(set), &set) ? -errno : 0;
}

#else

void fq_pool_thread_name(const char *name, int index)
{
	(void)name;
	(void)index;
}

int fq_pool_thread_bind(const uint32_t *cpus, unsigned count)
{
	(void)cpus;
	(void)count;
	return -ENOSYS;
}

#endif
