// SPDX-License-Identifier: GPL-2.0

//! What the administrator takes away ends what stands on it.
//!
//! A front's OPEN is judged under the tunnel's lock, and its record is there before
//! that is given up. Whoever has changed what is set and then looks at the records
//! finds all that was judged by what was set before.

use super::book::Record;
use crate::tunnel::Tunnel;

impl Tunnel {
    /// Back: ends the channels that the front's domain has no right to any more,
    /// for both ends.
    pub(crate) fn end_unrightful(&self) {
        for record in self.inner.lock().openings.records() {
            if self.lost_its_right(record) {
                record.channel.revoke();
            }
        }
    }

    /// Whether what is set now ends a channel. One with a tag was asked for by
    /// others, who need no right of the front's domain.
    fn lost_its_right(&self, record: &Record) -> bool {
        let (open, policies) = (&record.open, &self.hub.policies);
        match &record.group {
            _ if open.tag != 0 => false,
            Some(name) => policies.ends_join(self.peer, open.kind, name.text()),
            None => policies.ends_connect(self.peer, open.domain as u16, open.ports.target),
        }
    }
}
