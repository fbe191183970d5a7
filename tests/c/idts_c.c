// SPDX-License-Identifier: GPL-2.0
/*
 * A C program on the UAPI header alone: the header compiles, its calls work.
 *
 *   idts_c server PORT [--once]        take clients, one after the other
 *   idts_c client DOM PORT [BYTES]     connect, send and get BYTES (1 MiB)
 *
 * The client never blocks (O_NONBLOCK, poll) and moves both directions at
 * once; the server accepts without blocking and moves data with blocking calls.
 * Each direction carries its own pattern in which a byte depends on its place.
 * Exit status: 0 all was as it must be, 1 something was not, 2 wrong usage.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "idts.h"

/* Generous: only ever means 'hung'. */
#define HUNG_MS		(600 * 1000)
#define CHUNK		(64 * 1024)
#define TO_SERVER	1
#define TO_CLIENT	2

static int failed(const char *what)
{
	fprintf(stderr, "idts_c: %s: %s\n", what, strerror(errno));
	return -1;
}

static int wrong(const char *what)
{
	fprintf(stderr, "idts_c: %s\n", what);
	return -1;
}

static unsigned char pattern(unsigned long long at, int direction)
{
	return (at ^ (at >> 8) ^ (at >> 16) ^ (at >> 24)) * 31 + direction;
}

static void fill(unsigned char *bytes, size_t count, unsigned long long at, int direction)
{
	for (size_t i = 0; i < count; i++)
		bytes[i] = pattern(at + i, direction);
}

static int check(const unsigned char *bytes, size_t count, unsigned long long at, int direction)
{
	for (size_t i = 0; i < count; i++) {
		if (bytes[i] != pattern(at + i, direction)) {
			fprintf(stderr, "idts_c: byte %llu is %#x, not %#x\n", at + i, bytes[i],
				pattern(at + i, direction));
			return -1;
		}
	}
	return 0;
}

static int wait_for(int fd, short events)
{
	struct pollfd pollfd = { .fd = fd, .events = events };
	int ready;

	do {
		ready = poll(&pollfd, 1, HUNG_MS);
	} while (ready < 0 && errno == EINTR);
	if (ready < 0)
		return failed("poll");
	if (ready == 0)
		return wrong("poll: nothing happened");
	return 0;
}

