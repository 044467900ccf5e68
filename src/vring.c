/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <fenceq/stats.h>

#include "debug.h"
#include "vring_internal.h"

/* What only a poll can tell of a blocking fd, and the peer can make untrue at once. */
static bool call_full(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	int r;

	do
		r = poll(&p, 1, 0);
	while (r < 0 && errno == EINTR);
	return r == 0;
}

/* A full counter (or pipe) is readable already: the interrupt is as good as raised. */
static bool call_write(const struct fq_call_fd *call)
{
	const uint64_t one = 1;
	ssize_t r;

	if (call->blocking && call_full(call->fd))
		return true;
	do
		r = write(call->fd, &one, sizeof(one));
	while (r < 0 && errno == EINTR);
	return r == sizeof(one) || (r < 0 && errno == EAGAIN);
}

/* The signal goes to the writing thread, so it can be taken back before anybody sees it. */
static bool call_write_no_sigpipe(const struct fq_call_fd *call)
{
	const struct timespec now = {0, 0};
	sigset_t sigpipe, before, pending;
	bool ok;

	sigemptyset(&sigpipe);
	sigaddset(&sigpipe, SIGPIPE);
	sigemptyset(&pending);
	pthread_sigmask(SIG_BLOCK, &sigpipe, &before);
	sigpending(&pending);
	ok = call_write(call);
	if (!ok && errno == EPIPE && !sigismember(&pending, SIGPIPE)) {
		while (sigtimedwait(&sigpipe, NULL, &now) < 0 && errno == EINTR)
			;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return ok;
}

static void call_set(struct fq_call_fd *call, int fd)
{
	int saved = errno, flags;
	struct stat st;

	*call = (struct fq_call_fd){.fd = fd < 0 ? -1 : fd};
	if (fd < 0)
		return;
	flags = fcntl(fd, F_GETFL);
	call->blocking = flags >= 0 && !(flags & O_NONBLOCK);
	call->sigpipe = !fstat(fd, &st) && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode));
	errno = saved;
}

/* Neither errno nor a pending cancellation of the thread may learn of it. */
static bool call_raise(struct fq_vring *vr)
{
	int saved = errno, cancel;
	bool ok;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	ok = vr->call.sigpipe ? call_write_no_sigpipe(&vr->call) : call_write(&vr->call);
	pthread_setcancelstate(cancel, NULL);
	errno = saved;
	fq_count_owner(ok ? &vr->interrupts : &vr->call_errors, 1);
	return ok;
}

/* Last of all in its callers: a host function may come back into this vring. */
static bool interrupt_raise(struct fq_vring *vr)
{
	if (vr->interrupt) {
		fq_count_owner(&vr->interrupts, 1);
		vr->interrupt(vr->opaque);
		return true;
	}
	return vr->call.fd >= 0 && call_raise(vr);
}

static bool config_valid(const struct fq_vring_config *config)
{
	for (size_t i = 0; i < sizeof(config->reserved) / sizeof(*config->reserved); i++) {
		if (config->reserved[i])
			return false;
	}
	return config->mem && config->size && config->size <= FQ_VRING_SIZE_MAX &&
	       !(config->features & ~(FQ_VRING_INDIRECT | FQ_VRING_EVENT_IDX));
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
	vr->avail = config->avail_idx;
	vr->used = vr->shown = config->used_idx;
	vr->interrupt = config->interrupt;
	vr->opaque = config->opaque;
	r = fq_split_init(vr, config);
	if (r) {
		free(vr);
		return r;
	}
	call_set(&vr->call, config->call_fd);
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

int fq_walk_add(const struct fq_vring *vr, struct fq_walk *walk, uint64_t gpa, uint32_t len,
		bool writable)
{
	struct fq_vring_chain *chain = walk->chain;
	uint64_t left = len;

	if (walk->writing && !writable)
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
		chain->buf = (struct fq_vring_buf){.id = id, .tag = head->tag};
		vr->in_flight++;
		fq_count_owner(&vr->popped, 1);
	} else if (r < 0 && r != -E2BIG) {
		fq_count_owner(&vr->errors, 1);
		fq_store_rlx(&vr->broken, 1);
	}
	return r;
}

static void write_used(struct fq_vring *vr, uint16_t id, uint32_t len)
{
	vr->ops->put(vr, id, len);
	vr->heads[id].put_at = ++vr->used;
}

static void keep(struct fq_vring *vr, uint16_t id, uint32_t len)
{
	vr->heads[id].put_at = FQ_KEPT;
	vr->heads[id].kept_len = len;
	if (vr->kept++)
		vr->heads[vr->kept_last].kept_next = id;
	else
		vr->kept_first = id;
	vr->kept_last = id;
}

int fq_vring_put(struct fq_vring *vr, struct fq_vring_buf buf, uint32_t len)
{
	if (!fq_is_alive(vr))
		return -EINVAL;
	if (buf.id >= vr->size || vr->heads[buf.id].put_at != FQ_IN_FLIGHT ||
	    vr->heads[buf.id].tag != buf.tag) {
		fq_count_owner(&vr->errors, 1);
		return -EINVAL;
	}
	if (vr->stopped)
		keep(vr, buf.id, len);
	else
		write_used(vr, buf.id, len);
	vr->in_flight--;
	fq_count_owner(&vr->put, 1);
	return 0;
}

int fq_vring_publish(struct fq_vring *vr)
{
	if (!fq_is_alive(vr))
		return -EINVAL;
	if (is_broken(vr))
		return -EIO;
	if (vr->shown == vr->used || vr->stopped)
		return 0;
	vr->shown = vr->used;
	fq_count_owner(&vr->publishes, 1);
	if (!vr->ops->publish(vr)) {
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
	vr->stopped = true;
}

int fq_vring_start(struct fq_vring *vr)
{
	if (!fq_is_alive(vr))
		return -EINVAL;
	vr->stopped = false;
	for (; vr->kept; vr->kept--) {
		uint16_t id = vr->kept_first;

		vr->kept_first = vr->heads[id].kept_next;
		write_used(vr, id, vr->heads[id].kept_len);
	}
	return fq_vring_publish(vr);
}

void fq_vring_set_call(struct fq_vring *vr, int call_fd)
{
	if (!fq_is_alive(vr))
		return;
	call_set(&vr->call, call_fd);
	if (!vr->interrupt && vr->call.fd >= 0)
		(void)call_raise(vr);
}

uint16_t fq_vring_avail_idx(const struct fq_vring *vr)
{
	return fq_is_alive(vr) ? vr->avail : 0;
}

uint16_t fq_vring_used_idx(const struct fq_vring *vr)
{
	return fq_is_alive(vr) ? (uint16_t)vr->used : 0;
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
