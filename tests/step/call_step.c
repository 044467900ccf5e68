/* SPDX-License-Identifier: MIT */
/*
 * Threads that schedule or cancel calls, stopped for ever before each of their steps in turn, all
 * pairs; then a third schedules, and the run that answers it must come: the fd is readable where the
 * owner may be asleep, and the drain runs it. At the end the two go on, and nothing is stuck.
 *
 * Seen to fail: with a schedule that returns when the bit is there already, with one that tells the
 * group only when it has set the bit itself, and with one that says that it has told the owner
 * before it has.
 *
 * A slot that is used again: the first is stopped, another schedules the same call, whose callback
 * ends it and unmaps its memory, and a new call takes the slot; the first goes on, and the new call
 * neither runs for it nor misses a schedule of its own.
 *
 * Seen to fail (a fault): with a schedule that looks at the call when it has told the owner.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "internal.h"
#include "step.h"

void (*fq_step_hook)(void);

enum kind {
	SAME,  /* the call everybody schedules */
	OTHER, /* one of the same group */
	FAR,   /* one of another group */
	IDLE,  /* as SAME, idle */
	POSTS, /* the third is one of the above */
	CANCEL = POSTS,
	CANCEL_WAIT,
	KINDS
};

struct job {
	struct fq_call call;
	unsigned ran;
};

static struct fq_queue *queue;
static bool hooks;
static struct job same, other, far, filler[62];

static void run(struct fq_call *call)
{
	((struct job *)(void *)call)->ran++;
}

static struct job *job_of(enum kind kind)
{
	return kind == OTHER ? &other : kind == FAR ? &far : &same;
}

static void act(void *arg)
{
	const enum kind kind = *(const enum kind *)arg;
	struct fq_call *call = &job_of(kind)->call;

	if (kind == CANCEL)
		(void)fq_call_cancel(call);
	else if (kind == CANCEL_WAIT)
		STEP_CHECK(!fq_call_cancel_wait(call, -1), "cancel_wait");
	else if (kind == IDLE)
		STEP_CHECK(!fq_call_schedule_idle(call), "idle");
	else
		STEP_CHECK(!fq_call_schedule(call), "schedule");
}

static bool readable(void)
{
	struct pollfd pfd = {.fd = fq_queue_fd(queue), .events = POLLIN};

	return poll(&pfd, 1, 0) == 1;
}

static void drain(struct fq_waiter *waiter)
{
	if (hooks)
		fq_queue_check(queue, waiter);
	(void)fq_queue_drain(queue, FQ_NO_BUDGET);
}

/* After a schedule that has returned: asleep before it, woken by it; what it asked for runs. */
static void owner_sees(struct fq_waiter *waiter, bool asleep, const struct job *job,
		       unsigned before)
{
	if (asleep)
		STEP_CHECK(readable(), "asleep, and a schedule has returned");
	drain(waiter);
	/* An idle call's turn comes when there was nothing else. */
	if (job->ran == before)
		drain(waiter);
	STEP_CHECK(job->ran > before, "did not run");
}

static bool pair(enum kind first_kind, enum kind second_kind, unsigned at[2], bool *second_stopped,
		 bool drain_between)
{
	enum kind third = second_kind < POSTS ? second_kind : SAME;
	/* While somebody waits for a call to end, none of its runs begins. */
	const bool held = first_kind == CANCEL_WAIT || second_kind == CANCEL_WAIT;
	struct fq_waiter waiter = {false};
	struct stopper first, second;
	bool first_stopped, asleep;
	unsigned before;

	if (held && (third == SAME || third == IDLE))
		third = OTHER;
	asleep = !hooks || fq_queue_prepare(queue, &waiter);
	STEP_CHECK(asleep, "left over");
	first_stopped = stopper_start(&first, act, &first_kind, at[0]);
	if (drain_between) {
		drain(&waiter);
		asleep = !hooks || fq_queue_prepare(queue, &waiter);
	}
	*second_stopped = stopper_start(&second, act, &second_kind, at[1]);
	before = job_of(third)->ran;
	act(&third);
	owner_sees(&waiter, asleep, job_of(third), before);
	stopper_finish(&first);
	stopper_finish(&second);
	drain(&waiter);
	drain(&waiter);
	STEP_CHECK(!fq_call_pending(&same.call) && !fq_call_pending(&other.call) &&
			   !fq_call_pending(&far.call),
		   "stuck");
	before = same.ran;
	STEP_CHECK(!fq_call_schedule(&same.call), "schedule");
	drain(&waiter);
	STEP_CHECK(same.ran > before, "the next schedule did not run");
	return first_stopped;
}

