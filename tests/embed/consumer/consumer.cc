// SPDX-License-Identifier: MIT

// The smallest host in C++17: one fence, signalled by a std::thread.

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>

#include <fenceq/fenceq.h>

namespace
{

int retired;

void retire(fq_fence *fence, int status, void *)
{
	if (status == 0 && fence->fence_id == 42)
		retired++;
}

struct destroy {
	void operator()(fq_queue *queue) const
	{
		if (fq_queue_destroy(queue))
			std::abort();
	}
	void operator()(fq_device *device) const
	{
		if (fq_device_destroy(device))
			std::abort();
	}
};

} // namespace

int main()
{
	fq_queue *queue_out;
	fq_device *device_out;
	fq_device_config config{};
	fq_fence fence{};

	if (fq_queue_create(&queue_out, FQ_QUEUE_HOOKS))
		return EXIT_FAILURE;
	std::unique_ptr<fq_queue, destroy> queue(queue_out);

	config.queue = queue.get();
	config.retire = retire;
	if (fq_device_create(&device_out, &config))
		return EXIT_FAILURE;
	std::unique_ptr<fq_device, destroy> device(device_out);

	fence.fence_id = 42;
	if (fq_submit_global(device.get(), &fence))
		return EXIT_FAILURE;
	std::thread renderer([handle = fq_device_handle(device.get()), token = fence.token] {
		if (fq_signal_global(handle, token))
			std::abort();
	});
	int woken = fq_queue_wait(queue.get(), INT64_C(10000000000));
	fq_queue_drain(queue.get(), FQ_NO_BUDGET);
	renderer.join();
	std::printf("%d fence retired\n", retired);
	return woken == 1 && retired == 1 ? EXIT_SUCCESS : EXIT_FAILURE;
}
