/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"

/* A ratio that is claimed, and what it should not exceed (0: nothing is promised). */
struct claim {
	const char *key;
	const struct peer *peer;
	const struct peer *against;
	double one_poster;
	double four_posters;
};

static const struct claim claims[] = {
	{"node_vs_qemu_bh", &peer_fenceq_node, &peer_qemu_bh, 0.15, 0.20},
	{"node_vs_wfcqueue", &peer_fenceq_node, &peer_wfcqueue, 1.0, 0.85},
	{"mark_vs_qemu_bh", &peer_fenceq_mark, &peer_qemu_bh, 0.12, 0.06},
	{"mark_shared_vs_qemu_bh", &peer_fenceq_mark_shared, &peer_qemu_bh, 0, 0.06},
	{"signal_vs_qemu_bh", &peer_fenceq_signal, &peer_qemu_bh, 0.20, 0.20},
	{"signal_unregistered_vs_qemu_bh", &peer_fenceq_signal_unregistered, &peer_qemu_bh, 0, 0},
};

#define RCU_TARGET_NS 2.0

struct figure {
	char key[64];
	double value;
	double low; /* quartiles */
	double high;
	double target;
};

#define FIGURES (PLAN_CASES + 2)

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Sorts the samples. */
static void summarise(struct figure *figure, double *samples, size_t count)
{
	qsort(samples, count, sizeof(*samples), compare);
	figure->value = gb_median(samples, count);
	figure->low = samples[count / 4];
	figure->high = samples[count - 1 - count / 4];
}

static const struct plan_case *find_case(const struct plan *plan, const struct peer *peer,
					 unsigned posters)
{
	for (size_t i = 0; i < plan->count; i++) {
		const struct plan_case *c = &plan->cases[i];

		if (c->beside.peer == peer && c->beside.posters == posters)
			return c;
	}
	return NULL;
}

/* Repetition by repetition: those with the same number ran at nearly the same time. */
static bool ratio_figure(const struct plan *plan, const struct claim *claim, unsigned posters,
			 struct figure *out)
{
	const struct plan_case *peer = find_case(plan, claim->peer, posters);
	const struct plan_case *against = find_case(plan, claim->against, posters);
	size_t count, count_against;
	const double *ns, *ns_against;
	double *ratios;

	if (!peer || !against)
		return false;
	ns = gb_samples(peer->bench, &count);
	ns_against = gb_samples(against->bench, &count_against);
	if (count_against < count)
		count = count_against;
	ratios = count ? malloc(count * sizeof(*ratios)) : NULL;
	if (!ratios)
		return false;
	for (size_t i = 0; i < count; i++)
		ratios[i] = ns[i] / ns_against[i];
	summarise(out, ratios, count);
	free(ratios);
	out->target = posters == 1 ? claim->one_poster : posters == 4 ? claim->four_posters : 0;
	if (posters == 1)
		snprintf(out->key, sizeof(out->key), "%s", claim->key);
	else
		snprintf(out->key, sizeof(out->key), "%s_%u", claim->key, posters);
	return true;
}

static bool ns_figure(int bench, const char *key, double target, struct figure *out)
{
	size_t count;
	const double *ns = gb_samples(bench, &count);
	double *copy = count ? malloc(count * sizeof(*copy)) : NULL;

	if (!copy)
		return false;
	memcpy(copy, ns, count * sizeof(*copy));
	summarise(out, copy, count);
	free(copy);
	snprintf(out->key, sizeof(out->key), "%s", key);
	out->target = target;
	return true;
}

/* By number of posters, in the order of the plan. */
static size_t collect_figures(const struct plan *plan, struct figure *figures)
{
	size_t count = 0;
	unsigned posters = 0;

	for (size_t i = 0; i < plan->count; i++) {
		if (plan->cases[i].beside.posters == posters)
			continue;
		posters = plan->cases[i].beside.posters;
		for (size_t c = 0; c < sizeof(claims) / sizeof(claims[0]); c++) {
			if (count < PLAN_CASES &&
			    ratio_figure(plan, &claims[c], posters, &figures[count]))
				count++;
		}
	}
	count += ns_figure(plan->rcu, "rcu_ns", RCU_TARGET_NS, &figures[count]);
	count += ns_figure(plan->read_side, "read_side_ns", 0, &figures[count]);
	return count;
}

static void print_cases(const struct plan *plan)
{
	struct figure f;

	printf("\nPosters beside a live owner that sleeps when it can, per completion. Compare "
	       "within\n"
	       "this run only; the ratios below are what counts.\n\n"
	       "%-28s %8s %10s %19s %14s\n",
	       "peer", "posters", "median ns", "quartiles", "writes / 1000");
	for (size_t i = 0; i < plan->count; i++) {
		const struct plan_case *c = &plan->cases[i];

		if (i && c->beside.posters != plan->cases[i - 1].beside.posters)
			putchar('\n');
		if (ns_figure(c->bench, c->name, 0, &f))
			printf("%-28s %8u %10.1f %8.1f .. %7.1f %14.2f\n", c->beside.peer->name,
			       c->beside.posters, f.value, f.low, f.high,
			       gb_counter_median(c->bench, BESIDE_WRITES));
	}
}

static void print_figures(const struct figure *figures, size_t count)
{
	printf("\n%-34s %9s %19s %8s\n", "figure", "median", "quartiles", "target");
	for (size_t i = 0; i < count; i++) {
		const struct figure *f = &figures[i];

		printf("%-34s %9.3f %8.3f .. %7.3f", f->key, f->value, f->low, f->high);
		if (f->target > 0)
			printf(" <= %5.2f  %s\n", f->target,
			       f->value <= f->target ? "reached" : "NOT reached");
		else
			printf(" %8s\n", "-");
	}
}

static void print_json(const struct figure *figures, size_t count)
{
	for (size_t i = 0; i < count; i++)
		printf("%s\"%s\": %.4f", i ? ", " : "\n{", figures[i].key,
		       isfinite(figures[i].value) ? figures[i].value : -1);
	puts("}");
}

void report(const struct plan *plan)
{
	static struct figure figures[FIGURES];
	size_t count = collect_figures(plan, figures);

	print_cases(plan);
	print_figures(figures, count);
	print_json(figures, count);
}
