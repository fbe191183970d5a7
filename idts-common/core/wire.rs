// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Every number of the protocol: page layout, limits, messages.
//!
//! Owns constants and the form of messages; PROTOCOL.md's tables are held
//! against these files by a test. Decisions are left to the modules around.

mod codec;
mod layout;
mod message;
mod name;

pub use layout::{
    line, page, BROKEN_MAX, CHANNELS, DOMAINS, FIRST_WINDOWS, PAGE, QUEUES, RING_MAX, RING_MIN,
    SEGMENTS, SEGMENT_WINDOWS, VERSION, WINDOW, WINDOW_PAGES,
};
pub use message::{
    code, group, BackMessage, ChannelId, FrontMessage, Kind, Open, Ports, Refusal, Request, Slice,
    Slot, WINDOW_REFS,
};
pub use name::{is_name, Name, HOME, NAME_MAX};
