/* SPDX-License-Identifier: MIT */
/*
 * Deferred calls (src/call.c): one slot, which posters schedule and somebody cancels, with or without a
 * wait. The owner visits it when its bit is there, and runs it; the callback may schedule itself, and
 * may drain once more, which runs it inside itself. A thread that stops for ever at some step is one
 * that is not scheduled again, so every run has them. What lies above the bit is queue.pml's.
 *
 * Properties:
 *   - When the owner has nothing left to do, every schedule that has returned is answered: by a run
 *     that began after it, or by a cancel.
 *   - When a wait for its end has returned, no run is in progress, and none begins that was asked for
 *     before the wait was over.
 *   - A run gives way to who waits, but takes back nothing that was asked for after that one had left.
 *   - Who waits is woken: no state without a way out.
 *
 * Memory is sequentially consistent here, as in queue.pml.
 *
 * Planted defects:
 *   BUG_CLEAR_AFTER  trap 6: what was scheduled is taken when the callback has run, not before
 *   BUG_TAKE_SPLIT   trap 6: it is taken by a load and a store
 *   BUG_BIT_THERE    who finds it scheduled already leaves the rest to the one who was first
 *   BUG_TOLD_EARLY   the poster says that it has told the owner before it has
 *   BUG_ROUND_LATE   the owner begins the round when it has looked at the state
 *   BUG_COUNT_LATE   a run counts itself only when it has taken what was scheduled
 *   BUG_ONE_TAKE     who waits takes back what was scheduled before, not what came meanwhile
 *   BUG_GONE         who waits leaves although a run has begun that has not looked for him yet
 *   BUG_FLAG         a flag that a run is in progress, not a count: the inner run's end takes it down
 *   BUG_WAITERS_OLD  a run looks for who waits before it counts itself out, not after
 */

#ifndef POSTERS
#define POSTERS 2
#endif

#define MINE (1 << id)
#define SELF (1 << POSTERS)

bool state; /* SCHEDULED */
bool dirty; /* in the group's word: the owner is told */
byte round; /* the slot's relay */
byte told = 255;
byte runs;    /* the lower half of the word of that name */
byte waiters; /* its upper half */
byte wakes;   /* how often waiters were woken */
bool ready;   /* owner: on the ready list */

/* Not in the source: who has asked for what, and what became of it. */
byte asked;    /* in `state` */
byte late;     /* asked for when the wait was over */
byte after;    /* asked for when the wait had returned */
byte returned; /* the schedule has */
byte answered; /* run, or cancelled */
byte inside;   /* callbacks on the stack */
bool over;     /* the wait is */
bool left;     /* it has returned */
bool ended;    /* and not for its time-out */

inline set_state(who)
{
	d_step {
		was = state;
		state = true;
		asked = asked | who;
		if
		:: over -> late = late | who
		:: else
		fi;
		if
		:: left -> after = after | who
		:: else
		fi
	}
}

/* `was`, `seen_round` are the caller's variables. */
inline schedule(who)
{
	set_state(who);
	if
#ifdef BUG_BIT_THERE
	:: was
#endif
	:: else ->
		seen_round = round;
		if
		:: told == seen_round
		:: else ->
#ifdef BUG_TOLD_EARLY
			told = seen_round;
			dirty = true
#else
			dirty = true;
			told = seen_round
#endif
		fi
	fi;
	returned = returned | who
}

proctype poster(byte id)
{
	bool was;
	byte seen_round;

	schedule(MINE)
}

inline take()
{
	d_step {
		was = state;
		state = false;
		got = asked;
		asked = 0
	}
}

inline take_back()
{
	d_step {
		state = false;
		answered = answered | asked;
		asked = 0
	}
}

/* -- owner ------------------------------------------------------------------------------------- */

inline visit()
{
	dirty = false;
#ifdef BUG_ROUND_LATE
	ready = ready || state;
	round++
#else
	round++;
	ready = ready || state
#endif
}

inline count_in()
{
#ifdef BUG_FLAG
	runs = 1
#else
	runs++
#endif
}

inline count_out()
{
#ifdef BUG_WAITERS_OLD
	seen_waiters = waiters;
#endif
	d_step {
#ifdef BUG_FLAG
		runs = 0;
#else
		runs--;
#endif
#ifndef BUG_WAITERS_OLD
		seen_waiters = waiters
#endif
	}
	if
	:: seen_waiters -> wakes++
	:: else
	fi
}

/* From here on what was asked for until now has its answer. */
inline call_back()
{
	d_step {
		assert(!ended || (got & late));
		answered = answered | got;
		inside++
	}
}

inline begin()
{
#ifndef BUG_COUNT_LATE
	count_in();
#endif
#ifdef BUG_TAKE_SPLIT
	d_step { was = state; got = asked };
	d_step { state = false; asked = 0 };
#elif defined(BUG_CLEAR_AFTER)
	d_step { was = state; got = asked };
#else
	take();
#endif
#ifdef BUG_COUNT_LATE
	count_in();
#endif
	if
	:: was && waiters ->
		d_step {
			assert(!(got & after));
			answered = answered | got;
			was = false
		}
	:: else
	fi
}

inline call_over()
{
	inside--;
#ifdef BUG_CLEAR_AFTER
	d_step { state = false; asked = 0 }
#endif
}

/* The inner run of a nested pair. */
inline run_inside()
{
	ready = false;
	begin();
	if
	:: was -> call_back(); call_over()
	:: else
	fi;
	count_out()
}

inline run_it()
{
	ready = false;
	begin();
	if
	:: was ->
		call_back();
		if
		:: !itself ->
			itself = true;
			schedule(SELF)
		:: true
		fi;
		if
		:: !nested && dirty ->
			nested = true;
			visit();
			if
			:: ready -> run_inside()
			:: else
			fi
		:: true
		fi;
		call_over()
	:: else
	fi;
	count_out()
}

active proctype owner()
{
	bool was, itself, nested;
	bool looked; /* once, at any time: a loop would hide who waits for ever */
	byte got, seen_round, seen_waiters;

end:
	do
	:: dirty -> visit()
	:: ready -> run_it()
	:: d_step { !dirty && !ready && !looked -> looked = true; assert(!(returned & ~answered)) }
	od
}

/* -- who cancels ------------------------------------------------------------------------------- */

inline wait_for_runs()
{
	do
	:: seen_runs = runs;
		if
		:: !seen_runs -> break
		:: else
		fi;
		if
		:: timed_out = true; break
		:: true
		fi;
		/* The kernel compares, and sleeps. */
		d_step { asleep = (runs == seen_runs); seen_wakes = wakes };
		!asleep || wakes != seen_wakes
	od
}

active proctype canceller()
{
	byte seen_runs, seen_wakes;
	bool asleep, timed_out;

	if
	:: take_back(); goto done
	:: true
	fi;
	waiters++;
	take_back();
	do
	:: wait_for_runs();
		over = true;
#ifndef BUG_ONE_TAKE
		take_back();
#endif
		d_step {
			if
#ifndef BUG_GONE
			:: runs && !timed_out -> over = false; late = 0
#endif
			:: else ->
				waiters--;
				assert(timed_out || !inside);
				left = true;
				ended = !timed_out
			fi
		};
		if
		:: left -> break
		:: else
		fi
	od;
done:	skip
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
