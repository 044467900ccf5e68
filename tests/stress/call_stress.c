/* SPDX-License-Identifier: MIT */
/*
 * Posters schedule calls in each way there is while the owner sleeps whenever it can, and now and
 * then a second consumer drains under a host lock; drains nest, and stop at budgets.
 *
 *   shared     everybody schedules and cancels them. A poster publishes a number before each
 *              schedule; what was published last is seen by a run in the end, and the owner does not
 *              sleep on while it is not.
 *   own        one poster's, with a message in plain memory: what orders it is the schedule alone.
 *   ephemeral  made by the owner when a node asks for it, scheduled once; ends and frees itself in
 *              its callback while the poster may still be inside the schedule.
 *   stopped    scheduled by one thread, which cancels it and waits, and then looks at plain memory
 *              that the callback writes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include <fenceq/fenceq.h>

#include "second_consumer.h"
#include "stress.h"

#define SHARED 5
#define MAX_POSTERS 64

struct poster;

struct shared {
	struct fq_call call;
	atomic_ullong published[MAX_POSTERS];
	unsigned long long seen[MAX_POSTERS]; /* under the host's lock */
	uint64_t seed;
	bool forwards; /* schedules the next one */
};

struct ephemeral {
	struct fq_call call;
	struct poster *poster;
	uint64_t message;
};

struct poster {
	pthread_t thread;
	unsigned index;
	uint64_t seed;
	struct fq_call own;
	uint64_t message, received; /* plain: ordered by schedule, and by answered */
	uint64_t sent;
	atomic_ullong answered;
	struct fq_node ask;
	_Atomic(struct ephemeral *) given;
	uint64_t asked, ended; /* the latter under the host's lock */
};

static struct fq_queue *queue;
static pthread_mutex_t host_lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool posters_stop, consumers_stop;
static atomic_uint posters_running;
static unsigned posters, nesting;
static unsigned long long runs;
static struct shared shared[SHARED];
static struct poster *poster;

/* -- callbacks: on whoever drains, under the host's lock ----------------------------------------- */

static void nest_now_and_then(uint64_t *seed)
{
	const uint64_t r = stress_random(seed);

	if (r % 16 || nesting > 3)
		return;
	nesting++;
	(void)fq_queue_drain(queue, 1 + (unsigned)(r >> 8) % 4);
	nesting--;
}

static void run_shared(struct fq_call *call)
{
	struct shared *s = (struct shared *)(void *)call;

	runs++;
	for (unsigned i = 0; i < posters; i++) {
		unsigned long long n = atomic_load_explicit(&s->published[i], memory_order_relaxed);

		/* A nested run may have been quicker. */
		if (n > s->seen[i])
			s->seen[i] = n;
	}
	if (s->forwards && stress_random(&s->seed) % 4 == 0)
		STRESS_CHECK(!fq_call_schedule(&shared[(s - shared + 1) % SHARED].call), "forward");
	nest_now_and_then(&s->seed);
}

static void run_own(struct fq_call *call)
{
	struct poster *p = (struct poster *)((char *)call - offsetof(struct poster, own));

	runs++;
	STRESS_CHECK(p->message == p->received + 1, "message %llu after %llu",
		     (unsigned long long)p->message, (unsigned long long)p->received);
	p->received = p->message;
	atomic_store_explicit(&p->answered, p->received, memory_order_release);
}

static void end_ephemeral(struct fq_call *call)
{
	struct ephemeral *e = (struct ephemeral *)(void *)call;
	struct poster *p = e->poster;

	runs++;
	STRESS_CHECK(e->message, "no message");
	STRESS_CHECK(!fq_call_fini(call), "fini");
	memset(e, 0xa5, sizeof(*e));
	free(e);
	p->ended++;
}

static void make_ephemeral(struct fq_node *node)
{
	struct poster *p = (struct poster *)((char *)node - offsetof(struct poster, ask));
	struct ephemeral *e = malloc(sizeof(*e));

	STRESS_CHECK(e && !fq_call_init(&e->call, queue, end_ephemeral), "init");
	e->poster = p;
	e->message = 0;
	atomic_store_explicit(&p->given, e, memory_order_release);
}

/* -- posters ------------------------------------------------------------------------------------- */

static void schedule_shared(struct poster *p, uint64_t r)
{
	struct shared *s = &shared[r % SHARED];

	atomic_fetch_add_explicit(&s->published[p->index], 1, memory_order_relaxed);
	if (r >> 8 & 3)
		STRESS_CHECK(!fq_call_schedule(&s->call), "schedule");
	else
		STRESS_CHECK(!fq_call_schedule_idle(&s->call), "schedule_idle");
}

