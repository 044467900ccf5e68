/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "peer.h"

int peer_eventfd(void)
{
	return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
}

void peer_eventfd_set(int fd)
{
	const uint64_t one = 1;
	ssize_t n;

	do {
		n = write(fd, &one, sizeof(one));
	} while (n < 0 && errno == EINTR);
}

void peer_eventfd_sleep(int fd, int64_t timeout_ns)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / 1000000000),
				   .tv_nsec = (long)(timeout_ns % 1000000000)};
	uint64_t value;
	ssize_t n;

	if (ppoll(&pfd, 1, &timeout, NULL) > 0) {
		do {
			n = read(fd, &value, sizeof(value));
		} while (n < 0 && errno == EINTR);
	}
}

void *peer_alloc(size_t size)
{
	size_t rounded = (size + PEER_LINE - 1) / PEER_LINE * PEER_LINE;
	void *p = aligned_alloc(PEER_LINE, rounded);

	if (p)
		memset(p, 0, rounded);
	return p;
}
