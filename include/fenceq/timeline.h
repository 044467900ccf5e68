/* SPDX-License-Identifier: MIT */
#ifndef FENCEQ_TIMELINE_H
#define FENCEQ_TIMELINE_H

/**
 * @file timeline.h
 * @brief Fences that complete in order, and the mark that says how far.
 *
 * Overview
 *   A timeline is one ring of one context, or the global one of a device. The owner submits fences
 *   to it and gets a **token** for each: a number that grows along the timeline, and goes on growing
 *   when the timeline's key is reset or used again, so that a token of an earlier life can never
 *   complete a fence of a later one. Posters raise the timeline's **mark**: signal(n) says that
 *   every fence with a token <= n is complete. The owner's drain retires what the mark covers.
 *
 * Guarantees
 *   - Fences retire in the order of submission, each exactly once, whatever the order and threads of
 *     the signals. A mark is a maximum and never goes back.
 *   - A signal from inside submit counts: the fence is recorded before the work is handed over.
 *   - Retiring costs O(retired), however many fences are pending.
 *   - Signals cannot fail for lack of room: a later mark covers an earlier one.
 *   - A poster stopped for ever inside a signal neither blocks nor hides anybody else's.
 *
 *   | function                      | who    | progress            | system calls         |
 *   |-------------------------------|--------|---------------------|----------------------|
 *   | fq_timeline_signal            | any    | lock-free, no alloc | one write, if armed  |
 *   | fq_timeline_pending, _token   | owner  | wait-free           | none                 |
 *
 * Notes
 *   docs/design.md explains the way from a mark to the owner (a tree of dirty words, each step
 *   idempotent, so that any poster can finish what another one began).
 */

#include <stdint.h>

#include <fenceq/base.h>

FQ_BEGIN_DECLS

struct fq_timeline;

/** Tokens stay below this (2^62). */
#define FQ_TOKEN_MAX ((UINT64_C(1) << 62) - 1)

/**
 * One pending fence. Embed it in the command that it completes, zero-initialise it once, set
 * `fence_id` and `tag` as you like. From a successful submit until its retire callback is entered
 * the memory belongs to the library; then it is the host's again (free it, submit it anew).
 */
struct fq_fence {
	uint64_t token;               /**< set by submit: the id to give the renderer */
	uint64_t fence_id;            /**< the guest's own id; the library only carries it */
	void *tag;                    /**< the host's; the library only carries it */
	struct fq_fence *next;        /**< the library's */
	struct fq_timeline *timeline; /**< the library's; NULL while not pending */
	int64_t submitted_ns;         /**< set by submit: CLOCK_MONOTONIC, coarse */
	int32_t status;               /**< the library's */
	uint32_t epoch;               /**< the library's */
};

/**
 * Raises the mark of a timeline the caller holds (fq_device_timeline()). Any thread that knows the
 * device to be alive; fq_signal() is for threads that do not.
 *
 * signal(n) asserts that all work up to n is complete and that the caller has synchronised with
 * whoever completed it. Release: pairs with the acquire of the drain, so what the caller wrote
 * before is visible to the retire callback. Keeps errno, async-signal-safe, no cancellation point.
 *
 * @return 0 (also when the mark was already there);
 *         -EINVAL NULL, or token 0;
 *         -ERANGE a token above the highest submitted (the mark is left alone);
 *         -ESTALE a token of an earlier life of the timeline: it was failed and nothing submitted
 *         since, or its context has ended;
 *         -ENOENT its context has ended, and another one has its memory.
 *         Each refusal is counted (struct fq_device_stats).
 */
FQ_API int fq_timeline_signal(struct fq_timeline *tl, uint64_t token);

/** Fences submitted and not retired. Owner. */
FQ_API uint64_t fq_timeline_pending(const struct fq_timeline *tl);

/** The highest token submitted, 0 when there was none. Owner. */
FQ_API uint64_t fq_timeline_token(const struct fq_timeline *tl);

FQ_END_DECLS

#endif /* FENCEQ_TIMELINE_H */
