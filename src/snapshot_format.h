/* SPDX-License-Identifier: MIT */
#ifndef FQ_SNAPSHOT_FORMAT_H
#define FQ_SNAPSHOT_FORMAT_H

/* Sizes in a snapshot; fenceq/snapshot.h describes the bytes. */
#define FQ_SNAPSHOT_MAGIC "fenceq\r\n"
#define FQ_SNAPSHOT_MAGIC_SIZE 8u
#define FQ_SNAPSHOT_HEADER_SIZE 32u
#define FQ_SNAPSHOT_CONTEXT_SIZE 8u
#define FQ_SNAPSHOT_TIMELINE_SIZE 40u
#define FQ_SNAPSHOT_FENCE_SIZE 24u

#endif /* FQ_SNAPSHOT_FORMAT_H */
