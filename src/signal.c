/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "device_internal.h"

/* What posters call. */

static int refuse(fq_a64 *counter, int err)
{
	fq_count(counter);
	return err;
}

/* The timeline that a poster means; the caller is inside a read side. */
static int find_timeline(struct fq_device *dev, uint32_t ctx_id, uint32_t ring_idx,
			 struct fq_timeline **tl)
{
	struct fq_bank *bank;

	if (ring_idx >= FQ_RINGS)
		return refuse(&dev->sink.refused_invalid, -EINVAL);
	bank = fq_table_find(&dev->contexts, ctx_id);
	*tl = bank ? fq_ptr_load_acq(&bank->ring[ring_idx]) : NULL; /* B4 */
	return *tl ? 0 : refuse(&dev->sink.refused_unknown, -ENOENT);
}

/* The highest token given out that ends in these 32 bits; one never given out when there is none. */
static uint64_t widen(const struct fq_timeline *tl, uint32_t low)
{
	uint64_t submitted = fq_load_rlx(&tl->submitted);
	uint64_t token = (submitted & ~(uint64_t)UINT32_MAX) | low;

	if (token > submitted && token > UINT32_MAX)
		token -= UINT64_C(1) << 32;
	return token;
}

/* Inlined into each of its callers: what is constant there costs nothing. */
static inline int signal_ring(fq_handle_t handle, uint32_t ctx_id, uint32_t ring_idx,
			      uint64_t token, bool narrow)
{
	struct fq_timeline *tl;
	struct fq_read read;
	int err = fq_read_begin(handle, &read);

	if (err)
		return err;
	err = find_timeline(read.device, ctx_id, ring_idx, &tl);
	if (!err)
		err = fq_timeline_signal(tl, narrow ? widen(tl, (uint32_t)token) : token);
	fq_read_end(&read);
	return err;
}

static inline int signal_global(fq_handle_t handle, uint64_t token, bool narrow)
{
	struct fq_timeline *tl;
	struct fq_read read;
	int err = fq_read_begin(handle, &read);

	if (err)
		return err;
	tl = read.device->global;
	err = fq_timeline_signal(tl, narrow ? widen(tl, (uint32_t)token) : token);
	fq_read_end(&read);
	return err;
}

int fq_signal(fq_handle_t handle, uint32_t ctx_id, uint32_t ring_idx, uint64_t token)
{
	return signal_ring(handle, ctx_id, ring_idx, token, false);
}

int fq_signal32(fq_handle_t handle, uint32_t ctx_id, uint32_t ring_idx, uint32_t token)
{
	return signal_ring(handle, ctx_id, ring_idx, token, true);
}

int fq_signal_global(fq_handle_t handle, uint64_t token)
{
	return signal_global(handle, token, false);
}

int fq_signal_global32(fq_handle_t handle, uint32_t token)
{
	return signal_global(handle, token, true);
}
