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

/* The file of the publisher, or of a subscriber, of the bench's group; or -1. */
int idts_publish(void);
int idts_subscribe(void);

/*
 * What a caller asks of a service, sent first of all: round trips, writes of the
 * caller or of the service, writes with a pause before each, the records of a
 * group, round trips with a call for each.
 */
enum op { OP_RTT = 1, OP_SEND, OP_RECV, OP_EVERY, OP_GROUP, OP_TRIP };

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
/* Asks many at once, with the same bytes for each; gives what it took. */
uint64_t fan(struct link *links, int count, const struct request *request);

/* A CASE of the command line, and a tenth of it, which is not counted. */
struct request parse(const char *text);
struct request tenth(struct request request);
/* A case's line of output. */
void report(const char *text, uint64_t ns);

/* Many callers that begin together: who holds them back, and one of them. */
void keep_gate(const char *where, int callers, char *const cases[]);
void run_gated(const char *gate, const struct system *system, const char *where,
	       char *const cases[]);

/* Connections as such: opened and closed, or opened and kept. */
void greet_all(const struct system *system, const char *where);
void run_setup(const struct system *system, const char *where, uint64_t count);
void keep_all(const struct system *system, const char *where);
void hold(const struct system *system, const char *where);

/* Splits TEXT at its colons; gives how many parts there are. */
int split(const char *text, char parts[][64], int most);
_Noreturn void fail(const char *what);
uint64_t now(void);
ssize_t idts_transact(int fd, const void *from, size_t bytes, void *to, size_t room);
/* What all domains have run so far, in nanoseconds; asked in dom0. */
uint64_t busy(void);
void measure_limit(const char *path, char *const cases[]);
void show_device(const char *name);
void show_used(void);

#endif
