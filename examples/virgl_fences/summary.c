/* SPDX-License-Identifier: MIT */
#include "summary.h"

#include <stdio.h>

typedef unsigned long long ull;

static unsigned threads_expected(const struct options *opt)
{
	/* GL contexts and the global timeline share virglrenderer's one synchronisation thread. */
	return opt->venus_contexts + 1;
}

bool summary_good(const struct run *run, const struct driver_report *driver,
		  const struct owner_report *owner)
{
	const struct options *opt = &run->opt;
	/* So few fences do not reach every timeline, let alone every thread. */
	bool few = driver->queued < options_timelines(opt);

	return !atomic_load(&run->failed) && driver->queued > 0 &&
	       (opt->seconds || driver->queued == opt->fences) &&
	       driver->retired == driver->queued && driver->failed == 0 && driver->lost == 0 &&
	       driver->duplicated == 0 && driver->out_of_order == 0 && driver->early == 0 &&
	       driver->bad_header == 0 && (few || owner->threads >= threads_expected(opt));
}

static double per_1000(uint64_t count, uint64_t fences)
{
	return fences ? 1000.0 * (double)count / (double)fences : 0.0;
}

static double rate(const struct driver_report *driver)
{
	return driver->elapsed_ns ? (double)driver->retired * 1e9 / (double)driver->elapsed_ns
				  : 0.0;
}

static uint64_t refused(const struct owner_report *owner)
{
	const struct fq_device_stats *s = &owner->device;

	return s->refused_unknown + s->refused_invalid + s->refused_range + s->refused_stale;
}

static void print_checks(const struct driver_report *driver)
{
	printf("  checked by the driver: %llu lost, %llu duplicated, %llu out of order, %llu early,"
	       "\n                         %llu with a header not theirs, %llu answered with an"
	       " error\n",
	       (ull)driver->lost, (ull)driver->duplicated, (ull)driver->out_of_order,
	       (ull)driver->early, (ull)driver->bad_header, (ull)driver->failed);
}

void summary_print(const struct run *run, const struct driver_report *driver,
		   const struct owner_report *owner)
{
	const struct options *opt = &run->opt;

	printf("%llu fences on %u timelines (%u venus contexts, %u GL contexts, the global one), "
	       "up to %u in flight on each\n",
	       (ull)driver->queued, options_timelines(opt), opt->venus_contexts, opt->gl_contexts,
	       opt->depth);
	printf("  retired                %llu\n", (ull)driver->retired);
	print_checks(driver);
	if (opt->plant != PLANT_NOTHING)
		printf("  planted faults         %u\n", owner->planted);
	if (refused(owner))
		printf("  signals refused        %llu\n", (ull)refused(owner));
	printf("  callback threads       %u\n", owner->threads);
	printf("  rate                   %.0f fences/s over %.2f s\n", rate(driver),
	       (double)driver->elapsed_ns / 1e9);
	printf("  latency                p50 %.1f us, p99 %.1f us, from the renderer's callback to "
	       "the driver that sees the response\n",
	       (double)histogram_percentile(&driver->latency, 0.50) / 1e3,
	       (double)histogram_percentile(&driver->latency, 0.99) / 1e3);
	printf("  eventfd writes         %.1f per 1000 fences (to wake the owner)\n",
	       per_1000(owner->queue.notifier_writes, driver->retired));
	printf("  interrupts             %.1f per 1000 fences (to wake the driver)\n",
	       per_1000(owner->vring.interrupts, driver->retired));
	printf("%s\n", summary_good(run, driver, owner) ? "OK" : "FAILED");
}

void summary_print_json(const struct run *run, const struct driver_report *driver,
			const struct owner_report *owner)
{
	printf("{\"fences\":%llu,\"retired\":%llu,\"lost\":%llu,\"duplicated\":%llu,"
	       "\"out_of_order\":%llu,\"early\":%llu,\"bad_header\":%llu,\"failed\":%llu,",
	       (ull)driver->queued, (ull)driver->retired, (ull)driver->lost,
	       (ull)driver->duplicated, (ull)driver->out_of_order, (ull)driver->early,
	       (ull)driver->bad_header, (ull)driver->failed);
	printf("\"planted\":%u,\"refused\":%llu,\"threads\":%u,\"contexts\":%u,\"timelines\":%u,",
	       owner->planted, (ull)refused(owner), owner->threads, options_contexts(&run->opt),
	       options_timelines(&run->opt));
	printf("\"depth\":%u,\"seconds\":%.3f,\"rate\":%.0f,", run->opt.depth,
	       (double)driver->elapsed_ns / 1e9, rate(driver));
	printf("\"notifier_writes\":%llu,\"drains\":%llu,\"interrupts\":%llu,",
	       (ull)owner->queue.notifier_writes, (ull)owner->queue.drains,
	       (ull)owner->vring.interrupts);
	printf("\"p50_ns\":%llu,\"p99_ns\":%llu,\"ok\":%s}\n",
	       (ull)histogram_percentile(&driver->latency, 0.50),
	       (ull)histogram_percentile(&driver->latency, 0.99),
	       summary_good(run, driver, owner) ? "true" : "false");
}
