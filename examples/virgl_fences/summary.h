/* SPDX-License-Identifier: MIT */
#ifndef SUMMARY_H
#define SUMMARY_H

#include <stdbool.h>

#include "driver.h"
#include "owner.h"
#include "run.h"

/*
 * True when all that was asked for happened, and nothing else: every fence retired, none of the
 * faults seen, and callbacks from as many threads as there should be.
 */
bool summary_good(const struct run *run, const struct driver_report *driver,
		  const struct owner_report *owner);

/* For people. */
void summary_print(const struct run *run, const struct driver_report *driver,
		   const struct owner_report *owner);

/* For programs: one line. */
void summary_print_json(const struct run *run, const struct driver_report *driver,
			const struct owner_report *owner);

#endif /* SUMMARY_H */
