/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fenceq/notifier.h>

#include "host.h"
#include "unit.h"

static const unsigned flavours[] = {0, FQ_NOTIFIER_PIPE};

static void open_notifier(struct fq_notifier *n, unsigned flags)
{
	cr_assert_eq(fq_notifier_init(n, flags), 0);
}

Test(notifier, bad_arguments)
{
	struct fq_notifier n;

	cr_assert_eq(fq_notifier_init(NULL, 0), -EINVAL);
	cr_assert_eq(fq_notifier_init(&n, FQ_NOTIFIER_PIPE << 1), -EINVAL);
	cr_assert_eq(fq_notifier_init(&n, ~0u), -EINVAL);
}

static void expect_flags(int fd)
{
	cr_assert(fcntl(fd, F_GETFL) & O_NONBLOCK);
	cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

Test(notifier, descriptors)
{
	struct fq_notifier n;

	open_notifier(&n, 0);
	expect_flags(n.rfd);
	expect_flags(n.wfd);
	fq_notifier_fini(&n);
	cr_assert_eq(n.rfd, -1);
	cr_assert_eq(n.wfd, -1);
	fq_notifier_fini(&n); /* nothing left to close */

	open_notifier(&n, FQ_NOTIFIER_PIPE);
	cr_assert_neq(n.rfd, n.wfd);
	expect_flags(n.rfd);
	expect_flags(n.wfd);
	fq_notifier_fini(&n);
}

static void level(unsigned flags)
{
	struct fq_notifier n;

	open_notifier(&n, flags);
	cr_assert_not(fd_readable(n.rfd));
	cr_assert_not(fq_notifier_clear(&n));
	fq_notifier_signal(&n);
	cr_assert(fd_readable(n.rfd));
	cr_assert(fd_readable(n.rfd), "looking at it clears nothing");
	cr_assert(fq_notifier_clear(&n));
	cr_assert_not(fd_readable(n.rfd));
	cr_assert_not(fq_notifier_clear(&n));
	fq_notifier_fini(&n);
}

Test(notifier, level)
{
	for (unsigned i = 0; i < 2; i++)
		level(flavours[i]);
}

/* It counts nothing: one clear, however many signals. */
static void coalesce(unsigned flags)
{
	struct fq_notifier n;

	open_notifier(&n, flags);
	for (unsigned i = 0; i < 5000; i++)
		fq_notifier_signal(&n);
	cr_assert(fq_notifier_clear(&n));
	cr_assert_not(fd_readable(n.rfd), "flags %u: readable after a clear", flags);
	fq_notifier_fini(&n);
}

Test(notifier, coalesces)
{
	for (unsigned i = 0; i < 2; i++)
		coalesce(flavours[i]);
}

static void errno_kept(unsigned flags)
{
	struct fq_notifier n;

	open_notifier(&n, flags);
	errno = EXDEV;
	cr_assert_not(fq_notifier_clear(&n)); /* EAGAIN inside */
	cr_assert_eq(errno, EXDEV);
	fq_notifier_signal(&n);
	cr_assert_eq(errno, EXDEV);
	cr_assert(fq_notifier_clear(&n));
	cr_assert_eq(errno, EXDEV);
	cr_assert_eq(fq_notifier_wait(&n, 0), 0);
	cr_assert_eq(errno, EXDEV);
	fq_notifier_fini(&n);
}

Test(notifier, errno_is_kept)
{
	for (unsigned i = 0; i < 2; i++)
		errno_kept(flavours[i]);
}

Test(notifier, full_counter_is_success, .timeout = 30)
{
	const uint64_t most = UINT64_MAX - 1;
	struct fq_notifier n;

	open_notifier(&n, 0);
	cr_assert_eq(write(n.wfd, &most, sizeof(most)), (ssize_t)sizeof(most));
	errno = EXDEV;
	fq_notifier_signal(&n); /* neither blocks ... */
	cr_assert_eq(errno, EXDEV);
	cr_assert(fd_readable(n.rfd)); /* ... nor fails */
	cr_assert(fq_notifier_clear(&n));
	cr_assert_not(fd_readable(n.rfd));
	fq_notifier_fini(&n);
}

Test(notifier, full_pipe_is_success, .timeout = 30)
{
	struct fq_notifier n;
	char page[4096] = {0};

	open_notifier(&n, FQ_NOTIFIER_PIPE);
	while (write(n.wfd, page, sizeof(page)) > 0)
		;
	while (write(n.wfd, page, 1) > 0)
		;
	cr_assert_eq(errno, EAGAIN);
	errno = EXDEV;
	fq_notifier_signal(&n);
	cr_assert_eq(errno, EXDEV);
	cr_assert(fd_readable(n.rfd));
	cr_assert(fq_notifier_clear(&n));
	fq_notifier_fini(&n);
}

/* The number of the next descriptor. */
static int next_fd(void)
{
	int fd = dup(STDERR_FILENO);

	cr_assert_geq(fd, 0);
	close(fd);
	return fd;
}

Test(notifier, no_descriptors_left)
{
	struct rlimit limit, none;
	struct fq_notifier n;
	int eventfd_err, pipe_err;

	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = (rlim_t)next_fd();
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	eventfd_err = fq_notifier_init(&n, 0);
	pipe_err = fq_notifier_init(&n, FQ_NOTIFIER_PIPE);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	cr_assert_eq(eventfd_err, -EMFILE);
	cr_assert_eq(pipe_err, -EMFILE);
	open_notifier(&n, 0);
	fq_notifier_fini(&n);
}

static void *signal_it(void *arg)
{
	fq_notifier_signal(arg);
	return NULL;
}

static void wait_for_it(unsigned flags)
{
	struct fq_notifier n;
	pthread_t thread;

	open_notifier(&n, flags);
	cr_assert_eq(fq_notifier_wait(&n, 0), 0);
	cr_assert_eq(fq_notifier_wait(&n, 1000), 0);
	cr_assert_eq(pthread_create(&thread, NULL, signal_it, &n), 0);
	cr_assert_eq(fq_notifier_wait(&n, -1), 1);
	cr_assert_eq(fq_notifier_wait(&n, 0), 1, "waiting clears nothing");
	cr_assert_eq(fq_notifier_wait(&n, -1), 1);
	pthread_join(thread, NULL);
	cr_assert(fq_notifier_clear(&n));
	fq_notifier_fini(&n);
}

Test(notifier, wait, .timeout = 60)
{
	for (unsigned i = 0; i < 2; i++)
		wait_for_it(flavours[i]);
}

struct interruption {
	pthread_t sleeper;
	atomic_bool over;
};

static void no_op(int sig)
{
	(void)sig;
}

static void *interrupt(void *arg)
{
	struct interruption *in = arg;

	while (!atomic_load(&in->over)) {
		pthread_kill(in->sleeper, SIGUSR1);
		sched_yield();
	}
	return NULL;
}

Test(notifier, wait_is_interrupted, .timeout = 60)
{
	const struct sigaction handler = {.sa_handler = no_op};
	struct interruption in = {.sleeper = pthread_self()};
	struct sigaction before;
	struct fq_notifier n;
	pthread_t thread;
	int got;

	atomic_init(&in.over, false);
	open_notifier(&n, 0);
	cr_assert_eq(sigaction(SIGUSR1, &handler, &before), 0);
	cr_assert_eq(pthread_create(&thread, NULL, interrupt, &in), 0);
	got = fq_notifier_wait(&n, -1);
	atomic_store(&in.over, true);
	pthread_join(thread, NULL);
	cr_assert_eq(sigaction(SIGUSR1, &before, NULL), 0);
	cr_assert_eq(got, -EINTR);
	fq_notifier_fini(&n);
}

struct victim {
	struct fq_notifier n;
	atomic_bool doomed; /* a cancellation is pending */
	atomic_bool signalled;
};

static void *signal_while_doomed(void *arg)
{
	struct victim *v = arg;

	while (!atomic_load(&v->doomed))
		; /* nothing here is a cancellation point */
	fq_notifier_signal(&v->n);
	atomic_store(&v->signalled, true);
	pthread_testcancel();
	return NULL;
}

/* A thread cancelled inside would leave a post half done. */
static void no_cancellation_point(unsigned flags)
{
	struct victim v;
	pthread_t thread;
	void *end;

	atomic_init(&v.doomed, false);
	atomic_init(&v.signalled, false);
	open_notifier(&v.n, flags);
	cr_assert_eq(pthread_create(&thread, NULL, signal_while_doomed, &v), 0);
	cr_assert_eq(pthread_cancel(thread), 0);
	atomic_store(&v.doomed, true);
	pthread_join(thread, &end);
	cr_assert_eq(end, PTHREAD_CANCELED, "the cancellation was not pending");
	cr_assert(atomic_load(&v.signalled), "cancelled inside the signal");
	cr_assert(fd_readable(v.n.rfd));
	fq_notifier_fini(&v.n);
}

Test(notifier, no_cancellation_point, .timeout = 60)
{
	for (unsigned i = 0; i < 2; i++)
		no_cancellation_point(flavours[i]);
}
