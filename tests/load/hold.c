// SPDX-License-Identifier: GPL-2.0
/*
 * Connections as such, without data: what opening and closing one takes, and many
 * that are held open while somebody looks at the memory.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "load.h"

/* The most connections that are held. */
#define HELD_MAX 1024

/* Greets each caller, and waits for its end or keeps it. */
static void serve_all(const struct system *system, const char *where, bool keep)
{
	if (system->offer(where))
		fail(where);
	puts("ready");
	fflush(stdout);
	for (;;) {
		struct link link = { .fd = -1 };

		if (system->accept(&link))
			fail("accept");
		/* The next one may call. */
		put(&link, buffer, 1);
		if (keep)
			continue;
		if (take(&link, buffer, 1))
			fail("an end was expected");
		hang_up(&link);
	}
}

/*
 * The caller closes first: a vchan's pages are the service's, and those that the
 * caller still maps when it closes are lost to its domain for a long time.
 */
void greet_all(const struct system *system, const char *where)
{
	serve_all(system, where, false);
}

/* What is kept ends with the program. */
void keep_all(const struct system *system, const char *where)
{
	serve_all(system, where, true);
}

/* Once it was greeted, the next one may call. */
static void open_and_close(const struct system *system, const char *where)
{
	struct link link = { .fd = -1 };

	if (system->connect(where, &link))
		fail(where);
	take_all(&link, buffer, 1);
	hang_up(&link);
}

void run_setup(const struct system *system, const char *where, uint64_t count)
{
	uint64_t i, start;

	for (i = 0; i < (count + 9) / 10; i++)
		open_and_close(system, where);
	start = now();
	for (i = 0; i < count; i++)
		open_and_close(system, where);
	report("setup", now() - start);
}

void hold(const struct system *system, const char *where)
{
	static struct link held[HELD_MAX];
	char line[32];
	int n = 0;

	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		int more = atoi(line);

		if (more > HELD_MAX - n)
			fail("so many");
		for (; more > 0; more--, n++) {
			if (system->connect(where, &held[n]))
				fail(where);
			take_all(&held[n], buffer, 1);
		}
		puts("ready");
		fflush(stdout);
	}
}
