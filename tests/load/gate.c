// SPDX-License-Identifier: GPL-2.0
/*
 * Many callers at once: a gate, over TCP, holds them back until all are there,
 * lets them go, and sees by its one clock when each has ended. None of them
 * leaves before all have: tearing down is no part of the work.
 */
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "load.h"

/* Lets all go and waits for their ends; prints what that took, in all and each. */
static void one_round(struct link *links, int callers, const char *text)
{
	struct pollfd fds[callers];
	uint64_t start, took[callers];
	int i, left = callers;

	for (i = 0; i < callers; i++) {
		fds[i] = (struct pollfd){ .fd = links[i].fd, .events = POLLIN };
		took[i] = 0;
		take_all(&links[i], buffer, 1);
	}
	start = now();
	for (i = 0; i < callers; i++)
		put(&links[i], buffer, 1);
	while (left) {
		if (poll(fds, callers, -1) < 0)
			fail("poll");
		for (i = 0; i < callers; i++) {
			if (!fds[i].revents)
				continue;
			take_all(&links[i], buffer, 1);
			took[i] = now() - start;
			fds[i].fd = -1;
			left--;
		}
	}
	printf("{\"case\":\"%s\",\"ns\":%llu,\"each\":[", text,
	       (unsigned long long)(now() - start));
	for (i = 0; i < callers; i++)
		printf("%s%llu", i ? "," : "", (unsigned long long)took[i]);
	puts("]}");
	fflush(stdout);
}

void keep_gate(const char *where, int callers, char *const cases[])
{
	struct link links[callers];
	int i;

	if (tcp_system.offer(where))
		fail(where);
	puts("ready");
	fflush(stdout);
	memset(links, 0, sizeof(links));
	for (i = 0; i < callers; i++)
		if (tcp_system.accept(&links[i]))
			fail("accept");
	for (; *cases; cases++)
		one_round(links, callers, *cases);
	for (i = 0; i < callers; i++)
		put(&links[i], buffer, 1);
	for (i = 0; i < callers; i++)
		hang_up(&links[i]);
}

void run_gated(const char *gate, const struct system *system, const char *where,
	       char *const cases[])
{
	struct link link = { .fd = -1 }, held = { .fd = -1 };

	if (tcp_system.connect(gate, &held))
		fail(gate);
	if (system->connect(where, &link))
		fail(where);
	for (; *cases; cases++) {
		struct request request = parse(*cases), before = tenth(request);

		run(&link, &before);
		put(&held, buffer, 1);
		take_all(&held, buffer, 1);
		run(&link, &request);
		put(&held, buffer, 1);
	}
	take_all(&held, buffer, 1);
	hang_up(&link);
	hang_up(&held);
}