static int open_endpoint(void)
{
	struct idts_version version;
	int fd = open("/dev/idts", O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return failed("/dev/idts");
	if (ioctl(fd, IDTS_IOC_VERSION, &version) < 0) {
		failed("version");
		close(fd);
		return -1;
	}
	if (version.uapi < IDTS_UAPI_VERSION ||
	    (version.role != IDTS_ROLE_FRONT && version.role != IDTS_ROLE_BACK)) {
		wrong("the driver's version or role makes no sense");
		close(fd);
		return -1;
	}
	return fd;
}

static int check_state(int fd, __u32 state)
{
	struct idts_info info;

	if (ioctl(fd, IDTS_IOC_GET_INFO, &info) < 0)
		return failed("get-info");
	if (info.state != state) {
		fprintf(stderr, "idts_c: endpoint is in state %u, not %u\n", info.state, state);
		return -1;
	}
	return 0;
}

/* Sends back as many bytes as came, once the client has sent its last. */
static int serve(int fd)
{
	static unsigned char buffer[CHUNK];
	unsigned long long got = 0, sent = 0;
	ssize_t count;

	while ((count = read(fd, buffer, sizeof(buffer))) != 0) {
		if (count < 0)
			return failed("server: read");
		if (check(buffer, count, got, TO_SERVER) < 0)
			return -1;
		got += count;
	}
	while (sent < got) {
		size_t size = got - sent < CHUNK ? got - sent : CHUNK;

		fill(buffer, size, sent, TO_CLIENT);
		count = write(fd, buffer, size);
		if (count <= 0)
			return failed("server: write");
		sent += count;
	}
	return 0;
}

static int accept_one(int listener, struct idts_accept *accept)
{
	*accept = (struct idts_accept){ .flags = IDTS_CLOEXEC, .fd = -1 };
	if (ioctl(listener, IDTS_IOC_ACCEPT, accept) == 0)
		return wrong("accept gave a connection that nobody made");
	if (errno != EAGAIN)
		return failed("accept, when nobody waits");
	do {
		if (wait_for(listener, POLLIN) < 0)
			return -1;
		*accept = (struct idts_accept){ .flags = IDTS_CLOEXEC, .fd = -1 };
		if (ioctl(listener, IDTS_IOC_ACCEPT, accept) == 0)
			return 0;
	} while (errno == EAGAIN);
	return failed("accept");
}

static int run_server(__u32 port, int once)
{
	struct idts_addr addr = { .domid = IDTS_DOMID_ANY, .port = port };
	struct idts_listen listen = { 0 };
	struct idts_accept accept;
	int listener = open_endpoint();
	int result;

	if (listener < 0)
		return -1;
	if (ioctl(listener, IDTS_IOC_BIND, &addr) < 0)
		return failed("bind");
	if (ioctl(listener, IDTS_IOC_LISTEN, &listen) < 0)
		return failed("listen");
	if (check_state(listener, IDTS_STATE_LISTENING) < 0)
		return -1;
	fprintf(stderr, "listening on %u\n", port);
	do {
		if (accept_one(listener, &accept) < 0)
			return -1;
		if (fcntl(accept.fd, F_GETFL) & O_NONBLOCK)
			return wrong("the new descriptor does not block, unasked");
		result = serve(accept.fd);
		close(accept.fd);
		if (result < 0)
			return -1;
	} while (!once);
	close(listener);
	return 0;
}

static int connect_to(__u16 domid, __u32 port)
{
	struct idts_connect connect = { .peer = { .domid = domid, .port = port } };
	__s32 error = 0;
	int fd = open_endpoint();

	if (fd < 0)
		return -1;
	if (ioctl(fd, IDTS_IOC_CONNECT, &connect) < 0 && errno != EINPROGRESS)
		return failed("connect");
	if (wait_for(fd, POLLOUT) < 0)
		return -1;
	if (ioctl(fd, IDTS_IOC_GET_ERROR, &error) < 0)
		return failed("get-error");
	if (error) {
		errno = error;
		return failed("connect");
	}
	if (check_state(fd, IDTS_STATE_CONNECTED) < 0)
		return -1;
	return fd;
}

/* Writes what fits; 1 when all is written. */
static int send_some(int fd, unsigned long long *sent, unsigned long long total)
{
	static unsigned char buffer[CHUNK];
	size_t size = total - *sent < CHUNK ? total - *sent : CHUNK;
	ssize_t count;

	fill(buffer, size, *sent, TO_SERVER);
	count = size ? write(fd, buffer, size) : 0;
	if (count < 0)
		return errno == EAGAIN ? 0 : failed("client: write");
	*sent += count;
	if (*sent < total)
		return 0;
	if (ioctl(fd, IDTS_IOC_SHUTDOWN, IDTS_SHUT_WR) < 0)
		return failed("client: shutdown");
	return 1;
}

/* Reads what is there; 1 at the end of the stream. */
static int receive_some(int fd, unsigned long long *got)
{
	static unsigned char buffer[CHUNK];
	ssize_t count = read(fd, buffer, sizeof(buffer));

	if (count < 0)
		return errno == EAGAIN ? 0 : failed("client: read");
	if (count == 0)
		return 1;
	if (check(buffer, count, *got, TO_CLIENT) < 0)
		return -1;
	*got += count;
	return 0;
}

static int run_client(__u16 domid, __u32 port, unsigned long long total)
{
	unsigned long long sent = 0, got = 0;
	int all_sent = 0, all_got = 0;
	int fd = connect_to(domid, port);

	if (fd < 0)
		return -1;
	while (!all_got) {
		if (wait_for(fd, all_sent ? POLLIN : POLLIN | POLLOUT) < 0)
			return -1;
		if (!all_sent && (all_sent = send_some(fd, &sent, total)) < 0)
			return -1;
		if ((all_got = receive_some(fd, &got)) < 0)
			return -1;
	}
	if (sent != total || got != total) {
		fprintf(stderr, "idts_c: %llu bytes sent, %llu came back, of %llu\n", sent, got, total);
		return -1;
	}
	close(fd);
	printf("%llu bytes each way\n", total);
	return 0;
}

static int number(const char *text, unsigned long long max, unsigned long long *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 10);
	return *text < '0' || *text > '9' || *end || errno || *value > max ? -1 : 0;
}

static int usage(void)
{
	fprintf(stderr, "usage: idts_c server PORT [--once]\n"
			"       idts_c client DOM PORT [BYTES]\n");
	return 2;
}

int main(int argc, char **argv)
{
	unsigned long long domid, port, bytes = 1024 * 1024;

	if (argc >= 3 && !strcmp(argv[1], "server")) {
		int once = argc == 4 && !strcmp(argv[3], "--once");

		if (argc > 3 + once || number(argv[2], 0xffffffff, &port) < 0)
			return usage();
		return run_server(port, once) < 0;
	}
	if ((argc == 4 || argc == 5) && !strcmp(argv[1], "client")) {
		if (number(argv[2], 0xfffe, &domid) < 0 || number(argv[3], 0xffffffff, &port) < 0 ||
		    (argc == 5 && number(argv[4], ~0ull, &bytes) < 0))
			return usage();
		return run_client(domid, port, bytes) < 0;
	}
	return usage();
}
