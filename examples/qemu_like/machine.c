/* SPDX-License-Identifier: MIT */
#include "machine.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "biglock.h"

void die(const char *fmt, ...)
{
	va_list ap;

	fputs("qemu_like: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	_exit(EXIT_FAILURE);
}

void machine_init(struct machine *m, const struct options *opt)
{
	*m = (struct machine){.opt = *opt};
	m->ram = aligned_alloc(4096, RAM_SIZE);
	if (!m->ram)
		die("no memory for the guest");
	loop_init(&m->loop);
	for (unsigned i = 0; i < VCPUS; i++)
		vcpu_init(&m->vcpu[i], m, i);
	device_init(&m->device, m);
	monitor_init(&m->monitor, m);
}

void machine_run(struct machine *m, uint64_t *writes)
{
	biglock_lock("to start");
	m->opt.way->start(&m->device);
	device_plug(&m->device);
	m->vcpus_on = VCPUS;
	for (unsigned i = 0; i < VCPUS; i++)
		vcpu_start(&m->vcpu[i]);
	loop_run(&m->loop);
	biglock_unlock();
	for (unsigned i = 0; i < VCPUS; i++)
		vcpu_join(&m->vcpu[i]);
	biglock_lock("to end");
	device_unplug(&m->device);
	*writes = m->opt.way->writes();
	m->opt.way->stop(&m->device);
	biglock_unlock();
}

uint32_t machine_read(struct machine *m, enum reg reg, unsigned vcpu)
{
	uint32_t value = REG_ABSENT;

	biglock_lock("to read a register");
	if (m->device.plugged)
		value = device_read(&m->device, reg, vcpu);
	else
		m->counts.absent_accesses++;
	biglock_unlock();
	return value;
}

void machine_write(struct machine *m, enum reg reg, unsigned vcpu)
{
	biglock_lock("to write a register");
	if (m->device.plugged)
		device_write(&m->device, reg, vcpu);
	else
		m->counts.absent_accesses++;
	biglock_unlock();
}

void machine_power_off(struct machine *m)
{
	biglock_lock("to power off");
	if (!--m->vcpus_on)
		loop_quit(&m->loop);
	biglock_unlock();
}
