// SPDX-License-Identifier: GPL-2.0
/*
 * The command line of the bench's load.
 *
 *   load serve SYSTEM WHERE          offers a service, says "ready", serves one
 *                                    caller after the other until it is killed
 *   load run SYSTEM WHERE ROUNDS CASE...  calls a service so many times, each time
 *                                    for all cases; a line of JSON for each
 *   load fan SYSTEM N WHERE*N CASE...  calls N services, each case with all at once
 *   load gate PORT N CASE...         has N callers begin each case together
 *   load gated GATE SYSTEM WHERE CASE...  runs as one of them
 *   load greet SYSTEM WHERE          a service that says a byte to each caller
 *   load setup SYSTEM WHERE COUNT    opens and closes COUNT connections to it
 *   load keep SYSTEM WHERE           a service that keeps each caller
 *   load hold SYSTEM WHERE           for each number on its input: opens so many
 *                                    connections more to it, and says "ready"
 *   load limit DEVICE ROUNDS CASE...  copies to and from the measuring module
 *   load device NAME                 what a network device offloads
 *   load used                        KiB of memory in use in this domain
 *
 * CASE is rtt:SIZE:COUNT, trip:SIZE:COUNT (the same, with one call for a message
 * and its answer where the system has that), send:SIZE:COUNT, recv:SIZE:COUNT,
 * every:SIZE:COUNT (a write after each 10 ms) or, of fan, group:SIZE:COUNT (records
 * of a group). A tenth of it is done beforehand and not counted. Time is that of a
 * monotonic clock, which in the bench's machine counts instructions; of `every` it
 * is the time that any domain ran.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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

void report(const char *text, uint64_t ns)
{
	printf("{\"case\":\"%s\",\"ns\":%llu}\n", text, (unsigned long long)ns);
	fflush(stdout);
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

struct request parse(const char *text)
{
	static const char *const names[] = {
		[OP_RTT] = "rtt", [OP_SEND] = "send", [OP_RECV] = "recv",
		[OP_EVERY] = "every", [OP_GROUP] = "group", [OP_TRIP] = "trip",
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

struct request tenth(struct request request)
{
	request.count = (request.count + 9) / 10;
	return request;
}

static void serve_for_ever(const struct system *system, const char *where)
{
	if (system->offer(where))
		fail(where);
	puts("ready");
	fflush(stdout);
	for (;;) {
		struct link link = { .fd = -1 };

		if (system->accept(&link))
			fail("accept");
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
		struct request request = parse(*cases), before = tenth(request);
		uint64_t (*clock)(void) = request.op == OP_EVERY ? busy : now;
		uint64_t start;

		run(&link, &before);
		start = clock();
		run(&link, &request);
		report(*cases, clock() - start);
	}
	hang_up(&link);
}

static void run_fan(const struct system *system, int count, char *const args[])
{
	struct link links[count];
	int i;

	for (i = 0; i < count; i++) {
		links[i] = (struct link){ .fd = -1 };
		if (!args[i] || system->connect(args[i], &links[i]))
			fail("connect");
	}
	for (args += count; *args; args++) {
		struct request request = parse(*args), before = tenth(request);

		fan(links, count, &before);
		report(*args, fan(links, count, &request));
	}
	for (i = 0; i < count; i++)
		hang_up(&links[i]);
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";
	int i;

	buffer = aligned_alloc(4096, SIZE_MAX_MESSAGE);
	if (!buffer)
		fail("aligned_alloc");
	/* Every page is there before anything is counted. */
	memset(buffer, 0x5a, SIZE_MAX_MESSAGE);
	signal(SIGPIPE, SIG_IGN);

	if (argc == 4 && !strcmp(verb, "serve"))
		serve_for_ever(find(argv[2]), argv[3]);
	else if (argc >= 6 && !strcmp(verb, "run") && atoi(argv[4]) > 0)
		for (i = 0; i < atoi(argv[4]); i++)
			run_cases(find(argv[2]), argv[3], argv + 5);
	else if (argc >= 6 && !strcmp(verb, "fan") && atoi(argv[3]) > 0)
		run_fan(find(argv[2]), atoi(argv[3]), argv + 4);
	else if (argc >= 5 && !strcmp(verb, "gate") && atoi(argv[3]) > 0)
		keep_gate(argv[2], atoi(argv[3]), argv + 4);
	else if (argc >= 6 && !strcmp(verb, "gated"))
		run_gated(argv[2], find(argv[3]), argv[4], argv + 5);
	else if (argc == 4 && !strcmp(verb, "greet"))
		greet_all(find(argv[2]), argv[3]);
	else if (argc == 5 && !strcmp(verb, "setup"))
		run_setup(find(argv[2]), argv[3], strtoull(argv[4], NULL, 0));
	else if (argc == 4 && !strcmp(verb, "keep"))
		keep_all(find(argv[2]), argv[3]);
	else if (argc == 4 && !strcmp(verb, "hold"))
		hold(find(argv[2]), argv[3]);
	else if (argc >= 5 && !strcmp(verb, "limit") && atoi(argv[3]) > 0)
		for (i = 0; i < atoi(argv[3]); i++)
			measure_limit(argv[2], argv + 4);
	else if (argc == 3 && !strcmp(verb, "device"))
		show_device(argv[2]);
	else if (argc == 2 && !strcmp(verb, "used"))
		show_used();
	else {
		fprintf(stderr, "usage: the first lines of load.c have it\n");
		return 2;
	}
	return 0;
}
