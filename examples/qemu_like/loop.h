/* SPDX-License-Identifier: MIT */
#ifndef LOOP_H
#define LOOP_H

/*
 * The main loop: GLib's, with the big lock held by everything it calls and let go while it sleeps.
 */

#include <glib.h>

struct fq_queue;

struct loop {
	GMainContext *context;
	GMainLoop *main;
};

void loop_init(struct loop *l);

/* Drains a queue (created with FQ_QUEUE_HOOKS) whenever there is something in it, for ever. */
void loop_add_queue(struct loop *l, struct fq_queue *q);

/* Calls @p fn while @p fd is readable, for ever. */
void loop_add_fd(struct loop *l, int fd, void (*fn)(void *opaque), void *opaque);

/* Calls @p fn when loop_call_at() says so. */
GSource *loop_add_call(struct loop *l, void (*fn)(void *opaque), void *opaque);
/* Once, at this time (g_get_monotonic_time()); 0 is now. Any thread. */
void loop_call_at(GSource *call, gint64 time_us);

/* Returns after loop_quit(). With the big lock held, before and after. */
void loop_run(struct loop *l);
/* Any thread. */
void loop_quit(struct loop *l);

#endif /* LOOP_H */
