/* SPDX-License-Identifier: MIT */
/*
 * Many posters (64 unless told otherwise) signal without a pause while the owner unplugs and destroys
 * the device under them, time after time: it waits for nobody it need not wait for, each fence comes
 * back once, and no memory that is gone is touched (for which this runs under sanitizers, too).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include <fenceq/fenceq.h>

#include "stress.h"

#define RINGS 4u
#define DEPTH 8u
#define DEFERRED 256u

/* ThreadSanitizer's own locks starve a writer among 64 readers that never pause. */
#if defined(__SANITIZE_THREAD__)
#define POSTERS 6u
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define POSTERS 6u
#endif
#endif
#ifndef POSTERS
#define POSTERS 64u
#endif

static struct fq_queue *queue;
static struct fq_device *device;
static _Atomic fq_handle_t handle;
static atomic_ullong submitted_to[RINGS]; /* highest token of this device */
static atomic_ullong signalled_to[RINGS]; /* highest token of any device that was signalled */
static atomic_bool stop;
static atomic_ullong accepted, refused;

static struct fq_fence fence[RINGS][DEPTH];
static uint64_t last[RINGS], submitted, retired, failed, unplugs, destroys;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
	void (*run)(void *arg);
	void *arg;
} deferred[DEFERRED];
static unsigned deferred_count;

static void retire(struct fq_fence *f, int status, void *opaque)
{
	uintptr_t ring = (uintptr_t)f->tag;

	(void)opaque;
	STRESS_CHECK(f->token > last[ring], "out of order");
	STRESS_CHECK(status == 0 || status == -ENODEV, "status %d", status);
	STRESS_CHECK(status || f->token <= atomic_load(&signalled_to[ring]), "early");
	last[ring] = f->token;
	retired++;
	failed += status != 0;
}

static void signal_one(uint64_t r)
{
	uint32_t ring = (uint32_t)(r % RINGS);
	/* Before the token: that may be too new for the handle, never too old. */
	fq_handle_t to = atomic_load(&handle);
	unsigned long long token = atomic_load(&submitted_to[ring]);
	unsigned long long old = atomic_load(&signalled_to[ring]);
	int err;

	if (!to || !token)
		return;
	while (old < token && !atomic_compare_exchange_weak(&signalled_to[ring], &old, token))
		;
	err = ring ? fq_signal(to, ring, ring, token) : fq_signal_global(to, token);
	STRESS_CHECK(!err || err == -ENODEV || err == -ENOENT || err == -ERANGE || err == -ESTALE,
		     "signal: %d", err);
	atomic_fetch_add_explicit(err ? &refused : &accepted, 1, memory_order_relaxed);
}

static void *post(void *arg)
{
	uint64_t seed = *(uint64_t *)arg;
	bool registered = seed & 1;

	if (registered)
		STRESS_CHECK(!fq_thread_register(), "register");
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		if (POSTERS < 64)
			sched_yield();
		signal_one(stress_random(&seed));
	}
	if (registered)
		STRESS_CHECK(!fq_thread_unregister(), "unregister");
	return NULL;
}

static void defer(void (*run)(void *arg), void *arg, void *opaque)
{
	(void)opaque;
	pthread_mutex_lock(&lock);
	STRESS_CHECK(deferred_count < DEFERRED, "no room");
	deferred[deferred_count].run = run;
	deferred[deferred_count++].arg = arg;
	pthread_mutex_unlock(&lock);
}

/* @return whether there was one. */
static bool run_deferred(void)
{
	void (*run)(void *arg) = NULL;
	void *arg = NULL;

	pthread_mutex_lock(&lock);
	if (deferred_count) {
		run = deferred[--deferred_count].run;
		arg = deferred[deferred_count].arg;
	}
	pthread_mutex_unlock(&lock);
	if (run)
		run(arg);
	return run;
}

static void *reap(void *unused)
{
	const struct timespec pause = {.tv_nsec = 1000000};

	(void)unused;
	while (!atomic_load(&stop)) {
		(void)fq_reclaim();
		if (!run_deferred())
			nanosleep(&pause, NULL);
	}
	return NULL;
}

static void plug_in(void)
{
	const struct fq_device_config config = {.queue = queue, .retire = retire};

	STRESS_CHECK(!fq_device_create(&device, &config), "device");
	for (uint32_t ring = 0; ring < RINGS; ring++) {
		atomic_store(&submitted_to[ring], 0);
		atomic_store(&signalled_to[ring], 0);
		last[ring] = 0;
	}
	atomic_store(&handle, fq_device_handle(device));
}

static void submit_all(void)
{
	for (uint32_t ring = 0; ring < RINGS; ring++) {
		for (unsigned i = 0; i < DEPTH; i++) {
			struct fq_fence *f = &fence[ring][i];

			if (f->timeline)
				continue;
			f->tag = (void *)(uintptr_t)ring;
			STRESS_CHECK(!(ring ? fq_submit(device, ring, ring, f)
					    : fq_submit_global(device, f)),
				     "submit");
			submitted++;
			atomic_store(&submitted_to[ring], f->token);
		}
	}
}

static void pull_out(uint64_t r)
{
	bool full;

	pthread_mutex_lock(&lock);
	full = deferred_count == DEFERRED;
	pthread_mutex_unlock(&lock);
	if (r % 4 == 0 || full) {
		destroys++;
		STRESS_CHECK(!fq_device_destroy(device), "destroy");
	} else {
		unplugs++;
		STRESS_CHECK(!fq_device_unplug(device, r % 4 == 1 ? NULL : defer, NULL), "unplug");
	}
	STRESS_CHECK(submitted == retired, "lost");
}

static void own(struct stress_options *o)
{
	int64_t end = stress_now_ns() + (int64_t)(o->seconds * 1e9);

	while (stress_now_ns() < end) {
		plug_in();
		for (uint64_t n = stress_random(&o->seed) % 8; n; n--) {
			submit_all();
			sched_yield();
			(void)fq_queue_drain(queue, FQ_NO_BUDGET);
		}
		submit_all();
		pull_out(stress_random(&o->seed));
	}
}

int main(int argc, char **argv)
{
	struct stress_options o = stress_parse(argc, argv, POSTERS);
	pthread_t *thread = calloc(o.threads, sizeof(*thread)), reaper;
	uint64_t *seed = calloc(o.threads, sizeof(*seed));

	STRESS_CHECK(thread && seed, "memory");
	STRESS_CHECK(!fq_queue_create(&queue, 0), "queue");
	STRESS_CHECK(!pthread_create(&reaper, NULL, reap, NULL), "thread");
	for (unsigned i = 0; i < o.threads; i++) {
		seed[i] = (stress_random(&o.seed) & ~UINT64_C(1)) | (i & 1);
		STRESS_CHECK(!pthread_create(&thread[i], NULL, post, &seed[i]), "thread");
	}
	own(&o);
	atomic_store(&stop, true);
	for (unsigned i = 0; i < o.threads; i++)
		pthread_join(thread[i], NULL);
	pthread_join(reaper, NULL);
	while (run_deferred())
		;
	(void)fq_reclaim();
	STRESS_CHECK(!fq_queue_destroy(queue), "something of a device is left on the queue");
	printf("unplugs %llu, destroys %llu, submitted %llu, failed %llu, accepted %llu, refused "
	       "%llu\n",
	       (unsigned long long)unplugs, (unsigned long long)destroys,
	       (unsigned long long)submitted, (unsigned long long)failed, atomic_load(&accepted),
	       atomic_load(&refused));
	free(thread);
	free(seed);
	puts("ok");
	return 0;
}
