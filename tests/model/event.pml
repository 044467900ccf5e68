/* SPDX-License-Identifier: MIT */
/*
 * Event: set, wait, free (src/event.c, src/park.c). A waiter waits, with or without a time-out of its
 * own, and frees the event as soon as a wait has returned; two setters race, as duplicates do.
 *
 * Properties: nobody looks at the event's memory after it is freed; a waiter does not sleep for ever
 * on an event that is set (no end state but the last one is valid); the first status stays.
 *
 * Planted defects:
 *   BUG_TOUCH   trap 8: the setter looks at the word again after it has set it
 *   BUG_UNSEEN  the waiter sleeps without having said so in the word
 *   BUG_MISSED  the waiter sleeps without looking whether the word has changed since
 *   BUG_TWICE   a second set overwrites the first
 */

mtype = { unset, awaited, set };

mtype word = unset;
byte status;     /* upper half of the word */
bool gone;       /* the memory was freed */
bool woken;      /* futex: a wake came while somebody slept */
bool sleeping;   /* futex: somebody sleeps */
byte first;      /* the status of the setter whose set returned 0 */
bool waited;     /* the wait has returned 0 */
byte got;

inline futex_wake()
{
	/* By address alone: the memory may be gone. */
	d_step {
		if
		:: sleeping -> sleeping = false; woken = true
		:: else
		fi
	}
}

proctype setter(byte mine)
{
	mtype seen;

	/* The second may come only while the memory is known to be there: it asks whether it is. */
	atomic {
		if
		:: gone -> goto done
		:: else -> seen = word
		fi
	}
	do
	:: atomic {
		if
		:: gone -> goto done
		:: else
		fi;
#ifndef BUG_TWICE
		if
		:: seen == set -> goto done
		:: else
		fi;
#endif
		if
		:: word == seen -> word = set; status = mine; if :: !first -> first = mine :: else fi; break
		:: else -> seen = word
		fi
	   }
	od;
#ifdef BUG_TOUCH
	assert(!gone);
	if
	:: word == set
	fi;
#endif
	if
	:: seen == awaited -> futex_wake()
	:: else
	fi;
done:
	skip
}

active proctype waiter()
{
	mtype seen;
	bool timed_out = false; /* once: the host waits again, the memory stays */

	do
	:: seen = word;
		if
		:: seen == set -> break
		:: else
		fi;
#ifndef BUG_UNSEEN
		atomic {
			if
			:: word == unset -> word = awaited
			:: word == awaited
			:: else -> goto again
			fi
		}
#endif
		/* The kernel compares and goes to sleep in one step. */
		atomic {
			if
#ifndef BUG_MISSED
			:: word == set -> goto again
#endif
			:: else -> sleeping = true; woken = false
			fi
		}
		if
		:: woken
		:: !timed_out -> sleeping = false; timed_out = true
		fi;
again:		skip
	od;
	got = status;
	assert(got == first);
	gone = true;
	waited = true
}

init {
	atomic {
		run setter(1);
		run setter(2)
	}
}
