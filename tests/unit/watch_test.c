/* SPDX-License-Identifier: MIT */
/* Watched fds, and the renderer that dies. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fenceq/fenceq.h>

#include "host.h"
#include "unit.h"

#define CTX 7u

static struct host host;
static struct fq_fence fence[8];
static struct fq_watch watch[2];
static struct fq_death death;
static int pair[2];
static unsigned events[2], calls[2], deaths;

static void setup(void)
{
	memset(fence, 0, sizeof(fence));
	memset(watch, 0, sizeof(watch));
	memset(&death, 0, sizeof(death));
	memset(calls, 0, sizeof(calls));
	deaths = 0;
	host_open(&host, FQ_QUEUE_EPOLL);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
}

static void teardown(void)
{
	fq_watch_remove(&watch[0]);
	fq_watch_remove(&watch[1]);
	if (host.dev)
		host_close(&host);
	close(pair[0]);
	close(pair[1]);
}

TestSuite(watch, .init = setup, .fini = teardown);

static void run(struct fq_watch *w, unsigned what)
{
	calls[w - watch]++;
	events[w - watch] = what;
}

Test(watch, level_triggered_until_removed)
{
	watch[0].run = run;
	cr_assert_eq(fq_watch_add(host.q, &watch[0], pair[0], FQ_WATCH_IN), 0);
	cr_assert_not(readable(host.q));
	cr_assert_eq(write(pair[1], "x", 1), 1);
	cr_assert(readable(host.q));
	(void)fq_queue_drain(host.q, FQ_NO_BUDGET);
	(void)fq_queue_drain(host.q, FQ_NO_BUDGET);
	cr_assert_geq(calls[0], 2);
	cr_assert_eq(events[0], FQ_WATCH_IN);
	fq_watch_remove(&watch[0]);
	cr_assert_not(readable(host.q));
	fq_watch_remove(&watch[0]);
}

Test(watch, hang_up_is_always_watched_for)
{
	watch[0].run = run;
	cr_assert_eq(fq_watch_add(host.q, &watch[0], pair[0], 0), 0);
	cr_assert_eq(write(pair[1], "x", 1), 1);
	cr_assert_not(readable(host.q), "data is not what it waits for");
	close(pair[1]);
	pair[1] = -1;
	cr_assert(readable(host.q));
	(void)fq_queue_drain(host.q, FQ_NO_BUDGET);
	cr_assert(events[0] & FQ_WATCH_HANGUP);
}

/* Room to write is told only while it is asked for. */
Test(watch, events_can_be_changed)
{
	static char much[1 << 20];

	watch[0].run = run;
	cr_assert_eq(fq_watch_change(&watch[0], FQ_WATCH_OUT), -ENOENT, "not added");
	cr_assert_eq(fq_watch_add(host.q, &watch[0], pair[0], FQ_WATCH_IN), 0);
	cr_assert_not(readable(host.q), "it could be written to, but nobody asked");
	cr_assert_eq(fq_watch_change(&watch[0], 8), -EINVAL);
	cr_assert_eq(fq_watch_change(NULL, 0), -EINVAL);
	cr_assert_eq(fq_watch_change(&watch[0], FQ_WATCH_IN | FQ_WATCH_OUT), 0);
	cr_assert(readable(host.q));
	(void)fq_queue_drain(host.q, FQ_NO_BUDGET);
	cr_assert_eq(events[0], FQ_WATCH_OUT);
	while (write(pair[0], much, sizeof(much)) > 0)
		;
	cr_assert_not(readable(host.q), "it is full");
	while (read(pair[1], much, sizeof(much)) > 0)
		;
	cr_assert(readable(host.q));
	cr_assert_eq(fq_watch_change(&watch[0], 0), 0);
	cr_assert_not(readable(host.q));
	cr_assert_eq(write(pair[1], "x", 1), 1);
	cr_assert_not(readable(host.q));
}

/* Frees the other one, which is ready as well. */
static void remove_other(struct fq_watch *w, unsigned what)
{
	struct fq_watch *other = w == &watch[0] ? &watch[1] : &watch[0];

	run(w, what);
	fq_watch_remove(w);
	fq_watch_remove(other);
	memset(other, 0xa5, sizeof(*other));
}

