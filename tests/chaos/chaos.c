/* SPDX-License-Identifier: MIT */
/* See chaos.h. Prints one line of JSON at its end; exits with 1 when anything in it is wrong. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "chaos.h"

uint64_t chaos_seed;
struct owner chaos_owner[OWNERS];
atomic_bool chaos_stop;
atomic_ullong chaos_refused;
atomic_ullong chaos_faults[FAULTS];

static struct place place[POSTERS];
static uint64_t births;

static const char *const fault_names[FAULTS] = {"lost",  "duplicated",   "out_of_order", "early",
						"stale", "wrong_status", "wrong_errno"};

uint64_t chaos_draw(uint64_t actor, uint64_t n)
{
	uint64_t state = chaos_seed ^ actor * UINT64_C(0xd1342543de82ef95);

	state = stress_random(&state) ^ n * UINT64_C(0xaf251af3b0f025b5);
	return stress_random(&state);
}

void chaos_fault(enum fault fault, const char *what, long long detail)
{
	if (atomic_fetch_add(&chaos_faults[fault], 1) < 5)
		fprintf(stderr, "%s: %s (%lld)\n", fault_names[fault], what, detail);
}

void chaos_expect(int err, int expected, const char *what)
{
	if (err != expected)
		chaos_fault(WRONG_ERRNO, what, err);
}

static void set_up(struct owner *owner, unsigned index)
{
	static const unsigned flags[] = {0, FQ_QUEUE_PIPE, FQ_QUEUE_EPOLL};
	static const uint32_t ctx_id[CONTEXTS] = {0, 7, UINT32_C(0x80000000), UINT32_MAX};
	static const uint32_t ring_idx[RINGS] = {0, 5, 63};

	owner->index = index;
	owner->flags = index ? FQ_QUEUE_HOOKS : flags[chaos_seed % 3];
	STRESS_CHECK(!fq_queue_create(&owner->queue, owner->flags), "queue");
	for (unsigned s = 0; s < SLOTS; s++) {
		struct slot *slot = &owner->slot[s];

		slot->owner = owner;
		for (unsigned l = 0; l < LINES; l++) {
			slot->line[l].slot = slot;
			slot->line[l].global = !l;
			slot->line[l].ctx_id = l ? ctx_id[(l - 1) / RINGS] : 0;
			slot->line[l].ring_idx = l ? ring_idx[(l - 1) % RINGS] : 0;
		}
	}
}

static void bear(struct place *p)
{
	p->births++;
	births++;
	atomic_store(&p->vacant, false);
	STRESS_CHECK(!pthread_create(&p->thread, NULL, poster_main, p), "thread");
}

static void start(void *(*run)(void *), pthread_t *thread, void *arg)
{
	STRESS_CHECK(!pthread_create(thread, NULL, run, arg), "thread");
}

/* Owners, a foreign thread, a reaper; and posters, one after another in each place. */
static void run(double seconds)
{
	const struct timespec pause = {.tv_nsec = 2000000};
	int64_t end = stress_now_ns() + (int64_t)(seconds * 1e9);
	pthread_t foreign, reaper;

	for (unsigned i = 0; i < OWNERS; i++)
		start(owner_main, &chaos_owner[i].thread, &chaos_owner[i]);
	start(foreign_main, &foreign, NULL);
	start(reaper_main, &reaper, NULL);
	for (unsigned i = 0; i < POSTERS; i++) {
		place[i].index = i;
		bear(&place[i]);
	}
	while (stress_now_ns() < end) {
		for (unsigned i = 0; i < POSTERS; i++) {
			if (!atomic_load(&place[i].vacant))
				continue;
			pthread_join(place[i].thread, NULL);
			bear(&place[i]);
		}
		nanosleep(&pause, NULL);
	}
	atomic_store(&chaos_stop, true);
	for (unsigned i = 0; i < POSTERS; i++)
		pthread_join(place[i].thread, NULL);
	pthread_join(foreign, NULL);
	for (unsigned i = 0; i < OWNERS; i++)
		pthread_join(chaos_owner[i].thread, NULL);
	pthread_join(reaper, NULL);
}

static unsigned long long faults(enum fault fault)
{
	return atomic_load(&chaos_faults[fault]);
}

/* @return whether all is well. */
static bool report(long long leaked)
{
	unsigned long long submitted = 0, retired = 0, devices = 0, contexts = 0, digest = 0;
	bool well = !leaked;

	for (unsigned i = 0; i < OWNERS; i++) {
		submitted += chaos_owner[i].submitted;
		retired += chaos_owner[i].retired;
		devices += chaos_owner[i].devices;
		contexts += chaos_owner[i].contexts;
		digest ^= chaos_owner[i].digest;
	}
	printf("{\"submitted\": %llu, \"retired\": %llu, \"refused\": %llu", submitted, retired,
	       (unsigned long long)atomic_load(&chaos_refused));
	for (unsigned i = LOST; i <= OUT_OF_ORDER; i++)
		printf(", \"%s\": %llu", fault_names[i], faults(i));
	printf(", \"leaked_bytes\": %lld, \"devices\": %llu, \"contexts\": %llu, \"seed\": %llu",
	       leaked, devices, contexts, (unsigned long long)chaos_seed);
	for (unsigned i = EARLY; i < FAULTS; i++)
		printf(", \"%s\": %llu", fault_names[i], faults(i));
	printf(", \"threads\": %llu, \"decisions\": \"%016llx\"}\n", (unsigned long long)births,
	       digest);
	for (unsigned i = 0; i < FAULTS; i++)
		well = well && !faults(i);
	return well && submitted == retired;
}

int main(int argc, char **argv)
{
	struct stress_options o = stress_parse(argc, argv, POSTERS);
	long long before = heap_bytes();

	chaos_seed = o.seed;
	/* Nothing here waits for ever; if the library does, say so. */
	alarm((unsigned)(o.seconds * 3) + 300);
	for (unsigned i = 0; i < OWNERS; i++)
		set_up(&chaos_owner[i], i);
	run(o.seconds);
	for (unsigned i = 0; i < OWNERS; i++)
		owner_finish(&chaos_owner[i]);
	reaper_finish();
	for (unsigned i = 0; i < OWNERS; i++)
		STRESS_CHECK(!fq_queue_destroy(chaos_owner[i].queue), "queue");
	return report(heap_bytes() - before) ? 0 : 1;
}
