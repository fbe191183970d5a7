// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What applications ask for: good requests are understood, and each of their
//! fields has its edges. Anything at all is left to the fuzz target.

#![cfg(not(loom))]

use idts_core::requests::{ring_size, Wanted};
use idts_core::uapi::{
    Accept, Addr, Connect, Group, Listen, Transact, BACKLOG_MAX, CLOEXEC, DOMID_ANY, NAME_MAX,
    NONBLOCK, RING_MAX,
};
use idts_core::wire::{Kind, Name};

/// README.md's.
const RING: u32 = 128 << 10;

fn name(text: &str) -> [u8; NAME_MAX] {
    let mut name = [0; NAME_MAX];
    name[..text.len()].copy_from_slice(text.as_bytes());
    name
}

#[test]
fn rings() {
    assert_eq!(ring_size(0), Some(RING));
    for size in (12..=22).map(|power| 1 << power) {
        assert_eq!(ring_size(size), Some(size));
        for other in [size - 1, size + 1, size / 2 * 3] {
            assert_eq!(ring_size(other), None, "{other}");
        }
    }
    assert_eq!(ring_size(1 << 11), None);
    assert_eq!(ring_size(1 << 23), None);
}

#[test]
fn ports() {
    for (port, wanted) in [(0, false), (1, true), (1023, true), (1024, false)] {
        let address = Addr {
            port,
            ..Addr::default()
        };
        assert_eq!(address.is_privileged(), wanted, "{port}");
    }
}

#[test]
fn listens() {
    let listen = |backlog, flags, max_ring, reserved| Listen {
        backlog,
        flags,
        max_ring,
        reserved,
    };
    let asked = |backlog, flags, max_ring| {
        let listening = listen(backlog, flags, max_ring, 0).check()?;
        Some((listening.backlog, listening.kind, listening.max_ring))
    };
    assert_eq!(asked(0, 0, 0), Some((16, Kind::Stream, RING_MAX)));
    assert_eq!(asked(1, 1, 4096), Some((1, Kind::Record, 4096)));
    let most = Some((BACKLOG_MAX, Kind::Stream, RING_MAX));
    assert_eq!(asked(u32::MAX, 0, RING_MAX), most);
    assert_eq!(asked(1, 2, 0), None);
    for size in [1, 4095, 4097, 5000, RING_MAX + 1, 2 * RING_MAX] {
        assert_eq!(asked(1, 0, size), None, "{size}");
    }
    assert_eq!(listen(1, 0, 0, 1).check(), None);
}

#[test]
fn transacts() {
    for (tx_len, rx_len, reserved, wanted) in [
        (0, 0, 0, true),
        (0x7fff_f000, 0x7fff_f000, 0, true),
        (0x7fff_f001, 0, 0, false),
        (0, 0x7fff_f001, 0, false),
        (1, 1, 1, false),
    ] {
        let transact = Transact {
            tx_len,
            rx_len,
            reserved,
            // Out only: anything may stand there.
            sent: 7,
            ..Transact::default()
        };
        assert_eq!(transact.is_known(), wanted, "{transact:?}");
    }
}

#[test]
fn accepts() {
    for (flags, wanted) in [(0, true), (CLOEXEC | NONBLOCK, true), (u32::MAX, false)] {
        let accept = Accept {
            flags,
            ..Accept::default()
        };
        assert_eq!(accept.is_known(), wanted);
    }
}

#[test]
fn connects() {
    let peer = Addr {
        domid: 3,
        reserved: 0,
        port: 80,
    };
    let good = Connect {
        peer,
        tx_ring: 4096,
        ..Connect::default()
    };
    let (tx, rx) = (4096, RING);
    let wanted = |kind| Some(Wanted { kind, tx, rx });
    assert_eq!(good.check(), wanted(Kind::Stream));
    assert_eq!(Connect { flags: 1, ..good }.check(), wanted(Kind::Record));
    assert_eq!(Connect { flags: 2, ..good }.check(), None);
    for bad in [
        Addr { port: 0, ..peer },
        Addr {
            reserved: 1,
            ..peer
        },
    ] {
        assert_eq!(Connect { peer: bad, ..good }.check(), None);
    }
    assert_eq!(good.alias(), Some(None));
    let any = Addr {
        domid: DOMID_ANY,
        ..peer
    };
    let alias = name("web");
    let asked = |peer, alias| {
        Connect {
            peer,
            alias,
            ..good
        }
        .alias()
    };
    assert_eq!(asked(any, alias), Some(Some(Name(alias))));
    assert_eq!(asked(peer, alias), None);
    assert_eq!(asked(any, name("Web")), None);
}

#[test]
fn groups() {
    let good = Group {
        name: name("news"),
        ring: 8192,
        ..Group::default()
    };
    let (publish, subscribe) = (Kind::Publish, Kind::Subscribe);
    let found = |kind, tx, rx, how| Some((Wanted { kind, tx, rx }, Name(good.name), how));
    for how in 0..4 {
        let publisher = Group { flags: how, ..good };
        let expected = found(publish, 8192, 4096, how).filter(|_| how <= 1);
        assert_eq!(publisher.check(publish), expected);
        let subscriber = Group {
            on_lag: how,
            ..good
        };
        let expected = found(subscribe, 4096, 8192, how).filter(|_| how <= 2);
        assert_eq!(subscriber.check(subscribe), expected);
        // What the other one says is not for this one.
        let is_plain = how == 0;
        assert_eq!(publisher.check(subscribe).is_some(), is_plain);
        assert_eq!(subscriber.check(publish).is_some(), is_plain);
    }
    assert_eq!(good.check(Kind::Stream), None);
    assert_eq!(good.check(Kind::Record), None);
    for bad in ["", "News", "1st"] {
        let unnamed = Group {
            name: name(bad),
            ..good
        };
        assert_eq!(unnamed.check(publish), None, "{bad}");
    }
}
