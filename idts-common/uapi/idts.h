/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * IDTS: what an application says to /dev/idts.
 *
 * An open file of /dev/idts is an endpoint. It starts idle and becomes
 * listening or connected by the ioctls below, which read like sockets.
 * Data then moves with read, readv, write, writev, splice; readiness comes from
 * poll and epoll; O_NONBLOCK is honoured everywhere, and so is RWF_NOWAIT, by
 * which io_uring submits without waiting. sendfile sends into a channel, and out
 * of one into a pipe. What a descriptor was not opened for is EBADF.
 *
 * read, readv: bytes, 0 at the end of the stream (and at once for no bytes).
 *	EAGAIN: O_NONBLOCK, and nothing is there. EINTR: a signal came before a
 *	byte did. ECONNRESET: the peer broke the channel off, or the tunnel
 *	or the right to it went. ENOTCONN: not connected. EBADF: a publisher,
 *	or not opened to read. EFAULT: a buffer that is not there.
 * write, writev: bytes, fewer than asked for if a signal or O_NONBLOCK ended
 *	the call after the first; a record goes whole. EPIPE: the peer, or this end by
 *	IDTS_IOC_SHUTDOWN, ended the direction. No SIGPIPE is sent, ever.
 *	EMSGSIZE: a record longer than the ring takes. EAGAIN, EINTR,
 *	ECONNRESET, ENOTCONN, EBADF (a subscriber), EFAULT: as above.
 * poll, epoll (level and edge): POLLIN: a read gives something, or the end,
 *	or a connection waits for accept. POLLOUT: there is room for as much as
 *	a write last wanted, and a quarter of the ring; or a write fails at once;
 *	or a connect has ended, either way. POLLRDHUP: the peer ended its
 *	direction. POLLHUP: both have ended, or the channel is broken.
 *	POLLERR: it is broken, or the connect failed. Idle: POLLOUT, POLLHUP.
 * Threads: any number may wait in any call on one descriptor, and all of them
 *	go on as if alone; of two reads (or writes) at once each gets (or sends)
 *	a piece, and of records whole ones. close(2) in one thread ends no
 *	call of another, IDTS_IOC_SHUTDOWN does; a listener has none.
 *
 * Every structure has fixed-size members, no padding, and the same layout for
 * 32-bit and 64-bit callers. The size that an ioctl number carries is the size
 * of the caller's structure: a kernel that knows a longer one fills the rest
 * with zeroes, a kernel that knows a shorter one refuses non-zero surplus with
 * E2BIG. Reserved members are sent as 0 and refused with EINVAL otherwise.
 */
#ifndef _UAPI_LINUX_IDTS_H
#define _UAPI_LINUX_IDTS_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Version of this interface; only ever grows. */
#define IDTS_UAPI_VERSION	1

/* Any peer domain (bind), or no domain at all (info). */
#define IDTS_DOMID_ANY		0xffff

/* Ports below this one need CAP_NET_BIND_SERVICE to bind or listen on. */
#define IDTS_PORT_RESERVED	1024
/* Ports from here to the last one are handed out when port 0 is bound. */
#define IDTS_PORT_EPHEMERAL	0x80000000u

/* A ring's size: a power of two between these; 0 asks for the default. */
#define IDTS_RING_MIN		4096
#define IDTS_RING_MAX		(4 * 1024 * 1024)

/* Connections that may wait for accept; larger wishes are cut to this. */
#define IDTS_BACKLOG_MAX	128

/**
 * struct idts_addr - one end of a channel.
 * @domid: Xen domain id; 0 is dom0. In IDTS_IOC_BIND it is a filter: the domain
 *	that may connect, or IDTS_DOMID_ANY; 0 lets dom0 alone in.
 * @reserved: 0.
 * @port: 1 and up; 0 asks for an ephemeral port (bind) or means none (info).
 */
struct idts_addr {
	__u16 domid;
	__u16 reserved;
	__u32 port;
};

/**
 * struct idts_version - what the driver speaks (IDTS_IOC_VERSION).
 * @uapi: IDTS_UAPI_VERSION of the driver.
 * @role: IDTS_ROLE_FRONT or IDTS_ROLE_BACK.
 * @features: IDTS_FEATURE_*: what came since the first driver.
 */
struct idts_version {
	__u32 uapi;
	__u32 role;
	__u64 features;
};

/* @max_ring of struct idts_listen. */
#define IDTS_FEATURE_MAX_RING	1
/* A connect goes on when a signal ended the waiting: see struct idts_connect. */
#define IDTS_FEATURE_GOES_ON	2

#define IDTS_ROLE_FRONT		1
#define IDTS_ROLE_BACK		2

/*
 * The channel carries records instead of a stream: a write sends one, a read
 * takes one. It arrives whole or not at all. A buffer that is too small gets
 * its beginning, and @truncated of struct idts_info grows; FIONREAD gives the
 * length of the next one. A record of no bytes is not sent.
 * EMSGSIZE: longer than the ring, less 4 bytes.
 */
#define IDTS_RECORD		1

