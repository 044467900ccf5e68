/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/eventfd.h>
#endif

#include "internal.h"

static int open_pipe(struct fq_notifier *n)
{
	int fds[2];

	if (pipe2(fds, O_NONBLOCK | O_CLOEXEC))
		return -errno;
	n->rfd = fds[0];
	n->wfd = fds[1];
	return 0;
}

int fq_notifier_init(struct fq_notifier *n, unsigned flags)
{
	if (!n || (flags & ~FQ_NOTIFIER_PIPE))
		return -EINVAL;
	n->rfd = n->wfd = -1;
	if (flags & FQ_NOTIFIER_PIPE)
		return open_pipe(n);
#ifdef __linux__
	n->rfd = n->wfd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return n->rfd < 0 ? -errno : 0;
#else
	return open_pipe(n);
#endif
}

int fq_take_place(int fresh, int fd)
{
	int err = 0;

	if (fresh < 0)
		return -errno;
	while (dup3(fresh, fd, O_CLOEXEC) < 0) {
		if (errno != EINTR && errno != EBUSY) {
			err = -errno;
			break;
		}
	}
	close(fresh);
	return err;
}

int fq_notifier_after_fork_child(struct fq_notifier *n)
{
	struct fq_notifier fresh;
	int err;

	if (!n || n->rfd < 0)
		return -EINVAL;
	err = fq_notifier_init(&fresh, n->rfd == n->wfd ? 0 : FQ_NOTIFIER_PIPE);
	if (err)
		return err;
	err = fq_take_place(fresh.rfd, n->rfd);
	if (fresh.wfd != fresh.rfd) {
		int second = fq_take_place(fresh.wfd, n->wfd);

		err = err ? err : second;
	}
	return err;
}

void fq_notifier_fini(struct fq_notifier *n)
{
	if (n->wfd >= 0 && n->wfd != n->rfd)
		close(n->wfd);
	if (n->rfd >= 0)
		close(n->rfd);
	n->rfd = n->wfd = -1;
}

void fq_notifier_signal(const struct fq_notifier *n)
{
	const uint64_t one = 1;
	size_t size = n->rfd == n->wfd ? sizeof(one) : 1;
	int saved = errno;

	/*
	 * write() is a cancellation point: a thread cancelled in it would leave a post half done.
	 * The raw call is none. EAGAIN is success, the fd is readable.
	 */
	FQ_STEP();
	while (syscall(SYS_write, n->wfd, &one, size) < 0 && errno == EINTR)
		;
	errno = saved;
}

bool fq_notifier_clear(const struct fq_notifier *n)
{
	/* An eventfd gives 8 bytes; a pipe one for each write since it was last cleared. */
	char buffer[4096];
	bool cleared = false;
	int saved = errno;
	ssize_t got;

	FQ_STEP();
	do {
		got = read(n->rfd, buffer, sizeof(buffer));
		cleared |= got > 0;
	} while (got == sizeof(buffer) || (got < 0 && errno == EINTR));
	errno = saved;
	return cleared;
}

int fq_notifier_wait(const struct fq_notifier *n, int64_t timeout_ns)
{
	struct pollfd pfd = {.fd = n->rfd, .events = POLLIN};
	struct timespec ts = {.tv_sec = (time_t)(timeout_ns / 1000000000),
			      .tv_nsec = (long)(timeout_ns % 1000000000)};
	int saved = errno;
	int got = ppoll(&pfd, 1, timeout_ns < 0 ? NULL : &ts, NULL);

	if (got < 0)
		got = -errno;
	errno = saved;
	return got;
}