Test(watch, one_removes_another)
{
	watch[0].run = watch[1].run = remove_other;
	cr_assert_eq(fq_watch_add(host.q, &watch[0], pair[0], FQ_WATCH_IN), 0);
	cr_assert_eq(fq_watch_add(host.q, &watch[1], pair[1], FQ_WATCH_IN), 0);
	cr_assert_eq(write(pair[0], "x", 1), 1);
	cr_assert_eq(write(pair[1], "x", 1), 1);
	(void)fq_queue_drain(host.q, FQ_NO_BUDGET);
	cr_assert_eq(calls[0] + calls[1], 1);
	memset(watch, 0, sizeof(watch));
}

Test(watch, bad_input)
{
	struct fq_queue *plain;
	int file = open("/dev/null", O_RDONLY);
	int regular = open("/proc/self/exe", O_RDONLY);

	cr_assert_eq(fq_watch_add(host.q, &watch[0], pair[0], 0), -EINVAL, "no run");
	watch[0].run = watch[1].run = run;
	cr_assert_eq(fq_watch_add(NULL, &watch[0], pair[0], 0), -EINVAL);
	cr_assert_eq(fq_watch_add(host.q, NULL, pair[0], 0), -EINVAL);
	cr_assert_eq(fq_watch_add(host.q, &watch[0], pair[0], 8), -EINVAL);
	cr_assert_eq(fq_watch_add(host.q, &watch[0], -1, 0), -EBADF);
	cr_assert_eq(fq_watch_add(host.q, &watch[0], regular, 0), -EPERM);
	cr_assert_eq(fq_queue_create(&plain, 0), 0);
	cr_assert_eq(fq_watch_add(plain, &watch[0], pair[0], 0), -EINVAL);
	cr_assert_eq(fq_queue_destroy(plain), 0);
	cr_assert_eq(fq_watch_add(host.q, &watch[0], pair[0], 0), 0);
	cr_assert_eq(fq_watch_add(host.q, &watch[0], pair[1], 0), -EBUSY);
	cr_assert_eq(fq_watch_add(host.q, &watch[1], pair[0], 0), -EEXIST);
	close(file);
	close(regular);
}

static void died(struct fq_death *d)
{
	cr_assert_eq(d, &death);
	deaths++;
}

static void hang_up(void)
{
	close(pair[1]);
	pair[1] = -1;
	cr_assert(readable(host.q));
	(void)fq_queue_drain(host.q, FQ_NO_BUDGET);
}

Test(watch, socket_of_a_dead_renderer_fails_the_device)
{
	death.died = died;
	submit_all(&host, CTX, 0, fence, 3);
	submit_all(&host, CTX + 1, 0, fence + 3, 1);
	cr_assert_eq(fq_device_watch(host.dev, &death, pair[0], 0, -EPIPE), 0);
	cr_assert_eq(fq_device_watch(host.dev, &death, pair[0], 0, -EPIPE), -EBUSY);
	cr_assert_eq(fq_signal(host.handle, CTX, 0, fence[0].token), 0);
	hang_up();
	cr_assert_eq(deaths, 1);
	cr_assert_eq(host.count, 4);
	for (unsigned i = 0; i < 4; i++)
		cr_assert_eq(host.log[i].status, host.log[i].fence == &fence[0] ? 0 : -EPIPE);
	cr_assert_eq(host.flushes, 1, "published once, with the drain");
	cr_assert_eq(fq_signal(host.handle, CTX, 0, fence[2].token), -ESTALE);
	cr_assert_not(readable(host.q), "once");
	submit_all(&host, CTX, 0, fence, 1);
	cr_assert_eq(fq_signal(host.handle, CTX, 0, fence[0].token), 0, "and life goes on");
}

Test(watch, of_a_context_fails_that_context)
{
	submit_all(&host, CTX, 0, fence, 1);
	submit_all(&host, CTX + 1, 0, fence + 1, 1);
	cr_assert_eq(fq_context_watch(host.dev, CTX, &death, pair[0], 0, -EIO), 0);
	hang_up();
	cr_assert_eq(host.count, 1);
	cr_assert_eq(host.log[0].fence, &fence[0]);
	cr_assert_eq(host.log[0].status, -EIO);
}

