/* SPDX-License-Identifier: MIT */
#include "vcpu.h"

#include "biglock.h"
#include "machine.h"

void vcpu_init(struct vcpu *v, struct machine *m, unsigned index)
{
	v->machine = m;
	v->index = index;
	v->share = m->opt.fences / VCPUS + (index < m->opt.fences % VCPUS);
	actor_init(&v->actor, "vCPU %u", index);
	pthread_mutex_init(&v->irq_lock, NULL);
	pthread_cond_init(&v->irq, NULL);
	ring_init(&v->ring, &m->ram[index], index);
}

void vcpu_interrupt(struct vcpu *v)
{
	biglock_assert();
	v->machine->counts.interrupts++;
	pthread_mutex_lock(&v->irq_lock);
	v->irq_pending = true;
	pthread_cond_signal(&v->irq);
	pthread_mutex_unlock(&v->irq_lock);
}

static void halt(struct vcpu *v)
{
	pthread_mutex_lock(&v->irq_lock);
	if (!v->irq_pending) {
		v->halts++;
		actor_does(ACTOR_SLEEPS, "halted until an interrupt");
	}
	while (!v->irq_pending)
		pthread_cond_wait(&v->irq, &v->irq_lock);
	v->irq_pending = false;
	actor_does(ACTOR_RUNS, NULL);
	pthread_mutex_unlock(&v->irq_lock);
}

/* As Linux does, one counter numbers the fences of all timelines. */
static void queue_fence(struct vcpu *v, uint16_t slot)
{
	unsigned timeline = (unsigned)(v->queued % VCPU_TIMELINES);
	struct request *request = &v->request[slot];

	*request = (struct request){
		.hdr =
			{
				.type = VIRTIO_GPU_CMD_SUBMIT_3D,
				.flags = VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_INFO_RING_IDX,
				.fence_id = ++v->queued,
				.ctx_id = 1 + v->index * CONTEXTS_PER_VCPU + timeline / RINGS,
				.ring_idx = (uint8_t)(timeline % RINGS),
			},
		.input = v->queued,
	};
	v->busy[slot] = true;
	v->in_flight++;
	ring_queue(&v->ring, slot, request);
}

static void queue_fences(struct vcpu *v)
{
	for (uint16_t slot = 0; slot < SLOTS && v->queued < v->share; slot++) {
		if (!v->busy[slot])
			queue_fence(v, slot);
	}
}

static bool echoed(const struct virtio_gpu_ctrl_hdr *request,
		   const struct virtio_gpu_ctrl_hdr *response)
{
	return response->flags == request->flags && response->fence_id == request->fence_id &&
	       response->ctx_id == request->ctx_id && response->ring_idx == request->ring_idx;
}

static void check_response(struct vcpu *v, const struct request *request, uint32_t len)
{
	const uint16_t slot = (uint16_t)(request - v->request);
	struct response response = v->ring.mem->response[slot];
	unsigned timeline = (unsigned)((request->hdr.fence_id - 1) % VCPU_TIMELINES);
	bool good = len == sizeof(response) && echoed(&request->hdr, &response.hdr);

	if (response.hdr.type == VIRTIO_GPU_RESP_OK_NODATA) {
		v->succeeded++;
		good = good && response.output == render(request->input);
	} else {
		v->failed++;
		good = good && (response.hdr.type == VIRTIO_GPU_RESP_ERR_UNSPEC ||
				response.hdr.type == VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID);
	}
	v->bad_response += !good;
	v->out_of_order += request->hdr.fence_id <= v->last[timeline];
	v->last[timeline] = request->hdr.fence_id;
}

static void take_responses(struct vcpu *v)
{
	uint32_t slot, len;

	while (ring_take(&v->ring, &slot, &len)) {
		if (slot >= SLOTS || !v->busy[slot]) {
			v->duplicated++;
			continue;
		}
		check_response(v, &v->request[slot], len);
		v->busy[slot] = false;
		v->in_flight--;
	}
}

static void *run(void *opaque)
{
	struct vcpu *v = opaque;

	actor_be(&v->actor);
	actor_does(ACTOR_RUNS, NULL);
	while (v->queued < v->share || v->in_flight) {
		queue_fences(v);
		/* Also when nothing is new: the device may be another one since the last time. */
		machine_write(v->machine, REG_DOORBELL, v->index);
		halt(v);
		(void)machine_read(v->machine, REG_INTERRUPT, v->index);
		take_responses(v);
	}
	machine_power_off(v->machine);
	actor_does(ACTOR_GONE, NULL);
	return NULL;
}

void vcpu_start(struct vcpu *v)
{
	if (pthread_create(&v->thread, NULL, run, v))
		die("cannot start a vCPU");
}

void vcpu_join(struct vcpu *v)
{
	pthread_join(v->thread, NULL);
}
