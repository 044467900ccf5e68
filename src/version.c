/* SPDX-License-Identifier: MIT */
#include <fenceq/base.h>

unsigned fq_version(void)
{
	return FQ_VERSION_MAJOR << 16 | FQ_VERSION_MINOR << 8 | FQ_VERSION_PATCH;
}
