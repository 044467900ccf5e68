/* SPDX-License-Identifier: MIT */
/*
 * Nothing appears that the host did not ask for: no thread, no signal handler, no change of the
 * signal mask, no descriptor left open, through all that a host may do.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "threads.h"

struct footprint {
	unsigned threads;
	unsigned fds;
	sigset_t mask;
	struct sigaction action[NSIG];
};

static struct footprint before;

static unsigned entries(const char *path)
{
	DIR *dir = opendir(path);
	unsigned count = 0;

	CHECK(dir, "%s", path);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static void look(struct footprint *f)
{
	memset(f, 0, sizeof(*f));
	f->threads = entries("/proc/self/task");
	f->fds = entries("/proc/self/fd");
	CHECK(!pthread_sigmask(SIG_SETMASK, NULL, &f->mask), "mask");
	for (int sig = 1; sig < NSIG; sig++)
		(void)sigaction(sig, NULL, &f->action[sig]);
}

static bool same_set(const sigset_t *a, const sigset_t *b)
{
	for (int sig = 1; sig < NSIG; sig++) {
		if (sigismember(a, sig) != sigismember(b, sig))
			return false;
	}
	return true;
}

/* @p fds that are open at this point. */
static void expect_same(const char *when, unsigned fds)
{
	struct footprint now;

	look(&now);
	CHECK(now.threads == before.threads, "%s: %u threads, not %u", when, now.threads,
	      before.threads);
	CHECK(now.fds == before.fds + fds, "%s: %u fds, not %u", when, now.fds, before.fds + fds);
	CHECK(same_set(&now.mask, &before.mask), "%s: signal mask", when);
	for (int sig = 1; sig < NSIG; sig++) {
		const struct sigaction *a = &now.action[sig], *b = &before.action[sig];

		CHECK(a->sa_handler == b->sa_handler && a->sa_flags == b->sa_flags &&
			      same_set(&a->sa_mask, &b->sa_mask),
		      "%s: signal %d", when, sig);
	}
}

static void defer(void (*run)(void *), void *arg, void *opaque)
{
	(void)opaque;
	run(arg);
}

static void end_every_way(struct fq_queue *queue)
{
	for (unsigned way = 0; way < 3; way++) {
		int err;

		scene_attach(queue);
		scene_submit(2);
		CHECK(!scene_signal(1), "signal");
		scene_expect(1);
		err = way == 0 ? fq_device_destroy(scene.device)
			       : fq_device_unplug(scene.device, way == 1 ? defer : NULL, NULL);
		CHECK(!err, "%d", err);
		CHECK(way < 2 || fq_reclaim() == 1, "reclaim");
		CHECK(scene_signal(1) == -ENODEV, "signal");
		expect_same("device gone", 1);
	}
}

int main(void)
{
	struct fq_queue *queue;

	look(&before);
	CHECK(!fq_queue_create(&queue, 0), "queue");
	expect_same("queue", 1);
	scene_attach(queue);
	expect_same("device", 1);
	scene_submit(4);
	CHECK(!scene_signal(1), "signal");
	CHECK(!fq_thread_register(), "register");
	expect_same("registered", 1);
	CHECK(!scene_signal(3), "signal");
	scene_expect(3);
	CHECK(!fq_device_freeze(scene.device) && !fq_device_thaw(scene.device), "freeze");
	CHECK(!fq_device_reset(scene.device), "reset");
	expect_same("reset", 1);
	CHECK(!fq_device_destroy(scene.device), "destroy");
	end_every_way(queue);
	CHECK(!fq_thread_unregister(), "unregister");
	CHECK(!fq_queue_destroy(queue), "queue");
	expect_same("all gone", 0);
	scene_nothing_left();
	puts("ok");
	return 0;
}
