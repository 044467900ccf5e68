/* SPDX-License-Identifier: MIT */
/*
 * Posters complete fences of several timelines, out of order between them, by handle and by held
 * timeline, registered and not; the owner keeps each timeline full, sleeps when it can, and now and
 * then destroys a context or the whole device under them. Each fence is to retire once, in order,
 * and with status 0 not before its signal.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include <fenceq/fenceq.h>

#include "stress.h"

#define TIMELINES 12
#define DEPTH 64

struct line {
	uint32_t ctx_id, ring_idx;
	atomic_ullong submitted; /* highest token given out in this life; posters signal up to it */
	atomic_ullong signalled; /* highest token whose signal has begun */
	uint64_t retired;        /* owner: last token */
	unsigned pending;
	unsigned next;
	struct fq_fence fence[DEPTH];
};

static struct fq_queue *queue;
static struct fq_device *device;
static _Atomic fq_handle_t handle;
static struct line line[TIMELINES];
static atomic_bool stop;
static uint64_t submitted, retired, failed;
static atomic_ullong refused;

static void retire(struct fq_fence *fence, int status, void *opaque)
{
	struct line *l = fence->tag;

	(void)opaque;
	STRESS_CHECK(fence->token > l->retired, "token %llu after %llu",
		     (unsigned long long)fence->token, (unsigned long long)l->retired);
	l->retired = fence->token;
	if (!status)
		STRESS_CHECK(fence->token <= atomic_load(&l->signalled), "early");
	else
		STRESS_CHECK(status == -ECANCELED || status == -ENODEV, "status %d", status);
	l->pending--;
	retired++;
	failed += status != 0;
}

static void raise_max(atomic_ullong *word, unsigned long long v)
{
	unsigned long long old = atomic_load(word);

	while (old < v && !atomic_compare_exchange_weak(word, &old, v))
		;
}

static void *post(void *arg)
{
	uint64_t seed = *(uint64_t *)arg;

	if (seed & 1)
		STRESS_CHECK(!fq_thread_register(), "register");
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		uint64_t r = stress_random(&seed);
		struct line *l = &line[r % TIMELINES];
		/* Before the token: a token may be too new for its handle, never too old. */
		fq_handle_t to = atomic_load(&handle);
		unsigned long long token = atomic_load(&l->submitted);
		unsigned long long back = r >> 8 & 7;
		int err;

		if (!token)
			continue;
		token = token > back ? token - back : token;
		raise_max(&l->signalled, token);
		err = l->ctx_id ? fq_signal(to, l->ctx_id, l->ring_idx, token)
				: fq_signal_global(to, token);
		STRESS_CHECK(!err || err == -ESTALE || err == -ENOENT || err == -ENODEV ||
				     err == -ERANGE,
			     "signal: %d", err);
		if (err)
			atomic_fetch_add_explicit(&refused, 1, memory_order_relaxed);
		if (!(r >> 16 & 15))
			sched_yield();
	}
	if (seed & 1 && fq_thread_registered())
		fq_thread_unregister();
	return NULL;
}

static void fill(struct line *l)
{
	while (l->pending < DEPTH / 2) {
		struct fq_fence *f = &l->fence[l->next++ % DEPTH];
		int err;

		f->tag = l;
		err = l->ctx_id ? fq_submit(device, l->ctx_id, l->ring_idx, f)
				: fq_submit_global(device, f);
		STRESS_CHECK(!err, "submit: %d", err);
		l->pending++;
		submitted++;
		atomic_store(&l->submitted, f->token);
	}
}

static void create_device(void)
{
	struct fq_device_config config = {.queue = queue, .retire = retire};

	STRESS_CHECK(!fq_device_create(&device, &config), "device");
	for (unsigned i = 0; i < TIMELINES; i++) {
		line[i].retired = 0;
		atomic_store(&line[i].submitted, 0);
		atomic_store(&line[i].signalled, 0);
	}
	atomic_store(&handle, fq_device_handle(device));
}

static void disturb(uint64_t r)
{
	if (r % 512 == 0) {
		STRESS_CHECK(!fq_device_destroy(device), "destroy");
		create_device();
	} else if (r % 16 == 0) {
		uint32_t ctx_id = 1 + (uint32_t)(r >> 16) % 3;
		int err = fq_context_destroy(device, ctx_id);

		STRESS_CHECK(!err || err == -ENOENT, "context: %d", err);
	}
}

static void own(struct stress_options *o)
{
	int64_t end = stress_now_ns() + (int64_t)(o->seconds * 1e9);

	while (stress_now_ns() < end) {
		for (unsigned i = 0; i < TIMELINES; i++)
			fill(&line[i]);
		STRESS_CHECK(fq_queue_wait(queue, 20000000000) > 0, "lost wake-up");
		(void)fq_queue_drain(queue, stress_random(&o->seed) % 2 ? 7 : FQ_NO_BUDGET);
		disturb(stress_random(&o->seed));
	}
}

int main(int argc, char **argv)
{
	struct stress_options o = stress_parse(argc, argv, 4);
	pthread_t *thread = calloc(o.threads, sizeof(*thread));
	uint64_t *seed = calloc(o.threads, sizeof(*seed));

	STRESS_CHECK(thread && seed, "memory");
	STRESS_CHECK(!fq_queue_create(&queue, o.seed & 2 ? FQ_QUEUE_HOOKS : 0), "queue");
	/* Line 0 is the global timeline, the others are rings of contexts 1 to 4. */
	for (unsigned i = 1; i < TIMELINES; i++) {
		line[i].ctx_id = 1 + i % 4;
		line[i].ring_idx = i * 5;
	}
	create_device();
	for (unsigned i = 0; i < o.threads; i++) {
		seed[i] = (stress_random(&o.seed) & ~UINT64_C(1)) | (i & 1);
		pthread_create(&thread[i], NULL, post, &seed[i]);
	}
	own(&o);
	atomic_store(&stop, true);
	STRESS_CHECK(!fq_device_destroy(device), "destroy");
	for (unsigned i = 0; i < o.threads; i++)
		pthread_join(thread[i], NULL);
	printf("submitted %llu, retired %llu, failed %llu, refused %llu\n",
	       (unsigned long long)submitted, (unsigned long long)retired,
	       (unsigned long long)failed, (unsigned long long)atomic_load(&refused));
	STRESS_CHECK(submitted == retired, "lost");
	STRESS_CHECK(!fq_queue_destroy(queue), "queue");
	free(thread);
	free(seed);
	puts("ok");
	return 0;
}
