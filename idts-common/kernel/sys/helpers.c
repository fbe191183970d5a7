// SPDX-License-Identifier: GPL-2.0
/*
 * Functions that exist in C as inlines or macros only, so that Rust can call them, and the
 * one that must not be interrupted.
 */
#include <linux/anon_inodes.h>
#include <linux/capability.h>
#include <linux/cpumask.h>
#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/irqflags.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/sched.h>
#include <linux/sched/clock.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/stat.h>
#include <linux/smp.h>
#include <linux/tick.h>
#include <linux/uaccess.h>
#include <linux/uidgid.h>
#include <linux/uio.h>
#include <linux/user_namespace.h>
#include <linux/vmalloc.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <xen/events.h>
#include <xen/grant_table.h>
#include <trace/events/ipi.h> /* of smp_send_reschedule() */
#include <xen/page.h>
#include <xen/xen.h>
#include <asm/xen/hypercall.h>

#include "helpers.h"

#ifdef IDTS_TRIAL
/* test_override.c */
unsigned int idts_trial(unsigned int which, unsigned int real);
#else
#define idts_trial(which, real) (real)
#endif

/* The entries of /dev/idts, which chardev.rs defines. */
int idts_open(struct inode *inode, struct file *file);
int idts_release(struct inode *inode, struct file *file);
ssize_t idts_read_iter(struct kiocb *iocb, struct iov_iter *to);
ssize_t idts_write_iter(struct kiocb *iocb, struct iov_iter *from);
__poll_t idts_poll(struct file *file, struct poll_table_struct *table);
long idts_ioctl(struct file *file, unsigned int command, unsigned long arg);

const struct file_operations idts_fops = {
	.owner = THIS_MODULE,
	.open = idts_open,
	.release = idts_release,
	.read_iter = idts_read_iter,
	.write_iter = idts_write_iter,
	.poll = idts_poll,
	.unlocked_ioctl = idts_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.splice_read = copy_splice_read,
	.splice_write = iter_file_splice_write,
	.llseek = noop_llseek,
};

/* Exported, but declared only in drivers/xen/xenbus/xenbus.h; 0 is XS_UNKNOWN. */
extern unsigned int xen_store_domain_type;

/* Whether this domain has a xenstore; without Xen most of xenbus is a BUG. */
bool idts_has_xenbus(void)
{
	return xen_domain() && xen_store_domain_type;
}

struct workqueue_struct *idts_workqueue(void)
{
	return alloc_workqueue("idts", WQ_UNBOUND, 0);
}

/* Entries in a frame of the grant table, by the version that the kernel chose. */
unsigned int idts_grants_per_frame(void)
{
	struct gnttab_get_version op = { .dom = DOMID_SELF };

	if (!HYPERVISOR_grant_table_op(GNTTABOP_get_version, &op, 1) &&
	    op.version == 1)
		return XEN_PAGE_SIZE / sizeof(struct grant_entry_v1);
	return XEN_PAGE_SIZE / sizeof(union grant_entry_v2);
}

/* An event channel's port that domain peer may bind; 0, or Xen's errno. */
int idts_alloc_unbound(u16 peer, u32 *port)
{
	struct evtchn_alloc_unbound op = { .dom = DOMID_SELF, .remote_dom = peer };
	int error = HYPERVISOR_event_channel_op(EVTCHNOP_alloc_unbound, &op);

	*port = op.port;
	return error;
}

/* Closes a port that is not bound to an interrupt. */
void idts_close_port(u32 port)
{
	struct evtchn_close op = { .port = port };

	HYPERVISOR_event_channel_op(EVTCHNOP_close, &op);
}

/* The guest frame number of a page of idts_alloc_zeroed(). */
unsigned long idts_gfn(void *address)
{
	if (is_vmalloc_addr(address))
		return xen_page_to_gfn(vmalloc_to_page(address));
	return virt_to_gfn(address);
}

/*
 * Allocates whole zeroed pages: physically contiguous if the allocator has such
 * at hand, otherwise single pages behind one mapping. Charges them to the active
 * memory cgroup if account is set. NULL on failure: no task of the domain or of
 * the cgroup is killed for them.
 */
