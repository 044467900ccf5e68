/* SPDX-License-Identifier: MIT */
#ifndef FQ_DEBUG_H
#define FQ_DEBUG_H

/*
 * Owners that go on using what they have destroyed. A debug build (FENCEQ_DEBUG in CMake) knows its
 * live objects and refuses others with -EINVAL, without a look at their memory; other builds refuse
 * NULL.
 */

#include <stdbool.h>
#include <stddef.h>

#ifdef FQ_DEBUG
void fq_debug_born(const void *object);
void fq_debug_dead(const void *object);
void fq_debug_after_fork_child(void);
bool fq_is_alive(const void *object);
#else
static inline void fq_debug_born(const void *object)
{
	(void)object;
}

static inline void fq_debug_dead(const void *object)
{
	(void)object;
}

static inline void fq_debug_after_fork_child(void)
{
}

static inline bool fq_is_alive(const void *object)
{
	return object != NULL;
}
#endif

#endif /* FQ_DEBUG_H */
