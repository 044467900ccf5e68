/* SPDX-License-Identifier: MIT */
/*
 * Gate: what is left, and how it is let go (src/gate.c, src/gate_leave.c). Two threads enter or leave
 * operations, one blocks, one sleeps with a time-out, and the owner of the queue, who runs what is too
 * much for a holder, blocks as well. The limit is 1. A thread that stops for ever at some step is one
 * that is not scheduled again, so every run has them.
 *
 * Properties:
 *   one at a time is inside; an operation runs once, there, and in its turn: who gets in has nobody
 *   before him (a thread does not overtake what it has left);
 *   while nobody holds the gate, what is left has the owner's node on its way, and nobody is blocked:
 *   no thread outside of it is needed (invariant 3);
 *   the node is not pushed while it is on the queue;
 *   when all has come to rest everything has run, nobody sleeps, and the gate is free.
 *
 * The stack and the backlog are one list here, oldest first, with a mark between them; that the stack
 * is turned round is for the tests. A compare-and-swap that is tried again until it succeeds is one step.
 *
 * Planted defects:
 *   BUG_STORE      the holder lets go without a look at what was left in between
 *   BUG_LATE       the node is pushed after the gate is let go
 *   BUG_SILENT     a node that finds the gate held leaves OWED as it was
 *   BUG_TWICE      over the limit, the node is pushed whether or not it is on its way
 *   BUG_OVERTAKE   a gate that is behind is entered by whoever comes
 *   BUG_IN_LINE    a blocked enter stands in line of a gate that is behind
 *   BUG_LIMIT      over the limit, it falls behind although somebody is blocked
 *   BUG_UNSEEN     it falls behind without a look at who has blocked in between
 *   BUG_FORGETS    one that is handed the gate does not run what stands before it
 *   BUG_STAYS      ASLEEP is left in the word of a gate that is let go, where it means BEHIND
 *   BUG_NO_MARK    one with a time-out sleeps without having said so in the word
 */

#define LIMIT 1
#define OPS 4   /* 1 .. OPS are operations */
#define OWNER 5 /* blocked enters */
#define BLOCKED 6
#define TIMED 7
#define is_wait(op) (op > OPS)

/* The word. */
bool held;
bool owed;
bool sleepy;   /* with HELD: ASLEEP, without: BEHIND */
byte list[8];  /* the backlog, then the stack */
byte n;        /* of both */
byte backlog;  /* the holder's */

bool node;     /* on the owner's queue */
bool running;  /* taken off, and has not changed the word yet */
bool event[8]; /* of a blocked enter */
bool dozing;   /* futex: the one with a time-out */

byte inside;   /* threads */
byte ran[5];
byte waits;    /* blocked enters in the list */
bool rings;    /* the one with a time-out gives up */

/* In a d_step. */
inline put_last(op)
{
	list[n] = op;
	n++;
	if
	:: is_wait(op) -> waits++
	:: else
	fi
}

inline entered()
{
	assert(!inside);
	inside++
}

inline run_op(op)
{
	d_step {
		assert(inside == 1);
		assert(!ran[op]);
		ran[op]++
	}
}

/* Of something in the list. */
inline take_first()
{
	d_step {
		backlog = (backlog -> backlog : n);
		assert(backlog);
		op = list[0];
		list[0] = list[1];
		list[1] = list[2];
		list[2] = list[3];
		list[3] = list[4];
		list[4] = list[5];
		list[5] = list[6];
		list[6] = list[7];
		list[7] = 0;
		n--;
		backlog--;
		if
		:: is_wait(op) -> waits--
		:: else
		fi
	}
}

inline find_blocked()
{
	i = 0;
	do
	:: i < backlog && !is_wait(list[i]) -> i++
	:: else -> break
	od;
	op = (i < backlog -> list[i] : 0);
	i = 0
}

inline serve_up_to(self)
{
	do
	:: take_first();
		if
		:: op == self -> break
		:: else
		fi;
#ifdef BUG_FORGETS
		skip
#else
		assert(!is_wait(op));
		run_op(op)
#endif
	od;
	skip
}

inline futex_wake()
{
	if
	:: wake -> dozing = false
	:: else
	fi
}

/* In a d_step: the compare-and-swap of drop(). */
inline drop(becomes_behind)
{
	held = false;
	inside--;
	wake = sleepy;
#ifdef BUG_STAYS
	sleepy = sleepy || becomes_behind;
#else
	sleepy = becomes_behind;
#endif
	done = true
}

inline fall_behind()
{
	if
#ifdef BUG_TWICE
	:: !pushed ->
#elif defined(BUG_LATE)
	:: false ->
#else
	:: !owed ->
#endif
		owed = true;
		pushed = true;
		d_step {
			assert(!node && !running);
			node = true
		}
	:: else ->
		d_step {
#ifdef BUG_UNSEEN
			if
			:: owed -> drop(true)
			:: else
			fi
#elif defined(BUG_LATE)
			if
			:: backlog == n -> owed = true; drop(true)
			:: else -> backlog = n
			fi
#else
			if
			:: owed && backlog == n -> drop(true)
			:: owed && backlog < n -> backlog = n
			:: else -> pushed = false
			fi
#endif
		}
#ifdef BUG_LATE
		if
		:: done -> node = true
		:: else
		fi
#endif
	fi
}

