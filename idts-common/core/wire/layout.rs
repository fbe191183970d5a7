// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Sizes, limits and page layout: PROTOCOL.md sections 5.1 to 5.4 and 9.2.

/// Protocol version of this implementation. The back announces the versions that it supports,
/// the front picks one.
pub const VERSION: u32 = 1;

/// Bytes of a page, the unit of Xen's grants.
pub const PAGE: u32 = 4096;
/// Pages of a window: as many as `xenbus_map_ring_valloc` maps at once
/// (`XENBUS_MAX_RING_GRANTS`, linux/include/xen/xenbus.h).
pub const WINDOW_PAGES: u32 = 16;
/// Bytes of a window, which is virtually contiguous in both domains.
pub const WINDOW: u32 = PAGE * WINDOW_PAGES;
/// Largest number of windows of a segment: a ring of the largest size fills it.
pub const SEGMENT_WINDOWS: u32 = 64;
/// Largest number of segments of a data region.
pub const SEGMENTS: u32 = 32;
/// Number of windows of the first segment.
pub const FIRST_WINDOWS: u32 = 2;

/// Number of channel numbers of a tunnel; 0 is the control ring's.
pub const CHANNELS: u32 = 4096;
/// Largest number of queues of a tunnel: their summaries fill a cache line.
pub const QUEUES: u32 = 64 / page::SUMMARY;
/// Bytes of the smallest ring.
pub const RING_MIN: u32 = PAGE;
/// Bytes of the largest ring.
pub const RING_MAX: u32 = WINDOW * SEGMENT_WINDOWS;

/// Upper bound of domain ids, exclusive (`DOMID_FIRST_RESERVED`, xen/include/public/xen.h).
pub const DOMAINS: u32 = 0x7ff0;
/// Number of channels that the peer can break before the tunnel is broken as well.
pub const BROKEN_MAX: u32 = 64;

/// Layout of the control page: PROTOCOL.md section 5.1.
pub mod page {
    /// The front's line of the control ring ([`super::line`]).
    pub const FRONT_LINE: u32 = 0x000;
    /// The back's line of the control ring.
    pub const BACK_LINE: u32 = 0x040;
    /// Summaries of the doorbells that the front sets, one for each queue.
    pub const FRONT_SUMMARY: u32 = 0x080;
    /// Summaries of the doorbells that the back sets.
    pub const BACK_SUMMARY: u32 = 0x0c0;
    /// Bytes of a summary.
    pub const SUMMARY: u32 = 8;
    /// Doorbells that the front sets: 64 double words.
    pub const FRONT_DOORBELLS: u32 = 0x400;
    /// Doorbells that the back sets: 64 double words.
    pub const BACK_DOORBELLS: u32 = 0x600;
    /// Slots of the messages from front to back.
    pub const FRONT_SLOTS: u32 = 0x800;
    /// Slots of the messages from back to front.
    pub const BACK_SLOTS: u32 = 0xc00;
    /// Number of slots of each direction.
    pub const SLOTS: u32 = 16;
    /// Bytes of a slot.
    pub const SLOT: u32 = 64;
}

/// Layout of a line: the index words of a channel (or of the control ring) that one side writes,
/// in a cache line of its own. PROTOCOL.md sections 5.2 and 5.3.
pub mod line {
    /// Producer index of the ring that this side writes.
    pub const PROD: u32 = 0x00;
    /// Consumer index of the ring that this side reads.
    pub const CONS: u32 = 0x04;
    /// Index at which the peer's producer must send an event.
    pub const PROD_EVENT: u32 = 0x08;
    /// Index at which the peer's consumer must send an event.
    pub const CONS_EVENT: u32 = 0x0c;
    /// Flags of this side.
    pub const FLAGS: u32 = 0x10;
    /// Number of records that this side, as a group's writer, did not deliver.
    pub const LAG: u32 = 0x14;
    /// Bytes of a line; unused ones are 0.
    pub const SIZE: u32 = 0x40;
    /// Bytes of a channel's pair of lines: the front's, then the back's.
    pub const PAIR: u32 = 0x80;

    /// This side writes no more: the stream ends with what is published.
    pub const FIN: u32 = 1;
    /// This side reads no more (`RCV_SHUTDOWN`): a write to it fails with `EPIPE`.
    pub const DEAF: u32 = 1 << 1;
    /// This side closed the channel with unread data: the peer gets `ECONNRESET`.
    pub const RESET: u32 = 1 << 2;
    /// All flags of this version. Others are ignored.
    pub const KNOWN: u32 = FIN | DEAF | RESET;
}
