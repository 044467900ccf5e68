/* SPDX-License-Identifier: MIT */
/* The flavour that registers threads by itself. */
#define URCU_API_MAP /* the plain names */
#include <urcu/urcu-bp.h>

#include "own_rcu_threads.h"
