// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Violations: the rules of the protocol that a peer can break.
//!
//! The drivers react: they mark the channel or the tunnel broken, and applications get
//! `EPROTO`. PROTOCOL.md section 9.1 has the table of these variants.

/// A rule of the protocol that the peer broke. [`Self::name`] is the name of its row in the table
/// of section 9.1, and of its counter.
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
    /// All variants, in the order of the table, for counters by [`Self::index`].
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

    /// The index in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name in logs, counters and the document.
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
