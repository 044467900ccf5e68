/* SPDX-License-Identifier: MIT */
#ifndef FQ_BYTES_H
#define FQ_BYTES_H

/* Little-endian, to and from what this processor has. */

#include <stdint.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
static inline uint16_t fq_le16(uint16_t v)
{
	return (uint16_t)(v << 8 | v >> 8);
}

static inline uint32_t fq_le32(uint32_t v)
{
	return (uint32_t)fq_le16((uint16_t)v) << 16 | fq_le16((uint16_t)(v >> 16));
}

static inline uint64_t fq_le64(uint64_t v)
{
	return (uint64_t)fq_le32((uint32_t)v) << 32 | fq_le32((uint32_t)(v >> 32));
}
#else
static inline uint16_t fq_le16(uint16_t v)
{
	return v;
}

static inline uint32_t fq_le32(uint32_t v)
{
	return v;
}

static inline uint64_t fq_le64(uint64_t v)
{
	return v;
}
#endif

#endif /* FQ_BYTES_H */