/* What is taken back was perhaps somebody else's: ask for it again. */
static void cancel_shared(uint64_t r)
{
	struct fq_call *call = &shared[r % SHARED].call;

	if (r >> 8 & 1)
		STRESS_CHECK(fq_call_cancel_wait(call, (int64_t)(r >> 16 & 0xffff)) != -EINVAL,
			     "cancel_wait");
	else if (!fq_call_cancel(call))
		return;
	STRESS_CHECK(!fq_call_schedule(call), "schedule");
}

static void schedule_own(struct poster *p)
{
	if (atomic_load_explicit(&p->answered, memory_order_acquire) != p->sent)
		return;
	p->message = ++p->sent;
	STRESS_CHECK(!fq_call_schedule(&p->own), "schedule");
}

/* Nobody knows when it has ended but the owner, so ask by a flag of the poster's own. */
static void schedule_ephemeral(struct poster *p, bool *asking)
{
	struct ephemeral *e;

	if (!*asking) {
		*asking = true;
		fq_queue_push(queue, &p->ask);
		return;
	}
	e = atomic_exchange_explicit(&p->given, NULL, memory_order_acq_rel);
	if (!e)
		return;
	*asking = false;
	e->message = ++p->asked;
	STRESS_CHECK(!fq_call_schedule(&e->call), "schedule");
}

static void *post(void *arg)
{
	struct poster *p = arg;
	bool asking = false;

	while (!atomic_load_explicit(&posters_stop, memory_order_relaxed)) {
		const uint64_t r = stress_random(&p->seed);

		if (r % 16 < 10)
			schedule_shared(p, r >> 8);
		else if (r % 16 < 13)
			schedule_own(p);
		else if (r % 16 < 15)
			schedule_ephemeral(p, &asking);
		else
			cancel_shared(r >> 8);
		if (r >> 60 == 0)
			sched_yield();
		if (r >> 50 == 0)
			poll(NULL, 0, 1);
	}
	while (asking) {
		schedule_ephemeral(p, &asking);
		sched_yield();
	}
	atomic_fetch_sub(&posters_running, 1);
	return NULL;
}

/* -- one that is stopped ------------------------------------------------------------------------- */

static struct fq_call stopped;
static uint64_t stopped_runs; /* plain: the callback's, and read when none can run */
static bool in_stopped;

static void run_stopped(struct fq_call *call)
{
	uint64_t seed = stopped_runs++;

	runs++;
	in_stopped = true;
	if (seed % 2)
		STRESS_CHECK(!fq_call_schedule(call), "itself");
	if (seed % 8 == 0)
		nest_now_and_then(&seed);
	in_stopped = false;
}

static void *stop_it(void *arg)
{
	uint64_t seed = *(uint64_t *)arg, last = 0;

	while (!atomic_load(&consumers_stop)) {
		const uint64_t r = stress_random(&seed);

		STRESS_CHECK(!fq_call_schedule(&stopped), "schedule");
		if (r & 1)
			sched_yield();
		if (r & 2)
			continue;
		if (fq_call_cancel_wait(&stopped, r & 4 ? -1 : (int64_t)(r >> 8 & 0xfff)))
			continue;
		STRESS_CHECK(!in_stopped && stopped_runs >= last, "runs on");
		last = stopped_runs;
		STRESS_CHECK(!fq_call_pending(&stopped), "scheduled still");
	}
	STRESS_CHECK(!fq_call_cancel_wait(&stopped, -1), "cancel_wait");
	return NULL;
}

/* -- owners -------------------------------------------------------------------------------------- */

/* Under the host's lock. */
static bool all_seen(void)
{
	if (atomic_load(&posters_running))
		return false;
	for (unsigned i = 0; i < posters; i++) {
		for (unsigned c = 0; c < SHARED; c++) {
			if (shared[c].seen[i] != atomic_load(&shared[c].published[i]))
				return false;
		}
		if (poster[i].received != poster[i].sent || poster[i].ended != poster[i].asked)
			return false;
	}
	return true;
}

/* The longest a wake-up may take before it counts as lost; nothing is timed by it. */
#define LOST_MS 20000
#define LOOK_MS 50

/* A loop that computes its own time-out, but with EPOLL, where the timer is behind the fd. */
static void sleep_on_fd(bool timer, int64_t end)
{
	struct pollfd pfd = {.fd = fq_queue_fd(queue), .events = POLLIN};

	for (int ms = 0; ms < LOST_MS; ms += LOOK_MS) {
		bool over;
		int64_t next;

		if (poll(&pfd, 1, LOOK_MS) == 1)
			return;
		pthread_mutex_lock(&host_lock);
		next = timer ? -1 : fq_queue_timeout(queue);
		over = all_seen() || (stress_now_ns() >= end && !atomic_load(&posters_stop));
		pthread_mutex_unlock(&host_lock);
		if (over || !next)
			return;
	}
	STRESS_CHECK(false, "lost wake-up: asleep for %d ms with calls unanswered", LOST_MS);
}

