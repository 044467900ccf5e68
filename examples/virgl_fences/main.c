/* SPDX-License-Identifier: MIT */

/*
 * virgl_fences: the job fenceq is made for, from end to end.
 *
 *   driver thread        queues fenced commands, sleeps on the call fd, checks  driver.c ring.c
 *     |  ^ interrupt     every response
 *     v  |
 *   virtqueue            split ring in a memfd                                  machine.c
 *     |  ^
 *     v  |
 *   owner thread         pops commands, submits fences; drains completions,     owner.c
 *     |  ^ fenceq        which answer the commands
 *     v  |
 *   renderer threads     virglrenderer's own, one for each venus context and    renderer.c
 *                        one for GL: they complete fences and call back
 *
 * The callbacks also tell the oracle (oracle.c) what is complete; the driver asks it whether a
 * response came early. Start to read in owner.c.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"
#include "options.h"
#include "oracle.h"
#include "owner.h"
#include "run.h"
#include "summary.h"

/* All that threads point to lives as long as the process: after a failure some may still run. */
static struct run run;
static struct machine machine;
static struct oracle oracle;
static struct owner owner;
static struct owner_report owner_report;
static struct driver driver;

static int prepare(const struct options *opt)
{
	int err = run_init(&run, opt);

	if (!err)
		err = machine_init(&machine, options_ring_size(opt));
	if (!err)
		err = oracle_init(&oracle, options_timelines(opt), opt->depth);
	if (!err)
		err = owner_start(&owner, &run, &machine, &oracle);
	return err;
}

/* Reports are complete on return, also after a failure. */
static void drive(void)
{
	int err = driver_start(&driver, &run, &machine, &oracle);

	if (err) {
		run_fail(&run, "cannot start the driver: %s", strerror(-err));
		return;
	}
	run_wait(&run, STAGE_DRIVEN);
	driver_stop(&driver);
	owner_get_report(&owner, &owner_report);
}

static void stop(void)
{
	owner_stop(&owner);
	if (run_wait(&run, STAGE_STOPPED))
		pthread_join(owner.thread, NULL);
}

int main(int argc, char **argv)
{
	struct options opt;
	bool good;
	int err;

	options_parse(&opt, argc, argv);
	err = prepare(&opt);
	if (err)
		run_fail(&run, "cannot start: %s", strerror(-err));
	else if (run_wait(&run, STAGE_READY))
		drive();
	if (!atomic_load(&run.failed))
		stop();

	if (atomic_load(&run.failed))
		fprintf(stderr, "virgl_fences: %s\n", run.error);
	good = summary_good(&run, &driver.report, &owner_report);
	summary_print(&run, &driver.report, &owner_report);
	if (opt.json)
		summary_print_json(&run, &driver.report, &owner_report);
	fflush(stdout);
	/* Not exit(): its handlers (Mesa's among them) may wait for a renderer that hangs. */
	if (!good)
		_Exit(EXIT_FAILURE);
	return EXIT_SUCCESS;
}