static unsigned all_pairs(enum kind first, enum kind second, bool drain_between)
{
	unsigned at[2] = {0, 0}, runs = 0;
	bool first_stopped = true, second_stopped = true;

	for (; first_stopped; at[0]++) {
		second_stopped = true;
		for (at[1] = 0; second_stopped; at[1]++, runs++)
			first_stopped = pair(first, second, at, &second_stopped, drain_between);
	}
	return runs;
}

static void init(struct job *job)
{
	job->ran = 0;
	STEP_CHECK(!fq_call_init(&job->call, queue, run), "init");
}

static unsigned explore(unsigned flags)
{
	unsigned runs = 0;

	hooks = flags & FQ_QUEUE_HOOKS;
	STEP_CHECK(!fq_queue_create(&queue, flags), "queue");
	init(&same);
	init(&other);
	for (unsigned i = 0; i < 62; i++)
		init(&filler[i]);
	init(&far);
	for (enum kind first = 0; first < KINDS; first++) {
		for (enum kind second = 0; second < KINDS; second++) {
			runs += all_pairs(first, second, false);
			runs += all_pairs(first, second, true);
		}
	}
	STEP_CHECK(fq_queue_destroy(queue) == -EBUSY, "calls");
	for (unsigned i = 0; i < 62; i++)
		STEP_CHECK(!fq_call_fini(&filler[i].call), "fini");
	STEP_CHECK(!fq_call_fini(&same.call) && !fq_call_fini(&other.call) &&
			   !fq_call_fini(&far.call),
		   "fini");
	STEP_CHECK(!fq_queue_destroy(queue), "queue");
	return runs;
}

/* -- a slot that is used again ------------------------------------------------------------------- */

