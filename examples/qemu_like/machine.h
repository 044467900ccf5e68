/* SPDX-License-Identifier: MIT */
#ifndef MACHINE_H
#define MACHINE_H

/*
 * What the parts share: sizes, the machine with its bus, and what is counted.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "device.h"
#include "loop.h"
#include "monitor.h"
#include "ring.h"
#include "vcpu.h"
#include "way.h"

struct options {
	const struct way *way;
	uint64_t fences;
	unsigned stall_s;
	bool expect_deadlock;
	bool json;
};

/* Written under the big lock. */
struct counts {
	uint64_t submitted;
	uint64_t completed;    /* answered with success */
	uint64_t cancelled;    /* answered with an error: their context was torn down */
	uint64_t unplugged;    /* ... their device was */
	uint64_t wrong_status; /* not what the renderer's own count says; must stay 0 */
	uint64_t interrupts;   /* injected */
	uint64_t tear_downs;   /* of contexts */
	uint64_t unplugs;
	uint64_t joined;          /* renderer threads, with the big lock held */
	uint64_t absent_accesses; /* registers accessed while no device was there */
};

struct machine {
	struct options opt;
	struct guest_ring *ram; /* one for each vCPU */
	struct vcpu vcpu[VCPUS];
	unsigned vcpus_on;
	struct device device;
	struct loop loop;
	struct monitor monitor;
	struct counts counts;
};

void machine_init(struct machine *m, const struct options *opt);

/* Runs until all vCPUs have powered off, on the main loop's thread. *writes: see way.h. */
void machine_run(struct machine *m, uint64_t *writes);

/*
 * The bus, as a vCPU's exit handler uses it: takes the big lock. Where no device is, reads give
 * REG_ABSENT and writes go nowhere.
 */
uint32_t machine_read(struct machine *m, enum reg reg, unsigned vcpu);
void machine_write(struct machine *m, enum reg reg, unsigned vcpu);
void machine_power_off(struct machine *m);

/* Says why and ends the program: for what is no result but a reason to have none. Any thread. */
__attribute__((noreturn, format(printf, 1, 2))) void die(const char *fmt, ...);

#endif /* MACHINE_H */