static pid_t sleeping_child(void)
{
	pid_t child = fork();

	if (!child) {
		/* A test that fails must not leave it behind, with the test's output open. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pause();
		_exit(0);
	}
	return child;
}

Test(watch, pidfd_of_a_process_that_is_killed)
{
	pid_t child = sleeping_child();
	int pidfd = (int)syscall(SYS_pidfd_open, child, 0);

	if (pidfd < 0 && errno == ENOSYS) {
		/* memcheck 3.19 */
		puts("no pidfd_open(2) here: a pidfd was not looked at");
		kill(child, SIGKILL);
		cr_assert_eq(waitpid(child, NULL, 0), child);
		return;
	}
	cr_assert_geq(pidfd, 0);
	submit_all(&host, CTX, 0, fence, 1);
	cr_assert_eq(fq_device_watch(host.dev, &death, pidfd, FQ_DEATH_PIDFD, -EIO), 0);
	cr_assert_not(readable(host.q));
	kill(child, SIGKILL);
	cr_assert_eq(fq_queue_wait(host.q, -1), 1);
	(void)fq_queue_drain(host.q, FQ_NO_BUDGET);
	cr_assert_eq(host.count, 1);
	cr_assert_eq(host.log[0].status, -EIO);
	cr_assert_eq(waitpid(child, NULL, 0), child);
	close(pidfd);
}

Test(watch, death_is_cancelled)
{
	submit_all(&host, CTX, 0, fence, 1);
	cr_assert_eq(fq_device_watch(host.dev, &death, pair[0], 0, -EIO), 0);
	fq_death_cancel(&death);
	fq_death_cancel(&death);
	fq_death_cancel(NULL);
	close(pair[1]);
	pair[1] = -1;
	cr_assert_not(readable(host.q));
	cr_assert_eq(fq_device_watch(host.dev, &death, pair[0], 0, -EIO), 0);
	cr_assert_eq(fq_device_destroy(host.dev), 0);
	host.dev = NULL;
	cr_assert_not(readable(host.q), "the end of the device cancels it");
	cr_assert_eq(fq_queue_destroy(host.q), 0);
}

Test(watch, death_bad_input)
{
	cr_assert_eq(fq_device_watch(NULL, &death, pair[0], 0, -EIO), -EINVAL);
	cr_assert_eq(fq_device_watch(host.dev, NULL, pair[0], 0, -EIO), -EINVAL);
	cr_assert_eq(fq_device_watch(host.dev, &death, pair[0], 2, -EIO), -EINVAL);
	cr_assert_eq(fq_device_watch(host.dev, &death, pair[0], 0, 0), -EINVAL);
	cr_assert_eq(fq_device_watch(host.dev, &death, -1, 0, -EIO), -EBADF);
	cr_assert_null(death.device);
}

static void destroy_device(struct fq_death *d)
{
	(void)d;
	cr_assert_eq(fq_device_destroy(host.dev), 0);
	host.dev = NULL;
}

Test(watch, death_destroys_the_device)
{
	death.died = destroy_device;
	submit_all(&host, CTX, 0, fence, 2);
	cr_assert_eq(fq_device_watch(host.dev, &death, pair[0], 0, -EIO), 0);
	hang_up();
	cr_assert_eq(host.count, 2);
	cr_assert_eq(fq_queue_destroy(host.q), 0);
}

/* An epoll instance is shared by fork, and what one side removes is gone for the other. */
static void in_the_child(void)
{
	fq_after_fork_child();
	if (fq_queue_after_fork_child(host.q))
		_exit(2);
	(void)fq_queue_drain(host.q, FQ_NO_BUDGET);
	if (!calls[0])
		_exit(3);
	fq_watch_remove(&watch[0]);
	_exit(readable(host.q) ? 4 : 0);
}

Test(watch, child_of_fork_has_its_own)
{
	pid_t child;
	int status;

	watch[0].run = run;
	cr_assert_eq(fq_watch_add(host.q, &watch[0], pair[0], FQ_WATCH_IN), 0);
	cr_assert_eq(write(pair[1], "x", 1), 1);
	child = fork();
	if (!child)
		in_the_child();
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_assert(WIFEXITED(status));
	cr_assert_eq(WEXITSTATUS(status), 0);
	cr_assert(readable(host.q), "the parent's is untouched");
	(void)fq_queue_drain(host.q, FQ_NO_BUDGET);
	cr_assert_geq(calls[0], 1);
}
