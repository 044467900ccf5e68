/* SPDX-License-Identifier: MIT */
#ifndef FQ_TOOLBOX_CLOCK_H
#define FQ_TOOLBOX_CLOCK_H

/* A clock that the test moves: the library, linked statically, reads the time here. */

#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int64_t now_ns; /* 0: the system's own */

int clock_gettime(clockid_t id, struct timespec *ts)
{
	if (!now_ns)
		return (int)syscall(SYS_clock_gettime, id, ts);
	ts->tv_sec = (time_t)(now_ns / 1000000000);
	ts->tv_nsec = (long)(now_ns % 1000000000);
	return 0;
}

#endif /* FQ_TOOLBOX_CLOCK_H */
