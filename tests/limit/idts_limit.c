// SPDX-License-Identifier: GPL-2.0
/*
 * The measuring module of the bench, loaded by it alone: bare copies between a
 * user's buffer and memory like that of a ring, one window of 64 KiB after the
 * other, by the primitives that the drivers use. Nothing is checked, published or
 * waited for: what a path with these copies cannot beat.
 */
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>
#include <linux/uio.h>

#include "idts_limit.h"

#define WINDOW	65536u
#define WINDOWS	32

/* Two rings of a mebibyte. */
static void *windows[WINDOWS];

static ssize_t walk(struct kiocb *iocb, struct iov_iter *iter, bool in)
{
	size_t done = 0;

	while (iov_iter_count(iter)) {
		size_t at = iocb->ki_pos % WINDOW, n;
		void *here = windows[iocb->ki_pos / WINDOW % (WINDOWS / 2)] + at;
		size_t len = min_t(size_t, WINDOW - at, iov_iter_count(iter));

		pagefault_disable();
		n = in ? _copy_from_iter(here, len, iter) : _copy_to_iter(here, len, iter);
		pagefault_enable();
		iocb->ki_pos += n;
		done += n;
		if (n < len)
			return -EFAULT;
	}
	return done;
}

static ssize_t limit_write(struct kiocb *iocb, struct iov_iter *from)
{
	return walk(iocb, from, true);
}

static ssize_t limit_read(struct kiocb *iocb, struct iov_iter *to)
{
	return walk(iocb, to, false);
}

/* The drivers' copy from ring to ring. */
static void copy_raw(void *to, const void *from, size_t len)
{
	size_t words = len / 8;

	asm volatile("rep movsq" : "+c"(words), "+S"(from), "+D"(to) : : "memory");
}

static long limit_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	struct idts_limit_across across;
	u64 i;

	if (command != IDTS_LIMIT_ACROSS)
		return -ENOTTY;
	if (copy_from_user(&across, (void __user *)argument, sizeof(across)))
		return -EFAULT;
	if (!across.size || across.size > WINDOW || across.size % 8)
		return -EINVAL;
	for (i = 0; i < across.count; i++) {
		unsigned int at = i % (WINDOWS / 2);

		if (fatal_signal_pending(current))
			return -EINTR;
		copy_raw(windows[WINDOWS / 2 + at], windows[at], across.size);
	}
	return 0;
}

static const struct file_operations limit_fops = {
	.owner = THIS_MODULE,
	.read_iter = limit_read,
	.write_iter = limit_write,
	.unlocked_ioctl = limit_ioctl,
};

static struct miscdevice limit_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "idts-limit",
	.fops = &limit_fops,
	.mode = 0600,
};

static void free_windows(void)
{
	int i;

	for (i = 0; i < WINDOWS; i++)
		free_pages((unsigned long)windows[i], get_order(WINDOW));
}

static int __init limit_init(void)
{
	int i, result;

	for (i = 0; i < WINDOWS; i++) {
		windows[i] = (void *)__get_free_pages(GFP_KERNEL | __GFP_ZERO, get_order(WINDOW));
		if (!windows[i]) {
			free_windows();
			return -ENOMEM;
		}
	}
	result = misc_register(&limit_device);
	if (result)
		free_windows();
	return result;
}

static void __exit limit_exit(void)
{
	misc_deregister(&limit_device);
	free_windows();
}

module_init(limit_init);
module_exit(limit_exit);
MODULE_DESCRIPTION("Bare copies, for the IDTS bench");
MODULE_LICENSE("GPL");
