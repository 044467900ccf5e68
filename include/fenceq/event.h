/* SPDX-License-Identifier: MIT */
#ifndef FENCEQ_EVENT_H
#define FENCEQ_EVENT_H

/**
 * @file event.h
 * @brief One-shot event: one thread waits, on its own stack, until another says that it is done.
 *
 * Overview
 *   An event is not set, then set once, with a status. It lives where its waiter likes, typically on
 *   the stack, and its memory may go the moment a wait has returned 0, however late the setter is in
 *   its call: the setter's last access to the event is the very one that the waiter sees.
 *
 * Usage
 *     struct fq_event done = FQ_EVENT_INIT;
 *     int status;
 *     hand_out(work, &done);             // somebody will fq_event_set(&done, status)
 *     fq_event_wait(&done, -1, &status); // and here `done` may go out of scope
 *
 * Guarantees
 *   | function         | who | progress                                        | system calls        |
 *   |------------------|-----|-------------------------------------------------|---------------------|
 *   | fq_event_set     | any | lock-free, no alloc; async-signal-safe (*)      | one, if one sleeps  |
 *   | fq_event_wait    | any | blocks                                          | one for each sleep  |
 *   | fq_event_is_set  | any | wait-free                                       | none                |
 *   (*) Not where the library was built without futex(2) (FENCEQ_PARK=mutex).
 *
 *   - What the setter wrote before is visible after the wait (release, acquire).
 *   - Neither is a cancellation point; both keep errno; a signal handler that runs in a wait does
 *     not end it.
 *   - A waiter that has timed out has not waited: the event is still the setter's, and its memory
 *     must stay until it is set or the setter is known not to come.
 *
 * Notes
 *   After the last access the setter still wakes sleepers by the event's address: should the memory
 *   have become somebody else's futex word, that one is woken without a reason, which every user of
 *   futex(2) allows for.
 */

#include <stdbool.h>
#include <stdint.h>

#include <fenceq/base.h>

FQ_BEGIN_DECLS

/** Caller memory. Initialise it with FQ_EVENT_INIT, fq_event_init(), or zeroes. */
struct fq_event {
	struct fq_word word; /**< the library's */
};

// clang-format off
#define FQ_EVENT_INIT {{0}}
// clang-format on

/** Makes it new: not set. Nobody else may be using it. */
FQ_API void fq_event_init(struct fq_event *event);

/**
 * Sets it and wakes whoever waits. Any thread.
 * @return 0; -EALREADY, and nothing changed, when it is set; -EINVAL NULL, or after fq_event_fini().
 *         The latter two only mean something while the memory is known to be there.
 */
FQ_API int fq_event_set(struct fq_event *event, int status);

/**
 * Waits until it is set; may be called again, and by several threads, while the memory is there.
 * @param status where to put what the setter said; NULL if of no interest.
 * @return 0; -ETIMEDOUT; -EINVAL NULL, or after fq_event_fini().
 */
FQ_API int fq_event_wait(struct fq_event *event, int64_t timeout_ns, int *status);

/** True when a wait would return 0 at once (acquire). Any thread. */
FQ_API bool fq_event_is_set(const struct fq_event *event);

/**
 * Optional. Lets later calls fail with -EINVAL as long as the memory stays; also those that wait at
 * this moment. To be used again it has to be initialised.
 */
FQ_API void fq_event_fini(struct fq_event *event);

FQ_END_DECLS

#endif /* FENCEQ_EVENT_H */
