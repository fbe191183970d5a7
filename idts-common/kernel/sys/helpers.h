/* SPDX-License-Identifier: GPL-2.0 */
/* Functions that exist in C as inlines or macros only; see helpers.c. */
#ifndef IDTS_HELPERS_H
#define IDTS_HELPERS_H

#include <linux/fs.h>
#include <linux/types.h>

/* Flags that bindgen cannot read, because their macros begin with a cast. */
enum {
	IDTS_IOCB_NOWAIT = (__force int)IOCB_NOWAIT,
	IDTS_FMODE_READ = (__force int)FMODE_READ,
	IDTS_FMODE_WRITE = (__force int)FMODE_WRITE,
	IDTS_FMODE_NOWAIT = (__force int)FMODE_NOWAIT,
};

struct file;
struct file_operations;
struct iov_iter;
struct poll_table_struct;
struct wait_queue_head;
struct workqueue_struct;

struct workqueue_struct *idts_workqueue(void);
bool idts_has_xenbus(void);
extern const struct file_operations idts_fops;
unsigned int idts_grants_per_frame(void);
int idts_alloc_unbound(u16 peer, u32 *port);
void idts_close_port(u32 port);
unsigned long idts_gfn(void *address);
void *idts_alloc_zeroed(size_t bytes, bool account);
void idts_free(void *base, size_t bytes);
void idts_pagefault_disable(void);
void idts_pagefault_enable(void);
size_t idts_copy_from_iter(void *to, size_t bytes, struct iov_iter *from);
size_t idts_copy_to_iter(const void *from, size_t bytes, struct iov_iter *to);
void idts_init_waitqueue(struct wait_queue_head *queue);
void idts_poll_wait(struct file *file, struct wait_queue_head *queue,
		    struct poll_table_struct *table);
u64 idts_clock(void);
bool idts_cpu_is_wanted(void);
void idts_cond_resched(void);
unsigned int idts_online_cpus(void);
unsigned int idts_this_cpu(void);
bool idts_has_waiters(struct wait_queue_head *queue);
void idts_halt_while(const u32 *word, u32 value, unsigned int cpu);
void idts_kick_cpu(unsigned int cpu);
bool idts_net_bind_service(void);
bool idts_may_help(void);
struct file *idts_anon_file(void *private, int flags);
void *idts_memcg_get(void);
void idts_memcg_put(void *memcg);
void *idts_memcg_root(void);
void *idts_memcg_charge(void *memcg);
u32 idts_opener(const struct file *file);
bool idts_sys_resource(void);
u64 idts_total_memory(void);

#endif
