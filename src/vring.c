/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <fenceq/stats.h>

#include "debug.h"
#include "vring_internal.h"

/* Last of all in its callers: a host function may come back into this vring. */
static bool interrupt_raise(struct fq_vring *vr)
{
	if (vr->interrupt) {
		fq_count_owner(&vr->interrupts, 1);
		vr->interrupt(vr->opaque);
		return true;
	}
	return vr->call.fd >= 0 && fq_call_raise(vr);
}

#define KNOWN_FEATURES                                                                  \
	(FQ_VRING_INDIRECT | FQ_VRING_EVENT_IDX | FQ_VRING_PACKED | FQ_VRING_IN_ORDER | \
	 FQ_VRING_BATCH)

static bool config_valid(const struct fq_vring_config *config)
{
	for (size_t i = 0; i < sizeof(config->reserved) / sizeof(*config->reserved); i++) {
		if (config->reserved[i])
			return false;
	}
	return config->mem && config->size && config->size <= FQ_VRING_SIZE_MAX &&
	       config->max_chain <= FQ_VRING_CHAIN_MAX && !(config->features & ~KNOWN_FEATURES) &&
	       (!(config->features & FQ_VRING_BATCH) || (config->features & FQ_VRING_IN_ORDER));
}

int fq_vring_create(struct fq_vring **out, const struct fq_vring_config *config)
{
	struct fq_vring *vr;
	int r;

	if (!out)
		return -EINVAL;
	*out = NULL;
	if (!config || !config_valid(config))
		return -EINVAL;
	vr = calloc(1, sizeof(*vr) + config->size * sizeof(*vr->heads));
	if (!vr)
		return -ENOMEM;
	vr->mem = config->mem;
	vr->size = config->size;
	vr->features = config->features;
	vr->max_chain = config->max_chain ? config->max_chain : FQ_VRING_CHAIN_DEFAULT;
	vr->avail = config->avail_idx;
	vr->used = vr->shown = config->used_idx;
	vr->interrupt = config->interrupt;
	vr->opaque = config->opaque;
	r = (vr->features & FQ_VRING_PACKED ? fq_packed_init : fq_split_init)(vr, config);
	if (r) {
		free(vr);
		return r;
	}
	fq_call_set(&vr->call, config->call_fd);
	fq_debug_born(vr);
	*out = vr;
	return 0;
}

void fq_vring_destroy(struct fq_vring *vr)
{
	if (!fq_is_alive(vr))
		return;
	fq_debug_dead(vr);
	free(vr);
}

static bool is_broken(const struct fq_vring *vr)
{
	return fq_load_rlx(&vr->broken);
}

int fq_vring_pop(struct fq_vring *vr, struct fq_vring_chain *chain)
{
	uint16_t id;
	int r;

	if (!fq_is_alive(vr) || !chain || (!chain->iov && chain->iov_max))
		return -EINVAL;
	if (is_broken(vr))
		return -EIO;
	chain->readable = chain->writable = 0;
	chain->readable_len = chain->writable_len = 0;
	if (vr->stopped)
		return 0;
	r = vr->ops->pop(vr, chain, &id);
	if (r == 1) {
		struct fq_vring_head *head = &vr->heads[id];

		head->put_at = FQ_IN_FLIGHT;
		head->tag++;
		head->writable = (uint32_t)(chain->writable_len < UINT32_MAX ? chain->writable_len
									     : UINT32_MAX);
		if (vr->features & FQ_VRING_IN_ORDER)
			fq_line_add(vr, id);
		chain->buf = (struct fq_vring_buf){.id = id, .tag = head->tag};
		vr->in_flight++;
		fq_count_owner(&vr->popped, 1);
	} else if (r < 0 && r != -E2BIG) {
		fq_count_owner(&vr->errors, 1);
		fq_store_rlx(&vr->broken, 1);
	}
	return r;
}

int fq_vring_put(struct fq_vring *vr, struct fq_vring_buf buf, uint32_t len)
{
	struct fq_vring_head *head;

	if (!fq_is_alive(vr))
		return -EINVAL;
	head = &vr->heads[buf.id < vr->size ? buf.id : 0];
	if (buf.id >= vr->size || head->put_at != FQ_IN_FLIGHT || head->tag != buf.tag) {
		fq_count_owner(&vr->errors, 1);
		return -EINVAL;
	}
	if (vr->stopped || (vr->features & FQ_VRING_IN_ORDER)) {
		head->put_at = FQ_KEPT;
		head->len = len;
		if (!(vr->features & FQ_VRING_IN_ORDER))
			fq_line_add(vr, buf.id);
	} else {
		vr->ops->put(vr, buf.id, len, head->descs);
		head->put_at = ++vr->used;
	}
	vr->in_flight--;
	fq_count_owner(&vr->put, 1);
	return 0;
}

