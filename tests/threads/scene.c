/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "../../src/handle.h"
#include "threads.h"

#if defined(__SANITIZE_ADDRESS__) || defined(FQ_TSAN)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

struct scene scene;

/* -- allocations ------------------------------------------------------------------------------- */

static atomic_long allocated;

#if !defined(SANITIZED) && defined(__GLIBC__)
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *p);

static void *counted(void *p)
{
	if (p)
		atomic_fetch_add_explicit(&allocated, 1, memory_order_relaxed);
	return p;
}

void *malloc(size_t size)
{
	return counted(__libc_malloc(size));
}

void *calloc(size_t count, size_t size)
{
	return counted(__libc_calloc(count, size));
}

void *realloc(void *p, size_t size)
{
	return p ? __libc_realloc(p, size) : malloc(size);
}

void *memalign(size_t alignment, size_t size);
void *memalign(size_t alignment, size_t size)
{
	return counted(__libc_memalign(alignment, size));
}

void *aligned_alloc(size_t alignment, size_t size)
{
	return counted(__libc_memalign(alignment, size));
}

int posix_memalign(void **p, size_t alignment, size_t size)
{
	*p = counted(__libc_memalign(alignment, size));
	return *p ? 0 : ENOMEM;
}

void free(void *p)
{
	if (p)
		atomic_fetch_sub_explicit(&allocated, 1, memory_order_relaxed);
	__libc_free(p);
}
#endif

long scene_allocated(void)
{
	return atomic_load(&allocated);
}

/* -- registrations: the library's calls to liburcu come through here --------------------------- */

static atomic_int registered;
static atomic_uint liburcu_calls;

static void call_next(const char *name)
{
	void (*next)(void);
	void *found = dlsym(RTLD_NEXT, name);

	atomic_fetch_add(&liburcu_calls, 1);
	CHECK(found, "%s", name);
	memcpy(&next, &found, sizeof(next));
	next();
}

void urcu_memb_register_thread(void)
{
	atomic_fetch_add(&registered, 1);
	call_next("urcu_memb_register_thread");
}

void urcu_memb_unregister_thread(void)
{
	atomic_fetch_sub(&registered, 1);
	call_next("urcu_memb_unregister_thread");
}

unsigned scene_liburcu_calls(void)
{
	return atomic_load(&liburcu_calls);
}

void scene_nothing_left(void)
{
	for (unsigned s = 0; s < FQ_SLOTS; s++) {
		for (unsigned i = 0; i < FQ_SHARDS; i++)
			CHECK(!(fq_load_acq(&fq_slots[s].shard[i].word) & FQ_READERS),
			      "slot %u counts a reader", s);
	}
	CHECK(!atomic_load(&registered), "%d registered", atomic_load(&registered));
}

/* -- the host ---------------------------------------------------------------------------------- */

static void retire(struct fq_fence *fence, int status, void *opaque)
{
	(void)opaque;
	CHECK(fence == &scene.fence[scene.retired % SCENE_FENCES], "out of order at %u",
	      scene.retired);
	CHECK(!status || status == -ENODEV || status == -ECONNRESET, "status %d", status);
	scene.retired++;
}

void scene_attach(struct fq_queue *queue)
{
	const struct fq_device_config config = {.queue = queue, .retire = retire};

	memset(&scene, 0, sizeof(scene));
	scene.queue = queue;
	CHECK(!fq_device_create(&scene.device, &config), "device");
	scene.handle = fq_device_handle(scene.device);
}

void scene_open(unsigned flags)
{
	struct fq_queue *queue;

	CHECK(!fq_queue_create(&queue, flags), "queue");
	scene_attach(queue);
}

void scene_submit(unsigned count)
{
	for (; count; count--) {
		struct fq_fence *fence = &scene.fence[scene.submitted++ % SCENE_FENCES];

		CHECK(!fq_submit(scene.device, 7, 3, fence), "submit");
		CHECK(fence->token == scene.submitted, "token");
	}
}

int scene_signal(unsigned n)
{
	return fq_signal(scene.handle, 7, 3, n);
}

void scene_expect(unsigned retired)
{
	while (scene.retired < retired) {
		int got = fq_queue_wait(scene.queue, INT64_C(30000000000));

		CHECK(got == 1 || got == -EINTR, "wait: %d, retired %u of %u", got, scene.retired,
		      retired);
		(void)fq_queue_drain(scene.queue, FQ_NO_BUDGET);
	}
	CHECK(scene.retired == retired, "%u retired, not %u", scene.retired, retired);
}

void scene_close(void)
{
	CHECK(!fq_device_destroy(scene.device), "device");
	CHECK(!fq_queue_destroy(scene.queue), "queue");
	CHECK(scene.retired == scene.submitted, "%u of %u", scene.retired, scene.submitted);
	memset(&scene, 0, sizeof(scene));
}

/* -- children ---------------------------------------------------------------------------------- */

bool scene_slow(void)
{
	const char *preload = getenv("LD_PRELOAD");

	return preload && strstr(preload, "vgpreload");
}

void scene_child(const char *what, int (*run)(void *), void *arg)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	CHECK(pid >= 0, "fork");
	if (!pid) {
		alarm(60); /* a child that hangs is killed by it */
		_exit(run(arg));
	}
	while (waitpid(pid, &status, 0) < 0)
		CHECK(errno == EINTR, "waitpid");
	CHECK(WIFEXITED(status) && !WEXITSTATUS(status), "%s: child: status %#x", what,
	      (unsigned)status);
}
