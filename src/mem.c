/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "mem_internal.h"

/* Last bytes are compared, not ends: a region may end at the very top of an address space. */
static bool region_valid(const struct fq_mem_region *r)
{
	return r->hva && r->size && r->size - 1 <= UINT64_MAX - r->gpa &&
	       r->size - 1 <= UINTPTR_MAX - (uintptr_t)r->hva;
}

static int by_gpa(const void *a, const void *b)
{
	const struct fq_mem_region *x = a, *y = b;

	return (x->gpa > y->gpa) - (x->gpa < y->gpa);
}

/* Of sorted regions. Aliases (one hva at two guest addresses) are the host's business. */
static bool regions_overlap(const struct fq_mem_region *regions, size_t count)
{
	for (size_t i = 1; i < count; i++) {
		if (regions[i].gpa - regions[i - 1].gpa < regions[i - 1].size)
			return true;
	}
	return false;
}

int fq_mem_create(struct fq_mem **out, const struct fq_mem_region *regions, size_t count)
{
	struct fq_mem *mem;

	if (!out)
		return -EINVAL;
	*out = NULL;
	if (!regions && count)
		return -EINVAL;
	for (size_t i = 0; i < count; i++) {
		if (!region_valid(&regions[i]))
			return -EINVAL;
	}
	if (count > (SIZE_MAX - sizeof(*mem)) / sizeof(*regions))
		return -ENOMEM;
	mem = malloc(sizeof(*mem) + count * sizeof(*regions));
	if (!mem)
		return -ENOMEM;
	mem->log = calloc(1, sizeof(*mem->log));
	if (!mem->log) {
		free(mem);
		return -ENOMEM;
	}
	mem->count = count;
	if (count) {
		memcpy(mem->regions, regions, count * sizeof(*regions));
		qsort(mem->regions, count, sizeof(*regions), by_gpa);
	}
	if (regions_overlap(mem->regions, count)) {
		fq_mem_destroy(mem);
		return -EINVAL;
	}
	*out = mem;
	return 0;
}

void fq_mem_destroy(struct fq_mem *mem)
{
	if (!mem)
		return;
	free(mem->log);
	free(mem);
}

static const struct fq_mem_region *find(const struct fq_mem *mem, uint64_t gpa)
{
	size_t low = 0, high = mem ? mem->count : 0;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (mem->regions[mid].gpa <= gpa)
			low = mid + 1;
		else
			high = mid;
	}
	if (!low)
		return NULL;

	const struct fq_mem_region *r = &mem->regions[low - 1];

	return gpa - r->gpa < r->size ? r : NULL;
}

void *fq_mem_piece(const struct fq_mem *mem, uint64_t gpa, uint64_t *len)
{
	if (!len)
		return NULL;

	const struct fq_mem_region *r = find(mem, gpa);

	if (!r) {
		*len = 0;
		return NULL;
	}

	uint64_t offset = gpa - r->gpa;

	if (*len > r->size - offset)
		*len = r->size - offset;
	return (char *)r->hva + offset;
}

void *fq_mem_at(const struct fq_mem *mem, uint64_t gpa, uint64_t len)
{
	uint64_t have = len;
	void *p = fq_mem_piece(mem, gpa, &have);

	return have == len ? p : NULL;
}
