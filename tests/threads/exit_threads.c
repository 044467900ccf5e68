/* SPDX-License-Identifier: MIT */
/*
 * A process that ends while its threads post: by exit(), quick_exit(), a return from main, an
 * atexit handler that takes the device down as a host would, and by a main thread that ends first.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "threads.h"

#define THREADS 6u

static atomic_uint posting;
static atomic_bool stop;

static void *post(void *arg)
{
	const fq_handle_t handle = scene.handle;
	unsigned number = *(const unsigned *)arg;

	if (number & 1)
		CHECK(!fq_thread_register(), "register");
	for (bool first = true; !atomic_load(&stop); first = false) {
		int err = fq_signal(handle, 7, 3, number + 1);

		CHECK(!err || err == -ENODEV || err == -ESTALE, "post: %d", err);
		if (first)
			atomic_fetch_add(&posting, 1);
	}
	if (number & 1)
		CHECK(!fq_thread_unregister(), "unregister");
	return NULL;
}

static void start(void)
{
	static unsigned number[THREADS];
	pthread_t thread;

	scene_open(0);
	scene_submit(SCENE_FENCES);
	for (unsigned i = 0; i < THREADS; i++) {
		number[i] = i;
		CHECK(!pthread_create(&thread, NULL, post, &number[i]), "thread");
		pthread_detach(thread);
	}
	while (atomic_load(&posting) < THREADS)
		sched_yield();
}

static void take_down(void)
{
	scene_close();
}

static int end_by_exit(void *arg)
{
	(void)arg;
	start();
	exit(0);
}

static int end_by_exit_and_take_down(void *arg)
{
	(void)arg;
	CHECK(!atexit(take_down), "atexit");
	start();
	exit(0);
}

static int end_by_quick_exit(void *arg)
{
	(void)arg;
	CHECK(!at_quick_exit(take_down), "at_quick_exit");
	start();
	quick_exit(0);
}

#if !WATCHED_BY_TSAN
static void *stop_them(void *arg)
{
	pthread_t main_thread = *(pthread_t *)arg;

	pthread_join(main_thread, NULL);
	scene_close();
	atomic_store(&stop, true);
	return NULL;
}

static int end_after_main(void *arg)
{
	static pthread_t self;
	pthread_t thread;

	(void)arg;
	self = pthread_self();
	CHECK(!fq_thread_register(), "register");
	start();
	CHECK(!pthread_create(&thread, NULL, stop_them, &self), "thread");
	CHECK(!fq_thread_unregister(), "unregister");
	pthread_exit(NULL); /* the last thread to end makes it exit(0) */
}
#endif

int main(void)
{
	static const struct {
		const char *what;
		int (*run)(void *);
	} way[] = {
		{"exit", end_by_exit},
		{"exit, taken down", end_by_exit_and_take_down},
		{"quick_exit, taken down", end_by_quick_exit},
#if !WATCHED_BY_TSAN /* which cannot look a main thread up that has ended */
		{"main thread first", end_after_main},
#endif
	};
	const unsigned rounds = scene_slow() ? 2 : 10;

	for (unsigned n = 0; n < rounds; n++) {
		for (unsigned i = 0; i < sizeof(way) / sizeof(way[0]); i++)
			scene_child(way[i].what, way[i].run, NULL);
	}
	puts("ok");
	return 0;
}
