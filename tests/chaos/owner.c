/* SPDX-License-Identifier: MIT */
/* An owner: whatever the interface allows, from its loop and from inside every callback. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>

#include "chaos.h"

#define DEPTH_MAX 5u
#define DIGESTED 1000u

static void act(struct owner *owner, uint64_t fate);

static void retire(struct fq_fence *fence, int status, void *opaque)
{
	struct owner *owner = ((struct slot *)opaque)->owner;
	struct work *work = (struct work *)fence;
	uint64_t fate = work->fate;

	ledger_retired(work, status);
	if (fate % 8 == 0)
		act(owner, fate >> 3);
}

static void flush(void *opaque)
{
	struct owner *owner = ((struct slot *)opaque)->owner;
	uint64_t fate = chaos_draw(50 + owner->index, owner->flushes++);

	if (fate % 16 == 0)
		act(owner, fate >> 4);
}

/* -- submit and signal ------------------------------------------------------------------------- */

static void submit(struct slot *slot, unsigned l, uint64_t fate)
{
	struct line *line = &slot->line[l];
	struct work *work = line_free_work(line);
	uint64_t id = slot->high + 1 + (fate >> 8) % 3;
	struct ticket t;
	int err;

	if (!work)
		return;
	work->fate = fate >> 16;
	if (fate % 4 == 0)
		err = line->global ? fq_submit_global_id(slot->dev, &work->fence, id)
				   : fq_submit_id(slot->dev, line->ctx_id, line->ring_idx,
						  &work->fence, id);
	else
		err = line->global
			      ? fq_submit_global(slot->dev, &work->fence)
			      : fq_submit(slot->dev, line->ctx_id, line->ring_idx, &work->fence);
	chaos_expect(err, slot->state == ALIVE ? 0 : -ENODEV, "submit");
	if (err)
		return;
	if (!line->global && !slot->live[(l - 1) / RINGS]) {
		slot->live[(l - 1) / RINGS] = true;
		slot->owner->contexts++;
	}
	slot->owner->submitted++;
	line_publish(line, work);
	/* A renderer may answer inside submit. */
	if ((fate >> 4 & 7) == 0 && ticket_take(line, 0, &t))
		ticket_signal(&t, fate & 1);
}

static void submit_some(struct slot *slot, uint64_t fate)
{
	uint64_t state = fate;

	for (uint64_t n = fate % 12; n; n--) {
		uint64_t r = stress_random(&state);

		submit(slot, (unsigned)(r >> 56) % LINES, r);
	}
}

static void bad_input(struct slot *slot, unsigned c, uint64_t fate)
{
	struct line *line = &slot->line[1 + c * RINGS];
	struct fq_fence fence = {0};

	chaos_expect(fq_context_fail(slot->dev, line->ctx_id, (int)(fate % 1000)), -EINVAL, "fail");
	chaos_expect(fq_context_destroy(slot->dev, 0x7654321), -ENOENT, "unknown context");
	chaos_expect(fq_ring_fail(slot->dev, line->ctx_id, RINGS + 64, -EIO), -EINVAL, "ring");
	if (slot->state != ALIVE)
		return;
	chaos_expect(fq_submit(slot->dev, line->ctx_id, 64, &fence), -EINVAL, "submit");
	chaos_expect(fq_submit_id(slot->dev, line->ctx_id, 0, &fence, UINT64_MAX - fate % 9),
		     -ERANGE, "id");
	if (line->work[0].in_flight)
		chaos_expect(fq_submit(slot->dev, line->ctx_id, 0, &line->work[0].fence), -EBUSY,
			     "twice");
	if (slot->live[c])
		chaos_expect(fq_context_create(slot->dev, line->ctx_id), -EEXIST, "create");
}

/* -- lives ------------------------------------------------------------------------------------- */

/* A quarter of them begin where 32 bits end. */
static void create(struct slot *slot, uint64_t fate)
{
	const struct fq_device_config config = {
		.queue = slot->owner->queue, .retire = retire, .flush = flush, .opaque = slot};
	struct work *work = &slot->line[0].work[0];
	int err = fq_device_create(&slot->dev, &config);

	if (err) {
		chaos_expect(err, -ENFILE, "device");
		(void)fq_reclaim();
		return;
	}
	ledger_renew(slot);
	atomic_store(&slot->handle, fq_device_handle(slot->dev));
	slot->state = ALIVE;
	slot->owner->devices++;
	if (fate % 4 == 0) {
		work->fate = 1;
		chaos_expect(fq_submit_global_id(slot->dev, &work->fence, UINT32_MAX - fate % 99),
			     0, "submit");
		slot->owner->submitted++;
		line_publish(&slot->line[0], work);
		end_life(slot, RESET, 0);
	}
}

static void context_create(struct slot *slot, unsigned c)
{
	int expected = slot->state == ENDING ? -ENODEV : slot->live[c] ? -EEXIST : 0;
	int err = fq_context_create(slot->dev, slot->line[1 + c * RINGS].ctx_id);

	chaos_expect(err, expected, "context");
	if (!err) {
		slot->live[c] = true;
		slot->owner->contexts++;
	}
}

/* Contexts with ids that never come again. */
static void contexts_pass(struct slot *slot, uint64_t fate)
{
	struct owner *owner = slot->owner;

	for (uint64_t n = fate % 20; slot->state == ALIVE && n; n--) {
		uint32_t id = UINT32_C(0x10000000) + owner->passing++ % 0x1000000 * 7;

		chaos_expect(fq_context_create(slot->dev, id), 0, "passing context");
		chaos_expect(fq_context_destroy(slot->dev, id), 0, "passing context");
		owner->contexts++;
	}
}

