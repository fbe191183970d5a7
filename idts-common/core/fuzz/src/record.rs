// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! A reader of records whose peer lies, in the ring's bytes and its indices.

use super::input::{Input, Lying};
use idts_core::error::Violation;
use idts_core::index::Untrusted;
use idts_core::record::{check, framed, longest, HEADER};
use idts_core::ring::{Consumer, Lines, Span};

const LINES: Lines = Lines { own: 0, peer: 64 };

/// Reads one record from a ring of bytes that are as the peer likes.
fn read(rx: &mut Consumer, mem: &Lying<'_>, ring: &[u8]) -> Result<u32, Violation> {
    let bytes = |span: Span| &ring[span.at as usize..(span.at + span.len) as usize];
    let there = rx.available(mem, LINES)?;
    let header = bytes(rx.next(HEADER));
    let Ok(header) = <[u8; 4]>::try_from(header) else {
        assert!(there < HEADER, "a header straddles the ring's end");
        return Err(Violation::Record);
    };
    let len = check(Untrusted::new(u32::from_le_bytes(header)), there)?;
    assert!(0 < len && len <= longest(there));
    let mut done = 0;
    while done < len {
        let part = bytes(rx.next_after(HEADER + done, len - done)).len() as u32;
        assert!(part > 0, "a record ends early");
        done += part;
    }
    assert_eq!(done, len);
    let takes = framed(len).expect("a record without a frame");
    let _ = rx.release(mem, LINES, takes);
    assert_eq!(rx.available_seen(), there - takes);
    Ok(len)
}

/// Reads size and start of a ring, its bytes, and the peer's lies.
pub fn fuzz_one(data: &[u8]) {
    let input = Input::new(data);
    let size = 4u32 << (input.byte() % 6);
    let mut rx = Consumer::starting_at(size, input.word() & !3);
    let ring: Vec<u8> = (0..size).map(|_| input.byte()).collect();
    let mem = Lying::new(&input);
    while !mem.input.is_empty() {
        let _ = read(&mut rx, &mem, &ring);
        let _ = rx.arm(&mem, LINES);
        assert_eq!(rx.next(1).at % 4, 0, "a header may straddle");
    }
}
