// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The control ring between two real threads: every message arrives once, whole
//! and in order, whatever the bursts.

#![cfg(not(loom))]

mod common;

use common::AtomicMem;
use idts_core::control::ControlRing;
use idts_core::role::Role;
use idts_core::wire::page;
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

#[test]
fn a_full_ring_takes_more_as_soon_as_there_is_room() {
    let mem = AtomicMem::page();
    let mut front = ControlRing::new(Role::Front);
    let mut back = ControlRing::new(Role::Back);
    for n in 0..page::SLOTS {
        assert!(matches!(front.send(&mem, &slot(n)), Ok(Some(_))));
    }
    assert_eq!(front.send(&mem, &slot(0)), Ok(None));
    for n in 0..page::SLOTS {
        let (message, _) = back.receive(&mem).unwrap().unwrap();
        assert_eq!(message, slot(n));
        // Without asking for an event in between.
        assert!(matches!(front.send(&mem, &slot(n)), Ok(Some(_))));
    }
    assert_eq!(front.send(&mem, &slot(0)), Ok(None));
}

#[test]
fn arming_says_what_is_there() {
    let mem = AtomicMem::page();
    let mut front = ControlRing::new(Role::Front);
    let mut back = ControlRing::new(Role::Back);
    assert_eq!(back.arm_receive(&mem), Ok(false));
    assert_eq!(front.arm_send(&mem), Ok(true));
    assert_eq!(front.send(&mem, &slot(0)), Ok(Some(true)));
    assert_eq!(back.arm_receive(&mem), Ok(true));
    for n in 1..page::SLOTS {
        assert!(matches!(front.send(&mem, &slot(n)), Ok(Some(_))));
    }
    assert_eq!(front.arm_send(&mem), Ok(false));
    assert_eq!(back.receive(&mem), Ok(Some((slot(0), true))));
    assert_eq!(front.arm_send(&mem), Ok(true));
}
