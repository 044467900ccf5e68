/* SPDX-License-Identifier: MIT */
/*
 * One slot of a request table (src/request.c, src/request_wait.c), with a channel's message in it
 * (src/channel_tx.c). Two submitters use the slot in turn: each takes it, publishes its request, waits
 * for it, times out or is cancelled (the same step), and frees its memory. The owner writes their
 * messages; a peer replies to what it has seen, twice, and to what it guesses; the connection is lost
 * at any time. A thread that stops for ever at some step is one that is not scheduled again.
 *
 * Properties:
 *   a request ends once, and its waiter is told once
 *   nobody touches a request after its waiter has gone: neither its reply nor its message
 *   a reply goes to the request it is for
 *   a slot is not taken while its message is on the list
 *   when nothing moves any more, and the connection is lost, every wait has returned, those without a
 *   time-out, too, and the slot is free
 *
 * Memory is sequentially consistent here: each step is one atomic operation of the source, and the
 * argument that their orders suffice is docs/memory-model.md's.
 *
 * Planted defects:
 *   BUG_CLAIM        the time-out reads the word, then writes it: it and a reply both win
 *   BUG_NO_COPY_WAIT a waiter whose time-out comes too late goes, while the reply is being copied
 *   BUG_GENERATION   a reply is matched by the slot alone
 *   BUG_NO_BUMP      a slot is freed with the generation it had
 *   BUG_LENT         who ends a request hands it back although its message is being read
 *   BUG_QUEUED       who ends a request frees the slot although its message is on the list
 *   BUG_EARLY        a reply is taken before its message has left, and the slot freed with it
 *   BUG_BORROW       the owner writes a message without asking whether its request is pending
 *   BUG_SETTLE       the owner does not look whether the request ended while it was lent
 *   BUG_CLOSE        the loss only marks the slots that are pending
 *   BUG_PUBLISH      publishing does not look for the mark
 */

#define NOBODY 2
#define LIVES 3 /* of the slot */

mtype = { FREE, TAKEN, PENDING, CLAIMED, OVER };

/* The slot's word. */
mtype state = FREE;
byte generation = 1;
bool closed, queued, lent;

byte request = NOBODY; /* the slot's pointer: whose */
byte record = NOBODY;  /* the channel's record of the slot: whose message */
bool listed;           /* the record is on the list, or on the queue before it */

/* Each submitter's request. */
byte mine[2];    /* its generation */
byte life[2];    /* its number among all: what a reply should be told by */
bool alive[2];   /* its memory is there */
bool told[2];    /* the event */
byte ended[2];   /* how often, in this life */
bool reading[2]; /* its message is being read */
bool copying[2]; /* its reply is being written */
bool inside[2];  /* published, and not returned */

byte lives;     /* of the slot */
byte seen;      /* the newest request that the peer was sent; 0: none */
bool lost_once; /* the loss is through */

#define free_slot() \
	state = FREE; \
	queued = false; \
	lent = false; \
	NEXT_GENERATION

#ifdef BUG_NO_BUMP
#define NEXT_GENERATION skip
#define GENERATION_OF(n) 1
#else
#define NEXT_GENERATION generation++
#define GENERATION_OF(n) n
#endif

inline hand_back(who)
{
	d_step {
		assert(alive[who]);
		assert(!told[who]);
		told[who] = true
	}
}

/* fq_request_finish(); `who` and `was_lent` are the caller's. */
inline finish()
{
	who = request;
	assert(who != NOBODY && alive[who]);
	d_step {
		was_lent = lent;
#ifdef BUG_EARLY
		if
		:: queued && !replying -> state = OVER
		:: else -> free_slot()
		fi
#else
#ifdef BUG_QUEUED
		free_slot()
#else
		if
		:: queued -> state = OVER
		:: else -> free_slot()
		fi
#endif
#endif
	}
	if
#ifndef BUG_LENT
	:: was_lent
#endif
	:: else -> hand_back(who)
	fi
}

inline count_end()
{
	ended[request]++;
	assert(ended[request] == 1)
}

