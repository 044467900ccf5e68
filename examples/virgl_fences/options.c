/* SPDX-License-Identifier: MIT */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Largest virtqueue of the specification; the smallest is that of a virtio-gpu with 3D. */
#define RING_MAX 32768u
#define RING_MIN 256u

#define DEFAULT_FENCES 200000
#define DEFAULT_STALL 20
#define DEFAULT_STALL_DROP 3

static const char usage[] =
	"usage: virgl_fences [options]\n"
	"\n"
	"Fences completed by virglrenderer's own threads travel through fenceq into a virtqueue,\n"
	"and a driver on its other side checks every response.\n"
	"\n"
	"  --contexts N     venus contexts, each calling back on its own thread (default 8)\n"
	"  --gl-contexts N  classic GL contexts, called back on one more thread, as is the\n"
	"                   global timeline (default 2)\n"
	"  --depth N        fences in flight on each timeline (default 16)\n"
	"  --fences N       fences in all (default 200000; no limit if only --seconds is given)\n"
	"  --seconds N      send no more after so many seconds\n"
	"  --stall N        give up after so many seconds without progress (default 20)\n"
	"  --json           the last line of stdout is the summary as one JSON object\n"
	"  --plant FAULT    break something on purpose, up to five times, to prove that the\n"
	"                   driver finds it; the run must report the fault and fail:\n"
	"                     early  a fence, and so all before it on its timeline, is signalled\n"
	"                            before the renderer completed it\n"
	"                     swap   two responses of one timeline change places\n"
	"                     drop   a response is never sent (ends by --stall, default 3 here)\n"
	"                     dup    a fence is answered twice, in place of the next one\n"
	"  --help           this text\n"
	"\n"
	"Exit status: 0 when every fence was retired once, in order, after the renderer completed\n"
	"it, and all threads called back; 1 when not; 2 for wrong arguments.\n";

__attribute__((noreturn)) static void refuse(const char *what, const char *value)
{
	fprintf(stderr, "virgl_fences: %s%s (see --help)\n", what, value);
	exit(2);
}

static uint64_t number(const char *text, uint64_t min, uint64_t max)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || *text < '0' || *text > '9' || *end || value < min || value > max)
		refuse("number out of range: ", text);
	return value;
}

static enum plant plant(const char *name)
{
	static const char *const names[] = {
		[PLANT_EARLY] = "early",
		[PLANT_SWAP] = "swap",
		[PLANT_DROP] = "drop",
		[PLANT_DUP] = "dup",
	};

	for (int i = PLANT_EARLY; i <= PLANT_DUP; i++) {
		if (!strcmp(name, names[i]))
			return (enum plant)i;
	}
	refuse("no such fault: ", name);
}

static void parse_one(struct options *opt, int name)
{
	switch (name) {
	case 'c':
		opt->venus_contexts = (unsigned)number(optarg, 1, 256);
		break;
	case 'g':
		opt->gl_contexts = (unsigned)number(optarg, 0, 256);
		break;
	case 'd':
		opt->depth = (unsigned)number(optarg, 1, RING_MAX);
		break;
	case 'f':
		opt->fences = number(optarg, 1, UINT64_C(1) << 40);
		break;
	case 's':
		opt->seconds = (unsigned)number(optarg, 1, 1000000);
		break;
	case 't':
		opt->stall = (unsigned)number(optarg, 1, 1000000);
		break;
	case 'j':
		opt->json = true;
		break;
	case 'p':
		opt->plant = plant(optarg);
		break;
	case 'h':
		fputs(usage, stdout);
		exit(0);
	default:
		exit(2);
	}
}

static void complete(struct options *opt)
{
	if (!opt->fences && !opt->seconds)
		opt->fences = DEFAULT_FENCES;
	if (!opt->stall)
		opt->stall = opt->plant == PLANT_DROP ? DEFAULT_STALL_DROP : DEFAULT_STALL;
	if ((uint64_t)opt->depth * options_timelines(opt) > RING_MAX)
		refuse("so many fences do not fit a virtqueue: less depth or fewer contexts", "");
	if (opt->plant == PLANT_SWAP && opt->depth == 1)
		refuse("--plant swap needs a --depth of 2 or more", "");
}

void options_parse(struct options *opt, int argc, char **argv)
{
	static const struct option names[] = {
		{"contexts", required_argument, NULL, 'c'},
		{"gl-contexts", required_argument, NULL, 'g'},
		{"depth", required_argument, NULL, 'd'},
		{"fences", required_argument, NULL, 'f'},
		{"seconds", required_argument, NULL, 's'},
		{"stall", required_argument, NULL, 't'},
		{"json", no_argument, NULL, 'j'},
		{"plant", required_argument, NULL, 'p'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int name;

	*opt = (struct options){.venus_contexts = 8, .gl_contexts = 2, .depth = 16};
	while ((name = getopt_long(argc, argv, "", names, NULL)) != -1)
		parse_one(opt, name);
	if (optind < argc)
		refuse("unexpected argument: ", argv[optind]);
	complete(opt);
}

uint32_t options_ring_size(const struct options *opt)
{
	uint32_t size = RING_MIN;

	while (size < opt->depth * options_timelines(opt))
		size *= 2;
	return size;
}
