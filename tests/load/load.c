// SPDX-License-Identifier: GPL-2.0
/*
 * The command line of the bench's load.
 *
 *   load serve SYSTEM WHERE          offers a service, says "ready", serves one
 *                                    caller after the other until it is killed
 *   load fork SYSTEM WHERE           the same, many callers at once
 *   load run SYSTEM WHERE CASE...    calls a service; a line of JSON for each case
 *   load setup SYSTEM WHERE COUNT    opens and closes COUNT connections
 *   load limit DEVICE CASE...        copies to and from the measuring module
 *   load device NAME                 what a network device offloads
 *
 * CASE is rtt:SIZE:COUNT, trip:SIZE:COUNT (the same, with one call for a message
 * and its answer where the system has that), send:SIZE:COUNT or recv:SIZE:COUNT. A tenth of it is
 * done beforehand and not counted. Time is that of a monotonic clock, which in
 * the bench's machine counts instructions.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

char *buffer;

void fail(const char *what)
{
	perror(what);
	exit(1);
}

uint64_t now(void)
{
	struct timespec t;

	if (clock_gettime(CLOCK_MONOTONIC_RAW, &t))
		fail("clock_gettime");
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

int split(const char *text, char parts[][64], int most)
{
	int n;

	for (n = 0; n < most; n++) {
		size_t len = strcspn(text, ":");

		snprintf(parts[n], 64, "%.*s", (int)(len < 63 ? len : 63), text);
		if (!text[len])
			return n + 1;
		text += len + 1;
	}
	return n;
}

static const struct system *find(const char *name)
{
	static const struct system *const all[] = {
		&idts_system, &tcp_system, &vchan_system,
	};
	size_t i;

	for (i = 0; i < sizeof(all) / sizeof(*all); i++)
		if (!strcmp(all[i]->name, name))
			return all[i];
	fprintf(stderr, "load: no system is called %s\n", name);
	exit(2);
}

static struct request parse(const char *text)
{
	static const char *const names[] = {
		[OP_RTT] = "rtt", [OP_SEND] = "send", [OP_RECV] = "recv", [OP_TRIP] = "trip",
	};
	struct request request = { 0 };
	char parts[3][64];
	uint32_t op;

	if (split(text, parts, 3) == 3) {
		for (op = OP_RTT; op <= OP_TRIP; op++)
			if (!strcmp(parts[0], names[op]))
				request.op = op;
		request.size = strtoul(parts[1], NULL, 0);
		request.count = strtoull(parts[2], NULL, 0);
	}
	if (!request.op || !request.size || request.size > SIZE_MAX_MESSAGE) {
		fprintf(stderr, "load: what is %s?\n", text);
		exit(2);
	}
	return request;
}

static void serve_for_ever(const struct system *system, const char *where, int many)
{
	if (system->offer(where))
		fail(where);
	puts("ready");
	fflush(stdout);
	/* Children need no wait. */
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		struct link link = { .fd = -1 };

		if (system->accept(&link))
			fail("accept");
		if (many && fork() == 0) {
			serve(&link);
			exit(0);
		}
		if (!many)
			serve(&link);
		hang_up(&link);
	}
}

static void run_cases(const struct system *system, const char *where, char *const cases[])
{
	struct link link = { .fd = -1 };

	if (system->connect(where, &link))
		fail(where);
	for (; *cases; cases++) {
		struct request request = parse(*cases);
		struct request before = request;
		uint64_t start, end;

		before.count = (before.count + 9) / 10;
		run(&link, &before);
		start = now();
		run(&link, &request);
		end = now();
		printf("{\"case\":\"%s\",\"ns\":%llu}\n", *cases,
		       (unsigned long long)(end - start));
		fflush(stdout);
	}
	hang_up(&link);
}

static void one_setup(const struct system *system, const char *where)
{
	struct link link = { .fd = -1 };
	struct request end = { 0 };

	if (system->connect(where, &link))
		fail(where);
	/* Both ends have closed when this returns: the service does on an end. */
	put(&link, &end, sizeof(end));
	if (take(&link, buffer, 1))
		fail("an end was expected");
	hang_up(&link);
}

static void run_setup(const struct system *system, const char *where, unsigned long count)
{
	unsigned long i;
	uint64_t start;

	for (i = 0; i < (count + 9) / 10; i++)
		one_setup(system, where);
	start = now();
	for (i = 0; i < count; i++)
		one_setup(system, where);
	printf("{\"case\":\"setup:0:%lu\",\"ns\":%llu}\n", count,
	       (unsigned long long)(now() - start));
}

int main(int argc, char **argv)
{
	buffer = aligned_alloc(4096, SIZE_MAX_MESSAGE);
	if (!buffer)
		fail("aligned_alloc");
	/* Every page is there before anything is counted. */
	memset(buffer, 0x5a, SIZE_MAX_MESSAGE);
	signal(SIGPIPE, SIG_IGN);

	if (argc == 4 && !strcmp(argv[1], "serve"))
		serve_for_ever(find(argv[2]), argv[3], 0);
	else if (argc == 4 && !strcmp(argv[1], "fork"))
		serve_for_ever(find(argv[2]), argv[3], 1);
	else if (argc >= 5 && !strcmp(argv[1], "run"))
		run_cases(find(argv[2]), argv[3], argv + 4);
	else if (argc == 5 && !strcmp(argv[1], "setup"))
		run_setup(find(argv[2]), argv[3], strtoul(argv[4], NULL, 0));
	else if (argc >= 4 && !strcmp(argv[1], "limit"))
		measure_limit(argv[2], argv + 3);
	else if (argc == 3 && !strcmp(argv[1], "device"))
		show_device(argv[2]);
	else {
		fprintf(stderr, "usage: load serve|fork|run|setup|limit|device ...\n");
		return 2;
	}
	return 0;
}
