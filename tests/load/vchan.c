// SPDX-License-Identifier: GPL-2.0
/*
 * libxenvchan, as Xen ships it, as the load uses it. WHERE of a service is
 * PEER:NAME:RING, PEER the domain that may call and RING the bytes of both rings;
 * of a caller it is DOMID:NAME, DOMID the domain of the service.
 *
 * A vchan serves one caller, and its end removes the nodes that told of it. So each
 * has a name of its own, NAME-0, NAME-1 and so on: the service offers the next one
 * as soon as somebody has called, and a caller that calls again counts along.
 */
#include <libxenvchan.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load.h"

static char peer[64], name[64];
static size_t ring;

static struct libxenvchan *next;
static unsigned int offered;

static int offer_next(void)
{
	char path[128];

	snprintf(path, sizeof(path), "data/vchan/%s-%u", name, offered++);
	next = libxenvchan_server_init(NULL, atoi(peer), path, ring, ring);
	if (!next)
		return -1;
	next->blocking = 1;
	return 0;
}

static int vchan_offer(const char *where)
{
	char parts[3][64];

	if (split(where, parts, 3) != 3)
		return -1;
	memcpy(peer, parts[0], sizeof(peer));
	memcpy(name, parts[1], sizeof(name));
	ring = strtoul(parts[2], NULL, 0);
	return offer_next();
}

static int vchan_accept(struct link *link)
{
	while (libxenvchan_is_open(next) == 2)
		if (libxenvchan_wait(next))
			return -1;
	link->vchan = next;
	return offer_next();
}

static int vchan_connect(const char *where, struct link *link)
{
	static const char *last = "";
	static unsigned int called;
	char parts[2][64], path[192];

	if (strcmp(where, last))
		called = 0;
	last = where;
	if (split(where, parts, 2) != 2)
		return -1;
	snprintf(path, sizeof(path), "/local/domain/%s/data/vchan/%s-%u", parts[0], parts[1],
		 called++);
	link->vchan = libxenvchan_client_init(NULL, atoi(parts[0]), path);
	if (!link->vchan)
		return -1;
	link->vchan->blocking = 1;
	return 0;
}

const struct system vchan_system = { "vchan", vchan_offer, vchan_accept, vchan_connect };
