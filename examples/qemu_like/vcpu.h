/* SPDX-License-Identifier: MIT */
#ifndef VCPU_H
#define VCPU_H

/*
 * A vCPU: the guest's driver on a thread of its own. It reaches the device through registers only,
 * each access under the big lock, halts until it is interrupted, and believes no response.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "ring.h"
#include "watchdog.h"

#define CONTEXTS_PER_VCPU 3u
#define RINGS 2u /* of each context */
#define VCPU_TIMELINES (CONTEXTS_PER_VCPU * RINGS)

struct machine;

struct vcpu {
	struct machine *machine;
	unsigned index;
	struct actor actor;
	pthread_t thread;
	pthread_mutex_t irq_lock;
	pthread_cond_t irq;
	bool irq_pending;

	struct ring ring;
	bool busy[SLOTS];
	struct request request[SLOTS]; /* a guest trusts its own memory only */
	unsigned in_flight;
	uint64_t share;                /* fences to queue */
	uint64_t last[VCPU_TIMELINES]; /* highest id answered */

	uint64_t queued;
	uint64_t succeeded;
	uint64_t failed;
	uint64_t duplicated;
	uint64_t out_of_order;
	uint64_t bad_response;
	uint64_t halts;
};

void vcpu_init(struct vcpu *v, struct machine *m, unsigned index);
void vcpu_start(struct vcpu *v);
void vcpu_join(struct vcpu *v);

/* Interrupts it. With the big lock held, as everything that changes a device's visible state. */
void vcpu_interrupt(struct vcpu *v);

#endif /* VCPU_H */
