/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The load of the bench: what its files share. One program, and one loop, for
 * every system that is measured: they differ in how a link is opened, and in the
 * one call that moves bytes.
 */
#ifndef LOAD_H
#define LOAD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct libxenvchan;

/* A connection: a file, or a vchan. */
struct link {
	int fd;
	struct libxenvchan *vchan;
	/* It has transact. */
	int idts;
};

/* A way for bytes between domains. What WHERE says is its own matter. */
struct system {
	const char *name;
	/* Offers a service; 0 or -1. */
	int (*offer)(const char *where);
	/* Waits for a caller; 0 or -1. */
	int (*accept)(struct link *link);
	/* Calls a service; 0 or -1. */
	int (*connect)(const char *where, struct link *link);
};

extern const struct system idts_system, tcp_system, vchan_system;

/* What a caller asks of a service, sent first of all. */
enum op { OP_RTT = 1, OP_SEND, OP_RECV, OP_TRIP };

struct request {
	uint32_t op;
	uint32_t size;	/* bytes of one message, or of one write */
	uint64_t count;	/* how many */
};

/* The most bytes of one message or write. */
#define SIZE_MAX_MESSAGE (1u << 20)

extern char *buffer;

/*
 * Puts what it is given, then takes as take does: in one call, where the system
 * has one.
 */
size_t transact(struct link *link, const void *from, size_t bytes, void *to, size_t room);
/* Moves bytes; end the program when they cannot. take gives 0 at the end. */
void put(struct link *link, const void *from, size_t bytes);
size_t take(struct link *link, void *to, size_t room);
void take_all(struct link *link, void *to, size_t bytes);
void hang_up(struct link *link);

/* The two sides of a request. */
void serve(struct link *link);
void run(struct link *link, const struct request *request);

/* Splits TEXT at its colons; gives how many parts there are. */
int split(const char *text, char parts[][64], int most);
_Noreturn void fail(const char *what);
uint64_t now(void);
ssize_t idts_transact(int fd, const void *from, size_t bytes, void *to, size_t room);
void measure_limit(const char *path, char *const cases[]);
void show_device(const char *name);

#endif
