/* SPDX-License-Identifier: MIT */
/* Another flavour that wants threads registered. */
#define URCU_API_MAP /* the plain names */
#include <urcu/urcu-mb.h>

#include "own_rcu_threads.h"
