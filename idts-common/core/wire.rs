// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Wire format: page layout, limits, and the encoding of control messages.
//!
//! Everything in which the two sides must agree is here, and nothing else: the modules around
//! decide. The test `spec` holds these files against the tables of PROTOCOL.md.

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
pub use name::{is_name, Name, BACKEND_NAME, NAME_MAX};