proctype submitter(byte id)
{
	byte who;
	bool was_lent, won;
	bool replying = false;

again:
	/* take_slot(), fq_request_reserve() */
	if
	:: d_step {
		state == FREE && !closed && lives < LIVES ->
		lives++;
		state = TAKEN
	   }
	:: closed || lives == LIVES -> goto done
	fi;
	d_step {
		assert(!listed);
		request = id;
		record = id;
		mine[id] = generation;
		life[id] = lives;
		alive[id] = true;
		told[id] = false;
		ended[id] = 0
	}
	/* fq_request_publish() */
	d_step {
#ifdef BUG_PUBLISH
		won = true;
#else
		won = !closed;
#endif
		if
		:: won -> state = PENDING; queued = true
		:: else -> free_slot(); alive[id] = false
		fi
	}
	if
	:: !won -> goto done
	:: else -> inside[id] = true; listed = true
	fi;
	/* fq_request_wait(), for ever or until it gives up, or another thread cancels it, at any time. */
	if
	:: true -> told[id]
	:: true ->
		/* fq_request_end() */
#ifdef BUG_CLAIM
		won = state == PENDING && generation == mine[id];
		d_step {
			if
			:: won -> state = CLAIMED; count_end()
			:: else
			fi
		}
#else
		d_step {
			won = state == PENDING && generation == mine[id];
			if
			:: won -> state = CLAIMED; count_end()
			:: else
			fi
		}
#endif
		if
		:: won -> finish()
		:: else
		fi;
#ifdef BUG_NO_COPY_WAIT
		if
		:: told[id]
		:: !won
		fi
#else
		told[id]
#endif
	fi;
	/* And here its memory goes. */
	d_step {
		assert(!copying[id] && !reading[id]);
		alive[id] = false;
		inside[id] = false
	}
	goto again;
done:
	skip
}

/* The owner's turn to write: write_call(), or drop_call(). */
inline write_message()
{
	d_step {
		assert(record != NOBODY);
		who = record;
#ifdef BUG_BORROW
		won = true;
		lent = true
#else
		won = state == PENDING;
		if
		:: won -> lent = true
		:: else
		fi
#endif
	}
	if
	:: won ->
		d_step { assert(alive[who]); reading[who] = true }
		d_step {
			assert(alive[who] && record == who);
			reading[who] = false;
			off = false
		}
		if
		:: off = true; seen = life[who]
		:: true /* the socket takes nothing at present */
		fi
	:: else -> off = true
	fi;
	if
	:: off -> listed = false
	:: else
	fi;
	/* fq_request_settle() */
	who = request;
	d_step {
		was_over = state == OVER;
		was_lent = lent;
		lent = false;
		if
		:: off && was_over -> free_slot()
		:: off && !was_over -> queued = false
		:: else
		fi
	}
#ifndef BUG_SETTLE
	if
	:: was_over && was_lent -> hand_back(who)
	:: else
	fi
#endif
}

/* A reply to the n-th of the slot's requests: fq_request_claim(), _fill(), _finish(). */
inline take_reply(n)
{
	d_step {
		won = state == PENDING;
#ifndef BUG_GENERATION
		won = won && generation == GENERATION_OF(n);
#endif
#ifndef BUG_EARLY
		won = won && !queued;
#endif
		if
		:: won -> state = CLAIMED; count_end()
		:: else
		fi
	}
	if
	:: won ->
		who = request;
		d_step {
			assert(alive[who]);
			assert(life[who] == n);
			copying[who] = true
		}
		d_step { assert(alive[who]); copying[who] = false }
		finish()
	:: else
	fi
}

active proctype owner()
{
	byte who;
	bool was_lent, was_over, won, off;
	bool replying = false;

end:
	do
	:: listed -> write_message()
	od
}

/* Who reads the replies: the owner, or any thread, where the host has a socket of its own. */
active proctype reader()
{
	byte who, g;
	byte replies = 0;
	bool was_lent, won;
	bool replying = true;

end:
	do
	:: replies < LIVES && seen ->
		/* To the newest, again to one before it, or to one that it guesses. */
		if
		:: g = seen
		:: seen > 1 -> g = seen - 1
		:: g = lives
		fi;
		replies++;
		take_reply(g);
		g = 0;
		who = 0;
		was_lent = false;
		won = false
	od
}

/* fq_request_fail_all(), at any time. */
active proctype loss()
{
	byte who;
	bool was_lent, won;
	bool replying = false;

	d_step {
		won = state == PENDING;
#ifdef BUG_CLOSE
		closed = won;
#else
		closed = true;
#endif
		if
		:: won -> state = CLAIMED; count_end()
		:: else
		fi
	}
	if
	:: won -> finish()
	:: else
	fi;
	lost_once = true
}

init {
	atomic {
		run submitter(0);
		run submitter(1)
	}
	/* When nothing moves any more. */
	timeout;
	assert(lost_once);
	assert(!inside[0] && !inside[1]);
	assert(state == FREE && !queued && !lent && !listed)
}
