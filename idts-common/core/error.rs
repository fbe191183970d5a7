// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What a peer can do wrong, one variant for each rule of the protocol.
//!
//! Leaves to others: what to do about it (the drivers mark a channel or a
//! tunnel broken) and the errno (always `EPROTO`). PROTOCOL.md section 9 is
//! the table that these variants implement.

/// A rule of the protocol that the peer broke.
///
/// The name of a variant is the name of its row in PROTOCOL.md's table of
/// violations and of its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A producer index is further ahead of the consumer than the ring is long,
    /// or went backwards.
    ProducerIndex,
    /// A consumer index passed the producer, or went backwards.
    ConsumerIndex,
    /// A control message has a code that this side does not know.
    MessageCode,
    /// A field of a control message is outside its range, or a reserved one is
    /// not zero.
    MessageField,
    /// A message names a segment that is unknown, incomplete, or known already,
    /// or pages of it that cannot be mapped.
    Segment,
    /// A slice is misaligned, of a forbidden size, or leaves its segment.
    SliceRange,
    /// A slice overlaps one that is in use.
    SliceOverlap,
    /// A message names a channel that is not open, or opens one that is.
    ChannelId,
    /// A message carries another generation than the channel's.
    Generation,
    /// A message answers a request that was never made.
    Tag,
    /// A record's header gives a length of 0 or more than was published.
    Record,
    /// A message came that this state of the channel does not allow.
    MessageOrder,
}

impl Violation {
    /// Every variant, in the order of PROTOCOL.md's table.
    pub const ALL: [Self; 12] = [
        Self::ProducerIndex,
        Self::ConsumerIndex,
        Self::MessageCode,
        Self::MessageField,
        Self::Segment,
        Self::SliceRange,
        Self::SliceOverlap,
        Self::ChannelId,
        Self::Generation,
        Self::Tag,
        Self::Record,
        Self::MessageOrder,
    ];

    /// Its place in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name used in logs, counters and the document.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ProducerIndex => "producer-index",
            Self::ConsumerIndex => "consumer-index",
            Self::MessageCode => "message-code",
            Self::MessageField => "message-field",
            Self::Segment => "segment",
            Self::SliceRange => "slice-range",
            Self::SliceOverlap => "slice-overlap",
            Self::ChannelId => "channel-id",
            Self::Generation => "generation",
            Self::Tag => "tag",
            Self::Record => "record",
            Self::MessageOrder => "message-order",
        }
    }
}
