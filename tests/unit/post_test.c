/* SPDX-License-Identifier: MIT */
/*
 * A thread's first post is like its thousandth (invariant 3): no allocation, and no system call but
 * one write where an owner must be woken.
 *
 * Each case runs in a child process: a thread that has done nothing else there puts itself under a
 * seccomp filter that turns every system call into a SIGSYS, posts, and never comes back from the
 * filter: it spins until the child's main thread, which has looked at what was posted, ends the
 * process. The handler notes the call; a write it makes itself, with a sixth argument (write has
 * three) by which the filter knows it. Allowed without a look: that, and the return from the handler.
 *
 * malloc and its family are defined here, around glibc's own, and count what the poster's thread
 * asks for; so is mmap, though the filter would see it as well. Sanitizers bring their own malloc, so
 * their builds have no counting; ThreadSanitizer maps shadow memory of its own accord, which is let
 * pass there. memcheck leaves room for neither: posts are made unobserved. Both are said.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <linux/filter.h>
#include <linux/seccomp.h>

#include <fenceq/fenceq.h>

#include "host.h"
#include "unit.h"

#if defined(__SANITIZE_THREAD__)
#define THREAD_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define THREAD_SANITIZED 1
#endif
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(THREAD_SANITIZED)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

/* -- allocations ------------------------------------------------------------------------------- */

static __thread unsigned allocations; /* of this thread */

#if !defined(SANITIZED) && defined(__GLIBC__)
#define COUNTED 1

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *p);

void *malloc(size_t size)
{
	allocations++;
	return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
	allocations++;
	return __libc_calloc(count, size);
}

void *realloc(void *p, size_t size)
{
	allocations++;
	return __libc_realloc(p, size);
}

void *memalign(size_t alignment, size_t size);
void *memalign(size_t alignment, size_t size)
{
	allocations++;
	return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
	allocations++;
	return __libc_memalign(alignment, size);
}

int posix_memalign(void **p, size_t alignment, size_t size)
{
	allocations++;
	*p = __libc_memalign(alignment, size);
	return *p ? 0 : ENOMEM;
}

void free(void *p)
{
	allocations++;
	__libc_free(p);
}

void *mmap(void *addr, size_t size, int prot, int flags, int fd, off_t offset)
{
	allocations++;
	return (void *)syscall(SYS_mmap, addr, size, prot, flags, fd, offset);
}
#endif

/* -- system calls ------------------------------------------------------------------------------ */

#define PASS UINT64_C(0x66656e6365712121) /* the sixth argument of the handler's own write */
#define CALLS 16u

static struct {
	int nr;
	uint64_t arg[3];
} call[CALLS];
static volatile sig_atomic_t calls;

/* Registers of a system call. */
#if defined(__x86_64__)
#define REGISTER(context, name) ((context)->uc_mcontext.gregs[REG_##name])
#define ARG0(c) REGISTER(c, RDI)
#define ARG1(c) REGISTER(c, RSI)
#define ARG2(c) REGISTER(c, RDX)
#define RESULT(c) REGISTER(c, RAX)
#elif defined(__aarch64__)
#define ARG0(c) ((c)->uc_mcontext.regs[0])
#define ARG1(c) ((c)->uc_mcontext.regs[1])
#define ARG2(c) ((c)->uc_mcontext.regs[2])
#define RESULT(c) ((c)->uc_mcontext.regs[0])
#else
#error "name the registers of a system call here"
#endif

static void note(int sig, siginfo_t *info, void *context)
{
	ucontext_t *c = context;
	const int saved = errno;
	long result = -ENOSYS;

	(void)sig;
	if ((unsigned)calls < CALLS) {
		call[calls].nr = info->si_syscall;
		call[calls].arg[0] = (uint64_t)ARG0(c);
		call[calls].arg[1] = (uint64_t)ARG1(c);
		call[calls].arg[2] = (uint64_t)ARG2(c);
		calls++;
	}
	if (info->si_syscall == SYS_write) {
		result = syscall(SYS_write, ARG0(c), ARG1(c), ARG2(c), 0, 0, PASS);
		result = result < 0 ? -errno : result;
	}
	RESULT(c) = (__typeof__(RESULT(c)))result;
	errno = saved;
}

