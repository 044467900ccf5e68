/* SPDX-License-Identifier: MIT */
#ifndef FENCEQ_THREAD_H
#define FENCEQ_THREAD_H

/**
 * @file thread.h
 * @brief The read side: what keeps a device in memory while a poster looks at it; and fork.
 *
 * Overview
 *   fq_signal() finds its device by handle, while the owner may be destroying it. Two schemes keep
 *   the memory in place, and a poster needs to know neither:
 *   - A **registered** thread uses liburcu's read side (the memb flavour): about a nanosecond, no
 *     atomic read-modify-write.
 *   - Any **other** thread announces itself in the handle's own slot, in the same word that tells
 *     it whether the handle is still good: two read-modify-writes. It needs no registration, no
 *     allocation and no clean-up, so its first post is like its thousandth, and nothing is left
 *     behind when it exits.
 *   Registration is worth it for threads that post often; it is never required.
 *
 * fork
 *   The library installs no handlers (pthread_atfork); the hooks are the host's to call. A child that
 *   execs or ends with _exit needs none. One that goes on using the library calls, before anything
 *   else in it, fq_after_fork_child() once, then fq_queue_after_fork_child() for each queue that it
 *   goes on with. The parent calls nothing and is not disturbed.
 *
 *   - Queues, devices and handles are inherited as they were. What had been posted and not drained is
 *     now in both processes; a post that another thread was making may be in the child or not.
 *   - The owner's objects can be used in the child if nobody but the forking thread was inside an
 *     owner's call on them at the fork: fork on the owner, or under the lock that serialises owners.
 *     Others stay what they are, memory that is never freed; creating and ending devices, and
 *     fq_reclaim(), work whatever other threads were doing. (A queue whose unplugged device another
 *     thread was freeing stays -EBUSY.)
 *   - What was given to the host by fq_device_unplug() and has not run is the child's to run, too.
 *   - A reference that another thread held (fq_device_get()) is never given back in the child: when
 *     that device ends its memory stays.
 *   - Do not fork in a signal handler that interrupted a post and go on in the child.
 *   - In the child, and in its children, fq_thread_register() and its like count but have no effect:
 *     every post is an unknown thread's. liburcu-memb's registry holds threads that are not there, and
 *     its grace periods may wait for them for ever; so the library uses none there, nor should the
 *     host, who is not helped by liburcu in this.
 *
 * Unloading
 *   Not supported (dlclose of an object the library is linked into): handles live in its static
 *   memory, and threads may keep one for ever. Nothing has to be called at the end of the process;
 *   threads may go on posting while exit() runs.
 *
 * Aborts
 *   The library never aborts; liburcu does, in fq_thread_register(), fq_thread_unregister() and
 *   wherever a grace period is waited for (fq_device_destroy(), fq_reclaim(), deferred frees), if a
 *   mutex operation fails for other reasons than being held, or membarrier(2) fails after it worked
 *   when the process started (a seccomp filter installed later: allow it).
 *
 * Notes
 *   RCU as in M. Desnoyers et al., "User-Level Implementations of Read-Copy Update", 2012.
 *   A host that uses liburcu-memb itself may register its threads in either place; each
 *   fq_thread_register() must see its fq_thread_unregister() before liburcu's own unregistration.
 */

#include <stdbool.h>

#include <fenceq/base.h>

FQ_BEGIN_DECLS

/**
 * Registers the calling thread. Takes liburcu's registry mutex: never call it where a post must not
 * block. Calls nest.
 * @return 0; -EOVERFLOW when nested more than 2^31 deep.
 */
FQ_API int fq_thread_register(void);

/**
 * Takes back one fq_thread_register(); the last one unregisters. Before the thread exits.
 * @return 0; -EPERM when the thread is not registered.
 */
FQ_API int fq_thread_unregister(void);

/** True when the calling thread is registered. Wait-free. */
FQ_API bool fq_thread_registered(void);

/**
 * In a forked child that goes on using the library, before any other call into it and before it
 * starts a thread: forgets readers that are not there. See "fork" above. Async-signal-safe.
 */
FQ_API void fq_after_fork_child(void);

FQ_END_DECLS

#endif /* FENCEQ_THREAD_H */
