/* SPDX-License-Identifier: MIT */
#ifndef SUMMARY_H
#define SUMMARY_H

#include <stdbool.h>
#include <stdint.h>

#include "machine.h"

struct summary {
	uint64_t writes;           /* to the fd that wakes the loop */
	uint64_t context_switches; /* of the whole process */
};

/* Every fence was answered once, in order, with the right status. */
bool summary_good(const struct machine *m);

void summary_print(const struct machine *m, const struct summary *s);
void summary_print_json(const struct machine *m, const struct summary *s);

#endif /* SUMMARY_H */
