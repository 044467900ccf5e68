/* SPDX-License-Identifier: MIT */
/*
 * Timeline: mark, dirty words, retire, close (src/timeline.c). Posters signal tokens of one timeline,
 * out of order; the mark tells the bank, the bank tells the queue, each through a relay; the owner
 * collects downwards and retires, and may close the timeline and open its next life. A poster
 * that stops for ever at some step is one that is not scheduled again, so every run has them.
 * (Between bank and queue there is one more level, the source, whose steps are the bank's again.)
 *
 * Properties: tokens retire at most once and never before they, or a later one of the timeline, were
 * signalled in this life; the mark never goes back; no signal is accepted for a fence that has failed;
 * while the owner sleeps and the fd is not readable, everything that a returned signal covers has
 * retired (invariants 2, 3, 4, 5).
 *
 * Planted defects:
 *   BUG_STORE     trap 2: the mark is stored, not raised
 *   BUG_COVERED   a signal whose token the mark covers returns without looking whether the owner was told
 *   BUG_ELECTION  only the poster that found the bank clean tells the queue
 *   BUG_TOLD      told is stored before the level above has been told
 *   BUG_ROUND     the owner takes the mark before it begins the round
 *   BUG_CLOSE     closed is a flag beside the mark, tested before the mark is raised
 *   BUG_STALE     a token is not compared with the base: an id of an earlier life counts
 */

#define STALE 9 /* told of no round */

byte mark;          /* token */
bool closed;        /* in the mark's word */
byte base;          /* tokens up to here belong to the last life */
byte submitted = 2; /* tokens 1 and 2; the next life's lie above */
byte retired;       /* up to here, in order */

byte round, told = STALE;           /* mark's */
bool bank;                          /* bank.dirty, our bit */
byte bank_round, bank_told = STALE; /* bank's */
bool queue;                         /* queue.dirty, our bit */
bool armed;
byte arm_round, arm_told = STALE;
bool fd;
bool asleep;

byte promised; /* a signal up to here has returned 0, in this life */
byte begun;    /* a signal up to here has begun, in this life */
bool next_life;
byte ended = 255; /* while it is closed: what lies above has failed */

proctype poster(byte token)
{
	byte seen, r, b, w;
	bool was_armed, life, first;

	life = next_life;
	/* The CAS loop, as one step; what it refuses tells nobody. */
#ifdef BUG_CLOSE
	if
	:: closed -> goto refused
	:: else
	fi;
#endif
	atomic {
#ifndef BUG_CLOSE
		if
		:: closed -> goto refused
		:: else
		fi;
#endif
#ifndef BUG_STALE
		if
		:: token <= base -> goto refused
		:: else
		fi;
#endif
		if
		:: token > submitted -> goto refused
		:: else
		fi;
		assert(token > base || next_life == life);
		assert(token <= ended);
		seen = mark;
		if
		:: token > begun -> begun = token
		:: else
		fi;
#ifdef BUG_STORE
		mark = token;
#else
		if
		:: token > mark -> mark = token
		:: else
		fi;
#endif
		assert(mark >= seen)
	}
#ifdef BUG_COVERED
	if
	:: token <= seen -> goto returned
	:: else
	fi;
#endif
	r = round;
	if
	:: told == r -> goto returned
	:: else
	fi;
#ifdef BUG_TOLD
	told = r;
#endif
	d_step { first = !bank; bank = true };
#ifdef BUG_ELECTION
	if
	:: !first -> goto returned
	:: else
	fi;
#endif
	b = bank_round;
	if
	:: bank_told == b -> goto bank_is_told
	:: else
	fi;
	d_step { queue = true; was_armed = armed };
	if
	:: was_armed ->
		w = arm_round;
		if
		:: arm_told == w
		:: else ->
			fd = true;
			arm_told = w
		fi
	:: else
	fi;
	bank_told = b;
bank_is_told:
	told = r;
returned:
	atomic {
		if
		:: token > promised && token > base && !closed -> promised = token
		:: else
		fi
	}
refused:
	skip
}

inline collect()
{
	d_step { dirty = queue; queue = false; was = armed; armed = false };
	if
	:: was -> fd = false
	:: else
	fi;
	if
	:: !dirty
	:: else ->
		bank_round++;
		d_step { dirty = bank; bank = false };
		if
		:: !dirty
		:: else ->
#ifdef BUG_ROUND
			limit = mark;
			round++
#else
			round++;
			limit = mark
#endif
		fi
	fi
}

/* In order: a fence is retired when the mark has reached it. */
inline retire()
{
	atomic {
		do
		:: retired < limit ->
			retired++;
			assert(retired <= begun)
		:: else -> break
		od
	}
}

/* Every fence of the life gets its status; then the next one begins above all its tokens. */
inline new_life()
{
	atomic { closed = true; limit = mark; ended = mark };
	retire();
	retired = submitted;
	atomic {
		base = submitted;
		limit = base;
		begun = base;
		promised = base;
		submitted = submitted + 2;
		next_life = true;
		mark = base;
		ended = 255;
		closed = false
	}
}

active proctype owner()
{
	bool dirty, was;
	byte limit;

	do
	:: collect();
		retire();
		if
		:: !next_life -> new_life()
		:: true
		fi;
		/* arm, and sleep if nothing was posted */
		if
		:: queue
		:: else ->
			arm_round++;
			atomic {
				if
				:: !queue -> armed = true; asleep = true
				:: else
				fi
			};
			if
			:: asleep ->
end:				fd -> asleep = false
			:: else
			fi
		fi
	od
}

/* Two with ids of the first life, whichever is late, and in whichever life. */
init {
	atomic {
		run poster(1);
		run poster(2)
	}
}

ltl nothing_is_forgotten { [] (!asleep || fd || retired >= promised) }