static void set_frozen(struct slot *slot, bool frozen)
{
	slot->frozen = frozen;
	chaos_expect(frozen ? fq_device_freeze(slot->dev) : fq_device_thaw(slot->dev), 0, "freeze");
}

/* -- look -------------------------------------------------------------------------------------- */

static bool look_at(const struct fq_pending *p, void *opaque)
{
	const struct work *work = (const struct work *)p->fence;
	const struct line *line = work->line;

	if (!work->in_flight || line->slot != opaque || p->global != line->global ||
	    (!p->global && (p->ctx_id != line->ctx_id || p->ring_idx != line->ring_idx)))
		chaos_fault(DUPLICATED, "a fence in the wrong place", (long long)p->fence->token);
	return true;
}

static void ignore(const char *text, void *opaque)
{
	(void)text;
	(void)opaque;
}

static void look(struct slot *slot)
{
	unsigned expected = ledger_in_flight(slot);
	struct fq_pending oldest;

	if (fq_device_walk(slot->dev, look_at, slot) != expected)
		chaos_fault(LOST, "a walk shows others; expected", expected);
	if (fq_device_oldest(slot->dev, &oldest) != (expected > 0))
		chaos_fault(LOST, "oldest; pending", expected);
	if (fq_device_pending(slot->dev) != expected)
		chaos_fault(LOST, "pending; expected", expected);
	(void)fq_device_dump(slot->dev, 0, ignore, NULL);
}

/* -- drain and sleep --------------------------------------------------------------------------- */

static void drain(struct owner *owner, unsigned budget)
{
	struct due due;

	ledger_note_due(owner, &due);
	(void)fq_queue_drain(owner->queue, budget);
	if (owner->depth == 1 && !fq_queue_pending(owner->queue) && ledger_is_due(owner, &due))
		chaos_fault(LOST, "due, and not retired by a drain", 0);
}

/* Nobody may go to sleep on a signal that has returned. */
static void nap(struct owner *owner)
{
	struct pollfd pfd = {.fd = fq_queue_fd(owner->queue), .events = POLLIN};
	struct fq_waiter waiter = {false};
	struct due due;

	if (owner->depth > 1)
		return;
	ledger_note_due(owner, &due);
	if (owner->flags & FQ_QUEUE_HOOKS && !fq_queue_prepare(owner->queue, &waiter))
		return;
	if (ledger_is_due(owner, &due) && poll(&pfd, 1, 0) != 1)
		chaos_fault(LOST, "asleep with something due", 0);
	(void)poll(&pfd, 1, 1);
	fq_queue_check(owner->queue, &waiter);
	drain(owner, FQ_NO_BUDGET);
}

/* -- decide ------------------------------------------------------------------------------------ */

static void act_on(struct slot *slot, unsigned what, uint64_t fate)
{
	if (what < 50)
		submit_some(slot, fate);
	else if (what < 52)
		look(slot);
	else if (what < 53)
		contexts_pass(slot, fate);
	else if (what < 56)
		context_create(slot, (unsigned)fate % CONTEXTS);
	else if (what < 60)
		set_frozen(slot, true);
	else if (what < 65)
		set_frozen(slot, false);
	else if (what < 67)
		bad_input(slot, (unsigned)fate % CONTEXTS, fate >> 8);
	else if (what < 75)
		end_life(slot, CONTEXT_DESTROY, fate);
	else if (what < 79)
		end_life(slot, RESET, fate);
	else if (what < 82)
		end_life(slot, fate >> 60 & 1 ? UNPLUG : DESTROY, fate);
	else
		end_life(slot, (enum end)((fate >> 60) % CONTEXT_DESTROY), fate);
}

static void act(struct owner *owner, uint64_t fate)
{
	uint64_t state = fate;
	struct slot *slot = &owner->slot[stress_random(&state) % SLOTS];
	unsigned what = (unsigned)(stress_random(&state) % 128);

	fate = stress_random(&state);
	if (owner->depth == DEPTH_MAX)
		return;
	owner->depth++;
	if (what >= 124)
		nap(owner);
	else if (what >= 108)
		drain(owner, FQ_NO_BUDGET);
	else if (what >= 96)
		drain(owner, (unsigned)(fate % 20));
	else if (what >= 92)
		(void)fq_queue_poll(owner->queue, (unsigned)(fate % 20));
	else if (slot->state == EMPTY)
		create(slot, fate);
	else
		act_on(slot, what, fate);
	owner->depth--;
}

void *owner_main(void *arg)
{
	struct owner *owner = arg;

	while (!atomic_load(&chaos_stop)) {
		uint64_t fate = chaos_draw(owner->index, owner->decided++);

		if (owner->decided <= DIGESTED)
			owner->digest = (owner->digest ^ fate) * UINT64_C(0x100000001b3);
		act(owner, fate);
	}
	return NULL;
}

/* When all posters are gone: what was signalled retires with 0, the rest with the device. */
void owner_finish(struct owner *owner)
{
	struct due due;

	owner->depth = DEPTH_MAX; /* callbacks rest */
	for (unsigned s = 0; s < SLOTS; s++) {
		if (owner->slot[s].state == ALIVE)
			set_frozen(&owner->slot[s], false);
	}
	ledger_note_due(owner, &due);
	while (fq_queue_pending(owner->queue))
		(void)fq_queue_drain(owner->queue, FQ_NO_BUDGET);
	if (ledger_is_due(owner, &due))
		chaos_fault(LOST, "due at the end", 0);
	for (unsigned s = 0; s < SLOTS; s++) {
		if (owner->slot[s].state == ALIVE)
			end_life(&owner->slot[s], DESTROY, 0);
		for (unsigned left = ledger_in_flight(&owner->slot[s]); left; left--)
			chaos_fault(LOST, "never retired", 0);
	}
}
