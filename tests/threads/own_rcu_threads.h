/* SPDX-License-Identifier: MIT */
/*
 * A host that uses liburcu itself, on the threads that own and post; one program for each flavour,
 * compiled and linked as that host would be. The includer has included the flavour's header.
 *
 * The flavours differ in who has to be registered; the library's own is memb, where a thread is known
 * to liburcu once, whoever asked for it.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "threads.h"

#define THREADS 4u
#define ROUNDS 2000u

/* The host's own object, one of two that take turns. */
struct shared {
	atomic_bool alive;
};

static struct shared shared[2];
static struct shared *shared_now = &shared[0];
static _Atomic fq_handle_t handle;
static atomic_bool stop;
static atomic_ullong posts;

static int post_nested(unsigned depth)
{
	struct shared *s;
	int err;

	rcu_read_lock();
	s = rcu_dereference(shared_now);
	CHECK(atomic_load(&s->alive), "the host's own object is gone");
	err = fq_signal(atomic_load(&handle), 7, 3, 1);
	if (depth)
		err = post_nested(depth - 1);
	CHECK(atomic_load(&s->alive), "gone under the host's own read side");
	rcu_read_unlock();
	return err;
}

static void *post(void *arg)
{
	const unsigned number = *(const unsigned *)arg;

	rcu_register_thread();
	while (!atomic_load(&handle))
		sched_yield();
	for (unsigned n = 0; !atomic_load(&stop); n++) {
		const bool known = (n + number) & 1;
		int err;

		if (known)
			CHECK(!fq_thread_register(), "register");
		err = post_nested(n % 3);
		CHECK(!err || err == -ENODEV || err == -ESTALE || err == -ENOENT, "post %d", err);
		atomic_fetch_add(&posts, 1);
		if (known)
			CHECK(!fq_thread_unregister(), "unregister");
	}
	rcu_unregister_thread();
	return NULL;
}

static void replace_shared(void)
{
	struct shared *old = shared_now, *s = &shared[old == &shared[0]];

	atomic_store(&s->alive, true);
	rcu_assign_pointer(shared_now, s);
	synchronize_rcu();
	atomic_store(&old->alive, false);
}

/* The owner posts, too, in its own read side, and ends devices outside of it. */
static void own(struct fq_queue *queue, unsigned rounds)
{
	for (unsigned n = 0; n < rounds; n++) {
		scene_attach(queue);
		scene_submit(1);
		atomic_store(&handle, scene.handle);
		if (n & 1)
			CHECK(!fq_thread_register(), "register");
		CHECK(!post_nested(1), "post");
		scene_expect(1);
		replace_shared();
		if (n & 1)
			CHECK(!fq_thread_unregister(), "unregister");
		CHECK(!fq_device_destroy(scene.device), "destroy");
	}
}

int main(void)
{
	static unsigned number[THREADS];
	pthread_t thread[THREADS];
	struct fq_queue *queue;

	rcu_register_thread();
	CHECK(!fq_queue_create(&queue, 0), "queue");
	replace_shared();
	for (unsigned i = 0; i < THREADS; i++) {
		number[i] = i;
		CHECK(!pthread_create(&thread[i], NULL, post, &number[i]), "thread");
	}
	own(queue, scene_slow() ? 20 : ROUNDS);
	atomic_store(&stop, true);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	CHECK(!fq_queue_destroy(queue), "queue");
	rcu_unregister_thread();
	scene_nothing_left();
	printf("%llu posts\nok\n", atomic_load(&posts));
	return 0;
}
