/* SPDX-License-Identifier: MIT */
#ifndef FENCEQ_FENCEQ_H
#define FENCEQ_FENCEQ_H

/**
 * @file fenceq.h
 * @brief Umbrella header: includes every part.
 *
 * Foreign threads finish work; one owner thread drains the completions, in timeline order, into
 * virtqueues:
 *
 *     foreign thread                   owner thread (epoll, GSource, libuv, own loop ...)
 *     --------------                   ---------------------------------------------------
 *                                      fq_submit(device, ctx, ring, &fence) -> fence.token
 *                                      hand the work and the token to the renderer
 *     fq_signal(handle, ctx, ring,
 *               token)           --->  fd readable: fq_queue_drain(queue, budget)
 *                                        retire(fence): fq_vring_put() ...
 *                                        each virtqueue published once, at most one interrupt
 */

#include <fenceq/base.h>
#include <fenceq/call.h>
#include <fenceq/channel.h>
#include <fenceq/deadline.h>
#include <fenceq/device.h>
#include <fenceq/event.h>
#include <fenceq/gate.h>
#include <fenceq/lifecycle.h>
#include <fenceq/mem.h>
#include <fenceq/notifier.h>
#include <fenceq/pool.h>
#include <fenceq/queue.h>
#include <fenceq/quiesce.h>
#include <fenceq/request.h>
#include <fenceq/snapshot.h>
#include <fenceq/stats.h>
#include <fenceq/thread.h>
#include <fenceq/timeline.h>
#include <fenceq/vring.h>
#include <fenceq/watch.h>

#endif /* FENCEQ_FENCEQ_H */
