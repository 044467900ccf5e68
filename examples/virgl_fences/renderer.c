/* SPDX-License-Identifier: MIT */
#define VIRGL_RENDERER_UNSTABLE_APIS
#include "renderer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <virgl/virglrenderer.h>

#define CAPSET_VENUS 4

/* Venus, each context with a process of the render server and a thread here that waits for it. */
#define FLAGS_VENUS (VIRGL_RENDERER_VENUS | VIRGL_RENDERER_RENDER_SERVER)
/* Classic GL: without USE_EGL virglrenderer crashes, without SURFACELESS it wants a display. */
#define FLAGS_GL (VIRGL_RENDERER_USE_EGL | VIRGL_RENDERER_USE_SURFACELESS)
/* Both: call back from the thread that sees the fence complete, not from a poll by the owner. */
#define FLAGS_THREADS (VIRGL_RENDERER_THREAD_SYNC | VIRGL_RENDERER_ASYNC_FENCE_CB)

static _Thread_local bool known_thread;

/* The last thing virglrenderer said, for the case that it was the reason of a failure. */
static char last_words[160];

static void listen_to(const char *fmt, va_list ap)
{
	vsnprintf(last_words, sizeof(last_words), fmt, ap);
	last_words[strcspn(last_words, "\n")] = '\0';
}

static void count_thread(struct renderer *r)
{
	if (known_thread)
		return;
	known_thread = true;
	atomic_fetch_add_explicit(&r->threads, 1, memory_order_relaxed);
}

/*
 * The two callbacks run on threads that virglrenderer made and fenceq has never heard of. A signal
 * that is refused is counted by the device, and its fence missed by the driver.
 */
static void write_fence(void *cookie, uint32_t fence)
{
	struct renderer *r = cookie;

	count_thread(r);
	oracle_completed32(r->oracle, 0, fence);
	fq_signal_global32(r->handle, fence);
}

static void write_context_fence(void *cookie, uint32_t ctx_id, uint32_t ring_idx, uint64_t fence)
{
	struct renderer *r = cookie;

	count_thread(r);
	oracle_completed(r->oracle, ctx_id, fence);
	fq_signal(r->handle, ctx_id, ring_idx, fence);
}

static int create_contexts(struct renderer *r, struct run *run)
{
	const char *kind = "venus";

	for (unsigned i = 1; i <= options_contexts(&run->opt); i++) {
		int err;

		if (i <= run->opt.venus_contexts) {
			err = virgl_renderer_context_create_with_flags(i, CAPSET_VENUS,
								       strlen(kind), kind);
		} else {
			kind = "GL";
			err = virgl_renderer_context_create(i, strlen(kind), kind);
		}
		if (err) {
			run_fail(run, "virglrenderer could not create %s context %u: %s", kind, i,
				 last_words);
			return -EIO;
		}
		r->contexts = i;
	}
	return 0;
}

int renderer_start(struct renderer *r, struct run *run, fq_handle_t handle, struct oracle *oracle)
{
	static struct virgl_renderer_callbacks callbacks = {
		.version = 3, /* the first with write_context_fence */
		.write_fence = write_fence,
		.write_context_fence = write_context_fence,
	};
	int err;

	*r = (struct renderer){.handle = handle, .oracle = oracle};
	/* A call back on the owner's own thread is none from a foreign one. */
	known_thread = true;
	/* llvmpipe, wherever this runs; unless the user has another wish. */
	setenv("LIBGL_ALWAYS_SOFTWARE", "1", 0);
	virgl_set_debug_callback(listen_to);
	err = virgl_renderer_init(r, FLAGS_VENUS | FLAGS_GL | FLAGS_THREADS, &callbacks);
	if (err) {
		run_fail(run, "virglrenderer does not start (%d): %s", err, last_words);
		return -EIO;
	}
	return create_contexts(r, run);
}

int renderer_fence(unsigned timeline, uint32_t ring_idx, uint64_t token)
{
	int err;

	if (timeline)
		err = virgl_renderer_context_create_fence(timeline, 0, ring_idx, token);
	else
		err = virgl_renderer_create_fence((int)(uint32_t)token, 0);
	return err ? -EIO : 0;
}

void renderer_stop(struct renderer *r)
{
	for (unsigned i = 1; i <= r->contexts; i++)
		virgl_renderer_context_destroy(i);
	virgl_renderer_cleanup(r);
}
