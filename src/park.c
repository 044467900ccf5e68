/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <limits.h>
#include <unistd.h>

#include "park.h"

#ifndef FQ_PARK_MUTEX

#include <linux/futex.h>
#include <sys/syscall.h>

/* 32-bit platforms whose time_t has 64 bits want the call that says so. */
#ifdef SYS_futex
#define FUTEX_CALL SYS_futex
#else
#define FUTEX_CALL SYS_futex_time64
#endif

static const uint32_t *lower_half(const fq_a64 *word)
{
	return (const uint32_t *)(const void *)word + (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__);
}

int fq_park_wait(const fq_a64 *word, uint32_t seen, int64_t until_ns)
{
	/* The kernel's structure, not the C library's, which may have a wider time_t. */
	struct {
		long sec;
		long nsec;
	} until = {(long)(until_ns / 1000000000), (long)(until_ns % 1000000000)};
	int saved = errno;
	long got;

	FQ_STEP();
	got = syscall(FUTEX_CALL, lower_half(word), FUTEX_WAIT_BITSET_PRIVATE, seen,
		      until_ns == INT64_MAX ? NULL : &until, NULL, FUTEX_BITSET_MATCH_ANY);
	if (got < 0)
		got = errno == ETIMEDOUT ? -ETIMEDOUT : 0;
	errno = saved;
	return (int)got;
}

static void wake(const fq_a64 *word, int count)
{
	int saved = errno;

	FQ_STEP();
	(void)syscall(FUTEX_CALL, lower_half(word), FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
	errno = saved;
}

void fq_park_wake(const fq_a64 *word)
{
	wake(word, INT_MAX);
}

void fq_park_wake_one(const fq_a64 *word)
{
	wake(word, 1);
}

void fq_park_after_fork_child(void)
{
}

#else

#include <pthread.h>

#define PLACES 64u

struct place {
	pthread_mutex_t lock;
	pthread_cond_t changed;
};

#define PLACE                                                                           \
	{                                                                               \
		.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, \
	}
#define PLACES_8 PLACE, PLACE, PLACE, PLACE, PLACE, PLACE, PLACE, PLACE

static struct place places[PLACES] = {PLACES_8, PLACES_8, PLACES_8, PLACES_8,
				      PLACES_8, PLACES_8, PLACES_8, PLACES_8};

static struct place *place_of(const fq_a64 *word)
{
	return &places[((uintptr_t)word >> 3) * 0x9e3779b1u % PLACES];
}

/* A condition that is set up statically goes by CLOCK_REALTIME; a step of it only wakes early or late. */
static int sleep_in(struct place *p, int64_t until_ns)
{
	int64_t left = fq_left(until_ns), end;
	struct timespec ts;

	if (left < 0)
		return pthread_cond_wait(&p->changed, &p->lock);
	clock_gettime(CLOCK_REALTIME, &ts);
	end = ts.tv_nsec + left % 1000000000;
	ts.tv_sec += (time_t)(left / 1000000000 + end / 1000000000);
	ts.tv_nsec = (long)(end % 1000000000);
	return pthread_cond_timedwait(&p->changed, &p->lock, &ts);
}

int fq_park_wait(const fq_a64 *word, uint32_t seen, int64_t until_ns)
{
	struct place *p = place_of(word);
	int cancel, saved = errno, got = 0;

	FQ_STEP();
	/* Cancelled in there, a thread would leave with the mutex held. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	pthread_mutex_lock(&p->lock);
	if ((uint32_t)fq_load_acq(word) == seen)
		got = sleep_in(p, until_ns);
	pthread_mutex_unlock(&p->lock);
	pthread_setcancelstate(cancel, NULL);
	errno = saved;
	return got == ETIMEDOUT && !fq_left(until_ns) ? -ETIMEDOUT : 0;
}

void fq_park_wake(const fq_a64 *word)
{
	struct place *p = place_of(word);
	int saved = errno;

	FQ_STEP();
	pthread_mutex_lock(&p->lock);
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
	errno = saved;
}

/* Those of other words may sleep in the same place. */
void fq_park_wake_one(const fq_a64 *word)
{
	fq_park_wake(word);
}

/* Others may have held them, who are not here. */
void fq_park_after_fork_child(void)
{
	static const struct place fresh = PLACE;

	for (unsigned i = 0; i < PLACES; i++)
		places[i] = fresh;
}

#endif
