/* SPDX-License-Identifier: MIT */
/*
 * What the library holds of the heap. The linker sends its calls here (--wrap); those of shared
 * libraries and of pthread_create do not come by.
 */
#define _GNU_SOURCE
#include <malloc.h>
#include <stddef.h>

#include "chaos.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void __real_free(void *p);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void __wrap_free(void *p);

static atomic_llong held;

long long heap_bytes(void)
{
	return atomic_load(&held);
}

static void *taken(void *p)
{
	atomic_fetch_add(&held, (long long)malloc_usable_size(p));
	return p;
}

static void given_back(void *p)
{
	atomic_fetch_sub(&held, (long long)malloc_usable_size(p));
}

void *__wrap_malloc(size_t size)
{
	return taken(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size)
{
	return taken(__real_calloc(count, size));
}

void *__wrap_realloc(void *p, size_t size)
{
	size_t before = malloc_usable_size(p);
	void *grown = __real_realloc(p, size);

	if (grown || !size)
		atomic_fetch_sub(&held, (long long)before);
	return grown ? taken(grown) : NULL;
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
	return taken(__real_aligned_alloc(alignment, size));
}

void __wrap_free(void *p)
{
	given_back(p);
	__real_free(p);
}
