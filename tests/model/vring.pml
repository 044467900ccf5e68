/* SPDX-License-Identifier: MIT */
/*
 * Virtqueue: publish used entries, suppress interrupts (src/vring.c, src/vring_split.c, EVENT_IDX).
 * The device publishes a batch and decides whether to interrupt; the driver takes what is published,
 * says from which entry on it wants to hear, looks again and sleeps. Both have a store buffer that
 * memory sees later, in order (x86, and weaker machines at least so).
 *
 * Property: once the device has no more to publish, a driver that sleeps with no interrupt under way has
 * taken everything; there is never more than one interrupt for a publish.
 *
 * Planted defects:
 *   BUG_DEVICE_BARRIER  the device reads used_event before its used index is seen by the driver
 *   BUG_DRIVER_BARRIER  the driver's: shows that the model needs the barrier of the other side, too
 *   BUG_LAST_NOTIFY     "old" is the index at the last interrupt, not at the last check: after a
 *                       driver that polled has gone once round, the ring is silent
 *   BUG_STALE_EVENT     the comparison is made with used_event as read before the publish
 *
 * Indices are modulo 8, and the ring holds 4, so that they come round.
 */

#define WRAP 8
#define BATCHES 6

byte used;       /* what the driver's side of memory holds */
byte used_event; /* what the device's side of memory holds */

/* Store buffers of one entry: one word each. */
bool device_buffered, driver_buffered;
byte device_store, driver_store;

byte published; /* by the device, buffered or not */
byte taken;     /* by the driver */
byte interrupts;
byte batches;
byte handled; /* interrupts that the driver has seen */
bool asleep;
bool finished; /* the device has no more to publish */

#define SINCE(a, b) (((a) + WRAP - (b)) % WRAP)

/* vring_need_event of the specification: has the index passed the event since `old`? */
#define NEED_EVENT(event, new, old) (SINCE((new), (event) + 1) < SINCE((new), (old)))

inline device_barrier()
{
	!device_buffered
}

inline driver_barrier()
{
	!driver_buffered
}

active proctype device()
{
	byte old = 0, event, n;

	do
	:: batches < BATCHES ->
		batches++;
		/* One or two entries, as far as the ring has room. */
		if
		:: n = 1
		:: n = 2
		fi;
		SINCE(published, taken) + n <= 4;
		!device_buffered;
#ifdef BUG_STALE_EVENT
		event = used_event;
#endif
		d_step {
			published = (published + n) % WRAP;
			device_store = published;
			device_buffered = true
		}
#ifndef BUG_DEVICE_BARRIER
		device_barrier();
#endif
#ifndef BUG_STALE_EVENT
		event = used_event;
#endif
		if
		:: NEED_EVENT(event, published, old) ->
			interrupts++;
			assert(interrupts <= batches)
#ifdef BUG_LAST_NOTIFY
			;
			old = published
#endif
		:: else
		fi;
#ifndef BUG_LAST_NOTIFY
		old = published
#endif
	:: else -> break
	od;
	finished = true
}

active proctype driver()
{
	byte seen;

	do
	:: true ->
		/* Interrupts that have come by now are taken care of by this look. */
		handled = interrupts;
		seen = used;
		if
		:: seen != taken -> taken = seen
		:: else ->
			!driver_buffered;
			d_step { driver_store = taken; driver_buffered = true };
#ifndef BUG_DRIVER_BARRIER
			driver_barrier();
#endif
			if
			:: used != taken /* look again */
			:: used == taken ->
				asleep = true;
end:				interrupts != handled -> asleep = false
			fi
		fi
	od
}

active proctype memory()
{
end:	do
	:: d_step { device_buffered -> used = device_store; device_buffered = false }
	:: d_step { driver_buffered -> used_event = driver_store; driver_buffered = false }
	od
}

ltl nothing_is_left {
	[] !(asleep && finished && !device_buffered && interrupts == handled && taken != published)
}
