/* SPDX-License-Identifier: MIT */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rcu_bench.h"
#include "report.h"

#define RCU_ITEMS 10000000

struct options {
	bool quick;
	bool pin;
	unsigned repetitions;
	uint64_t items;
	const char *out;
};

static const struct peer *const peers[] = {
	&peer_qemu_bh,
	&peer_wfcqueue,
	&peer_fenceq_node,
	&peer_fenceq_mark,
	&peer_fenceq_mark_shared,
	&peer_fenceq_signal,
	&peer_fenceq_signal_unregistered,
};

static const unsigned posters_quick[] = {1, 4};
static const unsigned posters_full[] = {1, 2, 4, 8, 16};

static struct plan plan;

static void usage(FILE *to)
{
	fputs("usage: fenceq-bench [options]\n"
	      "  --quick            one and four posters only\n"
	      "  --repetitions N    rounds of every benchmark (default 31)\n"
	      "  --items N          completions of one round, in 1024 (default 1024)\n"
	      "  --out FILE         google-benchmark's JSON output\n"
	      "  --no-pin           leave the placement of threads to the scheduler\n",
	      to);
}

static unsigned long number(const char *text, unsigned long max)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (!n || n > max || *end || *text == '-') {
		fprintf(stderr, "fenceq-bench: not a number from 1 to %lu: %s\n", max, text);
		exit(2);
	}
	return n;
}

static struct options parse(int argc, char **argv)
{
	static const struct option known[] = {
		{"quick", no_argument, NULL, 'q'},
		{"repetitions", required_argument, NULL, 'r'},
		{"items", required_argument, NULL, 'i'},
		{"out", required_argument, NULL, 'o'},
		{"no-pin", no_argument, NULL, 'n'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	struct options o = {.pin = true, .repetitions = 31, .items = UINT64_C(1) << 20};
	int c;

	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (c) {
		case 'q':
			o.quick = true;
			break;
		case 'r':
			o.repetitions = (unsigned)number(optarg, 10000);
			break;
		case 'i':
			o.items = (uint64_t)number(optarg, 1 << 16) * 1024;
			break;
		case 'o':
			o.out = optarg;
			break;
		case 'n':
			o.pin = false;
			break;
		case 'h':
			usage(stdout);
			exit(0);
		default:
			usage(stderr);
			exit(2);
		}
	}
	return o;
}

/* A poster alone shares its timeline with nobody. */
static bool pointless(const struct peer *peer, unsigned posters)
{
	return peer == &peer_fenceq_mark_shared && posters == 1;
}

static int add_case(const struct options *o, const struct peer *peer, unsigned posters)
{
	struct plan_case *c = &plan.cases[plan.count];

	if (plan.count == PLAN_CASES)
		return -1;
	c->beside = (struct beside){.peer = peer, .posters = posters, .pin = o->pin};
	snprintf(c->name, sizeof(c->name), "beside/%s/posters:%u", peer->name, posters);
	c->bench = gb_register(&(struct gb_bench){
		.name = c->name,
		.round = beside_round,
		.arg = &c->beside,
		.items = o->items,
		.repetitions = o->repetitions,
	});
	if (c->bench < 0)
		return -1;
	plan.count++;
	return 0;
}

static int add_cases(const struct options *o)
{
	const unsigned *posters = o->quick ? posters_quick : posters_full;
	size_t count = o->quick ? sizeof(posters_quick) / sizeof(*posters)
				: sizeof(posters_full) / sizeof(*posters);

	for (size_t p = 0; p < count; p++) {
		for (size_t i = 0; i < sizeof(peers) / sizeof(peers[0]); i++) {
			if (!pointless(peers[i], posters[p]) && add_case(o, peers[i], posters[p]))
				return -1;
		}
	}
	return 0;
}

static int add_rcu(const struct options *o)
{
	struct gb_bench bench = {
		.name = "rcu/lock_unlock",
		.round = rcu_round,
		.items = RCU_ITEMS,
		.repetitions = o->repetitions,
	};

	plan.rcu = gb_register(&bench);
	bench.name = "rcu/read_side";
	bench.round = read_side_round;
	plan.read_side = gb_register(&bench);
	return plan.rcu < 0 || plan.read_side < 0 ? -1 : 0;
}

static void progress(unsigned done, unsigned all)
{
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r%u of %u rounds%s", done, all, done == all ? "\n" : "");
}

int main(int argc, char **argv)
{
	struct options o = parse(argc, argv);
	int failed;

	if (optind < argc) {
		usage(stderr);
		return 2;
	}
	if (add_cases(&o) || add_rcu(&o)) {
		fputs("fenceq-bench: cannot register the benchmarks\n", stderr);
		return EXIT_FAILURE;
	}
	failed = gb_run(argv[0], o.out, progress);
	if (failed) {
		fprintf(stderr, "fenceq-bench: %d benchmarks failed\n", failed);
		return EXIT_FAILURE;
	}
	report(&plan);
	return EXIT_SUCCESS;
}
