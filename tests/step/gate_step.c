/* SPDX-License-Identifier: MIT */
/*
 * A thread stopped before each of its steps in turn, at a gate: as one that leaves an operation, as a
 * holder that lets go, as the owner of the queue, as one that blocks. Others go on meanwhile, and
 * nobody waits for one that is outside; in the end each operation has run once, and the gate is free.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"
#include "step.h"

void (*fq_step_hook)(void);

#define OPS 8u

struct work {
	struct fq_gate_op op;
	unsigned ran;
};

static struct fq_queue *queue;
static struct fq_gate *gate; /* on a page of its own, so that a late access faults */
static struct work work[OPS];
static pthread_mutex_t big = PTHREAD_MUTEX_INITIALIZER;

static void run(struct fq_gate_op *op)
{
	STEP_CHECK(fq_gate_is_inside(gate), "outside");
	fq_container_of(op, struct work, op)->ran++;
}

static bool big_try(void *opaque)
{
	(void)opaque;
	return !pthread_mutex_trylock(&big);
}

static void big_lock(void *opaque)
{
	(void)opaque;
	pthread_mutex_lock(&big);
}

static void big_unlock(void *opaque)
{
	(void)opaque;
	pthread_mutex_unlock(&big);
}

static void open_gate(uint32_t limit, bool hosted)
{
	struct fq_gate_config config = {.limit = limit};

	if (hosted)
		config.host = (struct fq_gate_host){big_try, big_lock, big_unlock, NULL, NULL};
	STEP_CHECK(!fq_queue_create(&queue, 0), "queue");
	config.queue = queue;
	gate = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	STEP_CHECK(gate != MAP_FAILED && !fq_gate_init(gate, &config), "gate");
	memset(work, 0, sizeof(work));
	for (unsigned i = 0; i < OPS; i++)
		work[i].op.run = run;
}

static void end_gate(unsigned at)
{
	STEP_CHECK(!fq_gate_fini(gate), "step %u: something is left", at);
	munmap(gate, (size_t)sysconf(_SC_PAGESIZE));
	gate = NULL;
}

/* Everything has come to rest: each of the first @count ran once. */
static void close_gate(unsigned count, unsigned at)
{
	while (fq_queue_drain(queue, FQ_NO_BUDGET))
		;
	for (unsigned i = 0; i < count; i++)
		STEP_CHECK(work[i].ran == 1, "step %u: %u ran %u times", at, i, work[i].ran);
	if (gate)
		end_gate(at);
	STEP_CHECK(!fq_queue_destroy(queue), "step %u: the queue", at);
}

static void enter(void)
{
	STEP_CHECK(!fq_gate_try_enter(gate), "enter");
}

static void leave(void)
{
	STEP_CHECK(!fq_gate_leave(gate), "leave");
}

static void defer(unsigned first, unsigned count)
{
	for (unsigned i = first; i < first + count; i++)
		STEP_CHECK(!fq_gate_defer(gate, &work[i].op), "defer");
}

/* Does it at once or leaves it; never waits. */
static void do_work(void *arg)
{
	struct work *w = arg;
	int got = fq_gate_enter_or_leave(gate, &w->op);

	if (got == FQ_GATE_LEFT)
		return;
	STEP_CHECK(!got, "%d", got);
	run(&w->op);
	leave();
}

static void drain(void *arg)
{
	(void)arg;
	(void)fq_queue_drain(queue, FQ_NO_BUDGET);
}

/* -- one that leaves an operation -------------------------------------------------------------- */

enum scene {
	FREE,
	HELD,
	BEHIND,
	SCENES
};

static void leavers_steps(enum scene scene)
{
	bool stopped = true;

	for (unsigned at = 0; stopped; at++) {
		struct stopper s;

		open_gate(2, false);
		if (scene != FREE)
			enter();
		if (scene == BEHIND) {
			defer(4, 3);
			leave();
		}
		stopped = stopper_start(&s, do_work, &work[0], at);
		if (scene == HELD) {
			defer(1, 1);
			leave();
		} else {
			do_work(&work[1]);
		}
		do_work(&work[2]);
		drain(NULL);
		/* If it is inside, it has what was left; if not, it is in nobody's way. */
		if (!stopped || !(gate->word.opaque & 1u))
			STEP_CHECK(work[1].ran && work[2].ran, "%d, step %u", scene, at);
		stopper_finish(&s);
		if (scene != BEHIND)
			work[4].ran = work[5].ran = work[6].ran = 1;
		work[3].ran = 1;
		close_gate(7, at);
	}
}

