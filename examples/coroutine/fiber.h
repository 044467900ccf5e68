/* SPDX-License-Identifier: MIT */
#ifndef FIBER_H
#define FIBER_H

/*
 * A second stack, and switching between it and the one that entered it: ucontext, and what
 * AddressSanitizer, ThreadSanitizer and Valgrind want to be told of it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define FIBER_ASAN 1
#elif defined(__SANITIZE_THREAD__)
#define FIBER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBER_ASAN 1
#elif __has_feature(thread_sanitizer)
#define FIBER_TSAN 1
#endif
#endif

#ifdef FIBER_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef FIBER_TSAN
#include <sanitizer/tsan_interface.h>
#endif
#if defined(__has_include)
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#define FIBER_VALGRIND 1
#endif
#endif

#define FIBER_STACK ((size_t)128 << 10)

struct fiber {
	ucontext_t inside;
	ucontext_t outside;
	void (*run)(void *arg);
	void *arg;
	char *memory; /* a guard page, then the stack */
	size_t guard;
	unsigned valgrind_id;
	bool over;
	const void *outside_bottom;
	size_t outside_size;
	void *tsan_inside;
	void *tsan_outside;
};

/* Around each switch; `to` is the stack that it goes to, `from` the one it came from. */
static inline void fiber_tell_leaving(void **fake_stack, const void *to, size_t to_size,
				      void *tsan_to)
{
#ifdef FIBER_ASAN
	__sanitizer_start_switch_fiber(fake_stack, to, to_size);
#endif
#ifdef FIBER_TSAN
	__tsan_switch_to_fiber(tsan_to, 0);
#endif
	(void)fake_stack;
	(void)to;
	(void)to_size;
	(void)tsan_to;
}

static inline void fiber_tell_arrived(void *fake_stack, const void **from, size_t *from_size)
{
#ifdef FIBER_ASAN
	__sanitizer_finish_switch_fiber(fake_stack, from, from_size);
#endif
	(void)fake_stack;
	(void)from;
	(void)from_size;
}

/* From outside; returns when it leaves, or ends. */
static inline void fiber_enter(struct fiber *f)
{
	void *fake_stack = NULL;

#ifdef FIBER_TSAN
	f->tsan_outside = __tsan_get_current_fiber();
#endif
	fiber_tell_leaving(&fake_stack, f->memory + f->guard, FIBER_STACK, f->tsan_inside);
	swapcontext(&f->outside, &f->inside);
	fiber_tell_arrived(fake_stack, NULL, NULL);
}

/* From inside. One that ends never comes back to its fake stack. */
static inline void fiber_leave(struct fiber *f)
{
	void *fake_stack = NULL;

	fiber_tell_leaving(f->over ? NULL : &fake_stack, f->outside_bottom, f->outside_size,
			   f->tsan_outside);
	swapcontext(&f->inside, &f->outside);
	fiber_tell_arrived(fake_stack, &f->outside_bottom, &f->outside_size);
}

/* makecontext() passes ints. */
static inline void fiber_main(unsigned high, unsigned low)
{
	struct fiber *f = (struct fiber *)((uintptr_t)high << 16 << 16 | (uintptr_t)low);

	fiber_tell_arrived(NULL, &f->outside_bottom, &f->outside_size);
	f->run(f->arg);
	f->over = true;
	fiber_leave(f);
}

static inline bool fiber_init(struct fiber *f, void (*run)(void *), void *arg)
{
	uintptr_t self = (uintptr_t)f;

	*f = (struct fiber){.run = run, .arg = arg, .guard = (size_t)sysconf(_SC_PAGESIZE)};
	f->memory = (char *)mmap(NULL, f->guard + FIBER_STACK, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (f->memory == MAP_FAILED)
		return false;
	mprotect(f->memory, f->guard, PROT_NONE);
	getcontext(&f->inside);
	f->inside.uc_stack.ss_sp = f->memory + f->guard;
	f->inside.uc_stack.ss_size = FIBER_STACK;
	makecontext(&f->inside, (void (*)(void))fiber_main, 2, (unsigned)(self >> 16 >> 16),
		    (unsigned)self);
#ifdef FIBER_TSAN
	f->tsan_inside = __tsan_create_fiber(0);
#endif
#ifdef FIBER_VALGRIND
	f->valgrind_id =
		VALGRIND_STACK_REGISTER(f->memory + f->guard, f->memory + f->guard + FIBER_STACK);
#endif
	return true;
}

static inline void fiber_fini(struct fiber *f)
{
#ifdef FIBER_VALGRIND
	VALGRIND_STACK_DEREGISTER(f->valgrind_id);
#endif
#ifdef FIBER_TSAN
	__tsan_destroy_fiber(f->tsan_inside);
#endif
	munmap(f->memory, f->guard + FIBER_STACK);
}

#endif /* FIBER_H */
