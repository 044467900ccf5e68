/* SPDX-License-Identifier: MIT */
#ifndef FENCEQ_WATCH_H
#define FENCEQ_WATCH_H

/**
 * @file watch.h
 * @brief Other fds behind the queue's own: above all, one that tells that a renderer has died.
 *
 * Overview
 *   A queue created with FQ_QUEUE_EPOLL is readable also when a watched fd is, and its drain calls
 *   the watch. On top of it stands the ready-made trigger: a pidfd that becomes readable or a socket
 *   that hangs up fails everything that its renderer had pending.
 *
 * Guarantees
 *   All of it is the owner's and waits for nobody. Level-triggered: a watch runs once in every drain
 *   that finds its fd ready, until it is removed.
 */

#include <stdint.h>

#include <fenceq/base.h>

FQ_BEGIN_DECLS

struct fq_device;
struct fq_queue;
struct fq_watch;

/** The fd is readable. */
#define FQ_WATCH_IN 1u
/** The fd's other end is gone, or the fd has an error; always watched for. */
#define FQ_WATCH_HANGUP 2u
/** The fd takes data again. */
#define FQ_WATCH_OUT 4u

/** Runs on the owner, from fq_queue_drain(). May remove the watch and free its memory. */
typedef void fq_watch_fn(struct fq_watch *watch, unsigned events);

/** Caller memory; zero-initialise it, set `run`. */
struct fq_watch {
	fq_watch_fn *run;
	int fd;                 /**< set by fq_watch_add() */
	unsigned events;        /**< set by fq_watch_add(), fq_watch_change() */
	struct fq_queue *queue; /**< the library's; NULL while not added */
	struct fq_watch *next;  /**< the library's */
	uint64_t turn;          /**< the library's */
};

/**
 * Watches @p fd for @p events (FQ_WATCH_IN and FQ_WATCH_OUT, or 0 for hang-ups alone). The fd stays
 * the host's, which removes the watch before it closes it. Owner.
 * @return 0; -EINVAL NULL, no `run`, unknown events, or a queue without FQ_QUEUE_EPOLL; -EBUSY the
 *         watch is added already; -EEXIST the fd is watched already; -EBADF, -EPERM (a file that
 *         cannot be polled), -ENOMEM, -ENOSPC from the system.
 */
FQ_API int fq_watch_add(struct fq_queue *q, struct fq_watch *watch, int fd, unsigned events);

/**
 * Watches for other events from now on. Owner.
 * @return 0; -EINVAL NULL, unknown events; -ENOENT the watch is not added.
 */
FQ_API int fq_watch_change(struct fq_watch *watch, unsigned events);

/** Owner. Does nothing to a watch that is not added. */
FQ_API void fq_watch_remove(struct fq_watch *watch);

struct fq_death;

/** Runs on the owner once the fences have been failed. May free the memory of @p death. */
typedef void fq_death_fn(struct fq_death *death);

/** The trigger. Caller memory; zero-initialise it; `died` may be NULL. */
struct fq_death {
	fq_death_fn *died;
	struct fq_watch watch; /**< the library's from here on */
	struct fq_device *device;
	struct fq_death *next;
	uint32_t ctx_id;
	int32_t status;
	uint32_t whole_device;
};

/** @p fd is a pidfd: readable means dead. (Of a socket it would mean that there is data.) */
#define FQ_DEATH_PIDFD 1u

/**
 * When the process or connection behind @p fd goes, fails the whole device (fq_device_fail()) with
 * @p status. Once. Owner; the device's queue has FQ_QUEUE_EPOLL. The end of the device cancels it.
 * @return 0; -EINVAL NULL, unknown flags, a status that is not negative; else as fq_watch_add().
 */
FQ_API int fq_device_watch(struct fq_device *dev, struct fq_death *death, int fd, unsigned flags,
			   int status);

/** The same for one context (fq_context_fail()), existing or not; one that is gone is no error. */
FQ_API int fq_context_watch(struct fq_device *dev, uint32_t ctx_id, struct fq_death *death, int fd,
			    unsigned flags, int status);

/** Owner. Does nothing to one that is not set, or has happened. */
FQ_API void fq_death_cancel(struct fq_death *death);

FQ_END_DECLS

#endif /* FENCEQ_WATCH_H */