/* -- a holder ---------------------------------------------------------------------------------- */

/* Enters, leaves itself more than the limit, and stops on its way out. */
static void hold(void *arg)
{
	struct stopper *self = step_self;

	(void)arg;
	step_self = NULL;
	enter();
	defer(0, 4);
	step_self = self;
	leave();
}

static void holders_steps(unsigned drains)
{
	bool stopped = true;

	for (unsigned at = 0; stopped; at++) {
		struct stopper s;

		open_gate(2, false);
		stopped = stopper_start(&s, hold, NULL, at);
		if (drains & 1)
			drain(NULL);
		do_work(&work[4]);
		if (drains & 2)
			drain(NULL);
		do_work(&work[5]);
		stopper_finish(&s);
		close_gate(6, at);
	}
}

/* Who is told that the gate is free finds it so: the one who tells has let go. */
static void is_free(struct fq_gate_op *op)
{
	enter();
	run(op);
	leave();
}

static void *ask(void *arg)
{
	struct work *w = arg;

	w->op.run = is_free;
	STEP_CHECK(fq_gate_enter_or_tell(gate, &w->op, queue) == FQ_GATE_LEFT, "left");
	return NULL;
}

static void hold_and_tell(void *arg)
{
	struct stopper *self = step_self;
	pthread_t thread;

	step_self = NULL;
	enter();
	STEP_CHECK(!pthread_create(&thread, NULL, ask, arg), "thread");
	pthread_join(thread, NULL);
	step_self = self;
	leave();
}

static void tellers_steps(void)
{
	bool stopped = true;

	for (unsigned at = 0; stopped; at++) {
		struct stopper s;

		open_gate(2, false);
		stopped = stopper_start(&s, hold_and_tell, &work[0], at);
		drain(NULL);
		stopper_finish(&s);
		close_gate(1, at);
	}
}

/* Whoever is let in may end the gate and free it, while the one before is still on its way out. */
static void hold_little(void *arg)
{
	struct stopper *self = step_self;

	(void)arg;
	step_self = NULL;
	enter();
	defer(0, 1);
	STEP_CHECK(fq_gate_enter(gate, 0) == -EDEADLK, "inside");
	step_self = self;
	leave();
}

static void last_access(void)
{
	bool stopped = true;

	for (unsigned at = 0; stopped; at++) {
		struct stopper s;

		open_gate(2, false);
		stopped = stopper_start(&s, hold_little, NULL, at);
		if (!fq_gate_try_enter(gate)) {
			leave();
			end_gate(at);
		}
		stopper_finish(&s);
		close_gate(1, at);
	}
}

/* The same where the gate is handed to one that is blocked. */
static fq_a64 ended;

static void *block_and_end(void *arg)
{
	(void)arg;
	STEP_CHECK(!fq_gate_enter(gate, -1), "enter");
	STEP_CHECK(work[0].ran == 1 && work[1].ran == 0, "not in turn");
	leave();
	end_gate(0);
	fq_store_rel(&ended, 1);
	return NULL;
}

static void hold_for_one_that_blocks(void *arg)
{
	struct stopper *self = step_self;
	uint64_t word;

	step_self = NULL;
	enter();
	defer(0, 1);
	word = gate->word.opaque;
	STEP_CHECK(!pthread_create(arg, NULL, block_and_end, NULL), "thread");
	while (__atomic_load_n(&gate->word.opaque, __ATOMIC_RELAXED) == word)
		usleep(50);
	defer(1, 1);
	step_self = self;
	leave();
}

static void last_access_of_a_hand_over(void)
{
	bool stopped = true;

	for (unsigned at = 0; stopped; at++) {
		pthread_t thread;
		struct stopper s;

		fq_store_rel(&ended, 0);
		open_gate(2, false);
		stopped = stopper_start(&s, hold_for_one_that_blocks, &thread, at);
		for (unsigned i = 0; i < 200 && !fq_load_acq(&ended); i++)
			usleep(50);
		stopper_finish(&s);
		pthread_join(thread, NULL);
		close_gate(2, at);
	}
}

