/* SPDX-License-Identifier: MIT */
#include "biglock.h"

#include <pthread.h>

#include "machine.h"
#include "watchdog.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(struct actor *) holder;

void biglock_lock(const char *why)
{
	actor_does(ACTOR_WANTS_LOCK, why);
	pthread_mutex_lock(&lock);
	atomic_store(&holder, actor_self());
	actor_does(ACTOR_RUNS, NULL);
}

void biglock_unlock(void)
{
	biglock_assert();
	atomic_store(&holder, NULL);
	pthread_mutex_unlock(&lock);
}

struct actor *biglock_holder(void)
{
	return atomic_load(&holder);
}

void biglock_assert(void)
{
	if (biglock_holder() != actor_self())
		die("device state was touched without the big lock");
}
