// SPDX-License-Identifier: GPL-2.0
/*
 * Functions that exist in C as inlines or macros only, one line each, so that
 * Rust can call them. No logic lives here.
 */
#include <linux/anon_inodes.h>
#include <linux/capability.h>
#include <linux/cpumask.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/poll.h>
#include <linux/sched.h>
#include <linux/sched/clock.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>
#include <linux/uio.h>
#include <linux/wait.h>
#include <xen/page.h>

#include "helpers.h"

unsigned long idts_virt_to_gfn(void *address)
{
	return virt_to_gfn(address);
}

void *idts_alloc_zeroed(size_t bytes)
{
	return alloc_pages_exact(bytes, GFP_KERNEL | __GFP_ZERO | __GFP_NOWARN);
}

void idts_pagefault_disable(void)
{
	pagefault_disable();
}

void idts_pagefault_enable(void)
{
	pagefault_enable();
}

size_t idts_copy_from_iter(void *to, size_t bytes, struct iov_iter *from)
{
	return _copy_from_iter(to, bytes, from);
}

size_t idts_copy_to_iter(const void *from, size_t bytes, struct iov_iter *to)
{
	return _copy_to_iter(from, bytes, to);
}

void idts_init_waitqueue(struct wait_queue_head *queue)
{
	init_waitqueue_head(queue);
}

void idts_poll_wait(struct file *file, struct wait_queue_head *queue,
		    struct poll_table_struct *table)
{
	poll_wait(file, queue, table);
}

u64 idts_clock(void)
{
	return local_clock();
}

bool idts_cpu_is_wanted(void)
{
	return need_resched() || test_thread_flag(TIF_NEED_RESCHED_LAZY) ||
	       signal_pending(current);
}

unsigned int idts_online_cpus(void)
{
	return num_online_cpus();
}

bool idts_net_bind_service(void)
{
	return capable(CAP_NET_BIND_SERVICE);
}

struct file *idts_anon_file(const struct file_operations *fops, void *private,
			    int flags)
{
	return anon_inode_getfile("[idts]", fops, private, O_RDWR | flags);
}
