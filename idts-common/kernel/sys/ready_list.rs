// SPDX-License-Identifier: GPL-2.0

//! A list of objects that are ready: pushed from hard interrupts, emptied by a worker,
//! without locks.

use core::ptr;

use kernel::sync::atomic::{Atomic, Full, Relaxed};
use kernel::sync::{Arc, ArcBorrow};

/// An object's link in a list.
///
/// # Invariants
///
/// While `queued` is 1, the object is in one list, which owns a reference to it.
pub struct Node<T> {
    /// 1 while the object is in a list.
    queued: Atomic<u32>,
    /// The object below it.
    next: Atomic<*mut T>,
}

impl<T> Node<T> {
    /// In no list.
    pub const fn new() -> Self {
        Self {
            queued: Atomic::new(0),
            next: Atomic::new(ptr::null_mut()),
        }
    }
}

/// An object that can be in a list.
pub trait Linked: Send + Sync + Sized {
    /// Its link, always the same.
    fn node(&self) -> &Node<Self>;
}

/// The list: a stack.
pub struct ReadyList<T: Linked> {
    /// The object on top, or null.
    head: Atomic<*mut T>,
}

impl<T: Linked> ReadyList<T> {
    /// An empty list.
    pub const fn new() -> Self {
        Self {
            head: Atomic::new(ptr::null_mut()),
        }
    }

    /// Whether it is empty; it may be no more right after.
    pub fn is_empty(&self) -> bool {
        self.head.load(Relaxed).is_null()
    }

    /// Puts an object in; `false`: it is in already. Fully ordered. In any context.
    pub fn push(&self, object: ArcBorrow<'_, T>) -> bool {
        if object.node().queued.xchg(1, Full) == 1 {
            return false;
        }
        let object = Arc::into_raw(Arc::from(object)).cast_mut();
        let mut head = self.head.load(Relaxed);
        loop {
            // SAFETY: A reference of ours, as made above. The link is ours until the object
            // is taken out: `queued` lets nobody else here.
            unsafe { (*object).node().next.store(head, Relaxed) };
            match self.head.cmpxchg(head, object, Full) {
                Ok(_) => return true,
                Err(now) => head = now,
            }
        }
    }

    /// Takes all objects out and calls `f` with each; it may be put in again by then.
    pub fn take(&self, mut f: impl FnMut(Arc<T>)) {
        if self.is_empty() {
            return;
        }
        let mut object = self.head.xchg(ptr::null_mut(), Full);
        while !object.is_null() {
            // SAFETY: Made by `Arc::into_raw` in `push`, taken out once.
            let this = unsafe { Arc::from_raw(object.cast_const()) };
            object = this.node().next.load(Relaxed);
            this.node().queued.xchg(0, Full);
            f(this);
        }
    }
}

impl<T: Linked> Drop for ReadyList<T> {
    fn drop(&mut self) {
        self.take(drop);
    }
}
