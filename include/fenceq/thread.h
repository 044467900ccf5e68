/* SPDX-License-Identifier: MIT */
#ifndef FENCEQ_THREAD_H
#define FENCEQ_THREAD_H

/**
 * @file thread.h
 * @brief The read side: what keeps a device in memory while a poster looks at it.
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

FQ_END_DECLS

#endif /* FENCEQ_THREAD_H */