int fq_vring_publish(struct fq_vring *vr)
{
	uint64_t from;

	if (!fq_is_alive(vr))
		return -EINVAL;
	if (is_broken(vr))
		return -EIO;
	if (vr->stopped)
		return 0;
	fq_line_write(vr);
	if (vr->shown == vr->used)
		return 0;
	from = vr->shown;
	vr->shown = vr->used;
	fq_count_owner(&vr->publishes, 1);
	if (!vr->ops->publish(vr, from)) {
		fq_count_owner(&vr->suppressed, 1);
		return 0;
	}
	return interrupt_raise(vr);
}

void fq_vring_disable_kick(struct fq_vring *vr)
{
	if (fq_is_alive(vr) && !is_broken(vr) && !vr->stopped)
		vr->ops->disable_kick(vr);
}

bool fq_vring_enable_kick(struct fq_vring *vr)
{
	return fq_is_alive(vr) && !is_broken(vr) && !vr->stopped && vr->ops->enable_kick(vr);
}

void fq_vring_stop(struct fq_vring *vr)
{
	if (!fq_is_alive(vr))
		return;
	(void)fq_vring_publish(vr);
	if (!vr->stopped)
		vr->ops->mark_hints(vr);
	vr->stopped = true;
}

int fq_vring_start(struct fq_vring *vr)
{
	if (!fq_is_alive(vr))
		return -EINVAL;
	vr->stopped = false;
	return fq_vring_publish(vr);
}

void fq_vring_set_call(struct fq_vring *vr, int call_fd)
{
	if (!fq_is_alive(vr))
		return;
	fq_call_set(&vr->call, call_fd);
	if (!vr->interrupt && vr->call.fd >= 0)
		(void)fq_call_raise(vr);
}

uint16_t fq_vring_avail_idx(const struct fq_vring *vr)
{
	return fq_is_alive(vr) ? vr->avail : 0;
}

uint16_t fq_vring_used_idx(const struct fq_vring *vr)
{
	return fq_is_alive(vr) ? vr->ops->used_idx(vr) : 0;
}

uint32_t fq_vring_base(const struct fq_vring *vr)
{
	if (!fq_is_alive(vr) || !(vr->features & FQ_VRING_PACKED))
		return fq_vring_avail_idx(vr);
	return vr->avail | (uint32_t)vr->ops->used_idx(vr) << 16;
}

int fq_vring_config_base(struct fq_vring_config *config, uint32_t base)
{
	const uint16_t *used;

	if (!config)
		return -EINVAL;
	if (config->features & FQ_VRING_PACKED) {
		config->avail_idx = (uint16_t)base;
		config->used_idx = (uint16_t)(base >> 16);
		return 0;
	}
	used = fq_mem_at(config->mem, config->device, 4);
	if (!used)
		return -EFAULT;
	if ((uintptr_t)used % 4)
		return -EINVAL;
	config->avail_idx = (uint16_t)base;
	config->used_idx = fq_le16(fq_load16_rlx(&used[1]));
	return 0;
}

uint32_t fq_vring_in_flight(const struct fq_vring *vr)
{
	return fq_is_alive(vr) ? vr->in_flight : 0;
}

void fq_vring_get_stats(const struct fq_vring *vr, struct fq_vring_stats *out)
{
	if (!out)
		return;
	memset(out, 0, sizeof(*out));
	if (!fq_is_alive(vr))
		return;
	out->popped = fq_load_rlx(&vr->popped);
	out->put = fq_load_rlx(&vr->put);
	out->publishes = fq_load_rlx(&vr->publishes);
	out->interrupts = fq_load_rlx(&vr->interrupts);
	out->suppressed = fq_load_rlx(&vr->suppressed);
	out->call_errors = fq_load_rlx(&vr->call_errors);
	out->errors = fq_load_rlx(&vr->errors);
	out->broken = fq_load_rlx(&vr->broken);
}
