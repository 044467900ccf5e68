/* SPDX-License-Identifier: MIT */
/* A queue as a GSource of a GLib main loop. */
#include <fenceq/fenceq.h>
#include <fenceq/loop_glib.h>

#include "load.h"

/* The loop's own poll, counted. */
static struct load load;
static GPollFunc poll_func;

static gint counted_poll(GPollFD *fds, guint count, gint timeout_ms)
{
	load.waits++;
	return poll_func(fds, count, timeout_ms);
}

static void quit(void *loop)
{
	g_main_loop_quit(loop);
}

int main(int argc, char **argv)
{
	GMainContext *context = g_main_context_new();
	GMainLoop *loop = g_main_loop_new(context, FALSE);
	struct fq_queue *queue;
	GSource *source;
	int status;

	if (load_parse(&load, argc, argv))
		return 2;
	poll_func = g_main_context_get_poll_func(context);
	g_main_context_set_poll_func(context, counted_poll);
	load.done = quit;
	load.opaque = loop;

	if (fq_queue_create(&queue, FQ_QUEUE_HOOKS))
		return 1;
	source = fq_glib_source_new(queue, load.budget);
	g_source_attach(source, context);
	if (load_start(&load, queue))
		return 1;
	g_main_loop_run(loop);

	status = load_end(&load, "glib");
	fq_glib_source_destroy(source);
	g_main_loop_unref(loop);
	g_main_context_unref(context);
	return fq_queue_destroy(queue) || status;
}