static void own(unsigned flags, struct stress_options *o)
{
	const int64_t end = stress_now_ns() + (int64_t)(o->seconds * 1e9);
	const bool hooks = flags & FQ_QUEUE_HOOKS;
	struct fq_waiter waiter = {false};
	bool sleep;

	for (;;) {
		pthread_mutex_lock(&host_lock);
		if (stress_now_ns() >= end)
			atomic_store(&posters_stop, true);
		if (hooks)
			fq_queue_check(queue, &waiter);
		(void)fq_queue_drain(queue, 1 + (unsigned)(stress_random(&o->seed) % 64));
		if (atomic_load(&posters_stop) && all_seen()) {
			pthread_mutex_unlock(&host_lock);
			return;
		}
		sleep = !hooks || fq_queue_prepare(queue, &waiter);
		pthread_mutex_unlock(&host_lock);
		if (sleep)
			sleep_on_fd(flags & FQ_QUEUE_EPOLL, end);
	}
}

static void begin(struct stress_options *o)
{
	atomic_store(&posters_stop, false);
	atomic_store(&consumers_stop, false);
	atomic_store(&posters_running, posters);
	memset(shared, 0, sizeof(shared));
	runs = stopped_runs = 0;
	for (unsigned c = 0; c < SHARED; c++) {
		shared[c].seed = stress_random(&o->seed);
		shared[c].forwards = c % 2;
		STRESS_CHECK(!fq_call_init(&shared[c].call, queue, run_shared), "init");
	}
	STRESS_CHECK(!fq_call_init(&stopped, queue, run_stopped), "init");
	poster = calloc(posters, sizeof(*poster));
	STRESS_CHECK(poster, "memory");
	for (unsigned i = 0; i < posters; i++) {
		poster[i].index = i;
		poster[i].seed = stress_random(&o->seed);
		poster[i].ask.run = make_ephemeral;
		STRESS_CHECK(!fq_call_init(&poster[i].own, queue, run_own), "init");
	}
}

static void finish(unsigned flags)
{
	unsigned long long published = 0, own_calls = 0, ephemerals = 0;

	for (unsigned i = 0; i < posters; i++) {
		for (unsigned c = 0; c < SHARED; c++)
			published += atomic_load(&shared[c].published[i]);
		own_calls += poster[i].sent;
		ephemerals += poster[i].asked;
		STRESS_CHECK(!fq_call_fini(&poster[i].own), "fini");
	}
	for (unsigned c = 0; c < SHARED; c++)
		STRESS_CHECK(!fq_call_fini(&shared[c].call), "fini");
	STRESS_CHECK(!fq_call_fini(&stopped), "fini");
	printf("flags %u: shared %llu, own %llu, ephemeral %llu, stopped %llu: %llu runs\n", flags,
	       published, own_calls, ephemerals, (unsigned long long)stopped_runs, runs);
	free(poster);
}

static void run(unsigned flags, struct stress_options *o)
{
	struct second_consumer second = {.host_lock = &host_lock,
					 .stop = &consumers_stop,
					 .seed = stress_random(&o->seed),
					 .budget = 64};
	uint64_t stopper_seed = stress_random(&o->seed);
	pthread_t consumer, stopper;

	STRESS_CHECK(!fq_queue_create(&queue, flags), "create");
	second.queue = queue;
	begin(o);
	for (unsigned i = 0; i < posters; i++)
		pthread_create(&poster[i].thread, NULL, post, &poster[i]);
	pthread_create(&consumer, NULL, second_consumer_run, &second);
	pthread_create(&stopper, NULL, stop_it, &stopper_seed);
	own(flags, o);
	atomic_store(&consumers_stop, true);
	pthread_join(consumer, NULL);
	pthread_join(stopper, NULL);
	for (unsigned i = 0; i < posters; i++)
		pthread_join(poster[i].thread, NULL);
	finish(flags);
	STRESS_CHECK(!fq_queue_destroy(queue), "destroy");
}

int main(int argc, char **argv)
{
	struct stress_options o = stress_parse(argc, argv, 4);

	posters = o.threads > MAX_POSTERS ? MAX_POSTERS : o.threads;
	o.seconds /= 3;
	run(0, &o);
	run(FQ_QUEUE_HOOKS, &o);
	run(FQ_QUEUE_EPOLL, &o);
	puts("ok");
	return 0;
}
