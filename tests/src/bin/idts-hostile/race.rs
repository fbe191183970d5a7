// SPDX-License-Identifier: GPL-2.0
//! A word that changes while somebody reads it: another thread, on another CPU, writes two values
//! in turn.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use idts_core::mem::SharedMem;

use crate::xen::Mem;

/// Ends with its drop; the word then holds the first of the values.
pub struct Race {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Race {
    pub fn start(mem: Mem, at: u32, (own, other): (u32, u32)) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&over);
        let thread = thread::spawn(move || {
            while !flag.load(Ordering::Relaxed) {
                for value in [other, own] {
                    mem.store(at, value);
                    std::hint::spin_loop();
                }
            }
        });
        Self {
            over,
            thread: Some(thread),
        }
    }
}

impl Drop for Race {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
