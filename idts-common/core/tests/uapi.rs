// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! `uapi.rs` against `uapi/idts.h`: every structure, member by member, every
//! number, every ioctl. Anything that only one of them has fails.

#![cfg(not(loom))]

use idts_core::{uapi, wire};
use std::collections::BTreeMap;
use std::mem::{offset_of, size_of, size_of_val};

const HEADER: &str = include_str!("../../uapi/idts.h");

/// The header without comments, with lines that end in `\` joined.
fn source() -> String {
    let mut text = String::new();
    let mut rest = HEADER;
    while let Some((before, after)) = rest.split_once("/*") {
        text.push_str(before);
        rest = after.split_once("*/").expect("an open comment").1;
    }
    text.push_str(rest);
    text.replace("\\\n", " ")
}

/// Name, offset, size.
type Member = (String, usize, usize);

/// Structures by name: members, size.
fn structs(source: &str) -> BTreeMap<String, (Vec<Member>, usize)> {
    let mut all: BTreeMap<String, (Vec<Member>, usize)> = BTreeMap::new();
    let mut aligns: BTreeMap<String, usize> = BTreeMap::new();
    let numbers = defines(source);
    for part in source.split("\nstruct ").skip(1) {
        let (name, body) = part.split_once('{').expect("a body");
        let body = body.split_once("};").expect("an end").0;
        let (mut members, mut end, mut align) = (Vec::new(), 0usize, 1);
        for member in body.split(';').map(str::trim).filter(|m| !m.is_empty()) {
            let (ty, field) = member.rsplit_once(char::is_whitespace).expect("type, name");
            let (field, count) = match field.split_once('[') {
                Some((field, count)) => (field, value(&numbers[count.trim_end_matches(']')])),
                None => (field, 1),
            };
            let (size, wants) = match ty.trim() {
                "__u8" => (1, 1),
                "__u16" => (2, 2),
                "__u32" | "__s32" => (4, 4),
                "__u64" => (8, 8),
                other => {
                    let inner = other.strip_prefix("struct ").expect("a known type");
                    (all[inner].1, aligns[inner])
                }
            };
            assert_eq!(end % wants, 0, "{name}: a hole before {field}");
            let size = size * count as usize;
            members.push((field.to_owned(), end, size));
            end += size;
            align = align.max(wants);
        }
        assert_eq!(end % align, 0, "{name}: a hole at its end");
        aligns.insert(name.trim().to_owned(), align);
        all.insert(name.trim().to_owned(), (members, end));
    }
    all
}

/// All `#define`s that have a value.
fn defines(source: &str) -> BTreeMap<String, String> {
    let lines = source.lines().filter_map(|l| l.strip_prefix("#define "));
    let split = |l: &str| {
        let (name, value) = l.split_once(char::is_whitespace)?;
        Some((name.to_owned(), value.trim().to_owned()))
    };
    lines.filter_map(split).collect()
}

/// A product of C integer constants.
fn value(text: &str) -> u64 {
    let plain = text.trim_start_matches('(').trim_end_matches(')');
    let factor = |t: &str| {
        let t = t.trim().trim_end_matches('u');
        let parsed = match (t.strip_prefix("0x"), t.strip_prefix('0')) {
            (Some(hex), _) => u64::from_str_radix(hex, 16),
            (_, Some(octal)) if !octal.is_empty() => u64::from_str_radix(octal, 8),
            _ => t.parse(),
        };
        parsed.unwrap_or_else(|_| panic!("not a number: {t}"))
    };
    plain.split('*').map(factor).product()
}

macro_rules! layouts {
    ($($c:literal => $rust:ident { $($field:ident),+ $(,)? })+) => {
        BTreeMap::from([$((
            $c.to_owned(),
            (
                vec![$((
                    stringify!($field).to_owned(),
                    offset_of!(uapi::$rust, $field),
                    size_of_val(&uapi::$rust::default().$field),
                )),+],
                size_of::<uapi::$rust>(),
            ),
        )),+])
    };
}

#[test]
fn structures() {
    let rust = layouts! {
        "idts_addr" => Addr { domid, reserved, port }
        "idts_version" => Version { uapi, role, features }
        "idts_listen" => Listen { backlog, flags, max_ring, reserved }
        "idts_accept" => Accept { flags, fd, peer }
        "idts_connect" => Connect { peer, tx_ring, rx_ring, timeout_ms, flags, alias }
        "idts_info" => Info {
            state, error, local, peer, tx_ring, rx_ring, tx_free, rx_avail,
            tx_bytes, rx_bytes, events_sent, sleeps, queued, refused,
            truncated, flags, lag,
        }
        "idts_group" => Group { name, ring, flags, on_lag, timeout_ms }
        "idts_transact" => Transact { tx, rx, tx_len, rx_len, sent, reserved }
    };
    assert_eq!(structs(&source()), rust);
}

macro_rules! numbers {
    ($($header:literal => $rust:ident),+ $(,)?) => {
        BTreeMap::from([$(($header.to_owned(), uapi::$rust as u64)),+])
    };
}

