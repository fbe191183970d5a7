// SPDX-License-Identifier: GPL-2.0
/*
 * TCP as the load uses it. WHERE of a service is PORT[:nodelay], of a caller
 * ADDRESS:PORT[:nodelay].
 */
#include <arpa/inet.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "load.h"

static int listener;

static int set(int fd, int level, int option)
{
	int on = 1;

	return setsockopt(fd, level, option, &on, sizeof(on));
}

static int tcp_offer(const char *where)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	char parts[2][64];
	int n = split(where, parts, 2);

	address.sin_port = htons(strtoul(parts[0], NULL, 0));
	listener = socket(AF_INET, SOCK_STREAM, 0);
	if (listener < 0 || set(listener, SOL_SOCKET, SO_REUSEADDR))
		return -1;
	/* Connections take it over from their listener. */
	if (n > 1 && set(listener, IPPROTO_TCP, TCP_NODELAY))
		return -1;
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)))
		return -1;
	return listen(listener, 64);
}

static int tcp_accept(struct link *link)
{
	link->fd = accept(listener, NULL, NULL);
	return link->fd < 0 ? -1 : 0;
}

static int tcp_connect(const char *where, struct link *link)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	char parts[3][64];
	int n = split(where, parts, 3);

	if (n < 2 || inet_pton(AF_INET, parts[0], &address.sin_addr) != 1)
		return -1;
	address.sin_port = htons(strtoul(parts[1], NULL, 0));
	link->fd = socket(AF_INET, SOCK_STREAM, 0);
	if (link->fd < 0)
		return -1;
	if (n > 2 && set(link->fd, IPPROTO_TCP, TCP_NODELAY))
		return -1;
	return connect(link->fd, (struct sockaddr *)&address, sizeof(address));
}

static unsigned int ask(int fd, const char *device, unsigned int command)
{
	struct ethtool_value value = { .cmd = command };
	struct ifreq request = { .ifr_data = (void *)&value };

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", device);
	if (ioctl(fd, SIOCETHTOOL, &request))
		fail(device);
	return value.data;
}

void show_device(const char *name)
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (fd < 0)
		fail("socket");
	printf("{\"sg\":%u,\"gso\":%u,\"tso\":%u,\"gro\":%u,\"tx_checksum\":%u}\n",
	       ask(fd, name, ETHTOOL_GSG), ask(fd, name, ETHTOOL_GGSO),
	       ask(fd, name, ETHTOOL_GTSO), ask(fd, name, ETHTOOL_GGRO),
	       ask(fd, name, ETHTOOL_GTXCSUM));
}

const struct system tcp_system = { "tcp", tcp_offer, tcp_accept, tcp_connect };
