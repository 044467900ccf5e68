/* SPDX-License-Identifier: MIT */
#ifndef PENDING_H
#define PENDING_H

/*
 * What a device without fenceq keeps itself: its pending commands, a list for each ring of each
 * context, in the order of submission. With the big lock held.
 */

#include <stdint.h>

struct command;
struct device;

/* Records a command and sets its token, which no earlier command has had. */
void pending_add(struct command *cmd);

/* Answers, in order, what a ring has up to @p token. */
void pending_complete(struct device *d, uint32_t ctx_id, uint32_t ring_idx, uint64_t token);

/* Answers all a context has left with a status, and shows it to the guest. */
void pending_fail(struct device *d, uint32_t ctx_id, int status);

#endif /* PENDING_H */
