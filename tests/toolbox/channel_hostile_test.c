/* SPDX-License-Identifier: MIT */
/* A peer that cannot be trusted. */
#define _GNU_SOURCE
#include <sys/ioctl.h>

#include "channel_host.h"

TestSuite(channel_hostile, .init = setup, .fini = teardown, .timeout = 100);

static void garbage(struct header h)
{
	struct ask ask;

	open_channel();
	ask_peer(&ask, 1);
	drain();
	peer_write(&h, sizeof(h));
	drain();
	cr_assert_eq(wait_for(&ask, 0), -EPROTO);
	cr_assert_eq(lost, 1);
	cr_assert_eq(lost_status, -EPROTO);
	cr_assert_eq(stats().protocol_errors, 1);
	cr_assert_eq(fq_channel_exchange(channel, &ask.exchange), -ENOTCONN);
	cr_assert_eq(fq_channel_post(channel, &ask.exchange.message), -ENOTCONN);
}

Test(channel_hostile, garbage_is_the_end)
{
	garbage((struct header){.size = sizeof(struct header), .reply = 2});
}

Test(channel_hostile, a_size_beyond_the_limit_is_the_end)
{
	garbage((struct header){.size = UINT32_MAX});
}

Test(channel_hostile, a_size_below_the_header_is_the_end)
{
	garbage((struct header){.size = sizeof(struct header) - 1});
}

Test(channel_hostile, a_request_where_none_may_come_is_the_end)
{
	config.serve = NULL;
	garbage((struct header){.size = sizeof(struct header)});
}

Test(channel_hostile, forged_duplicate_and_early_replies_are_refused)
{
	struct ask ask;
	struct small m;

	config.max_message = sizeof(struct small);
	open_channel();
	ask_peer(&ask, 1);
	/* Guessed before the request has left: the id of the first is known. */
	peer_replies(UINT64_C(1) << 6, 666);
	peer_replies(0, 666);
	peer_replies(UINT64_MAX, 666);
	(void)fq_queue_drain(queue, FQ_NO_BUDGET);
	cr_assert_eq(stats().requests.refused_forged, 3);
	cr_assert(peer_read(&m, sizeof(m)));
	cr_assert_eq(m.h.id, UINT64_C(1) << 6, "the test's guess was right");
	peer_replies(m.h.id, 5);
	peer_replies(m.h.id, 667);
	cr_assert_eq(wait_for(&ask, FOR_EVER), 0);
	drain();
	cr_assert_eq(ask.in.value, 5);
	cr_assert_eq(stats().requests.refused_late, 1);
	cr_assert_eq(lost, 0);
}

Test(channel_hostile, a_reply_too_large_for_its_room)
{
	struct {
		struct small m;
		char more[100];
	} big = {.m.h = {.size = sizeof(big), .reply = 1}};
	struct ask ask;
	struct small m;

	open_channel();
	ask_peer(&ask, 1);
	drain();
	cr_assert(peer_read(&m, sizeof(m)));
	big.m.h.id = m.h.id;
	peer_write(&big, sizeof(big));
	cr_assert_eq(wait_for(&ask, FOR_EVER), -EMSGSIZE);
	cr_assert_eq(ask.exchange.request.size, sizeof(big));
	cr_assert_eq(ask.in.value, 0);
}

/*
 * One message in pieces of a byte, each with an fd, at which the kernel ends a read: the pieces are
 * counted, not the messages.
 *
 * Seen to fail: with a budget of messages (all is read in one drain).
 */
Test(channel_hostile, a_message_in_small_pieces_is_read_in_turns)
{
	const struct small m = {.h = {.size = sizeof(struct header) + BODY}};
	unsigned char byte = 0;
	int left = 0;

	open_channel();
	peer_write(&m.h, sizeof(m.h));
	for (unsigned i = 0; i < 160; i++)
		peer_pass(&byte, 1, &pair[1], 1);
	(void)fq_queue_drain(queue, FQ_NO_BUDGET);
	cr_assert_eq(ioctl(pair[0], FIONREAD, &left), 0);
	cr_assert_gt(left, 0);
	cr_assert_geq(stats().receive_stops, 1);
	drain();
	cr_assert_eq(ioctl(pair[0], FIONREAD, &left), 0);
	cr_assert_eq(left, 0, "the rest comes later");
	cr_assert_eq(lost, 0);
}

/* Waits for a reply that does not come; by then the peer has asked again. */
static void wait_in_vain(struct fq_received *received)
{
	struct ask ask;

	(void)received;
	ask_peer(&ask, 2);
	cr_assert_eq(wait_for(&ask, 0), -ETIMEDOUT);
	peer_asks(1);
}

/*
 * A wait of the owner's lasts no longer than its time-out and one of each further level, not of each
 * request that the peer makes meanwhile.
 *
 * Seen to fail: with reading on after a callback that waited (it is served until the budget is used up).
 */
Test(channel_hostile, requests_do_not_multiply_the_time_out_of_a_wait)
{
	struct ask ask;

	open_channel();
	on_serve = wait_in_vain;
	ask_peer(&ask, 1);
	peer_asks(1);
	cr_assert_eq(wait_for(&ask, 0), -ETIMEDOUT);
	cr_assert_leq(served, 2 * NESTING);
	on_serve = NULL;
}