static struct fq_call *map_call(void)
{
	void *p = mmap(NULL, sizeof(struct fq_call), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	STEP_CHECK(p != MAP_FAILED, "mmap");
	return p;
}

static unsigned ended;

static void end(struct fq_call *call)
{
	STEP_CHECK(!fq_call_fini(call), "fini");
	munmap(call, sizeof(*call));
	ended++;
}

static void schedule(void *call)
{
	STEP_CHECK(!fq_call_schedule(call), "schedule");
}

/* False when the first was over before it came to its stop. */
static bool reuse(unsigned at, bool told)
{
	struct fq_call *call = map_call();
	const struct fq_call_slot *slot;
	struct fq_waiter waiter = {false};
	struct stopper first;
	struct job next;
	bool stopped;

	STEP_CHECK(!fq_call_init(call, queue, end), "init");
	slot = call->slot;
	ended = 0;
	/* The first step of a schedule is the one from which on the call may be gone. */
	stopped = stopper_start(&first, schedule, call, at + 1);
	if (stopped && !told)
		STEP_CHECK(!fq_call_schedule(call), "schedule");
	drain(&waiter);
	if (!ended) { /* nobody has told the owner, and nobody else will */
		stopper_finish(&first);
		drain(&waiter);
		STEP_CHECK(ended == 1, "did not run");
		return stopped;
	}
	init(&next);
	STEP_CHECK(next.call.slot == slot, "another slot");
	stopper_finish(&first);
	drain(&waiter);
	STEP_CHECK(ended == 1 && !next.ran, "ran for an earlier call");
	STEP_CHECK(!hooks || fq_queue_prepare(queue, &waiter), "asleep");
	STEP_CHECK(!fq_call_schedule(&next.call), "schedule");
	owner_sees(&waiter, true, &next, 0);
	STEP_CHECK(!fq_call_fini(&next.call), "fini");
	return stopped;
}

static unsigned explore_reuse(unsigned flags)
{
	unsigned stops = 0;

	hooks = flags & FQ_QUEUE_HOOKS;
	STEP_CHECK(!fq_queue_create(&queue, flags), "queue");
	for (int told = 0; told < 2; told++) {
		for (unsigned at = 0; reuse(at, told); at++)
			stops++;
	}
	STEP_CHECK(!fq_queue_destroy(queue), "queue");
	return stops;
}

/* -- an owner that is kept at each step of a drain ------------------------------------------------ */

static void drain_it(void *arg)
{
	(void)arg;
	(void)fq_queue_drain(queue, FQ_NO_BUDGET);
}

/* As a handler that is about to run the loop of a host that knows only fds. */
static void expect_readable(struct fq_call *call)
{
	const struct job *left = call == &same.call ? &other : &same;

	run(call);
	STEP_CHECK(!fq_call_pending(&left->call) || readable(),
		   "a handler that sleeps is not woken for what is left");
}

/*
 * Two are scheduled meanwhile. Whichever handler runs first finds the other answered, or the fd
 * readable; and so does whoever sleeps after the drain (trap 7).
 *
 * Seen to fail: with a drain that clears the fd first and arms at the end, with one that disarms, and
 * with one that does not make the fd readable again when something came between clear and arm.
 */
static bool keep_owner(unsigned at, bool one_before)
{
	const unsigned before[2] = {same.ran, other.ran};
	struct stopper owner;
	bool stopped;

	if (one_before)
		STEP_CHECK(!fq_call_schedule(&same.call), "schedule");
	stopped = stopper_start(&owner, drain_it, NULL, at);
	STEP_CHECK(!fq_call_schedule(&same.call) && !fq_call_schedule(&other.call), "schedule");
	stopper_finish(&owner);
	STEP_CHECK((!fq_call_pending(&same.call) && !fq_call_pending(&other.call)) || readable(),
		   "step %u: asleep, and schedules have returned", at);
	while (readable())
		(void)fq_queue_drain(queue, FQ_NO_BUDGET);
	STEP_CHECK(same.ran > before[0] && other.ran > before[1], "step %u: did not run", at);
	return stopped;
}

/*
 * Cancelled meanwhile, it either says so and the call does not run, or it does; and when a wait for
 * its end has returned, it runs no more.
 *
 * Seen to fail: with a run that loads and stores what it takes, and with one that counts itself only
 * when it has taken it.
 */
static bool keep_owner_and_cancel(unsigned at, bool wait)
{
	const unsigned before = same.ran;
	struct stopper owner;
	unsigned by_then;
	bool stopped, cancelled;

	STEP_CHECK(!fq_call_schedule(&same.call), "schedule");
	stopped = stopper_start(&owner, drain_it, NULL, at);
	cancelled = wait ? !fq_call_cancel_wait(&same.call, 0) : fq_call_cancel(&same.call);
	by_then = same.ran;
	stopper_finish(&owner);
	if (cancelled)
		STEP_CHECK(same.ran == by_then, "step %u: ran although it was cancelled", at);
	else if (!wait)
		STEP_CHECK(same.ran == before + 1, "step %u: neither ran nor cancelled", at);
	(void)fq_queue_drain(queue, FQ_NO_BUDGET);
	return stopped;
}

static int cancelled;

static void cancel_wait(void *arg)
{
	(void)arg;
	cancelled = fq_call_cancel_wait(&same.call, 0);
}

/*
 * Scheduled while somebody waits, who goes while a run of it is at each of its steps: it is taken back,
 * or the wait has not ended.
 *
 * Seen to fail: with a wait that ends although a run has begun since it found none.
 */
#define LAST_TAKE \
	3 /* its fourth step; what is scheduled afterwards is as if it came when it had gone */

static bool keep_both(unsigned at[2], bool *owner_stopped)
{
	struct stopper canceller, owner;
	bool stopped = stopper_start(&canceller, cancel_wait, NULL, at[0]);
	unsigned by_then;

	if (stopped)
		STEP_CHECK(!fq_call_schedule(&same.call), "schedule");
	*owner_stopped = stopper_start(&owner, drain_it, NULL, at[1]);
	by_then = same.ran;
	stopper_finish(&canceller);
	STEP_CHECK(!cancelled || cancelled == -ETIMEDOUT, "%d", cancelled);
	stopper_finish(&owner);
	if (!cancelled)
		STEP_CHECK(same.ran == by_then, "steps %u, %u: ran when the wait had ended", at[0],
			   at[1]);
	(void)fq_queue_drain(queue, FQ_NO_BUDGET);
	return stopped;
}

static unsigned explore_both(void)
{
	unsigned at[2] = {0, 0}, stops = 0;
	bool stopped = true, owner_stopped;

	for (; at[0] <= LAST_TAKE; at[0]++) {
		owner_stopped = true;
		for (at[1] = 0; owner_stopped; at[1]++, stops++)
			stopped = keep_both(at, &owner_stopped);
		STEP_CHECK(stopped, "there is no such step");
	}
	return stops;
}

static unsigned explore_owner(unsigned flags)
{
	unsigned stops = 0;

	hooks = false;
	STEP_CHECK(!fq_queue_create(&queue, flags), "queue");
	STEP_CHECK(!fq_call_init(&same.call, queue, expect_readable), "init");
	STEP_CHECK(!fq_call_init(&other.call, queue, expect_readable), "init");
	for (int one_before = 0; one_before < 2; one_before++) {
		for (unsigned at = 0; keep_owner(at, one_before); at++)
			stops++;
	}
	for (int wait = 0; wait < 2; wait++) {
		for (unsigned at = 0; keep_owner_and_cancel(at, wait); at++)
			stops++;
	}
	stops += explore_both();
	STEP_CHECK(!fq_call_fini(&same.call) && !fq_call_fini(&other.call), "fini");
	STEP_CHECK(!fq_queue_destroy(queue), "queue");
	return stops;
}

/* A debug build knows a call that has ended without a look at its memory, which is gone here. */
static void use_after_fini(void)
{
	struct fq_call *call = map_call();

	STEP_CHECK(!fq_queue_create(&queue, 0), "queue");
	STEP_CHECK(!fq_call_init(call, queue, run) && !fq_call_fini(call), "init");
	munmap(call, sizeof(*call));
	STEP_CHECK(fq_call_fini(call) == -EINVAL, "fini twice");
	STEP_CHECK(fq_call_cancel_wait(call, -1) == -EINVAL, "cancel_wait");
	STEP_CHECK(!fq_queue_destroy(queue), "queue");
	STEP_CHECK(fq_call_init(&same.call, queue, run) == -EINVAL, "queue is gone");
}

int main(void)
{
	unsigned plain, hooked, stops, owner;

	fq_step_hook = step_hook;
	plain = explore(0);
	hooked = explore(FQ_QUEUE_HOOKS);
	stops = explore_reuse(0) + explore_reuse(FQ_QUEUE_HOOKS);
	owner = explore_owner(0) + explore_owner(FQ_QUEUE_PIPE);
	use_after_fini();
	printf("pairs of stops: %u with a plain fd, %u with hooks; slots used again: %u; owner: "
	       "%u\n",
	       plain, hooked, stops, owner);
	STEP_CHECK(plain > 1000 && hooked > 1000 && stops > 10 && owner > 10,
		   "hardly stopped at all");
	puts("ok");
	return 0;
}
