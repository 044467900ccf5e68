/* SPDX-License-Identifier: MIT */
#ifndef OWNER_H
#define OWNER_H

/*
 * The device, on the one thread that owns it: an epoll loop over the kick fd and fenceq's fd, the
 * renderer, and the virtqueue.
 */

#include <pthread.h>
#include <stdint.h>
#include <sys/uio.h>

#include <fenceq/fenceq.h>

#include "machine.h"
#include "oracle.h"
#include "plant.h"
#include "renderer.h"
#include "run.h"

/* A command of the guest, from the pop of its chain until it is answered. */
struct command {
	struct fq_fence fence;
	struct fq_vring_buf buf;
	struct virtio_gpu_ctrl_hdr hdr;
	struct virtio_gpu_ctrl_hdr *response; /* in guest memory */
	unsigned timeline;
	struct command *next_free;
};

struct owner {
	struct run *run;
	const struct machine *machine;
	struct oracle *oracle;
	struct renderer renderer;
	struct plant_state plant;
	struct fq_mem *mem;
	struct fq_vring *vring;
	struct fq_queue *queue;
	struct fq_device *device;
	struct command *commands; /* as many as the ring has entries */
	struct command *free;
	int epoll_fd;
	int stop_fd;
	pthread_t thread;
};

struct owner_report {
	struct fq_queue_stats queue;
	struct fq_device_stats device;
	struct fq_vring_stats vring;
	unsigned threads;
	unsigned planted;
};

/* Starts the thread; the run reaches STAGE_READY when the driver may start. @return 0 or -errno. */
int owner_start(struct owner *o, struct run *run, const struct machine *m, struct oracle *oracle);

/* Between STAGE_READY and owner_stop(). */
void owner_get_report(const struct owner *o, struct owner_report *report);

/* Asks the thread to take everything down; the run reaches STAGE_STOPPED when it has. */
void owner_stop(struct owner *o);

/* Answers a command; the driver sees it when the vring is published. Owner thread. */
void owner_answer(struct owner *o, struct command *cmd, uint32_t type);

#endif /* OWNER_H */
