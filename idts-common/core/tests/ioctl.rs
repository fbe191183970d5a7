// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What applications ask for: good requests are understood, and each of their
//! fields has its edges. Anything at all is left to the fuzz target.

#![cfg(not(loom))]

use idts_core::ioctl::{ring_size, ArgumentError, ChannelParams, JoinParams};
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
    assert_eq!(ring_size(0), Ok(RING));
    for size in (12..=22).map(|power| 1 << power) {
        assert_eq!(ring_size(size), Ok(size));
        for other in [size - 1, size + 1, size / 2 * 3] {
            assert_eq!(ring_size(other), Err(ArgumentError::RingSize), "{other}");
        }
    }
    assert_eq!(ring_size(1 << 11), Err(ArgumentError::RingSize));
    assert_eq!(ring_size(1 << 23), Err(ArgumentError::RingSize));
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
        Ok((listening.backlog, listening.kind, listening.max_ring))
    };
    assert_eq!(asked(0, 0, 0), Ok((16, Kind::Stream, RING_MAX)));
    assert_eq!(asked(1, 1, 4096), Ok((1, Kind::Record, 4096)));
    let most = Ok((BACKLOG_MAX, Kind::Stream, RING_MAX));
    assert_eq!(asked(u32::MAX, 0, RING_MAX), most);
    assert_eq!(asked(1, 2, 0), Err(ArgumentError::Flags));
    for size in [1, 4095, 4097, 5000, RING_MAX + 1, 2 * RING_MAX] {
        assert_eq!(asked(1, 0, size), Err(ArgumentError::RingSize), "{size}");
    }
    assert_eq!(listen(1, 0, 0, 1).check(), Err(ArgumentError::Reserved));
}

#[test]
fn transacts() {
    for (tx_len, rx_len, reserved, wanted) in [
        (0, 0, 0, Ok(())),
        (0x7fff_f000, 0x7fff_f000, 0, Ok(())),
        (0x7fff_f001, 0, 0, Err(ArgumentError::Length)),
        (0, 0x7fff_f001, 0, Err(ArgumentError::Length)),
        (1, 1, 1, Err(ArgumentError::Reserved)),
    ] {
        let transact = Transact {
            tx_len,
            rx_len,
            reserved,
            // Out only: anything may stand there.
            sent: 7,
            ..Transact::default()
        };
        assert_eq!(transact.check(), wanted, "{transact:?}");
    }
}

#[test]
fn accepts() {
    for (flags, wanted) in [
        (0, Ok(())),
        (CLOEXEC | NONBLOCK, Ok(())),
        (u32::MAX, Err(ArgumentError::Flags)),
    ] {
        let accept = Accept {
            flags,
            ..Accept::default()
        };
        assert_eq!(accept.check(), wanted);
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
    let wanted = |kind| Ok(ChannelParams { kind, tx, rx });
    assert_eq!(good.check(), wanted(Kind::Stream));
    assert_eq!(Connect { flags: 1, ..good }.check(), wanted(Kind::Record));
    assert_eq!(
        Connect { flags: 2, ..good }.check(),
        Err(ArgumentError::Flags)
    );
    let reserved = Addr {
        reserved: 1,
        ..peer
    };
    for (bad, why) in [
        (Addr { port: 0, ..peer }, ArgumentError::Port),
        (reserved, ArgumentError::Reserved),
    ] {
        assert_eq!(Connect { peer: bad, ..good }.check(), Err(why));
    }
    assert_eq!(
        (peer.check(), reserved.check()),
        (Ok(()), Err(ArgumentError::Reserved))
    );
    assert_eq!(good.alias(), Ok(None));
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
    assert_eq!(asked(any, alias), Ok(Some(Name(alias))));
    assert_eq!(asked(peer, alias), Err(ArgumentError::Name));
    assert_eq!(asked(any, name("Web")), Err(ArgumentError::Name));
}

#[test]
fn groups() {
    let good = Group {
        name: name("news"),
        ring: 8192,
        ..Group::default()
    };
    let (publish, subscribe) = (Kind::Publish, Kind::Subscribe);
    let found = |kind, tx, rx, source| JoinParams {
        channel: ChannelParams { kind, tx, rx },
        name: Name(good.name),
        source,
    };
    let within = |most, join: JoinParams| match join.source <= most {
        true => Ok(join),
        false => Err(ArgumentError::Flags),
    };
    for how in 0..4 {
        let publisher = Group { flags: how, ..good };
        let expected = within(1, found(publish, 8192, 4096, how));
        assert_eq!(publisher.check(publish), expected);
        let subscriber = Group {
            on_lag: how,
            ..good
        };
        let expected = within(2, found(subscribe, 4096, 8192, how));
        assert_eq!(subscriber.check(subscribe), expected);
        // What the other one says is not for this one.
        let is_plain = how == 0;
        assert_eq!(publisher.check(subscribe).is_ok(), is_plain);
        assert_eq!(subscriber.check(publish).is_ok(), is_plain);
    }
    assert_eq!(good.check(Kind::Stream), Err(ArgumentError::Kind));
    assert_eq!(good.check(Kind::Record), Err(ArgumentError::Kind));
    for bad in ["", "News", "1st"] {
        let unnamed = Group {
            name: name(bad),
            ..good
        };
        assert_eq!(unnamed.check(publish), Err(ArgumentError::Name), "{bad}");
    }
}