void *idts_alloc_zeroed(size_t bytes, bool account)
{
	gfp_t gfp = GFP_KERNEL | __GFP_ZERO | __GFP_NOWARN;
	void *base;

	if (account)
		gfp |= __GFP_ACCOUNT;
	if (bytes <= PAGE_SIZE)
		return alloc_pages_exact(bytes, gfp | __GFP_RETRY_MAYFAIL);
	base = idts_trial(3, 0) ? NULL : alloc_pages_exact(bytes, gfp | __GFP_NORETRY);
	return base ?: __vmalloc(bytes, gfp | __GFP_RETRY_MAYFAIL);
}

/* Frees what idts_alloc_zeroed() returned for the same number of bytes. */
void idts_free(void *base, size_t bytes)
{
	if (is_vmalloc_addr(base))
		vfree(base);
	else
		free_pages_exact(base, bytes);
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

/* Whether a task that spins should stop: for another task, or for a signal. */
bool idts_cpu_is_wanted(void)
{
	return !single_task_running() || need_resched() ||
	       signal_pending(current);
}

void idts_cond_resched(void)
{
	cond_resched();
}

unsigned int idts_online_cpus(void)
{
	return num_online_cpus();
}

unsigned int idts_this_cpu(void)
{
	return raw_smp_processor_id();
}

bool idts_has_waiters(struct wait_queue_head *queue)
{
	return wq_has_sleeper(queue);
}

/*
 * Halts until the next interrupt, if *word is value, this CPU is cpu, and it has
 * no other task to run. No interrupt may come between the look and the halt,
 * which is why this is C. A CPU without a tick (nohz_full) does not halt, since
 * no interrupt would end the halt in time for the task's timeout.
 */
void idts_halt_while(const u32 *word, u32 value, unsigned int cpu)
{
	local_irq_disable();
	if (READ_ONCE(*word) == value && raw_smp_processor_id() == cpu &&
	    !tick_nohz_full_cpu(cpu) && !idts_cpu_is_wanted())
		safe_halt();	/* which enables interrupts */
	else
		local_irq_enable();
}

/*
 * Ends idts_halt_while() on another CPU. On this one the caller is the interrupt, or
 * runs instead of the halt. Waking the task would do nothing, for it is running.
 *
 * A CPU goes offline by stop_machine(), which waits until every other CPU schedules.
 * So cpu stays online between the look and the interrupt while this CPU cannot be
 * preempted. A CPU that went offline before has no task any more that halts.
 */
void idts_kick_cpu(unsigned int cpu)
{
	preempt_disable();
	if (cpu != smp_processor_id() && cpu_online(cpu))
		smp_send_reschedule(cpu);
	preempt_enable();
}

/* Whether the calling process may use privileged ports. */
bool idts_net_bind_service(void)
{
	return capable(CAP_NET_BIND_SERVICE);
}

/*
 * Whether this task may process messages for others: normal policy and no positive
 * nice value, so that the scheduler does not hold it back.
 */
bool idts_may_help(void)
{
	return current->policy == SCHED_NORMAL && task_nice(current) <= 0;
}

/* A new file of /dev/idts' operations, as accept(2) has one; an ERR_PTR on failure. */
struct file *idts_anon_file(void *private, int flags)
{
	return anon_inode_getfile("[idts]", &idts_fops, private, O_RDWR | flags);
}

/* A reference to the memory cgroup of this process; NULL without CONFIG_MEMCG. */
void *idts_memcg_get(void)
{
	return get_mem_cgroup_from_mm(current->mm);
}

void idts_memcg_put(void *memcg)
{
	mem_cgroup_put(memcg);
}

/* The root cgroup, which pays for memory that no program asked for. Not counted. */
void *idts_memcg_root(void)
{
#ifdef CONFIG_MEMCG
	return root_mem_cgroup;
#else
	return NULL;
#endif
}

/* Charges this task's allocations to memcg from now on; returns the one before. */
void *idts_memcg_charge(void *memcg)
{
	return set_active_memcg(memcg);
}

/* The user who opened the file, by uid in the initial namespace. */
u32 idts_opener(const struct file *file)
{
	return from_kuid(&init_user_ns, file->f_cred->fsuid);
}

/* Whether the process has CAP_SYS_RESOURCE; a lack is not audited. */
bool idts_sys_resource(void)
{
	return ns_capable_noaudit(&init_user_ns, CAP_SYS_RESOURCE);
}

u64 idts_total_memory(void)
{
	return (u64)totalram_pages() << PAGE_SHIFT;
}
