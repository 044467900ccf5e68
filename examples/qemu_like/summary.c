/* SPDX-License-Identifier: MIT */
#include "summary.h"

#include <stdio.h>

typedef unsigned long long ull;

/* What the guest's vCPUs found, all together. */
static struct vcpu found(const struct machine *m)
{
	struct vcpu sum = {0};

	for (unsigned i = 0; i < VCPUS; i++) {
		const struct vcpu *v = &m->vcpu[i];

		sum.queued += v->queued;
		sum.succeeded += v->succeeded;
		sum.failed += v->failed;
		sum.duplicated += v->duplicated;
		sum.out_of_order += v->out_of_order;
		sum.bad_response += v->bad_response;
		sum.halts += v->halts;
	}
	return sum;
}

bool summary_good(const struct machine *m)
{
	const struct counts *c = &m->counts;
	const struct vcpu v = found(m);

	return v.queued == m->opt.fences && c->submitted == v.queued &&
	       v.succeeded + v.failed == v.queued && v.succeeded == c->completed &&
	       v.failed == c->cancelled + c->unplugged && !v.duplicated && !v.out_of_order &&
	       !v.bad_response && !c->wrong_status && c->joined > 0 && !m->opt.expect_deadlock;
}

static double per_1000(uint64_t count, const struct machine *m)
{
	return 1000.0 * (double)count / (double)m->opt.fences;
}

void summary_print(const struct machine *m, const struct summary *s)
{
	const struct counts *c = &m->counts;
	const struct vcpu v = found(m);

	printf("%s: %llu fences of %u vCPUs, %u contexts with a renderer each\n", m->opt.way->name,
	       (ull)v.queued, VCPUS, CONTEXTS);
	printf("  answered with success  %llu\n", (ull)c->completed);
	printf("  ... with an error      %llu context torn down, %llu device unplugged\n",
	       (ull)c->cancelled, (ull)c->unplugged);
	printf("  found by the guest     %llu answered twice, %llu out of order, %llu bad "
	       "responses\n",
	       (ull)v.duplicated, (ull)v.out_of_order, (ull)v.bad_response);
	printf("  found by the device    %llu with another status than the renderer knows\n",
	       (ull)c->wrong_status);
	printf("  under the big lock     %llu contexts torn down, %llu unplugs, %llu renderer "
	       "threads joined\n",
	       (ull)c->tear_downs, (ull)c->unplugs, (ull)c->joined);
	printf("  absent device          %llu register accesses\n", (ull)c->absent_accesses);
	printf("  writes to wake loop    %llu, %.1f per 1000 fences\n", (ull)s->writes,
	       per_1000(s->writes, m));
	printf("  context switches       %llu of all threads, %.1f per 1000 fences\n",
	       (ull)s->context_switches, per_1000(s->context_switches, m));
	printf("  interrupts             %llu, %.1f per 1000 fences\n", (ull)c->interrupts,
	       per_1000(c->interrupts, m));
	if (m->opt.expect_deadlock)
		puts("no deadlock came");
	puts(summary_good(m) ? "OK" : "FAILED");
}

void summary_print_json(const struct machine *m, const struct summary *s)
{
	const struct counts *c = &m->counts;
	const struct vcpu v = found(m);

	printf("{\"way\":\"%s\",\"fences\":%llu,\"submitted\":%llu,\"completed\":%llu,"
	       "\"cancelled\":%llu,\"unplugged\":%llu,",
	       m->opt.way->name, (ull)v.queued, (ull)c->submitted, (ull)c->completed,
	       (ull)c->cancelled, (ull)c->unplugged);
	printf("\"duplicated\":%llu,\"out_of_order\":%llu,\"bad_response\":%llu,"
	       "\"wrong_status\":%llu,",
	       (ull)v.duplicated, (ull)v.out_of_order, (ull)v.bad_response, (ull)c->wrong_status);
	printf("\"tear_downs\":%llu,\"unplugs\":%llu,\"joined\":%llu,\"absent_accesses\":%llu,",
	       (ull)c->tear_downs, (ull)c->unplugs, (ull)c->joined, (ull)c->absent_accesses);
	printf("\"notifier_writes\":%llu,\"context_switches\":%llu,\"interrupts\":%llu,"
	       "\"halts\":%llu,\"ok\":%s}\n",
	       (ull)s->writes, (ull)s->context_switches, (ull)c->interrupts, (ull)v.halts,
	       summary_good(m) ? "true" : "false");
}
