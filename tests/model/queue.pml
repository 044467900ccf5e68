/* SPDX-License-Identifier: MIT */
/*
 * Queue and notifier: arm and sleep (src/queue.c). Posters push nodes; a loop sleeps on the fd
 * between prepare and check; a second thread drains under the host's lock while the loop sleeps; a
 * drain may stop at its budget, and a handler may run the loop once more inside itself. With hooks and
 * without (`plain`). A poster
 * that stops for ever at some step is one that is not scheduled again, so every run has them.
 *
 * Property (invariant 2): while somebody is asleep and nobody is inside a drain, no post that has
 * returned waits undrained, or the fd is readable. A post of a poster that stopped may be late, it
 * hides nobody else's.
 *
 * Memory is sequentially consistent here: each step is one atomic operation of the source, and the
 * argument that their orders suffice is docs/memory-model.md's.
 *
 * Planted defects:
 *   BUG_DISPATCHING  trap 5: the poster writes unless somebody dispatches, and the loop takes its
 *                    flag down too late
 *   BUG_ELECTION     only the poster that found the list empty wakes: the others rely on it
 *   BUG_TAG_GOES     the armed mark goes with the first post: the next one does not look whether the
 *                    first has written
 *   BUG_CLEAR_LATE   the fd is cleared after the queue is armed again
 *   BUG_CLEAR_FIRST  traps 5, 7: a drain clears the fd at its beginning, and a handler that runs the
 *                    loop again sleeps through what is left and what is posted
 *   BUG_TRUST        the owner takes the fd for readable although the poster may not have written yet
 *   BUG_ROUND_LATE   the number of the arm comes after the mark
 *   BUG_SECOND       trap 16: the second thread's drain disarms and does not ask who sleeps
 *   BUG_NESTED       trap 7: one flag for all sleepers, which the inner loop's check takes down
 *   BUG_BUDGET       trap 15: a drain that stops at its budget clears the fd all the same
 */

#ifndef POSTERS
#define POSTERS 2
#endif

#define MINE (1 << id)

byte listed;     /* head: what is posted */
bool armed;      /* head: its tag; the same operation reads and writes both */
byte round;      /* wake relay */
byte told = 255; /* wake relay */
bool fd;         /* the eventfd's counter is not 0 */
bool kicked;     /* owner: the fd was written for leftovers */

byte ready;    /* owner: collected, not run */
byte drained;  /* has run */
byte returned; /* the push has returned */
byte sleepers; /* between prepare and check */
byte asleep;   /* blocked on the fd, of these */
bool inside;   /* a drain, prepare or check runs */
bool hold;     /* the host's lock */
bool plain;    /* no hooks: the loop only knows the fd */
bool started;
#ifdef BUG_DISPATCHING
bool dispatching;
#endif

proctype poster(byte id)
{
	bool seen;
	byte r;

	d_step {
#ifdef BUG_ELECTION
		seen = armed && !listed;
#else
		seen = armed;
#endif
		listed = listed | MINE;
#ifdef BUG_TAG_GOES
		armed = false;
#endif
	}
#ifdef BUG_DISPATCHING
	if
	:: dispatching -> goto done
	:: else -> fd = true; goto done
	fi;
#endif
	if
	:: !seen -> goto done
	:: else
	fi;
	r = round;
	if
	:: told == r -> goto done
	:: else
	fi;
	fd = true;
	told = r;
done:
	returned = returned | MINE
}

/* What the owner does; `was`, `ok`, `clear` are the caller's variables. */
inline collect()
{
	d_step {
		was = armed;
		ready = ready | listed;
		listed = 0;
		armed = false
	}
}

inline clear_fd()
{
	kicked = false;
	fd = false
}

inline kick()
{
	if
	:: !kicked -> kicked = true; fd = true
	:: else
	fi
}

/* Leaves the fd readable while something is left to run and somebody may be asleep. */
inline take_posted()
{
	collect();
	if
#ifndef BUG_CLEAR_FIRST
#ifdef BUG_SECOND
	:: sleepers && ready && !second ->
#else
	:: sleepers && ready ->
#endif
		if
#ifdef BUG_TRUST
		:: was -> kicked = true
#else
		:: was && told == round -> kicked = true
#endif
		:: else -> kick()
		fi
#endif
	:: else
	fi
}

inline arm()
{
	ok = false;
	if
	:: listed
	:: else ->
#ifndef BUG_ROUND_LATE
		round++;
#endif
		d_step {
			if
			:: !listed -> armed = true; ok = true
			:: else
			fi
		}
#ifdef BUG_ROUND_LATE
		round++;
#endif
	fi
}

