// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Sizes, limits and page layout.
//!
//! PROTOCOL.md sections 5 and 6 have the tables.

/// The protocol's version. The back names the versions that it speaks, the
/// front picks one.
pub const VERSION: u32 = 1;

/// A page, as Xen grants them.
pub const PAGE: u32 = 4096;
/// Pages of a window: what `xenbus_map_ring_valloc` maps at once.
pub const WINDOW_PAGES: u32 = 16;
/// Bytes of a window: contiguous in both domains.
pub const WINDOW: u32 = PAGE * WINDOW_PAGES;
/// Windows of a segment, at most: one ring of the largest size fills it.
pub const SEGMENT_WINDOWS: u32 = 64;
/// Segments of a data region, at most.
pub const SEGMENTS: u32 = 32;
/// Windows of the first segment.
pub const FIRST_WINDOWS: u32 = 2;

/// Channel numbers of a tunnel. Number 0 is the control ring.
pub const CHANNELS: u32 = 4096;
/// Queues of a tunnel, at most: their summaries fill a cache line.
pub const QUEUES: u32 = 64 / page::SUMMARY;
/// The smallest ring.
pub const RING_MIN: u32 = PAGE;
/// The largest ring.
pub const RING_MAX: u32 = WINDOW * SEGMENT_WINDOWS;

/// Domain ids are below this (`DOMID_FIRST_RESERVED`, xen/include/public/xen.h).
pub const DOMAINS: u32 = 0x7ff0;
/// Channels of a tunnel that its peer may break: the tunnel is broken with the last.
pub const BROKEN_MAX: u32 = 64;

/// Layout of the control page.
pub mod page {
    /// Index words of the control ring that the front writes ([`super::line`]).
    pub const FRONT_LINE: u32 = 0x000;
    /// Index words of the control ring that the back writes.
    pub const BACK_LINE: u32 = 0x040;
    /// Summaries of the doorbells that the front rings, one for each queue.
    pub const FRONT_SUMMARY: u32 = 0x080;
    /// Summaries of the doorbells that the back rings.
    pub const BACK_SUMMARY: u32 = 0x0c0;
    /// Bytes of a summary.
    pub const SUMMARY: u32 = 8;
    /// Doorbells that the front rings: 64 double words.
    pub const FRONT_DOORBELLS: u32 = 0x400;
    /// Doorbells that the back rings: 64 double words.
    pub const BACK_DOORBELLS: u32 = 0x600;
    /// Messages from front to back.
    pub const FRONT_SLOTS: u32 = 0x800;
    /// Messages from back to front.
    pub const BACK_SLOTS: u32 = 0xc00;
    /// Slots of each direction.
    pub const SLOTS: u32 = 16;
    /// Bytes of a slot.
    pub const SLOT: u32 = 64;
}

/// Layout of a line: the words of a channel that one side writes.
pub mod line {
    /// Producer index of the ring that this side writes.
    pub const PROD: u32 = 0x00;
    /// Consumer index of the ring that this side reads.
    pub const CONS: u32 = 0x04;
    /// This side wants an event when the peer's producer index passes this.
    pub const PROD_EVENT: u32 = 0x08;
    /// This side wants an event when the peer's consumer index passes this.
    pub const CONS_EVENT: u32 = 0x0c;
    /// Flags of this side.
    pub const FLAGS: u32 = 0x10;
    /// Records that this side, writing for a group, did not deliver.
    pub const LAG: u32 = 0x14;
    /// Bytes of a line; the rest is sent as 0.
    pub const SIZE: u32 = 0x40;
    /// Bytes of a channel's pair of lines: the front's, then the back's.
    pub const PAIR: u32 = 0x80;

    /// This side writes no more: what was published is all.
    pub const FIN: u32 = 1;
    /// This side reads no more: writing to it is `EPIPE`.
    pub const DEAF: u32 = 1 << 1;
    /// This side closed the channel with data unread: `ECONNRESET`.
    pub const RESET: u32 = 1 << 2;
    /// All flags of this version; others are ignored.
    pub const KNOWN: u32 = FIN | DEAF | RESET;
}
