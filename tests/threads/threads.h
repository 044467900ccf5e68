/* SPDX-License-Identifier: MIT */
#ifndef FQ_THREADS_H
#define FQ_THREADS_H

/*
 * What the tests of threads share: a host in C, for C, C++ and Rust threads alike, and a look at what
 * threads have left behind. Plain mains; a failed check ends the process with status 1.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <fenceq/fenceq.h>

FQ_BEGIN_DECLS

#define CHECK(condition, ...)                                                           \
	do {                                                                            \
		if (!(condition)) {                                                     \
			fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
			fprintf(stderr, __VA_ARGS__);                                   \
			fputc('\n', stderr);                                            \
			_exit(1);                                                       \
		}                                                                       \
	} while (0)

/* What CTest takes for "did not run". */
#define SKIPPED 77

/* ThreadSanitizer does not follow all that threads and fork may do. */
#if defined(__SANITIZE_THREAD__)
#define WATCHED_BY_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WATCHED_BY_TSAN 1
#endif
#endif
#ifndef WATCHED_BY_TSAN
#define WATCHED_BY_TSAN 0
#endif

#define SCENE_FENCES 256u

/* A queue, a device, and fences on ring 3 of context 7; filled in by scene_open(). */
struct scene {
	struct fq_queue *queue;
	struct fq_device *device;
	fq_handle_t handle;
	unsigned submitted, retired;
	struct fq_fence fence[SCENE_FENCES];
};

extern struct scene scene;

void scene_open(unsigned flags);
void scene_attach(struct fq_queue *queue);
void scene_submit(unsigned count);
/* Any thread: everything up to fence n - 1 (from 1) is complete. */
int scene_signal(unsigned n);
/* Drains until so many were retired since scene_open(); a time-out fails. */
void scene_expect(unsigned retired);
void scene_close(void);

/* Allocations not freed; 0 where the build has an allocator of its own (sanitizers). */
long scene_allocated(void);

/* Registrations and unregistrations with liburcu-memb so far, the host's too. */
unsigned scene_liburcu_calls(void);

/* No poster is counted, no thread of ours registered: else fails. */
void scene_nothing_left(void);

/* Forks and runs; fails unless the child returns 0 within a minute. */
void scene_child(const char *what, int (*run)(void *), void *arg);

/* Under memcheck, where time and signals are not what they were. */
bool scene_slow(void);

FQ_END_DECLS

#endif /* FQ_THREADS_H */
