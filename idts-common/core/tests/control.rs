// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The control ring between two real threads: every message arrives once, whole
//! and in order, whatever the bursts.

#![cfg(not(loom))]

mod common;

use common::AtomicMem;
use idts_core::control::{ControlRing, Role};
use std::sync::Arc;
use std::thread;

const MESSAGES: u32 = 200_000;

fn slot(n: u32) -> [u32; 16] {
    core::array::from_fn(|i| n.wrapping_mul(31).wrapping_add(i as u32))
}

/// Sends and receives at once, as a worker does.
fn side(role: Role, mem: Arc<AtomicMem>) {
    let mut ring = ControlRing::new(role);
    let (mut sent, mut got) = (0, 0);
    while sent < MESSAGES || got < MESSAGES {
        while sent < MESSAGES {
            match ring.send(&*mem, &slot(sent)).expect("the peer is honest") {
                Some(_) => sent += 1,
                None => {
                    ring.arm_send(&*mem).expect("the peer is honest");
                    break;
                }
            }
        }
        while let Some((message, _)) = ring.receive(&*mem).expect("the peer is honest") {
            assert_eq!(message, slot(got));
            got += 1;
        }
        ring.arm_receive(&*mem).expect("the peer is honest");
        thread::yield_now();
    }
}

#[test]
fn every_message_arrives_once() {
    let mem = Arc::new(AtomicMem::page());
    let peer = mem.clone();
    let back = thread::spawn(move || side(Role::Back, peer));
    side(Role::Front, mem);
    back.join().expect("the back ends");
}
