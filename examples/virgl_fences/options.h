/* SPDX-License-Identifier: MIT */
#ifndef OPTIONS_H
#define OPTIONS_H

#include "run.h"

/* Ends the process for --help and for arguments that make no sense (status 2). */
void options_parse(struct options *opt, int argc, char **argv);

/* Ring entries for all that may be in flight. */
uint32_t options_ring_size(const struct options *opt);

#endif /* OPTIONS_H */
