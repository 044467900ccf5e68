/* SPDX-License-Identifier: MIT */
#ifndef PLANT_H
#define PLANT_H

/*
 * Faults on purpose (--plant), so that everybody can see the driver find them. A clean run means
 * something only because these do not pass. Owner thread.
 */

#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_gpu.h>

struct command;
struct owner;

struct plant_state {
	uint64_t seen;
	_Atomic unsigned planted;        /* the main thread reads it */
	struct command *held;            /* PLANT_SWAP: waits for the next one of its timeline */
	struct virtio_gpu_ctrl_hdr last; /* PLANT_DUP: answered already */
};

/* Between fq_submit() and the hand-over to the renderer. */
void plant_submit(struct owner *o, struct command *cmd);

/* True when the fault took the place of the answer. */
bool plant_answer(struct owner *o, struct command *cmd);

#endif /* PLANT_H */