#define LOAD(member) \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offsetof(struct seccomp_data, member))
#define LOAD_HIGH(member) \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offsetof(struct seccomp_data, member) + 4)
#define UNLESS(value, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)(value), 0, skip)
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_##action)
#define ALLOW(number) UNLESS(number, 1), RETURN(ALLOW)

static int filter_calls(void)
{
	static struct sock_filter program[] = {
		LOAD(nr),
		ALLOW(SYS_rt_sigreturn),
#ifdef THREAD_SANITIZED
		ALLOW(SYS_mmap), /* its shadow of what is touched for the first time */
		ALLOW(SYS_madvise),
#endif
		UNLESS(SYS_write, 5),
		LOAD(args[5]),
		UNLESS(PASS & UINT32_MAX, 3),
		LOAD_HIGH(args[5]),
		UNLESS(PASS >> 32, 1),
		RETURN(ALLOW),
		RETURN(TRAP),
	};
	const struct sock_fprog filter = {sizeof(program) / sizeof(*program), program};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) ? -errno : 0;
}

/* -- the poster -------------------------------------------------------------------------------- */

enum kind {
	PUSH,
	BATCH,
	SIGNAL,
	SIGNAL32,
	GLOBAL,
	HELD,
	REFUSED,
	CONTROL, /* does what no post may: the watch itself is under test */
	KINDS
};

static const char *const name[KINDS] = {"push",   "batch", "signal",  "signal32",
					"global", "held",  "refused", "control"};

static struct host host;
static struct fq_fence fence;
static struct fq_node node[2];
static struct fq_timeline *timeline;
static volatile bool unobserved; /* under memcheck */

static struct {
	enum kind kind;
	unsigned posts;
	int filter; /* outcome of filter_calls() */
	int err;
	int errno_after;
	unsigned allocations;
	atomic_bool done;
} poster;

static void run_node(struct fq_node *n)
{
	(void)n;
	host.count++;
}

static int post(enum kind kind)
{
	switch (kind) {
	case PUSH:
		fq_queue_push(host.q, &node[0]);
		return 0;
	case BATCH:
		node[0].next = &node[1];
		fq_queue_push_batch(host.q, &node[0]);
		return 0;
	case SIGNAL:
		return fq_signal(host.handle, 7, 3, fence.token);
	case SIGNAL32:
		return fq_signal32(host.handle, 7, 3, (uint32_t)fence.token);
	case GLOBAL:
		return fq_signal_global(host.handle, fence.token);
	case HELD:
		return fq_timeline_signal(timeline, fence.token);
	case REFUSED:
		return fq_signal(host.handle ^ 2048, 7, 3, 1) == -ENODEV &&
				       fq_signal(0, 7, 3, 1) == -EINVAL &&
				       fq_signal(host.handle, 9, 3, 1) == -ENOENT
			       ? 0
			       : -EPROTO;
	default: {
		void *volatile p = malloc(100);

		free(p);
		return syscall(SYS_getppid) < 0 || unobserved ? 0 : -EPROTO;
	}
	}
}

static void *first_post(void *arg)
{
	unsigned before;

	(void)arg;
	poster.filter = unobserved ? 0 : filter_calls();
	before = allocations;
	errno = EXDEV;
	for (unsigned i = 0; i < poster.posts && !poster.filter && !poster.err; i++)
		poster.err = post(poster.kind);
	poster.errno_after = errno;
	poster.allocations = allocations - before;
	atomic_store(&poster.done, true);
	while (!unobserved)
		; /* the end of a thread makes system calls */
	return NULL;
}

/* -- the child --------------------------------------------------------------------------------- */