/**
 * struct idts_listen - start to listen on the bound port (IDTS_IOC_LISTEN).
 * @backlog: connections that may wait for accept; 0 asks for the default.
 * @flags: IDTS_RECORD to take connections of that kind instead of streams.
 * @max_ring: the largest ring, either way, that a connection may have; 0: any.
 *	Who asks for a larger one gets ENOSPC. (IDTS_FEATURE_MAX_RING.)
 * @reserved: 0.
 *
 * Whoever opened this endpoint pays for the connections that wait and for
 * those that are taken.
 */
struct idts_listen {
	__u32 backlog;
	__u32 flags;
	__u32 max_ring;
	__u32 reserved;
};

/**
 * struct idts_accept - take the next connection (IDTS_IOC_ACCEPT).
 * @flags: in: IDTS_CLOEXEC, IDTS_NONBLOCK for the new descriptor.
 * @fd: out: the new descriptor, a connected endpoint.
 * @peer: out: who connected.
 *
 * EAGAIN: O_NONBLOCK is set on the listener and nobody waits.
 */
struct idts_accept {
	__u32 flags;
	__s32 fd;
	struct idts_addr peer;
};

/* The values of O_CLOEXEC and O_NONBLOCK on x86-64. */
#define IDTS_CLOEXEC		02000000
#define IDTS_NONBLOCK		00004000

/* Bytes of a group's name or of an alias, at most. */
#define IDTS_NAME_MAX		56

/**
 * struct idts_connect - connect to a listening endpoint (IDTS_IOC_CONNECT).
 * @peer: whom to connect to.
 * @tx_ring: size of the ring that this endpoint writes; 0 for the default.
 * @rx_ring: size of the ring that this endpoint reads; 0 for the default.
 * @timeout_ms: how long to wait for the peer's answer; 0 for the default.
 * @flags: IDTS_RECORD for a channel of that kind; the listener must want it.
 * @alias: the name that dom0 gave the domain, instead of @domid, which is then
 *	IDTS_DOMID_ANY: lower-case letter, then letters, digits and hyphens,
 *	padded with 0; dom0 itself is "dom0". All 0: @domid counts.
 *
 * ECONNREFUSED: nobody listens there, or its backlog is full.
 * EACCES: forbidden, or (seen from a guest) no such domain or alias.
 * EHOSTUNREACH: no such domain or alias (seen from dom0).
 * ENETDOWN: this domain has no tunnel that is connected; if dom0 sets one up
 *	when it is asked for, after @timeout_ms without one.
 * ETIMEDOUT: the peer did not answer in time.
 * EINPROGRESS: O_NONBLOCK is set; POLLOUT, then IDTS_IOC_GET_ERROR tell.
 * ENOSPC: no room for the rings, within the limits, in the data region; or a
 *	limit of the user, of what one domain may ask another for, of questions
 *	without an answer, or of rings in this domain is reached.
 * EISCONN, EALREADY, EINVAL: this endpoint is connected, connecting, listening.
 * EINTR: a signal ended the waiting, and the attempt goes on. A second call with
 *	the same address waits for it, as long as was left, and tells what came
 *	of it, once; one to another address, or with O_NONBLOCK while it is
 *	under way, is EALREADY. So a call that the kernel starts again
 *	(SA_RESTART) has no fresh limit. (IDTS_FEATURE_GOES_ON; before, it began
 *	anew.)
 */
struct idts_connect {
	struct idts_addr peer;
	__u32 tx_ring;
	__u32 rx_ring;
	__u32 timeout_ms;
	__u32 flags;
	__u8 alias[IDTS_NAME_MAX];
};

/* What is done about a subscriber whose ring is full. */
#define IDTS_LAG_DROP		0	/* it misses the record; @lag counts */
#define IDTS_LAG_DISCONNECT	1	/* its channel is reset */
#define IDTS_LAG_BLOCK		2	/* the publisher waits, for a bounded time */

/* The publisher lets subscribers of IDTS_LAG_BLOCK hold it up. */
#define IDTS_GROUP_MAY_BLOCK	1

/**
 * struct idts_group - publish to, or subscribe to, a group (IDTS_IOC_PUBLISH,
 * IDTS_IOC_SUBSCRIBE) from an idle endpoint.
 * @name: lower-case letter, then letters, digits and hyphens; padded with 0.
 * @ring: size of the ring that is written or read; 0 for the default.
 * @flags: of a publisher: IDTS_GROUP_MAY_BLOCK or 0.
 * @on_lag: of a subscriber: IDTS_LAG_*; without the publisher's leave
 *	IDTS_LAG_BLOCK is as IDTS_LAG_DROP.
 * @timeout_ms: as in struct idts_connect.
 *
 * Each write of the publisher is a record, as with IDTS_RECORD, and each
 * subscriber's read takes one. A subscriber gets what is published after it
 * joined; the end of the publisher is the end of the stream. There may be
 * subscribers before there is a publisher, and one publisher at a time.
 *
 * EACCES: forbidden. EADDRINUSE: the group has a publisher. A read by a
 * publisher and a write by a subscriber are EBADF.
 */
struct idts_group {
	__u8 name[IDTS_NAME_MAX];
	__u32 ring;
	__u32 flags;
	__u32 on_lag;
	__u32 timeout_ms;
};

