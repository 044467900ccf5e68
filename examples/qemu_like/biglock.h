/* SPDX-License-Identifier: MIT */
#ifndef BIGLOCK_H
#define BIGLOCK_H

/*
 * The big lock: whoever touches a device's state holds it. The main loop has it all the time but
 * for its sleep, a vCPU for each register access.
 */

#include <stdbool.h>

struct actor;

/* @p why is a constant, for the watchdog. */
void biglock_lock(const char *why);
void biglock_unlock(void);

/* Whose it is at this moment. Any thread. */
struct actor *biglock_holder(void);

/* Ends the program unless the calling thread has it. */
void biglock_assert(void);

#endif /* BIGLOCK_H */
