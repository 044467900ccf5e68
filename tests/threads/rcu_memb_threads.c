/* SPDX-License-Identifier: MIT */
/* The flavour that the library uses, too. */
#define URCU_API_MAP /* the plain names */
#include <urcu/urcu-memb.h>

#include "own_rcu_threads.h"
