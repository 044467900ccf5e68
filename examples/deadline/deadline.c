/* SPDX-License-Identifier: MIT */
/*
 * A time-out for each command, in a loop that computes its own poll time-out.
 *
 * Commands go to a disk of two threads that answers most of them and forgets every tenth. Each
 * command carries a deadline: an answer cancels it, and what is forgotten is given up by it. The loop
 * asks the queue when the next one is due; nothing else wakes it for them.
 */
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>

#include <fenceq/fenceq.h>

#define COMMANDS 2000u
#define THREADS 2u
#define FORGOTTEN(i) ((i) % 10 == 9)
#define PATIENCE_NS INT64_C(50000000)

#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

struct command {
	struct fq_node answered; /* posted by the disk */
	struct fq_deadline deadline;
	bool done, given_up;
};

static struct command commands[COMMANDS];
static struct fq_queue *queue;
static unsigned answered, given_up, late;

static void on_answer(struct fq_node *node)
{
	struct command *command = CONTAINER_OF(node, struct command, answered);

	/* False: it has been given up already, and the guest has its error. */
	if (fq_deadline_cancel(&command->deadline)) {
		command->done = true;
		answered++;
	} else {
		late++;
	}
}

static void on_deadline(struct fq_deadline *deadline)
{
	CONTAINER_OF(deadline, struct command, deadline)->given_up = true;
	given_up++;
}

/* One thread of the disk takes every second command. */
static void *disk(void *first)
{
	for (unsigned i = (unsigned)(size_t)first; i < COMMANDS; i += THREADS) {
		if (!FORGOTTEN(i))
			fq_queue_push(queue, &commands[i].answered);
	}
	return NULL;
}

static int milliseconds(int64_t ns)
{
	return ns < 0 ? -1 : (int)(ns / 1000000 + (ns % 1000000 != 0));
}

static void loop(void)
{
	struct pollfd fd = {.fd = fq_queue_fd(queue), .events = POLLIN};

	while (answered + given_up < COMMANDS) {
		if (poll(&fd, 1, milliseconds(fq_queue_timeout(queue))) >= 0)
			fq_queue_drain(queue, 64);
	}
}

static bool good(void)
{
	for (unsigned i = 0; i < COMMANDS; i++) {
		/* A slow machine may give up one that would have been answered; never the reverse. */
		if (commands[i].done == commands[i].given_up ||
		    (FORGOTTEN(i) && !commands[i].given_up))
			return false;
	}
	return fq_queue_timeout(queue) == -1;
}

int main(void)
{
	pthread_t thread[THREADS];

	if (fq_queue_create(&queue, 0))
		return 1;
	for (unsigned i = 0; i < COMMANDS; i++) {
		commands[i].answered.run = on_answer;
		commands[i].deadline.run = on_deadline;
		if (fq_deadline_set(queue, &commands[i].deadline, PATIENCE_NS))
			return 1;
	}
	for (size_t i = 0; i < THREADS; i++) {
		if (pthread_create(&thread[i], NULL, disk, (void *)i))
			return 1;
	}
	loop();
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	fq_queue_drain(queue, FQ_NO_BUDGET); /* what came too late */
	printf("%u answered, %u given up, %u answered too late: %s\n", answered, given_up, late,
	       good() ? "ok" : "WRONG");
	return !good() || fq_queue_destroy(queue);
}