inline settle()
{
	ok = false;
	if
	:: clear && armed -> take_posted()
	:: else
	fi;
	if
	:: ready
	:: else ->
		if
		:: clear -> clear_fd(); clear = false
		:: else
		fi;
		arm()
#ifdef BUG_CLEAR_LATE
		;
		clear_fd()
#endif
	fi
}

/*
 * Runs what is ready, one by one; the budget may end anywhere. In an outer drain a handler may run
 * the loop once more: it sleeps on the fd, and drains.
 */
inline drain(outer)
{
	do
	:: ready ->
		if
		:: d_step {
			if
			:: ready & 1 -> drained = drained | 1; ready = ready & ~1
			:: else -> drained = drained | ready; ready = 0
			fi
		   }
		   if
		   :: outer && plain && !nested -> nested = true; break
		   :: true
		   fi
		:: break /* budget */
		fi
	:: !ready && listed -> take_posted()
	:: !ready && !listed ->
		if
#ifdef BUG_SECOND
		:: sleepers && !second
#else
		:: sleepers
#endif
			-> settle();
			if
			:: ok -> break
			:: else
			fi
		:: else -> break
		fi
	od;
#ifdef BUG_BUDGET
	if
	:: !(outer && nested) && !ok && clear -> clear_fd()
	:: else
	fi
#endif
}

/* fq_queue_drain() */
inline drain_fd(outer)
{
	clear = true;
	ok = false;
	if
#ifdef BUG_SECOND
	:: !sleepers || second ->
#else
	:: !sleepers ->
#endif
		collect();
		if
		:: was || kicked -> clear_fd()
		:: else
		fi
#ifdef BUG_CLEAR_FIRST
	:: sleepers ->
		collect();
		clear_fd()
#else
	:: sleepers && listed -> take_posted()
	:: sleepers && !listed
#endif
	fi;
	drain(outer)
}

inline enter()
{
	d_step {
		!hold -> hold = true; inside = true
	}
}

inline leave()
{
	d_step {
		inside = false;
		hold = false
	}
}

/* fq_queue_prepare(); `ok` tells whether to sleep. */
inline prepare()
{
	ok = false;
	if
	:: ready
	:: else -> arm()
	fi;
	if
	:: ok -> sleepers++
	:: else
	fi
}

inline check()
{
#ifdef BUG_NESTED
	sleepers = 0;
#else
	sleepers--;
#endif
	if
	:: sleepers
	:: else ->
		collect();
		clear_fd()
	fi
}

inline sleep_on_fd(may_give_up)
{
	d_step { asleep++; leave() };
	if
	:: fd
	:: may_give_up -> skip
	fi;
	atomic { !hold -> hold = true; inside = true; asleep-- }
}

/* One turn of a loop; the inner one of a nested pair does not sleep for long: it may give up. */
inline turn(may_give_up)
{
	if
	:: plain -> ok = true
	:: else -> prepare()
	fi;
	if
	:: ok ->
#ifdef BUG_DISPATCHING
		dispatching = false;
#endif
		sleep_on_fd(may_give_up);
#ifdef BUG_DISPATCHING
		dispatching = true;
#endif
		if
		:: plain
		:: else -> check()
		fi
	:: else
	fi;
	nested = plain && has_nested;
	drain_fd(true);
	if
	:: nested && !has_nested ->
		has_nested = true;
		/* In a handler, with the outer drain below it; which goes on afterwards. */
		sleep_on_fd(may_give_up);
		drain_fd(false);
		clear = true;
		ok = false;
		drain(false)
	:: else
	fi;
	nested = false
}

active proctype loop()
{
	bool was, ok, clear, nested, has_nested;
	bool second = false;

	started;
	enter();
	do
	:: turn(false)
	od
}

/*
 * A thread that runs a loop of its own on the queue, under the lock, while the first one sleeps: a
 * nested loop or a vCPU that polls. It gives up when it likes.
 */
active proctype other()
{
	bool was, ok, clear, nested;
	bool has_nested = true;
	bool second = true;
	started;
	if
	:: true ->
		if
		:: enter();
			turn(true);
			leave()
		:: enter();
			/* fq_queue_poll() */
			clear = false;
			ok = false;
			if
			:: ready || listed -> drain(false)
			:: else
			fi;
			leave()
		fi
	:: true
	fi
}

init {
	byte i = 0;

	/* A queue whose host only knows fds counts as slept on at all times, and begins armed. */
	atomic {
		if
		:: plain = true; sleepers = 1; armed = true
		:: true
		fi;
		started = true
	}

	atomic {
		do
		:: i < POSTERS -> run poster(i); i++
		:: else -> break
		od
	}
}

ltl no_lost_wake_up { [] (!asleep || inside || !(returned & ~drained) || fd) }
