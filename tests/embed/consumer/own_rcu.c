/* SPDX-License-Identifier: MIT */

/*
 * A host with an RCU of its own: macros that the headers must not trip over, and global functions
 * that carry liburcu's names, which the library must not call.
 */
#define rcu_read_unlock() host_read_unlock(__LINE__)
#define synchronize_rcu host_synchronize
#define caa_container_of(ptr, type, member) "the host's"
#define uatomic_xchg(addr, v) "the host's"

#include <stdio.h>
#include <stdlib.h>

#include <fenceq/fenceq.h>

static int host_calls;
static int retired;

void rcu_read_lock(void);
void rcu_register_thread(void);
void call_rcu(void);
void host_read_unlock(int line);
void host_synchronize(void);

void rcu_read_lock(void)
{
	host_calls++;
}

void rcu_register_thread(void)
{
	host_calls++;
}

void call_rcu(void)
{
	host_calls++;
}

void host_read_unlock(int line)
{
	host_calls += line > 0;
}

void host_synchronize(void)
{
	host_calls++;
}

static void retire(struct fq_fence *fence, int status, void *opaque)
{
	(void)opaque;
	rcu_read_lock();
	retired += fence->fence_id == 42 && status == 0;
	rcu_read_unlock();
}

/* Registered or not: both ways into the read side. */
static int post(struct fq_queue *queue, bool registered)
{
	struct fq_device_config config = {.queue = queue, .retire = retire};
	struct fq_fence fence = {.fence_id = 42};
	struct fq_device *device;

	if (registered && fq_thread_register())
		return -1;
	if (fq_device_create(&device, &config) || fq_submit(device, 7, 63, &fence) ||
	    fq_signal(fq_device_handle(device), 7, 63, fence.token) ||
	    fq_queue_wait(queue, INT64_C(10000000000)) != 1)
		return -1;
	fq_queue_drain(queue, FQ_NO_BUDGET);
	if (fq_device_destroy(device))
		return -1;
	return registered ? fq_thread_unregister() : 0;
}

int main(void)
{
	struct fq_queue *queue;

	if (fq_queue_create(&queue, FQ_QUEUE_HOOKS) || post(queue, false) || post(queue, true) ||
	    fq_queue_destroy(queue))
		return EXIT_FAILURE;
	printf("%d fences retired, %d calls of the host's own RCU\n", retired, host_calls);
	return retired == 2 && host_calls == 4 ? EXIT_SUCCESS : EXIT_FAILURE;
}
