/* SPDX-License-Identifier: MIT */

/*
 * qemu_like: a VMM with a main loop under a big lock, and the deadlock that fenceq does away with.
 *
 *   vCPU threads         queue fenced commands, ring the doorbell, halt,        vcpu.c ring.c
 *     |  ^ interrupt     check every response
 *     v  |
 *   registers            each access takes the big lock                         machine.c biglock.c
 *     |  ^
 *     v  |
 *   device               pops commands and submits them; answers them           device.c
 *     |  ^
 *     |  main loop       GLib's: has the big lock but while it sleeps           loop.c
 *     |  ^ way_*.c
 *     v  |
 *   renderer threads     one for each context: they complete fences and call    renderer.c
 *                        back, and know of no lock but their own
 *
 * Under load the main loop tears contexts down and unplugs the device (monitor.c), which joins
 * renderer threads with the big lock held. Which callback survives that? Compare way_fenceq.c,
 * way_bottom_half.c and way_direct.c; the last one deadlocks, and watchdog.c says how.
 */

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "machine.h"
#include "summary.h"
#include "watchdog.h"

#define EXIT_DEADLOCK 2
#define EXIT_USAGE 64

static const char usage[] =
	"usage: qemu_like [options]\n"
	"\n"
	"vCPUs under a big lock submit fences, renderer threads complete them, and the main loop\n"
	"tears contexts and the device down under load, joining renderers with the big lock held.\n"
	"\n"
	"  --fences N     fences in all (default 100000)\n"
	"  --bottom-half  completions travel as allocated records with an eventfd write each,\n"
	"                 not through fenceq; for comparison\n"
	"  --deadlock     the renderer's callback takes the big lock itself: must deadlock\n"
	"  --stall N      give up when no thread has moved for so many seconds (default 60)\n"
	"  --json         the last line of stdout is the summary as one JSON object\n"
	"  --help         this text\n"
	"\n"
	"Exit status: 0 when every fence was answered once, in order, with the right status; with\n"
	"--deadlock 2 when the deadlock was found, as expected; 1 in all other cases; 64 for "
	"wrong\n"
	"arguments.\n";

/* What threads point to lives as long as the process: after a deadlock they still run. */
static struct machine machine;
static struct actor main_loop;

__attribute__((noreturn)) static void refuse(const char *what)
{
	fprintf(stderr, "qemu_like: wrong argument: %s (see --help)\n", what);
	exit(EXIT_USAGE);
}

static uint64_t number(const char *text, uint64_t max)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || *text < '0' || *text > '9' || *end || !value || value > max)
		refuse(text);
	return value;
}

static void parse_one(struct options *opt, int name)
{
	switch (name) {
	case 'f':
		opt->fences = number(optarg, UINT64_C(1) << 40);
		break;
	case 'b':
		opt->way = &way_bottom_half;
		break;
	case 'd':
		opt->way = &way_direct;
		opt->expect_deadlock = true;
		break;
	case 's':
		opt->stall_s = (unsigned)number(optarg, 1000000);
		break;
	case 'j':
		opt->json = true;
		break;
	case 'h':
		fputs(usage, stdout);
		exit(0);
	default:
		exit(EXIT_USAGE);
	}
}

static void parse(struct options *opt, int argc, char **argv)
{
	static const struct option names[] = {
		{"fences", required_argument, NULL, 'f'},
		{"bottom-half", no_argument, NULL, 'b'},
		{"deadlock", no_argument, NULL, 'd'},
		{"stall", required_argument, NULL, 's'},
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int name;

	*opt = (struct options){.way = &way_fenceq, .fences = 100000, .stall_s = 60};
	while ((name = getopt_long(argc, argv, "", names, NULL)) != -1)
		parse_one(opt, name);
	if (optind < argc)
		refuse(argv[optind]);
}

/* On the watchdog's thread. The others are stuck for good, so there is no way back through them. */
static void stuck(bool deadlock)
{
	const struct options *opt = &machine.opt;
	bool expected = deadlock && opt->expect_deadlock;

	puts(expected ? "deadlock, as expected" : "FAILED");
	if (opt->json)
		printf("{\"way\":\"%s\",\"deadlock\":%s,\"ok\":%s}\n", opt->way->name,
		       deadlock ? "true" : "false", expected ? "true" : "false");
	fflush(stdout);
	_exit(expected ? EXIT_DEADLOCK : EXIT_FAILURE);
}

static uint64_t context_switches(void)
{
	struct rusage usage_now;

	getrusage(RUSAGE_SELF, &usage_now);
	return (uint64_t)usage_now.ru_nvcsw + (uint64_t)usage_now.ru_nivcsw;
}

int main(int argc, char **argv)
{
	struct options opt;
	struct summary summary;

	parse(&opt, argc, argv);
	actor_init(&main_loop, "main loop");
	actor_be(&main_loop);
	machine_init(&machine, &opt);
	watchdog_start(opt.stall_s, stuck);

	summary.context_switches = context_switches();
	machine_run(&machine, &summary.writes);
	summary.context_switches = context_switches() - summary.context_switches;

	summary_print(&machine, &summary);
	if (opt.json)
		summary_print_json(&machine, &summary);
	return summary_good(&machine) ? EXIT_SUCCESS : EXIT_FAILURE;
}
