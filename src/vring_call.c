/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "vring_internal.h"

/* The call fd: the host's, or whatever a peer has sent for one. */

/* What only a poll can tell of a blocking fd, and the peer can make untrue at once. */
static bool call_full(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	int r;

	do
		r = poll(&p, 1, 0);
	while (r < 0 && errno == EINTR);
	return r == 0;
}

/* A full counter (or pipe) is readable already: the interrupt is as good as raised. */
static bool call_write(const struct fq_call_fd *call)
{
	const uint64_t one = 1;
	ssize_t r;

	if (call->blocking && call_full(call->fd))
		return true;
	do
		r = write(call->fd, &one, sizeof(one));
	while (r < 0 && errno == EINTR);
	return r == sizeof(one) || (r < 0 && errno == EAGAIN);
}

/* The signal goes to the writing thread, so it can be taken back before anybody sees it. */
static bool call_write_no_sigpipe(const struct fq_call_fd *call)
{
	const struct timespec now = {0, 0};
	sigset_t sigpipe, before, pending;
	bool ok;

	sigemptyset(&sigpipe);
	sigaddset(&sigpipe, SIGPIPE);
	sigemptyset(&pending);
	pthread_sigmask(SIG_BLOCK, &sigpipe, &before);
	sigpending(&pending);
	ok = call_write(call);
	if (!ok && errno == EPIPE && !sigismember(&pending, SIGPIPE)) {
		while (sigtimedwait(&sigpipe, NULL, &now) < 0 && errno == EINTR)
			;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return ok;
}

void fq_call_set(struct fq_call_fd *call, int fd)
{
	int saved = errno, flags;
	struct stat st;

	*call = (struct fq_call_fd){.fd = fd < 0 ? -1 : fd};
	if (fd < 0)
		return;
	flags = fcntl(fd, F_GETFL);
	call->blocking = flags >= 0 && !(flags & O_NONBLOCK);
	call->sigpipe = !fstat(fd, &st) && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode));
	errno = saved;
}

/* Neither errno nor a pending cancellation of the thread may learn of it. */
bool fq_call_raise(struct fq_vring *vr)
{
	int saved = errno, cancel;
	bool ok;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	ok = vr->call.sigpipe ? call_write_no_sigpipe(&vr->call) : call_write(&vr->call);
	pthread_setcancelstate(cancel, NULL);
	errno = saved;
	fq_count_owner(ok ? &vr->interrupts : &vr->call_errors, 1);
	return ok;
}
