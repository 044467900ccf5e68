/* SPDX-License-Identifier: MIT */
/*
 * Queue and notifier: arm and sleep (src/queue.c). Posters push nodes; a loop sleeps on the fd
 * between prepare and check; a second thread drains under the host's lock while the loop sleeps; a
 * drain may stop at its budget, and a handler may run the loop once more inside itself, with a
 * waiter of its own. A poster
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
 *   BUG_ROUND_LATE   the number of the arm comes after the mark
 *   BUG_SECOND       trap 16: the second thread's drain leaves the queue disarmed
 *   BUG_NESTED       trap 7: one flag for all sleepers, which the inner loop's check takes down
 *   BUG_BUDGET       trap 15: leftovers of a budgeted drain do not make the fd readable
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

/* What the owner does; `was` is the caller's variable. */
inline collect()
{
	d_step {
		was = armed;
		ready = ready | listed;
		listed = 0;
		armed = false;
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

/* `ok` is the caller's variable. */
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

/* A drain without the look at the fd; the budget may end anywhere. */
inline drain()
{
	do
	:: listed ->
		d_step {
			ready = ready | listed;
			listed = 0;
			armed = false
		}
	:: !listed && ready ->
		if
		:: drained = drained | ready; ready = 0
		:: break /* budget */
		fi
	:: !listed && !ready ->
		if
#ifdef BUG_SECOND
		:: sleepers && !second
#else
		:: sleepers
#endif
			-> arm();
			if
			:: ok -> break
			:: else
			fi
		:: else -> break
		fi
	od;
#ifndef BUG_BUDGET
	if
	:: (ready || (listed && !armed)) && sleepers -> kick()
	:: else
	fi
#endif
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

/* One turn of a loop; the inner one of a nested pair does not sleep for long: it may give up. */
inline turn(may_give_up)
{
	prepare();
	if
	:: ok ->
#ifdef BUG_DISPATCHING
		dispatching = false;
#endif
		d_step { asleep++; leave() };
		if
		:: fd
		:: may_give_up -> skip
		fi;
		atomic { !hold -> hold = true; inside = true; asleep-- };
#ifdef BUG_DISPATCHING
		dispatching = true;
#endif
		check()
	:: else
	fi;
	/* fq_queue_drain() */
	collect();
#ifdef BUG_CLEAR_LATE
	drain();
	clear_fd()
#else
	if
	:: was || kicked -> clear_fd()
	:: else
	fi;
	drain()
#endif
}

active proctype loop()
{
	bool was, ok;
	bool second = false;

end:	do
	:: enter();
		turn(false);
		leave()
	od
}

/*
 * A thread that runs a loop of its own on the queue, under the lock, while the first one sleeps: a
 * nested loop or a vCPU that polls. It gives up when it likes.
 */
active proctype other()
{
	bool was, ok;
	bool second = true;
	byte times = 0;

	do
	:: times < 2 ->
		times++;
		if
		:: enter();
			turn(true);
			leave()
		:: enter();
			/* fq_queue_poll() */
			if
			:: ready || listed -> drain()
			:: else
			fi;
			leave()
		fi
	:: break
	od
}

init {
	byte i = 0;

	atomic {
		do
		:: i < POSTERS -> run poster(i); i++
		:: else -> break
		od
	}
}

ltl no_lost_wake_up { [] (!asleep || inside || !(returned & ~drained) || fd) }
