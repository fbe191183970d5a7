/* SPDX-License-Identifier: GPL-2.0 */
/* What bindgen reads: Xen's interfaces, and the inline functions of helpers.c. */
#include <linux/anon_inodes.h>
#include <linux/fs.h>
#include <linux/poll.h>
#include <linux/rcupdate.h>
#include <linux/uio.h>
#include <linux/wait.h>
#include <xen/events.h>
#include <xen/grant_table.h>
#include <xen/page.h>
#include <xen/xen.h>
#include <xen/xenbus.h>

#include "helpers.h"
