/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "bytes.h"
#include "mem_internal.h"

int fq_mem_set_log(struct fq_mem *mem, void *bitmap, uint64_t bytes)
{
	struct fq_log *log;
	uint64_t word, change;

	if (!mem || (uintptr_t)bitmap % 8 || bytes % 8 || !bitmap != !bytes)
		return -EINVAL;
	log = mem->log;
	if (!fq_mem_log_idle(mem))
		return -EBUSY;
	word = fq_load_rlx(&log->word);
	log->bitmap[word / FQ_LOG_CHANGE % 2 ^ 1] = (struct fq_log_bitmap){bitmap, bytes / 8};
	change = FQ_LOG_CHANGE;
	if (!(word & FQ_LOG_ON) != !bitmap)
		change += bitmap ? FQ_LOG_ON : -FQ_LOG_ON;
	log->clean = !(word & FQ_LOG_ON); /* nobody marks what is none */
	/* M1: pairs with the markers' counting. */
	(void)fq_add_acqrel(&log->word, change);
	return 0;
}

bool fq_mem_log_idle(struct fq_mem *mem)
{
	if (!mem)
		return true;
	/* M2: pairs with the last thing a marker does. */
	if (!mem->log->clean && !(fq_load_acq(&mem->log->word) & FQ_LOG_COUNT))
		mem->log->clean = true;
	return mem->log->clean;
}

static void mark_word(const struct fq_log_bitmap *bitmap, uint64_t i, uint64_t bits)
{
	bits = fq_le64(bits);
	/* Whoever clears them copies the pages after that: what is set needs no second time. */
	if (i < bitmap->count && (fq_load_rlx(&bitmap->words[i]) & bits) != bits)
		fq_or_acqrel(&bitmap->words[i], bits);
}

/* Pages from first to last, a word at a time. */
static void mark_pages(const struct fq_log_bitmap *bitmap, uint64_t first, uint64_t last)
{
	for (; first / 64 < last / 64 && first / 64 < bitmap->count; first = (first / 64 + 1) * 64)
		mark_word(bitmap, first / 64, UINT64_MAX << first % 64);
	if (first / 64 == last / 64)
		mark_word(bitmap, first / 64,
			  (UINT64_MAX << first % 64) & (UINT64_MAX >> (63 - last % 64)));
}

/* Counted: the bitmap stays. @return NULL when there is none. */
static const struct fq_log_bitmap *log_begin(const struct fq_mem *mem)
{
	uint64_t word;

	if (!mem)
		return NULL;
	/* M3: what has been written; then, is there a log? With whoever reads pages after a change. */
	fq_full_barrier();
	if (!fq_mem_is_logged(mem))
		return NULL;
	/* M1: pairs with the change of the log. */
	word = fq_add_acqrel(&mem->log->word, 1);
	if (word & FQ_LOG_ON)
		return &mem->log->bitmap[word / FQ_LOG_CHANGE % 2];
	(void)fq_add_rel(&mem->log->word, (uint64_t)-1);
	return NULL;
}

static void log_end(const struct fq_mem *mem)
{
	/* M2: pairs with fq_mem_log_idle(). */
	(void)fq_add_rel(&mem->log->word, (uint64_t)-1);
}

static void mark_range(const struct fq_log_bitmap *bitmap, uint64_t gpa, uint64_t len)
{
	if (!len)
		return;
	if (len - 1 > UINT64_MAX - gpa)
		len = UINT64_MAX - gpa + 1;
	mark_pages(bitmap, gpa / FQ_LOG_PAGE, (gpa + len - 1) / FQ_LOG_PAGE);
}

void fq_mem_mark(const struct fq_mem *mem, uint64_t gpa, uint64_t len)
{
	const struct fq_log_bitmap *bitmap = log_begin(mem);

	if (!bitmap)
		return;
	mark_range(bitmap, gpa, len);
	log_end(mem);
}

/* Wherever this memory is the guest's: it may be so at several addresses. */
static void mark_here(const struct fq_mem *mem, const struct fq_log_bitmap *bitmap, uintptr_t at,
		      uint64_t len)
{
	for (size_t i = 0; i < mem->count; i++) {
		const struct fq_mem_region *r = &mem->regions[i];
		uintptr_t base = (uintptr_t)r->hva;

		if (at >= base && at - base < r->size)
			mark_range(bitmap, r->gpa + (at - base),
				   len < r->size - (at - base) ? len : r->size - (at - base));
	}
}

void fq_mem_mark_iov(const struct fq_mem *mem, const struct iovec *iov, size_t count, uint64_t len)
{
	const struct fq_log_bitmap *bitmap = iov || !count ? log_begin(mem) : NULL;

	if (!bitmap)
		return;
	for (size_t i = 0; i < count && len; i++) {
		uint64_t piece = iov[i].iov_len < len ? iov[i].iov_len : len;

		mark_here(mem, bitmap, (uintptr_t)iov[i].iov_base, piece);
		len -= piece;
	}
	log_end(mem);
}
