// SPDX-License-Identifier: GPL-2.0
//
// What xenstored wants of Xen, without Xen: loaded before Xen's libraries, so that the
// real daemon serves guests that are programs. A guest's ring is the file /run/xen/ring.DOMID;
// event channels are one pipe, /run/xen/events, of port numbers, a guest's port being its
// id plus PORTS. Every domain lives.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDER "/run/xen/"
#define RING_SIZE 4096
#define PORTS 100000

static int events = -1;
static char handle;

// open_ring: the file of a domain's ring; it need not be there.
static int open_ring(uint32_t domain)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), FOLDER "ring.%u", domain);
	fd = openat(AT_FDCWD, path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd >= 0 && ftruncate(fd, RING_SIZE) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

void *xc_interface_open(void *log, void *domain_log, unsigned int flags) { return &handle; }
int xc_interface_close(void *xc) { return 0; }

// xc_domain_getinfo_single: the first member of the structure is the id, and no flag after
// it says that the domain is dying.
int xc_domain_getinfo_single(void *xc, uint32_t domain, void *info)
{
	uint16_t id = domain;

	memset(info, 0, 16);
	memcpy(info, &id, sizeof(id));
	return 0;
}

void *xengnttab_open(void *log, unsigned int flags) { return &handle; }
int xengnttab_close(void *xgt) { return 0; }
void xengnttab_set_max_grants(void *xgt, uint32_t count) {}

void *xengnttab_map_grant_ref(void *xgt, uint32_t domain, uint32_t ref, int prot)
{
	int fd = open_ring(domain);
	void *ring;

	if (fd < 0)
		return NULL;
	ring = mmap(NULL, RING_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return ring == MAP_FAILED ? NULL : ring;
}

int xengnttab_unmap(void *xgt, void *start, uint32_t count) { return munmap(start, RING_SIZE); }

void *xenevtchn_open(void *log, unsigned int flags)
{
	mkfifo(FOLDER "events", 0600);
	// For writing too, so that it never ends.
	events = openat(AT_FDCWD, FOLDER "events", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	return events < 0 ? NULL : &handle;
}

void *xenevtchn_fdopen(void *log, int fd, unsigned int flags) { return NULL; }
int xenevtchn_fd(void *xce) { return events; }
int xenevtchn_bind_virq(void *xce, unsigned int virq) { return 1; }
int xenevtchn_bind_interdomain(void *xce, uint32_t domain, uint32_t port) { return PORTS + domain; }
int xenevtchn_unbind(void *xce, uint32_t port) { return 0; }
int xenevtchn_notify(void *xce, uint32_t port) { return 0; }
int xenevtchn_unmask(void *xce, uint32_t port) { return 0; }

int xenevtchn_pending(void *xce)
{
	uint32_t port;

	if (read(events, &port, sizeof(port)) == sizeof(port))
		return port;
	errno = EAGAIN;
	return -1;
}

// open: xenstored's own ring and port are the kernel's to give.
int open(const char *path, int flags, ...)
{
	va_list rest;
	mode_t mode;

	va_start(rest, flags);
	mode = va_arg(rest, int);
	va_end(rest);
	if (!strcmp(path, "/proc/xen/xsd_port"))
		path = FOLDER "port";
	if (!strcmp(path, "/proc/xen/xsd_kva") || !strcmp(path, "/dev/xen/xsd_kva"))
		return open_ring(0);
	return openat(AT_FDCWD, path, flags, mode);
}
