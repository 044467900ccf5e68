/* SPDX-License-Identifier: MIT */
#ifndef FENCEQ_NOTIFIER_H
#define FENCEQ_NOTIFIER_H

/**
 * @file notifier.h
 * @brief A file descriptor that one thread makes readable and another clears.
 *
 * Overview
 *   An eventfd where the system has one, a pipe elsewhere (or on request, for tests). It carries no
 *   payload and counts nothing: it is readable, or it is not. A queue owns one; the type is public
 *   because hosts need the same thing for call and kick fds of their own.
 *
 * Guarantees
 *   | function           | who           | progress  | system calls      |
 *   |--------------------|---------------|-----------|-------------------|
 *   | fq_notifier_signal | any thread    | wait-free | one write         |
 *   | fq_notifier_clear  | one at a time | wait-free | one read          |
 *   | fq_notifier_wait   | one at a time | blocks    | one ppoll         |
 *
 *   fq_notifier_signal() keeps errno, is async-signal-safe and is no cancellation point. A counter
 *   that is full counts as success: the fd is readable, which is all that was asked.
 */

#include <stdbool.h>
#include <stdint.h>

#include <fenceq/base.h>

FQ_BEGIN_DECLS

/** Use a pipe although the system has eventfd. */
#define FQ_NOTIFIER_PIPE 1u

/** Caller memory; both fds are non-blocking and close-on-exec, and equal when it is an eventfd. */
struct fq_notifier {
	int rfd; /**< becomes readable; poll this one */
	int wfd; /**< written by fq_notifier_signal() */
};

/**
 * Opens the descriptors. @p flags is 0 or FQ_NOTIFIER_PIPE.
 * @return 0; -EINVAL for unknown flags or NULL; -EMFILE, -ENFILE, -ENOMEM, -ENODEV from the system.
 */
FQ_API FQ_MUST_USE int fq_notifier_init(struct fq_notifier *n, unsigned flags);

/**
 * In a forked child: replaces the descriptors, which are the parent's too, by new ones of the same
 * numbers, not readable.
 * @return 0; -EINVAL NULL or they were closed; errors as fq_notifier_init(), nothing changed.
 */
FQ_API FQ_MUST_USE int fq_notifier_after_fork_child(struct fq_notifier *n);

/** Closes the descriptors. Nobody may be inside another call. */
FQ_API void fq_notifier_fini(struct fq_notifier *n);

/**
 * Makes the fd readable. Any thread.
 * Orders everything the caller did before it ahead of what a thread does after it saw the fd
 * readable (the kernel's own ordering of write and read).
 */
FQ_API void fq_notifier_signal(const struct fq_notifier *n);

/**
 * Makes the fd unreadable again.
 * @return true when it was readable.
 */
FQ_API bool fq_notifier_clear(const struct fq_notifier *n);

/**
 * Waits until the fd is readable, without clearing it.
 * @param timeout_ns negative: for ever; 0: only look.
 * @return 1 readable, 0 time-out, -EINTR a signal handler ran, other -errno from ppoll.
 */
FQ_API int fq_notifier_wait(const struct fq_notifier *n, int64_t timeout_ns);

FQ_END_DECLS

#endif /* FENCEQ_NOTIFIER_H */
