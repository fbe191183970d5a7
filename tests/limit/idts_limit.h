/* SPDX-License-Identifier: GPL-2.0 */
/* What the bench says to its measuring module. */
#ifndef IDTS_LIMIT_H
#define IDTS_LIMIT_H

#include <linux/ioctl.h>
#include <linux/types.h>

struct idts_limit_across {
	__u64 size;
	__u64 count;
};

/* Copies size bytes count times from one ring to another. */
#define IDTS_LIMIT_ACROSS _IOW('I', 0x70, struct idts_limit_across)

#endif
