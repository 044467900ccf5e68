/* SPDX-License-Identifier: MIT */
#include "device_internal.h"

/* References: what keeps a device that has ended in memory, for threads other than its owner. */

fq_a64 fq_last_puts;

int fq_device_get(fq_handle_t handle, struct fq_device **out)
{
	struct fq_read read;
	int err;

	if (!out)
		return -EINVAL;
	err = fq_read_begin(handle, &read);
	if (err)
		return err;
	/* Nobody looks for the last reference before this read side has ended (H1, H3). */
	fq_add_rlx(&read.device->references, FQ_REFERENCE);
	fq_read_end(&read);
	*out = read.device;
	return 0;
}

bool fq_device_put(struct fq_device *dev)
{
	/* D1: what its holder did with the device comes before its end; D2 */
	if (fq_add_acqrel(&dev->references, -FQ_REFERENCE) != (FQ_REFERENCE | FQ_ENDED))
		return false;
	fq_add_acqrel(&fq_last_puts, 1); /* D3: pairs with fq_reclaim */
	return true;
}

void *fq_device_opaque(const struct fq_device *dev)
{
	return dev->sink.opaque;
}

bool fq_device_ended(const struct fq_device *dev)
{
	return fq_load_acq(&dev->references) & FQ_ENDED; /* D2 */
}
