// SPDX-License-Identifier: MIT
#include "gbench.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <ostream>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

namespace
{

struct Entry {
	gb_bench bench;
	std::vector<double> ns;
	std::map<std::string, std::vector<double>> counters;
	bool failed = false;
};

std::vector<Entry> entries;
unsigned rounds_done;
unsigned rounds_all;
void (*progress_hook)(unsigned, unsigned);

Entry *find(const std::string &name)
{
	for (Entry &entry : entries)
		if (name == entry.bench.name)
			return &entry;
	return nullptr;
}

void run_repetition(benchmark::State &state, const gb_bench &bench)
{
	while (state.KeepRunningBatch(static_cast<benchmark::IterationCount>(bench.items))) {
		gb_round round = {};
		int error = bench.round(bench.arg, bench.items, &round);

		if (error) {
			state.SkipWithError(std::strerror(-error));
			break;
		}
		state.SetIterationTime(round.seconds);
		for (const auto &counter : round.counter)
			if (counter.name)
				state.counters[counter.name] = counter.value;
	}
	rounds_done++;
	if (progress_hook)
		progress_hook(rounds_done, rounds_all);
}

// Keeps the samples for gb_samples() and prints nothing.
class Collector : public benchmark::BenchmarkReporter
{
      public:
	bool ReportContext(const Context &) override
	{
		return true;
	}

	void ReportRuns(const std::vector<Run> &runs) override
	{
		for (const Run &run : runs)
			if (run.run_type == Run::RT_Iteration)
				keep(run);
	}

      private:
	void keep(const Run &run)
	{
		Entry *entry = find(run.run_name.function_name);

		if (!entry)
			return;
		if (run.error_occurred) {
			entry->failed = true;
			GetErrorStream()
				<< entry->bench.name << ": " << run.error_message << std::endl;
			return;
		}
		entry->ns.push_back(run.real_accumulated_time * 1e9 /
				    static_cast<double>(run.iterations));
		for (const auto &counter : run.counters)
			entry->counters[counter.first].push_back(counter.second.value);
	}
};

void register_entry(const Entry &entry)
{
	const gb_bench &bench = entry.bench;

	benchmark::RegisterBenchmark(
		bench.name, [bench](benchmark::State &state) { run_repetition(state, bench); })
		->UseManualTime()
		->Iterations(static_cast<benchmark::IterationCount>(bench.items))
		->Repetitions(static_cast<int>(bench.repetitions));
	rounds_all += bench.repetitions;
}

} // namespace

int gb_register(const gb_bench *bench)
{
	if (!bench || !bench->name || !bench->round || !bench->items || !bench->repetitions)
		return -EINVAL;
	if (find(bench->name))
		return -EEXIST;
	Entry entry;

	entry.bench = *bench;
	entries.push_back(entry);
	return static_cast<int>(entries.size()) - 1;
}

int gb_run(const char *argv0, const char *json_path, void (*progress)(unsigned, unsigned))
{
	std::vector<std::string> args = {argv0, "--benchmark_enable_random_interleaving=true"};
	std::vector<char *> argv;
	Collector collector;

	if (json_path) {
		args.push_back(std::string("--benchmark_out=") + json_path);
		args.push_back("--benchmark_out_format=json");
	}
	for (std::string &arg : args)
		argv.push_back(&arg[0]);
	argv.push_back(nullptr);

	int argc = static_cast<int>(args.size());

	benchmark::Initialize(&argc, argv.data());
	progress_hook = progress;
	for (const Entry &entry : entries)
		register_entry(entry);
	benchmark::RunSpecifiedBenchmarks(&collector);

	return static_cast<int>(
		std::count_if(entries.begin(), entries.end(), [](const Entry &entry) {
			return entry.failed || entry.ns.size() != entry.bench.repetitions;
		}));
}

const double *gb_samples(int bench, size_t *count)
{
	*count = 0;
	if (bench < 0 || static_cast<size_t>(bench) >= entries.size())
		return nullptr;
	const std::vector<double> &ns = entries[static_cast<size_t>(bench)].ns;

	*count = ns.size();
	return ns.empty() ? nullptr : ns.data();
}

double gb_median(const double *values, size_t count)
{
	if (!count)
		return 0;
	std::vector<double> sorted(values, values + count);

	std::sort(sorted.begin(), sorted.end());
	return count % 2 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
}

double gb_counter_median(int bench, const char *name)
{
	if (bench < 0 || static_cast<size_t>(bench) >= entries.size())
		return 0;
	const std::vector<double> &values = entries[static_cast<size_t>(bench)].counters[name];

	return gb_median(values.data(), values.size());
}
