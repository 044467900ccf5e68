/* SPDX-License-Identifier: MIT */
/*
 * A thread hands out work and waits for it with an event on its own stack, which may go the moment
 * the wait returns.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>

#include <fenceq/event.h>

struct question {
	struct fq_event answered;
	int number;
};

static void *answer(void *arg)
{
	struct question *q = (struct question *)arg;

	(void)fq_event_set(&q->answered, q->number * 2);
	/* The question may be gone. */
	return NULL;
}

static int ask(int number, pthread_t *thread)
{
	struct question q = {.answered = FQ_EVENT_INIT, .number = number};
	int status = -EIO;

	if (pthread_create(thread, NULL, answer, &q))
		return -EAGAIN;
	(void)fq_event_wait(&q.answered, -1, &status);
	return status;
}

int main(void)
{
	int sum = 0;

	for (int i = 0; i < 100; i++) {
		pthread_t thread;
		int doubled = ask(i, &thread);

		if (doubled < 0)
			return 1;
		sum += doubled;
		pthread_join(thread, NULL);
	}
	printf("%s: 100 answers add up to %d\n", sum == 9900 ? "ok" : "FAILED", sum);
	return sum != 9900;
}
