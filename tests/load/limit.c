// SPDX-License-Identifier: GPL-2.0
/*
 * The rates that nothing can beat: bare copies by the measuring module, with the
 * system call. CASE is in:SIZE:COUNT (user to ring), out:SIZE:COUNT (ring to
 * user), across:SIZE:COUNT (ring to ring, all COUNT in one call) or
 * call:1:COUNT (the bare system call, a read of nothing).
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../limit/idts_limit.h"
#include "load.h"

static void copy(int fd, const char *how, size_t size, uint64_t count)
{
	uint64_t i;

	if (!strcmp(how, "across")) {
		struct idts_limit_across across = { .size = size, .count = count };

		if (ioctl(fd, IDTS_LIMIT_ACROSS, &across))
			fail("across");
		return;
	}
	for (i = 0; i < count; i++) {
		ssize_t n = !strcmp(how, "in") ? write(fd, buffer, size) :
						 read(fd, buffer, size);

		if (n != (ssize_t)size)
			fail(how);
	}
}

void measure_limit(const char *path, char *const cases[])
{
	int fd = open(path, O_RDWR);

	if (fd < 0)
		fail(path);
	for (; *cases; cases++) {
		char parts[3][64];
		uint64_t start, count;
		size_t size;

		if (split(*cases, parts, 3) != 3)
			fail(*cases);
		size = strtoul(parts[1], NULL, 0);
		count = strtoull(parts[2], NULL, 0);
		if (!strcmp(parts[0], "call"))
			size = 0;
		copy(fd, parts[0], size, (count + 9) / 10);
		start = now();
		copy(fd, parts[0], size, count);
		report(*cases, now() - start);
	}
	close(fd);
}