/**
 * struct idts_transact - write, then read, in one call (IDTS_IOC_TRANSACT).
 * @tx: what to write, all of it, as by write(2).
 * @rx: where to read to, as by read(2) after that.
 * @tx_len: bytes to write; 0: only read.
 * @rx_len: bytes to read at most; 0: only write.
 * @sent: out, where the call fails: bytes that were written before it did.
 * @reserved: 0.
 *
 * The call gives what the read gives: bytes, 0 at the end of the stream. A
 * client that sends a request and waits for the reply, or a server that sends
 * a reply and waits for the next request, makes one call of it instead of two.
 * A call that a signal ends, or that would block on an O_NONBLOCK endpoint,
 * fails with EINTR or EAGAIN: what @sent counts is not to be sent again.
 * EBADF: the descriptor was not opened to write (@tx_len) or to read (@rx_len).
 */
struct idts_transact {
	__u64 tx;
	__u64 rx;
	__u32 tx_len;
	__u32 rx_len;
	__u32 sent;
	__u32 reserved;
};

/* What IDTS_IOC_SHUTDOWN ends; the values of SHUT_RD, SHUT_WR, SHUT_RDWR. */
#define IDTS_SHUT_RD		0
#define IDTS_SHUT_WR		1
#define IDTS_SHUT_RDWR		2

/**
 * struct idts_info - all that is known of an endpoint (IDTS_IOC_GET_INFO).
 * @state: one of IDTS_STATE_*.
 * @error: errno that broke the channel, or 0; not cleared by reading it.
 * @local: this end; domid IDTS_DOMID_ANY where a domain does not know its own.
 * @peer: the other end, once connected; zero in a group.
 * @tx_ring: size in bytes of the ring that this endpoint writes.
 * @rx_ring: size in bytes of the ring that this endpoint reads.
 * @tx_free: bytes that a write would take now.
 * @rx_avail: bytes that a read would give now.
 * @tx_bytes: bytes written since the channel was opened.
 * @rx_bytes: bytes read since the channel was opened.
 * @events_sent: notifications sent for this channel.
 * @sleeps: times that a read, a write or an accept went to sleep.
 * @queued: connections that wait for accept (listening endpoints).
 * @refused: connections refused because the backlog was full.
 * @truncated: records that a read got only the beginning of.
 * @flags: IDTS_RECORD.
 * @lag: records of a group that this subscriber missed.
 */
struct idts_info {
	__u32 state;
	__u32 error;
	struct idts_addr local;
	struct idts_addr peer;
	__u32 tx_ring;
	__u32 rx_ring;
	__u32 tx_free;
	__u32 rx_avail;
	__u64 tx_bytes;
	__u64 rx_bytes;
	__u64 events_sent;
	__u64 sleeps;
	__u32 queued;
	__u32 refused;
	__u64 truncated;
	__u32 flags;
	__u32 lag;
};

#define IDTS_STATE_IDLE		0
#define IDTS_STATE_BOUND	1
#define IDTS_STATE_LISTENING	2
#define IDTS_STATE_CONNECTING	3
#define IDTS_STATE_CONNECTED	4
#define IDTS_STATE_BROKEN	5

#define IDTS_IOC_MAGIC		'I'

#define IDTS_IOC_VERSION	_IOR(IDTS_IOC_MAGIC, 0x10, struct idts_version)
/*
 * @domid is a filter, not an own address as bind(2) has it: the domain that may
 * connect, or IDTS_DOMID_ANY. @port is this end's own.
 */
#define IDTS_IOC_BIND		_IOW(IDTS_IOC_MAGIC, 0x11, struct idts_addr)
#define IDTS_IOC_LISTEN		_IOW(IDTS_IOC_MAGIC, 0x12, struct idts_listen)
#define IDTS_IOC_ACCEPT		_IOWR(IDTS_IOC_MAGIC, 0x13, struct idts_accept)
#define IDTS_IOC_CONNECT	_IOW(IDTS_IOC_MAGIC, 0x14, struct idts_connect)
/* The argument is one of IDTS_SHUT_*, by value. */
#define IDTS_IOC_SHUTDOWN	_IO(IDTS_IOC_MAGIC, 0x15)
#define IDTS_IOC_GET_INFO	_IOR(IDTS_IOC_MAGIC, 0x16, struct idts_info)
/* Result of an O_NONBLOCK connect, then 0: an errno, as SO_ERROR gives it. */
#define IDTS_IOC_GET_ERROR	_IOR(IDTS_IOC_MAGIC, 0x17, __s32)
#define IDTS_IOC_PUBLISH	_IOW(IDTS_IOC_MAGIC, 0x18, struct idts_group)
#define IDTS_IOC_SUBSCRIBE	_IOW(IDTS_IOC_MAGIC, 0x19, struct idts_group)
#define IDTS_IOC_TRANSACT	_IOWR(IDTS_IOC_MAGIC, 0x1a, struct idts_transact)
/* FIONREAD gives the bytes that a read would return, as for a socket. */

#endif /* _UAPI_LINUX_IDTS_H */