#[test]
fn constants() {
    let rust: BTreeMap<String, u64> = numbers! {
        "IDTS_UAPI_VERSION" => UAPI_VERSION,
        "IDTS_DOMID_ANY" => DOMID_ANY,
        "IDTS_PORT_RESERVED" => PORT_RESERVED,
        "IDTS_PORT_EPHEMERAL" => PORT_EPHEMERAL,
        "IDTS_RING_MIN" => RING_MIN,
        "IDTS_RING_MAX" => RING_MAX,
        "IDTS_BACKLOG_MAX" => BACKLOG_MAX,
        "IDTS_FEATURE_MAX_RING" => FEATURE_MAX_RING,
        "IDTS_FEATURE_GOES_ON" => FEATURE_GOES_ON,
        "IDTS_ROLE_FRONT" => ROLE_FRONT,
        "IDTS_ROLE_BACK" => ROLE_BACK,
        "IDTS_RECORD" => RECORD,
        "IDTS_NAME_MAX" => NAME_MAX,
        "IDTS_LAG_DROP" => LAG_DROP,
        "IDTS_LAG_DISCONNECT" => LAG_DISCONNECT,
        "IDTS_LAG_BLOCK" => LAG_BLOCK,
        "IDTS_GROUP_MAY_BLOCK" => GROUP_MAY_BLOCK,
        "IDTS_CLOEXEC" => CLOEXEC,
        "IDTS_NONBLOCK" => NONBLOCK,
        "IDTS_SHUT_RD" => SHUT_RD,
        "IDTS_SHUT_WR" => SHUT_WR,
        "IDTS_SHUT_RDWR" => SHUT_RDWR,
        "IDTS_STATE_IDLE" => STATE_IDLE,
        "IDTS_STATE_BOUND" => STATE_BOUND,
        "IDTS_STATE_LISTENING" => STATE_LISTENING,
        "IDTS_STATE_CONNECTING" => STATE_CONNECTING,
        "IDTS_STATE_CONNECTED" => STATE_CONNECTED,
        "IDTS_STATE_BROKEN" => STATE_BROKEN,
    };
    let header: BTreeMap<String, u64> = defines(&source())
        .into_iter()
        .filter(|(name, _)| !name.starts_with("IDTS_IOC_"))
        .map(|(name, text)| (name, value(&text)))
        .collect();
    assert_eq!(header, rust);
    assert_eq!(uapi::RING_MIN, wire::RING_MIN);
    assert_eq!(uapi::RING_MAX, wire::RING_MAX);
    // The driver hands these on as they are.
    assert_eq!(uapi::NAME_MAX, wire::NAME_MAX);
    assert_eq!(uapi::LAG_DROP, wire::group::DROP);
    assert_eq!(uapi::LAG_DISCONNECT, wire::group::DISCONNECT);
    assert_eq!(uapi::LAG_BLOCK, wire::group::BLOCK);
    assert_eq!(uapi::GROUP_MAY_BLOCK, wire::group::MAY_BLOCK);
}

#[test]
fn ioctls() {
    use uapi::nr;
    // Name, direction, number, size of the argument.
    let rust = [
        ("ACCEPT", "_IOWR", nr::ACCEPT, size_of::<uapi::Accept>()),
        ("BIND", "_IOW", nr::BIND, size_of::<uapi::Addr>()),
        ("CONNECT", "_IOW", nr::CONNECT, size_of::<uapi::Connect>()),
        ("GET_ERROR", "_IOR", nr::GET_ERROR, size_of::<i32>()),
        ("GET_INFO", "_IOR", nr::GET_INFO, size_of::<uapi::Info>()),
        ("LISTEN", "_IOW", nr::LISTEN, size_of::<uapi::Listen>()),
        ("PUBLISH", "_IOW", nr::PUBLISH, size_of::<uapi::Group>()),
        ("SHUTDOWN", "_IO", nr::SHUTDOWN, 0),
        ("SUBSCRIBE", "_IOW", nr::SUBSCRIBE, size_of::<uapi::Group>()),
        (
            "TRANSACT",
            "_IOWR",
            nr::TRANSACT,
            size_of::<uapi::Transact>(),
        ),
        ("VERSION", "_IOR", nr::VERSION, size_of::<uapi::Version>()),
    ];
    let source = source();
    let (all, structs) = (defines(&source), structs(&source));
    assert_eq!(
        all["IDTS_IOC_MAGIC"],
        format!("'{}'", char::from(uapi::MAGIC))
    );
    let found: Vec<_> = all
        .iter()
        .filter_map(|(name, text)| Some((name.strip_prefix("IDTS_IOC_")?, text)))
        .filter(|(name, _)| *name != "MAGIC")
        .collect();
    assert_eq!(found.len(), rust.len());
    for ((name, text), (wanted, direction, number, size)) in found.into_iter().zip(rust) {
        assert_eq!(name, wanted);
        let (macro_name, arguments) = text.split_once('(').expect("a macro");
        let arguments = arguments.trim_end_matches(')');
        let arguments: Vec<_> = arguments.split(',').map(str::trim).collect();
        let argument = match arguments.get(2).copied() {
            None => 0,
            Some("__s32") => 4,
            Some(ty) => structs[ty.strip_prefix("struct ").expect("a structure")].1,
        };
        assert_eq!(macro_name, direction, "{name}");
        assert_eq!(arguments[0], "IDTS_IOC_MAGIC", "{name}");
        assert_eq!(value(arguments[1]), u64::from(number), "{name}");
        assert_eq!(argument, size, "{name}");
    }
}