/* -- the owner of the queue -------------------------------------------------------------------- */

static void owners_steps(void)
{
	bool stopped = true;

	for (unsigned at = 0; stopped; at++) {
		struct stopper s;

		open_gate(1, false);
		enter();
		defer(0, 4);
		leave();
		stopped = stopper_start(&s, drain, NULL, at);
		do_work(&work[4]);
		if (!fq_gate_try_enter(gate)) {
			defer(5, 2);
			leave();
		} else {
			do_work(&work[5]);
			do_work(&work[6]);
		}
		stopper_finish(&s);
		close_gate(7, at);
	}
}

/* -- one that blocks --------------------------------------------------------------------------- */

static int64_t block_for;

static void block(void *arg)
{
	struct work *w = arg;
	int err = fq_gate_enter(gate, block_for);

	if (err) {
		STEP_CHECK(err == -ETIMEDOUT && block_for >= 0, "%d", err);
		w->ran++;
		return;
	}
	run(&w->op);
	leave();
}

/*
 * Before it sleeps: who is asleep does not tell the stopper. Its last steps are those of an event, or
 * of the sleep on the word.
 */
static void blockers_steps(int64_t timeout_ns, unsigned steps)
{
	block_for = timeout_ns;
	for (unsigned at = 0; at < steps; at++) {
		struct stopper s;

		open_gate(2, false);
		enter();
		defer(1, 1);
		STEP_CHECK(stopper_start(&s, block, &work[0], at), "%u steps are too many", steps);
		defer(2, 1);
		leave();
		STEP_CHECK(work[1].ran, "step %u", at);
		do_work(&work[3]);
		stopper_finish(&s);
		close_gate(4, at);
	}
}

static void blockers_steps_behind(int64_t timeout_ns)
{
	bool stopped = true;

	block_for = timeout_ns;
	for (unsigned at = 0; stopped; at++) {
		struct stopper s;

		open_gate(2, false);
		enter();
		defer(1, 3);
		leave();
		stopped = stopper_start(&s, block, &work[0], at);
		do_work(&work[4]);
		drain(NULL);
		do_work(&work[5]);
		stopper_finish(&s);
		close_gate(6, at);
	}
}

/* -- over a host's lock ------------------------------------------------------------------------ */

static void hosted_leavers_steps(enum scene scene, bool drains)
{
	bool stopped = true;

	for (unsigned at = 0; stopped; at++) {
		struct stopper s;

		open_gate(2, true);
		if (scene == HELD)
			enter();
		else if (scene == BEHIND) /* here: an unaware holder */
			big_lock(NULL);
		stopped = stopper_start(&s, do_work, &work[0], at);
		if (scene == HELD)
			leave();
		else if (scene == BEHIND)
			big_unlock(NULL);
		do_work(&work[1]);
		/* The owner waits for the lock: only if the other one is not inside, or about to be. */
		if (drains && big_try(NULL)) {
			big_unlock(NULL);
			drain(NULL);
		}
		do_work(&work[2]);
		stopper_finish(&s);
		close_gate(3, at);
	}
}

static void hosted_owners_steps(void)
{
	bool stopped = true;

	for (unsigned at = 0; stopped; at++) {
		struct stopper s;

		open_gate(1, true);
		enter();
		defer(0, 3);
		leave();
		big_lock(NULL);
		do_work(&work[3]);
		big_unlock(NULL);
		stopped = stopper_start(&s, drain, NULL, at);
		do_work(&work[4]);
		do_work(&work[5]);
		stopper_finish(&s);
		close_gate(6, at);
	}
}

int main(void)
{
	alarm(100);
	fq_step_hook = step_hook;
	for (enum scene scene = FREE; scene < SCENES; scene++) {
		leavers_steps(scene);
		hosted_leavers_steps(scene, false);
		hosted_leavers_steps(scene, true);
	}
	for (unsigned drains = 0; drains < 4; drains++)
		holders_steps(drains);
	tellers_steps();
	last_access();
	last_access_of_a_hand_over();
	owners_steps();
	blockers_steps(-1, 6);
	blockers_steps(INT64_C(20000000), 4);
	blockers_steps_behind(-1);
	blockers_steps_behind(INT64_C(20000000));
	hosted_owners_steps();
	puts("ok");
	return 0;
}
