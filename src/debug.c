/* SPDX-License-Identifier: MIT */
#include "debug.h"

#ifdef FQ_DEBUG

#include <pthread.h>
#include <stdint.h>

#define OBJECTS 8192u /* a power of two */

/* Open addressing; what has died leaves a mark, so that a search goes on past it. */
static const void *objects[OBJECTS];
static const char dead;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static const void **find(const void *object)
{
	size_t i = ((uintptr_t)object >> 6) * 0x9e3779b1u % OBJECTS;

	for (size_t n = 0; n < OBJECTS && objects[i]; n++, i = (i + 1) % OBJECTS) {
		if (objects[i] == object)
			return &objects[i];
	}
	return NULL;
}

/* One too many is not known, and refused: a debug build is for hosts under development. */
void fq_debug_born(const void *object)
{
	size_t i = ((uintptr_t)object >> 6) * 0x9e3779b1u % OBJECTS;

	pthread_mutex_lock(&lock);
	for (size_t n = 0; n < OBJECTS; n++, i = (i + 1) % OBJECTS) {
		if (objects[i] && objects[i] != &dead)
			continue;
		objects[i] = object;
		break;
	}
	pthread_mutex_unlock(&lock);
}

void fq_debug_dead(const void *object)
{
	const void **found;

	pthread_mutex_lock(&lock);
	found = find(object);
	if (found)
		*found = &dead;
	pthread_mutex_unlock(&lock);
}

/* Another thread may have held it, who is not here. */
void fq_debug_after_fork_child(void)
{
	lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
}

bool fq_is_alive(const void *object)
{
	bool alive;

	if (!object)
		return false;
	pthread_mutex_lock(&lock);
	alive = find(object);
	pthread_mutex_unlock(&lock);
	return alive;
}

#else

/* ISO C wants something in every translation unit. */
typedef int fq_debug_is_off;

#endif