/* fq_gate_let_go() */
inline let_go()
{
	d_step {
		served = 0;
		done = false;
		wake = false;
		pushed = false
	}
	do
	:: done -> break
	:: else ->
		/* What is first, and whether anybody is blocked. */
		d_step {
			backlog = (backlog -> backlog : n);
			find_blocked()
		}
		if
		:: !backlog ->
			d_step {
#ifdef BUG_STORE
				drop(false)
#else
				if
				:: !n -> drop(false)
				:: else
				fi
#endif
			}
#ifdef BUG_LIMIT
		:: backlog && is_wait(list[0]) ->
#else
		:: backlog && op && (op == list[0] || served == LIMIT) ->
#endif
			d_step {
				inside--;
				event[op] = true;
				done = true
			}
#ifdef BUG_LIMIT
		:: backlog && !is_wait(list[0]) && served == LIMIT -> fall_behind()
#else
		:: backlog && !op && served == LIMIT -> fall_behind()
#endif
		:: backlog && !is_wait(list[0]) && served < LIMIT ->
			served++;
			take_first();
			run_op(op)
		fi
	od;
	futex_wake();
	d_step {
		served = 0;
		done = false;
		wake = false;
		pushed = false;
		op = 0
	}
}

inline take_free()
{
	held = true;
	entered();
	/* Nothing is before him. */
	assert(!n)
}

#ifdef BUG_OVERTAKE
#define is_free (!held)
#else
#define is_free (!held && !sleepy)
#endif

inline enter_or_leave(mine)
{
	d_step {
		if
		:: is_free -> take_free(); in = true
		:: else -> put_last(mine); in = false
		fi
	}
	if
	:: in -> run_op(mine); let_go()
	:: else
	fi
}

/* take(): `in` and whether there is a place in the backlog. In a d_step. */
inline take(self)
{
	in = true;
	behind = false;
	if
	:: is_free -> take_free()
#ifdef BUG_IN_LINE
	:: !is_free -> in = false
#else
	:: !is_free && !held ->
		sleepy = false;
		held = true;
		behind = true;
		put_last(self);
		entered()
	:: !is_free && held -> in = false
#endif
	fi
}

/* fq_gate_enter(), for ever */
inline enter(self)
{
	d_step {
		take(self);
		if
		:: !in -> put_last(self)
		:: else
		fi
	}
	if
	:: !in ->
		d_step {
			event[self];
			entered();
			behind = true
		}
	:: else
	fi;
	if
	:: behind -> serve_up_to(self)
	:: else
	fi;
	d_step {
		in = false;
		behind = false
	}
}

proctype leaver(byte from; byte to)
{
	byte mine = from, op, i, served;
	bool in, done, wake, pushed;

	do
	:: mine <= to -> enter_or_leave(mine); mine++
	:: else -> break
	od
}

proctype blocker()
{
	byte op, i, served;
	bool in, behind, done, wake, pushed;

	enter(BLOCKED);
	let_go()
}

/* fq_gate_enter(), not for ever: it may be woken for nothing, and may give up. */
proctype sleeper()
{
	byte op, i, served;
	bool in, behind, done, wake, pushed;

	do
	:: d_step {
		take(TIMED);
#ifndef BUG_NO_MARK
		if
		:: !in -> sleepy = true
		:: else
		fi
#endif
	   }
	   if
	   :: in -> break
	   :: else
	   fi;
	   /* The kernel compares and goes to sleep in one step. */
	   d_step {
		if
#ifdef BUG_NO_MARK
		:: held -> dozing = true
#else
		:: held && sleepy -> dozing = true
#endif
		:: else
		fi
	   }
	   if
	   :: !dozing
	   :: rings -> dozing = false; goto out
	   fi
	od;
	if
	:: behind -> serve_up_to(TIMED)
	:: else
	fi;
	let_go();
out:	skip
}

/* fq_gate_run_owed(), and once a blocking enter in between: he drains nothing while he is blocked. */
active proctype owner()
{
	byte op, i, served;
	bool in, behind, done, wake, pushed;
	bool blocks = true;

end:	do
	:: d_step { node -> node = false; running = true };
		d_step {
			running = false;
#ifdef BUG_SILENT
			if
			:: held
			:: else -> owed = false
			fi;
#else
			owed = false;
#endif
			in = false;
			if
			:: !held && sleepy -> sleepy = false; held = true; in = true; entered()
			:: else
			fi
		}
		if
		:: in -> in = false; let_go()
		:: else
		fi
	:: d_step { blocks -> blocks = false };
		enter(OWNER);
		let_go()
	od
}

init {
	atomic {
		if
		:: rings = true
		:: true
		fi;
		run leaver(1, 2);
		run leaver(3, 4);
		run blocker();
		run sleeper()
	}
	timeout;
	assert(ran[1] && ran[2] && ran[3] && ran[4]);
	assert(!held && !sleepy && !owed && !n && !inside && !dozing)
}

#define nobody_needed \
	(held || (!waits && (!n || (sleepy && owed))))
#define node_comes (!owed || held || node || running)

ltl needs_nobody_outside { [] (nobody_needed && node_comes) }
