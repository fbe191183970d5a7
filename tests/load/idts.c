// SPDX-License-Identifier: GPL-2.0
/*
 * IDTS as the load uses it. WHERE of a service is PORT, of a caller
 * DOMID:PORT[:RING], RING the bytes of both rings.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "idts.h"
#include "load.h"

/* The bench's group, and the bytes of each of its rings. */
#define GROUP "bench"
#define GROUP_RING (1u << 20)

static int listener;

static int idts_offer(const char *where)
{
	struct idts_addr addr = { .domid = IDTS_DOMID_ANY, .port = strtoul(where, NULL, 0) };
	struct idts_listen listen = { .backlog = 64 };

	listener = open("/dev/idts", O_RDWR);
	if (listener < 0 || ioctl(listener, IDTS_IOC_BIND, &addr))
		return -1;
	return ioctl(listener, IDTS_IOC_LISTEN, &listen);
}

static int idts_accept(struct link *link)
{
	struct idts_accept accept = { 0 };

	if (ioctl(listener, IDTS_IOC_ACCEPT, &accept))
		return -1;
	link->fd = accept.fd;
	link->idts = 1;
	return 0;
}

static int idts_connect(const char *where, struct link *link)
{
	struct idts_connect connect = { 0 };
	char parts[3][64];
	int n = split(where, parts, 3);

	connect.peer.domid = strtoul(parts[0], NULL, 0);
	connect.peer.port = n > 1 ? strtoul(parts[1], NULL, 0) : 0;
	connect.tx_ring = connect.rx_ring = n > 2 ? strtoul(parts[2], NULL, 0) : 0;
	link->fd = open("/dev/idts", O_RDWR);
	link->idts = 1;
	if (link->fd < 0)
		return -1;
	return ioctl(link->fd, IDTS_IOC_CONNECT, &connect);
}

ssize_t idts_transact(int fd, const void *from, size_t bytes, void *to, size_t room)
{
	struct idts_transact transact = {
		.tx = (uintptr_t)from, .tx_len = bytes, .rx = (uintptr_t)to, .rx_len = room,
	};

	return ioctl(fd, IDTS_IOC_TRANSACT, &transact);
}

/* Nobody misses a record: the publisher waits for the slowest. */
static int join(unsigned long command)
{
	struct idts_group group = {
		.name = GROUP,
		.ring = GROUP_RING,
		.flags = command == IDTS_IOC_PUBLISH ? IDTS_GROUP_MAY_BLOCK : 0,
		.on_lag = command == IDTS_IOC_SUBSCRIBE ? IDTS_LAG_BLOCK : 0,
	};
	int fd = open("/dev/idts", O_RDWR);

	if (fd >= 0 && ioctl(fd, command, &group)) {
		int why = errno;

		close(fd);
		errno = why;
		return -1;
	}
	return fd;
}

int idts_publish(void)
{
	const struct timespec moment = { .tv_nsec = 10000000 };
	int fd;

	/* The publisher of a case before this one may still be on its way out. */
	while ((fd = join(IDTS_IOC_PUBLISH)) < 0 && errno == EADDRINUSE)
		nanosleep(&moment, NULL);
	return fd;
}

int idts_subscribe(void)
{
	return join(IDTS_IOC_SUBSCRIBE);
}

const struct system idts_system = { "idts", idts_offer, idts_accept, idts_connect };
