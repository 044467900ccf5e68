/* SPDX-License-Identifier: MIT */
/*
 * A handler that posts, on threads that are themselves registering, posting and unregistering: at
 * whatever instruction it comes, the post counts, and errno is as it was. The owner destroys and
 * creates devices all the while, so a read side that the handler got wrong would show.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "threads.h"

#define THREADS 3u

static _Atomic fq_handle_t handle;
static atomic_ullong handled, refused, wrong;
static atomic_bool stop;

static void count(int err)
{
	if (err && err != -ENODEV && err != -ESTALE && err != -ENOENT)
		atomic_fetch_add(&wrong, 1);
	else if (err)
		atomic_fetch_add(&refused, 1);
}

static void post_in_handler(int sig)
{
	const int saved = errno;

	(void)sig;
	errno = EXDEV;
	count(fq_signal(atomic_load(&handle), 7, 3, 1));
	if (errno != EXDEV)
		atomic_fetch_add(&wrong, 1);
	errno = saved;
	atomic_fetch_add(&handled, 1);
}

static void *post(void *arg)
{
	(void)arg;
	while (!atomic_load(&stop)) {
		CHECK(!fq_thread_register(), "register");
		for (unsigned i = 0; i < 100; i++)
			count(fq_signal(atomic_load(&handle), 7, 3, 1));
		CHECK(!fq_thread_unregister(), "unregister");
	}
	return NULL;
}

/* A life: one fence, which the first signal retires. */
static void live(struct fq_queue *queue)
{
	scene_attach(queue);
	scene_submit(1);
	atomic_store(&handle, scene.handle);
	scene_expect(1);
	CHECK(!fq_device_destroy(scene.device), "device");
}

int main(void)
{
	const struct sigaction action = {.sa_handler = post_in_handler};
	const struct timespec pause = {.tv_nsec = 100000};
	const unsigned lives = scene_slow() ? 20 : 1500;
	pthread_t thread[THREADS];
	struct fq_queue *queue;

	CHECK(!sigaction(SIGUSR1, &action, NULL), "sigaction");
	CHECK(!fq_queue_create(&queue, 0), "queue");
	scene_attach(queue);
	atomic_store(&handle, scene.handle);
	CHECK(!fq_device_destroy(scene.device), "device");
	for (unsigned i = 0; i < THREADS; i++)
		CHECK(!pthread_create(&thread[i], NULL, post, NULL), "thread");
	for (unsigned n = 0; n < lives; n++) {
		for (unsigned i = 0; i < THREADS; i++)
			pthread_kill(thread[i], SIGUSR1);
		live(queue);
	}
	while (!atomic_load(&handled))
		nanosleep(&pause, NULL);
	atomic_store(&stop, true);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	CHECK(!fq_queue_destroy(queue), "queue");
	CHECK(!atomic_load(&wrong), "%llu wrong", atomic_load(&wrong));
	scene_nothing_left();
	printf("%llu posts in a handler, %llu refused\nok\n", atomic_load(&handled),
	       atomic_load(&refused));
	return 0;
}
