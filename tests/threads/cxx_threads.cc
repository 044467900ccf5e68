/* SPDX-License-Identifier: MIT */
/*
 * C++ threads: the first post of each, and posts from destructors of thread_local objects, which run
 * when everything else of the thread is over. std::thread, and a host's headers included as C++.
 */
#include <thread>
#include <vector>

#include "threads.h"

namespace
{

constexpr unsigned at_once = 8;

struct Poster {
	unsigned number = 0;
	bool registered = false;

	~Poster()
	{
		if (!number)
			return;
		int err = scene_signal(number);

		CHECK(!err, "late post: %d", err);
		if (registered)
			CHECK(!fq_thread_unregister(), "unregister");
	}
};

thread_local Poster first; // destroyed last
thread_local Poster second;

void post(unsigned number)
{
	if (number & 1) {
		CHECK(!fq_thread_register(), "register");
		first.registered = true;
	}
	first.number = number;
	if (number & 2)
		second.number = number;
	else
		CHECK(!scene_signal(number), "post");
}

void churn(unsigned count)
{
	for (unsigned done = 0; done < count; done += at_once) {
		std::vector<std::thread> threads;

		scene_submit(at_once);
		for (unsigned i = 0; i < at_once; i++)
			threads.emplace_back(post, scene.submitted - at_once + 1 + i);
		scene_expect(scene.submitted);
		for (auto &thread : threads)
			thread.join();
	}
	scene_nothing_left();
}

} // namespace

int main()
{
	const unsigned count = scene_slow() ? 80 : 1000;

	scene_open(0);
	churn(count / 2);
	long before = scene_allocated();
	churn(count);
	CHECK(scene_allocated() == before, "%ld allocations left behind",
	      scene_allocated() - before);
	scene_close();
	scene_nothing_left();
	puts("ok");
	return 0;
}
