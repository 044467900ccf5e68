/* SPDX-License-Identifier: MIT */
#include "pending.h"

#include "machine.h"

struct list {
	struct command *first;
	struct command **end;
};

static struct list pending[CONTEXTS][RINGS];
static uint64_t last_token;

void pending_add(struct command *cmd)
{
	struct list *list = &pending[cmd->request.hdr.ctx_id - 1][cmd->request.hdr.ring_idx];

	if (!list->first)
		list->end = &list->first;
	cmd->token = ++last_token;
	cmd->next = NULL;
	*list->end = cmd;
	list->end = &cmd->next;
}

static void answer(struct list *list, uint64_t token, int status)
{
	while (list->first && list->first->token <= token) {
		struct command *cmd = list->first;

		list->first = cmd->next;
		device_answer(cmd, status);
	}
}

void pending_complete(struct device *d, uint32_t ctx_id, uint32_t ring_idx, uint64_t token)
{
	(void)d;
	answer(&pending[ctx_id - 1][ring_idx], token, 0);
}

void pending_fail(struct device *d, uint32_t ctx_id, int status)
{
	for (unsigned i = 0; i < RINGS; i++)
		answer(&pending[ctx_id - 1][i], UINT64_MAX, status);
	device_publish(d);
}
