/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

#include "vring_host.h"

/* The call fd. */

static void count_call(void *opaque)
{
	++*(unsigned *)opaque;
}

Test(vring, interrupt_function_replaces_the_call_fd, .init = plain, .fini = teardown)
{
	unsigned calls = 0;

	fq_vring_destroy(ring.vr);
	ring.config.interrupt = count_call;
	ring.config.opaque = &calls;
	cr_assert_eq(fq_vring_create(&ring.vr, &ring.config), 0);
	cr_assert_eq(round_trip(&ring), 1);
	fq_vring_set_call(ring.vr, ring.call);
	cr_assert_eq(calls, 1);
	cr_assert_eq(interrupts(&ring), 0);
	cr_assert_eq(stats(&ring).interrupts, 1);
}

Test(vring, no_call_fd_is_no_error, .init = plain, .fini = teardown)
{
	fq_vring_set_call(ring.vr, -1);
	cr_assert_eq(round_trip(&ring), 0);
	cr_assert_eq(interrupts(&ring), 0);
	cr_assert_eq(stats(&ring).call_errors, 0);
	cr_assert_eq(stats(&ring).interrupts, 0);
}

Test(vring, set_call_writes_the_new_fd_once, .init = plain, .fini = teardown)
{
	int fd = eventfd(0, EFD_NONBLOCK), old = ring.call;
	uint64_t n = 0;

	fq_vring_set_call(ring.vr, fd);
	cr_assert_eq(read(fd, &n, sizeof(n)), (ssize_t)sizeof(n));
	cr_assert_eq(n, 1);
	cr_assert_eq(interrupts(&ring), 0);
	cr_assert_eq(stats(&ring).interrupts, 1);
	cr_assert_eq(round_trip(&ring), 1);
	cr_assert_eq(interrupts(&ring), 0, "the old one is left alone");
	cr_assert_geq(fcntl(old, F_GETFD), 0, "and open");
	cr_assert_eq(read(fd, &n, sizeof(n)), (ssize_t)sizeof(n));
	fq_vring_set_call(ring.vr, -1);
	close(fd);
}

static void expect_call_error(int fd)
{
	errno = EXDEV;
	fq_vring_set_call(ring.vr, fd);
	cr_assert_eq(errno, EXDEV);
	cr_assert_eq(stats(&ring).call_errors, 1);
	cr_assert_eq(round_trip(&ring), 0);
	cr_assert_eq(errno, EXDEV);
	cr_assert_eq(stats(&ring).call_errors, 2);
	cr_assert_eq(stats(&ring).interrupts, 0);
	other_is_fine();
}

Test(vring, call_fd_that_is_none_is_counted, .init = plain, .fini = teardown)
{
	expect_call_error(1 << 20);
}

static volatile sig_atomic_t sigpipes;

static void count_sigpipe(int sig)
{
	(void)sig;
	sigpipes++;
}

/* A peer that has gone must be nobody's death; what the host does about SIGPIPE stays as it is. */
static void expect_no_sigpipe(int fd)
{
	struct sigaction counting = {.sa_handler = count_sigpipe}, before;
	sigset_t set;

	sigpipes = 0;
	sigaction(SIGPIPE, &counting, &before);
	expect_call_error(fd);
	cr_assert_eq(sigpipes, 0);
	sigpending(&set);
	cr_assert_not(sigismember(&set, SIGPIPE));
	pthread_sigmask(SIG_SETMASK, NULL, &set);
	cr_assert_not(sigismember(&set, SIGPIPE));
	sigaction(SIGPIPE, &before, NULL);
}

Test(vring, call_fd_without_reader_raises_no_sigpipe, .init = plain, .fini = teardown)
{
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	close(fds[0]);
	expect_no_sigpipe(fds[1]);
	close(fds[1]);
}

Test(vring, call_socket_without_peer_raises_no_sigpipe, .init = plain, .fini = teardown)
{
	int fds[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	close(fds[0]);
	expect_no_sigpipe(fds[1]);
	close(fds[1]);
}

static void expect_full_is_fine(int fd)
{
	errno = EXDEV;
	fq_vring_set_call(ring.vr, fd);
	cr_assert_eq(round_trip(&ring), 1);
	cr_assert_eq(errno, EXDEV);
	cr_assert_eq(stats(&ring).call_errors, 0);
	cr_assert_eq(stats(&ring).interrupts, 2);
}

static void full_eventfd(int flags)
{
	const uint64_t most = UINT64_MAX - 1;
	int fd = eventfd(0, flags);

	cr_assert_eq(write(fd, &most, sizeof(most)), (ssize_t)sizeof(most));
	expect_full_is_fine(fd);
	close(fd);
}

Test(vring, call_fd_that_is_full_is_no_error, .init = plain, .fini = teardown)
{
	full_eventfd(EFD_NONBLOCK);
}

Test(vring, call_fd_that_is_full_does_not_block, .init = plain, .fini = teardown, .timeout = 30)
{
	full_eventfd(0);
}

Test(vring, call_pipe_that_is_full_does_not_block, .init = plain, .fini = teardown, .timeout = 30)
{
	static const char page[4096];
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	fcntl(fds[1], F_SETFL, O_NONBLOCK);
	while (write(fds[1], page, sizeof(page)) > 0)
		;
	fcntl(fds[1], F_SETFL, 0);
	expect_full_is_fine(fds[1]);
	close(fds[0]);
	close(fds[1]);
}

static void *publish_while_cancelled(void *passed)
{
	pthread_cancel(pthread_self());
	fq_vring_publish(ring.vr);
	*(bool *)passed = true;
	pthread_testcancel();
	return NULL;
}

Test(vring, publish_is_no_cancellation_point, .init = plain, .fini = teardown)
{
	bool passed = false;
	pthread_t thread;
	void *result;

	offer(&ring);
	cr_assert_eq(fq_vring_put(ring.vr, pop(&ring), 0), 0);
	cr_assert_eq(pthread_create(&thread, NULL, publish_while_cancelled, &passed), 0);
	pthread_join(thread, &result);
	cr_assert(passed);
	cr_assert_eq(result, PTHREAD_CANCELED, "the cancellation itself is not lost");
	cr_assert_eq(interrupts(&ring), 1);
}
