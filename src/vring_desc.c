/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "vring_internal.h"

/* Descriptors, in a ring or in a table, and the buffers they describe: what both layouts share. */

/*
 * More is for no driver to offer (2.7.5.2). It bounds how often one chain can be made to go over all
 * regions, and so what a pop can cost.
 */
#define CHAIN_BYTES_MAX (UINT64_C(1) << 32)

int fq_walk_add(const struct fq_vring *vr, struct fq_walk *walk, uint64_t gpa, uint32_t len,
		bool writable)
{
	struct fq_vring_chain *chain = walk->chain;
	uint64_t left = len;

	if ((walk->writing && !writable) ||
	    chain->readable_len + chain->writable_len + len > CHAIN_BYTES_MAX)
		return -EBADMSG;
	walk->writing = writable;
	/* Past the top of the address space there is no memory, least of all that at 0. */
	if (len && len - 1 > UINT64_MAX - gpa)
		return -EFAULT;
	while (left) {
		uint64_t piece = left;
		void *hva = fq_mem_piece(vr->mem, gpa, &piece);

		if (!hva)
			return -EFAULT;
		if (walk->pieces < chain->iov_max)
			chain->iov[walk->pieces] = (struct iovec){hva, piece};
		walk->pieces++;
		*(writable ? &chain->writable : &chain->readable) += 1;
		gpa += piece;
		left -= piece;
	}
	*(writable ? &chain->writable_len : &chain->readable_len) += len;
	return 0;
}

/* Indirect tables need no alignment and may cross regions anywhere. */
static int read_bytes(const struct fq_mem *mem, uint64_t gpa, uint64_t words[2])
{
	words[0] = words[1] = 0;
	for (uint32_t i = 0; i < FQ_DESC_BYTES; i++) {
		const volatile uint8_t *byte = fq_mem_at(mem, gpa + i, 1);

		if (!byte)
			return -EFAULT;
		words[i / 8] |= (uint64_t)*byte << (i % 8 * 8);
	}
	return 0;
}

int fq_table_read(const struct fq_mem *mem, const struct fq_table *table, uint32_t i,
		  uint64_t words[2])
{
	uint64_t offset = (uint64_t)i * FQ_DESC_BYTES;
	const char *p = table->hva + offset;

	if (offset + FQ_DESC_BYTES > table->mapped || (uintptr_t)p % sizeof(uint64_t))
		return read_bytes(mem, table->gpa + offset, words);

	const uint64_t *desc = (const void *)p;

	words[0] = fq_le64(fq_load64_rlx(&desc[0]));
	words[1] = fq_le64(fq_load64_rlx(&desc[1]));
	return 0;
}

int fq_table_enter(const struct fq_vring *vr, struct fq_table *table, uint64_t gpa, uint32_t len)
{
	if (!(vr->features & FQ_VRING_INDIRECT) || !len || len % FQ_DESC_BYTES)
		return -EBADMSG;
	if (len - 1 > UINT64_MAX - gpa)
		return -EFAULT;
	table->gpa = gpa;
	table->count = len / FQ_DESC_BYTES;
	table->mapped = len;
	table->hva = fq_mem_piece(vr->mem, gpa, &table->mapped);
	return table->hva ? 0 : -EFAULT;
}

/* The host's pointer is checked too: a region need not be aligned as its guest address is. */
int fq_ring_part(const struct fq_mem *mem, uint64_t gpa, uint64_t len, unsigned align, void **out)
{
	if (gpa % align)
		return -EINVAL;
	*out = fq_mem_at(mem, gpa, len);
	if (!*out)
		return -EFAULT;
	return (uintptr_t)*out % align ? -EINVAL : 0;
}
