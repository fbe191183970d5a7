// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Structures that applications pass to ioctls.

use super::input::Input;
use idts_core::ioctl::{ring_size, ChannelParams, JoinParams, BACKLOG_DEFAULT, RING_DEFAULT};
use idts_core::uapi::{
    Accept, Addr, Connect, Group, Listen, BACKLOG_MAX, CLOEXEC, DOMID_ANY, NAME_MAX, NONBLOCK,
    PORT_RESERVED, RING_MAX, RING_MIN,
};
use idts_core::wire::{is_name, Kind};

/// A flag, often, or anything.
fn flags(input: &Input<'_>) -> u32 {
    match input.byte() {
        few @ 0..=7 => few.into(),
        8 => CLOEXEC,
        9 => NONBLOCK,
        10 => CLOEXEC | NONBLOCK,
        _ => input.word(),
    }
}

/// A ring's size, often, or anything.
fn size(input: &Input<'_>) -> u32 {
    match input.byte() {
        power @ 1..=31 => 1 << power,
        0 => 0,
        _ => input.word(),
    }
}

fn address(input: &Input<'_>) -> Addr {
    Addr {
        domid: input.count() as u16,
        reserved: input.byte().saturating_sub(250).into(),
        port: input.count(),
    }
}

fn is_ring(size: u32) -> bool {
    size.is_power_of_two() && (RING_MIN..=RING_MAX).contains(&size)
}

/// A ring that was asked for is given, or none.
fn rings(asked: u32, given: u32) {
    assert_eq!(given, if asked == 0 { RING_DEFAULT } else { asked });
    assert!(is_ring(given));
}

fn connect(input: &Input<'_>) {
    let mut request = Connect {
        peer: address(input),
        tx_ring: size(input),
        rx_ring: size(input),
        timeout_ms: input.word(),
        flags: flags(input),
        ..Connect::default()
    };
    if input.byte() > 128 {
        request.peer.domid = DOMID_ANY;
    }
    let text = input.rest();
    let len = text.len().min(NAME_MAX);
    request.alias[..len].copy_from_slice(&text[..len]);
    let fits = |asked: u32| asked == 0 || is_ring(asked);
    let peer = request.peer;
    let good = peer.reserved == 0 && peer.port != 0 && request.flags <= 1;
    let good = good && fits(request.tx_ring) && fits(request.rx_ring);
    let found = request.check();
    assert_eq!(found.is_ok(), good);
    if let Ok(ChannelParams { kind, tx, rx }) = found {
        assert_eq!(kind as u32, request.flags);
        rings(request.tx_ring, tx);
        rings(request.rx_ring, rx);
    }
    match request.alias() {
        Ok(Some(name)) => {
            assert!(is_name(name.text()) && request.alias.starts_with(name.text()));
            assert_eq!(peer.domid, DOMID_ANY);
        }
        Ok(None) => assert_eq!(request.alias, [0; NAME_MAX]),
        Err(_) => assert!(peer.domid != DOMID_ANY || !is_name(text)),
    }
}

fn group(input: &Input<'_>) {
    let mut request = Group {
        ring: size(input),
        flags: flags(input),
        on_lag: flags(input),
        timeout_ms: input.word(),
        ..Group::default()
    };
    let kind = match input.byte() % 4 {
        0 => Kind::Stream,
        1 => Kind::Record,
        2 => Kind::Publish,
        _ => Kind::Subscribe,
    };
    let text = input.rest();
    let len = text.len().min(NAME_MAX);
    request.name[..len].copy_from_slice(&text[..len]);
    let Ok(JoinParams {
        channel: wanted,
        name,
        source: how,
    }) = request.check(kind)
    else {
        return;
    };
    assert!(kind.is_group() && wanted.kind == kind && kind.takes_source(how));
    assert!(is_name(name.text()) && request.name.starts_with(name.text()));
    assert_eq!(request.flags | request.on_lag, how, "an unknown flag");
    let (ring, other) = match kind {
        Kind::Publish => (wanted.tx, wanted.rx),
        _ => (wanted.rx, wanted.tx),
    };
    rings(request.ring, ring);
    assert_eq!(other, RING_MIN);
}

/// Reads which structure it is, then the structure.
pub fn fuzz_one(data: &[u8]) {
    let input = Input::new(data);
    match input.byte() % 5 {
        0 => connect(&input),
        1 => group(&input),
        2 => {
            let asked = Listen {
                backlog: input.count(),
                flags: flags(&input),
                max_ring: size(&input),
                reserved: input.byte().into(),
            };
            let found = asked.check();
            let ring = asked.max_ring;
            let fits = asked.flags <= 1 && asked.reserved == 0 && (ring == 0 || is_ring(ring));
            assert_eq!(found.is_ok(), fits);
            if let Ok(listening) = found {
                let backlog = listening.backlog;
                assert!(listening.max_ring == ring || (ring, listening.max_ring) == (0, RING_MAX));
                assert!(listening.kind as u32 == asked.flags);
                assert!((1..=BACKLOG_MAX).contains(&backlog));
                let same = backlog == asked.backlog || asked.backlog > BACKLOG_MAX;
                assert!(same || (asked.backlog, backlog) == (0, BACKLOG_DEFAULT));
            }
        }
        3 => {
            let asked = Accept {
                flags: flags(&input),
                ..Accept::default()
            };
            let all = CLOEXEC | NONBLOCK;
            assert_eq!(asked.check().is_ok(), asked.flags | all == all);
        }
        _ => {
            let asked = address(&input);
            assert_eq!(asked.check().is_ok(), asked.reserved == 0);
            assert_eq!(
                asked.is_privileged(),
                (1..PORT_RESERVED).contains(&asked.port)
            );
            let size = size(&input);
            assert_eq!(ring_size(size).is_ok(), size == 0 || is_ring(size));
        }
    }
}
