// SPDX-License-Identifier: MIT OR Apache-2.0
//! What ends a waiting in other threads for good. The driver ends no waiting on a listener, so
//! who waits there polls this beside it.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use rustix::event::{eventfd, EventfdFlags};

use crate::endpoint::lock;

#[derive(Debug, Default)]
pub struct Bell(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    is_rung: bool,
    /// Made when somebody first waits, readable from when it is rung.
    event: Option<Arc<OwnedFd>>,
}

impl Bell {
    pub fn is_rung(&self) -> bool {
        lock(&self.0).is_rung
    }

    /// Rings it, for ever.
    pub fn ring(&self) {
        let mut state = lock(&self.0);
        state.is_rung = true;
        if let Some(event) = &state.event {
            announce(event);
        }
    }

    /// What is readable once it is rung.
    pub fn to_poll(&self) -> rustix::io::Result<Arc<OwnedFd>> {
        let mut state = lock(&self.0);
        if let Some(event) = &state.event {
            return Ok(Arc::clone(event));
        }
        let event = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        if state.is_rung {
            announce(&event);
        }
        state.event = Some(Arc::clone(&event));
        Ok(event)
    }
}

fn announce(event: &OwnedFd) {
    // It is full only after as many rings as nobody makes, and readable then.
    let _ = rustix::io::write(event, &1u64.to_ne_bytes());
}