#define CHECK(condition, ...)                                                        \
	do {                                                                         \
		if (!(condition)) {                                                  \
			fprintf(stderr, "%s: not so: %s: ", name[kind], #condition); \
			fprintf(stderr, __VA_ARGS__);                                \
			fputc('\n', stderr);                                         \
			_exit(1);                                                    \
		}                                                                    \
	} while (0)

static void prepare_post(enum kind kind)
{
	int err = 0;

	node[0] = node[1] = (struct fq_node){.run = run_node};
	if (kind == GLOBAL)
		err = fq_submit_global(host.dev, &fence);
	else if (kind == SIGNAL || kind == SIGNAL32 || kind == HELD)
		err = fq_submit(host.dev, 7, 3, &fence);
	if (kind == HELD)
		err |= fq_device_timeline(host.dev, 7, 3, &timeline);
	CHECK(!err, "submit %d", err);
}

static void expect_calls(enum kind kind, bool armed)
{
	const unsigned writes = armed && kind < REFUSED;

	if (unobserved)
		return;
	CHECK((unsigned)calls == writes, "%u system calls, the first is %d", (unsigned)calls,
	      call[0].nr);
	if (!writes)
		return;
	CHECK(call[0].nr == SYS_write, "call %d", call[0].nr);
	CHECK((int)call[0].arg[0] == fq_queue_fd(host.q), "to fd %d", (int)call[0].arg[0]);
	CHECK(call[0].arg[2] == sizeof(uint64_t), "%u bytes", (unsigned)call[0].arg[2]);
}

/* Never returns: 0 is success. */
static void child(enum kind kind, bool armed, unsigned posts)
{
	const struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO};
	const unsigned expected = kind == BATCH ? 2 : kind < REFUSED;
	pthread_t thread;

	host_open(&host, armed ? 0 : FQ_QUEUE_HOOKS);
	prepare_post(kind);
	poster.kind = kind;
	poster.posts = posts;
	CHECK(!sigaction(SIGSYS, &action, NULL), "sigaction");
	CHECK(!pthread_create(&thread, NULL, first_post, NULL), "thread");
	while (!atomic_load(&poster.done))
		sched_yield();
	if (unobserved)
		pthread_join(thread, NULL);
	CHECK(!poster.filter, "seccomp: %d", poster.filter);
	CHECK(!poster.err, "post: %d", poster.err);
	if (kind == CONTROL) {
		CHECK(unobserved || (calls == 1 && call[0].nr == SYS_getppid), "not watched");
#ifdef COUNTED
		CHECK(poster.allocations == 2, "%u", poster.allocations);
#endif
		_exit(0);
	}
	expect_calls(kind, armed);
	CHECK(!poster.allocations, "%u allocations", poster.allocations);
	CHECK(poster.errno_after == EXDEV, "errno %d", poster.errno_after);
	CHECK(readable(host.q) == (armed && expected), "readable");
	(void)fq_queue_drain(host.q, FQ_NO_BUDGET);
	CHECK(host.count == expected, "%u arrived", host.count);
	_exit(0);
}

static void run(enum kind kind, bool armed, unsigned posts)
{
	const char *preload = getenv("LD_PRELOAD");
	int status;
	pid_t pid;

	unobserved = preload && strstr(preload, "vgpreload");
	pid = fork();
	cr_assert_geq(pid, 0);
	if (!pid)
		child(kind, armed, posts);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFEXITED(status) && !WEXITSTATUS(status), "%s, %s: status %x", name[kind],
		  armed ? "armed" : "unarmed", (unsigned)status);
}

TestSuite(post, .timeout = 60);

Test(post, the_watch_sees)
{
	run(CONTROL, false, 1);
	if (unobserved)
		puts("valgrind: neither system calls nor allocations were looked at");
#ifndef COUNTED
	else
		puts("no malloc of our own in this build: allocations were not looked at");
#endif
}

Test(post, first_while_the_owner_is_awake)
{
	for (enum kind kind = PUSH; kind <= REFUSED; kind++)
		run(kind, false, 1);
}

Test(post, first_while_the_owner_may_be_asleep)
{
	for (enum kind kind = PUSH; kind <= REFUSED; kind++)
		run(kind, true, 1);
}

/* And the second to the thousandth, of those that may be repeated: one write for all. */
Test(post, thousand)
{
	for (enum kind kind = SIGNAL; kind <= REFUSED; kind++) {
		run(kind, false, 1000);
		run(kind, true, 1000);
	}
}
