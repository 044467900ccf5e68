/* SPDX-License-Identifier: MIT */
#ifndef FQ_GATE_ORDER_H
#define FQ_GATE_ORDER_H

/*
 * In which order gates are entered: debug builds find an order and its reverse even when the two
 * never meet in time. Words only, no lock: a child of fork goes on where its parent was.
 */

#include <stdbool.h>

#ifdef FQ_DEBUG
/* A number for a gate; -1, and it is not looked at, when there are too many. */
int fq_order_born(void);
void fq_order_dead(int gate);
/* About to block on it. False: it has been entered before from where this thread wants to go to it. */
bool fq_order_allows(int gate);
/* This thread is inside, or no longer. */
void fq_order_entered(int gate);
void fq_order_left(int gate);
#else
static inline int fq_order_born(void)
{
	return -1;
}

static inline void fq_order_dead(int gate)
{
	(void)gate;
}

static inline bool fq_order_allows(int gate)
{
	(void)gate;
	return true;
}

static inline void fq_order_entered(int gate)
{
	(void)gate;
}

static inline void fq_order_left(int gate)
{
	(void)gate;
}
#endif

#endif /* FQ_GATE_ORDER_H */
