// SPDX-License-Identifier: GPL-2.0
/*
 * The loops that are measured, the same for every system: a request is a number
 * of round trips, or a number of writes one way that end with one byte back.
 */
#include <errno.h>
#include <libxenvchan.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

/* Bytes that a reader of a stream asks for, unless writes are larger. */
#define READ_SIZE 65536
/* The pause before each of the writes that have one. */
#define PAUSE_NS 10000000

void put(struct link *link, const void *from, size_t bytes)
{
	while (bytes) {
		ssize_t n = link->vchan ? libxenvchan_write(link->vchan, from, bytes) :
					  write(link->fd, from, bytes);

		if (n <= 0)
			fail("write");
		from = (const char *)from + n;
		bytes -= n;
	}
}

size_t take(struct link *link, void *to, size_t room)
{
	ssize_t n = link->vchan ? libxenvchan_read(link->vchan, to, room) :
				  read(link->fd, to, room);

	/* A vchan tells an end by an error. */
	if (n < 0 && (link->vchan || errno == ECONNRESET))
		return 0;
	if (n < 0)
		fail("read");
	return n;
}

size_t transact(struct link *link, const void *from, size_t bytes, void *to, size_t room)
{
	ssize_t n;

	if (!link->idts) {
		put(link, from, bytes);
		return take(link, to, room);
	}
	n = idts_transact(link->fd, from, bytes, to, room);
	if (n < 0)
		fail("transact");
	return n;
}

void take_all(struct link *link, void *to, size_t bytes)
{
	while (bytes) {
		size_t n = take(link, to, bytes);

		if (!n)
			fail("the stream ended early");
		to = (char *)to + n;
		bytes -= n;
	}
}

void hang_up(struct link *link)
{
	if (link->vchan)
		libxenvchan_close(link->vchan);
	else
		close(link->fd);
}

static void write_count(struct link *link, const struct request *request)
{
	uint64_t i;

	for (i = 0; i < request->count; i++)
		put(link, buffer, request->size);
}

static void read_count(struct link *link, const struct request *request)
{
	size_t room = request->size > READ_SIZE ? request->size : READ_SIZE;
	uint64_t left = request->size * request->count;

	while (left) {
		size_t n = take(link, buffer, room < left ? room : left);

		if (!n)
			fail("the stream ended early");
		left -= n;
	}
}

/* Sends a message, and takes all of the one that comes back. */
static void exchange(struct link *link, size_t size)
{
	size_t n = transact(link, buffer, size, buffer, size);

	if (!n)
		fail("the stream ended early");
	take_all(link, buffer + n, size - n);
}

/* Subscribes, unless it has, says so, reads the records, says that too. */
static void read_group(struct link *link, struct link *group, const struct request *request)
{
	uint64_t i;

	if (group->fd < 0)
		group->fd = idts_subscribe();
	if (group->fd < 0)
		fail("subscribe");
	put(link, buffer, 1);
	for (i = 0; i < request->count; i++)
		if (take(group, buffer, request->size) != request->size)
			fail("a record of the group");
	put(link, buffer, 1);
}

void serve(struct link *link)
{
	/* Left when the caller has gone: nobody leaves while others still work. */
	struct link group = { .fd = -1 };
	struct request request;
	size_t n;
	uint64_t i;

	while ((n = take(link, &request, sizeof(request)))) {
		take_all(link, (char *)&request + n, sizeof(request) - n);
		switch (request.op) {
		case OP_RTT:
			for (i = 0; i < request.count; i++) {
				take_all(link, buffer, request.size);
				put(link, buffer, request.size);
			}
			break;
		case OP_TRIP:
			take_all(link, buffer, request.size);
			for (i = 1; i < request.count; i++)
				exchange(link, request.size);
			put(link, buffer, request.size);
			break;
		case OP_SEND:
		case OP_EVERY:
			read_count(link, &request);
			put(link, buffer, 1);
			break;
		case OP_RECV:
			write_count(link, &request);
			break;
		case OP_GROUP:
			read_group(link, &group, &request);
			break;
		default:
			fail("an unknown request");
		}
	}
	if (group.fd >= 0)
		hang_up(&group);
}

void run(struct link *link, const struct request *request)
{
	const struct timespec pause = { .tv_nsec = PAUSE_NS };
	uint64_t i;

	put(link, request, sizeof(*request));
	switch (request->op) {
	case OP_RTT:
		for (i = 0; i < request->count; i++) {
			put(link, buffer, request->size);
			take_all(link, buffer, request->size);
		}
		break;
	case OP_TRIP:
		for (i = 0; i < request->count; i++)
			exchange(link, request->size);
		break;
	case OP_SEND:
		write_count(link, request);
		take_all(link, buffer, 1);
		break;
	case OP_RECV:
		read_count(link, request);
		break;
	case OP_EVERY:
		for (i = 0; i < request->count; i++) {
			if (nanosleep(&pause, NULL))
				fail("nanosleep");
			put(link, buffer, request->size);
		}
		take_all(link, buffer, 1);
		break;
	default:
		fail("one service does not do that");
	}
}

/* A byte from everyone. */
static void take_each(struct link *links, int count)
{
	int i;

	for (i = 0; i < count; i++)
		take_all(&links[i], buffer, 1);
}

uint64_t fan(struct link *links, int count, const struct request *request)
{
	/* The publisher stays for all requests, as subscribers do. */
	static struct link group = { .fd = -1 };
	uint64_t start, n;
	int i;

	for (i = 0; i < count; i++)
		put(&links[i], request, sizeof(*request));
	if (request->op == OP_GROUP) {
		if (group.fd < 0)
			group.fd = idts_publish();
		if (group.fd < 0)
			fail("publish");
		take_each(links, count);
	}
	start = now();
	for (n = 0; n < request->count; n++) {
		if (request->op == OP_GROUP)
			put(&group, buffer, request->size);
		else
			for (i = 0; i < count; i++)
				put(&links[i], buffer, request->size);
	}
	take_each(links, count);
	return now() - start;
}
