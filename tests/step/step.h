/* SPDX-License-Identifier: MIT */
#ifndef FQ_STEP_H
#define FQ_STEP_H

/*
 * A thread that runs one function and stops for good before its n-th atomic operation (or write to
 * the fd), until it is told to go on. The library under test is the build with stepping points.
 */

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#define STEP_CHECK(condition, ...)                                                      \
	do {                                                                            \
		if (!(condition)) {                                                     \
			fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
			fprintf(stderr, __VA_ARGS__);                                   \
			fputc('\n', stderr);                                            \
			exit(1);                                                        \
		}                                                                       \
	} while (0)

struct stopper {
	pthread_t thread;
	void (*run)(void *);
	void *arg;
	unsigned stop_at; /* operations before the stop */
	bool stopped;     /* valid after stopper_start() */
	sem_t reached;    /* stopped or finished */
	sem_t go_on;
};

static __thread struct stopper *step_self;
static __thread unsigned step_done;

static inline void step_hook(void)
{
	struct stopper *s = step_self;

	if (!s || step_done++ != s->stop_at)
		return;
	s->stopped = true;
	sem_post(&s->reached);
	while (sem_wait(&s->go_on))
		;
}

static void *stopper_main(void *arg)
{
	struct stopper *s = arg;

	step_self = s;
	step_done = 0;
	s->run(s->arg);
	step_self = NULL;
	if (!s->stopped)
		sem_post(&s->reached);
	return NULL;
}

/* Returns when the thread has stopped (true) or finished before it came that far (false). */
static inline bool stopper_start(struct stopper *s, void (*run)(void *), void *arg,
				 unsigned stop_at)
{
	*s = (struct stopper){.run = run, .arg = arg, .stop_at = stop_at};
	sem_init(&s->reached, 0, 0);
	sem_init(&s->go_on, 0, 0);
	STEP_CHECK(!pthread_create(&s->thread, NULL, stopper_main, s), "thread");
	while (sem_wait(&s->reached))
		;
	return s->stopped;
}

static inline void stopper_finish(struct stopper *s)
{
	sem_post(&s->go_on);
	pthread_join(s->thread, NULL);
	sem_destroy(&s->reached);
	sem_destroy(&s->go_on);
}

#endif /* FQ_STEP_H */
