// SPDX-License-Identifier: GPL-2.0
/*
 * The memory that is in use in a domain, once all is given back that can be: the
 * segments that no channel uses, caches, empty slabs. Of slabs that are not empty
 * the objects in use count: a page of them more or less may be chance. One program
 * does it all and allocates nothing meanwhile; the least of some looks counts.
 */
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

/* Until a tunnel has given back what no channel uses (idle_ms), and some more. */
#define SETTLE_S 5
#define LOOKS 10

static void tell(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		fail(path);
	close(fd);
}

/* A whole file, as a string in the buffer. */
static char *slurp(const char *path)
{
	int fd = open(path, O_RDONLY);
	size_t len = 0;
	ssize_t n;

	if (fd < 0)
		fail(path);
	while ((n = read(fd, buffer + len, SIZE_MAX_MESSAGE - 1 - len)) > 0)
		len += n;
	if (n < 0)
		fail(path);
	close(fd);
	buffer[len] = 0;
	return buffer;
}

/* The sum of the numbers that follow a name. */
static long sum(const char *text, const char *name)
{
	long total = 0;

	while ((text = strstr(text, name))) {
		text += strlen(name);
		total += strtol(text, NULL, 10);
	}
	return total;
}

/* Bytes of the objects in use: lines of a name, how many, of how many, each how long. */
static long long objects(const char *line)
{
	long long total = 0;
	long active, size;

	for (; *line; line += strcspn(line, "\n"), line += *line == '\n')
		if (sscanf(line, "%*s %ld %*d %ld", &active, &size) == 2)
			total += (long long)active * size;
	return total;
}

static long look(const glob_t *caches)
{
	const struct timespec moment = { .tv_nsec = 500000000 };
	char *text;
	long kib;
	size_t i;

	tell("/proc/sys/vm/drop_caches", "3");
	for (i = 0; i < caches->gl_pathc; i++)
		tell(caches->gl_pathv[i], "1");
	nanosleep(&moment, NULL);
	/* Counts that a CPU has not passed on. */
	slurp("/proc/sys/vm/stat_refresh");
	text = slurp("/proc/meminfo");
	kib = sum(text, "MemTotal:") - sum(text, "MemFree:") - sum(text, "\nSlab:");
	kib += objects(slurp("/proc/slabinfo")) / 1024;
	/* Free pages that a CPU keeps at hand. */
	return kib - sum(slurp("/proc/zoneinfo"), " count:") * (getpagesize() / 1024);
}

void show_used(void)
{
	glob_t caches;
	long least, kib;
	int i;

	if (glob("/sys/kernel/slab/*/shrink", 0, NULL, &caches))
		fail("/sys/kernel/slab");
	sleep(SETTLE_S);
	least = look(&caches);
	for (i = 1; i < LOOKS; i++) {
		kib = look(&caches);
		least = kib < least ? kib : least;
	}
	printf("%ld\n", least);
}
