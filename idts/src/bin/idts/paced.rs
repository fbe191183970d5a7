// SPDX-License-Identifier: MIT OR Apache-2.0
//! A channel whose calls end by the clock, however slowly its peer moves.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use idts::{Channel, Received};

use crate::wire::Wire;

/// How long a peer that takes no more may be silent about why.
const REPLY_WAIT: Duration = Duration::from_secs(30);

/// How long a peer may take to hear the last thing that is said to it.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A channel with limits: for each wait, and for all that is done here.
pub struct Paced<'a> {
    channel: &'a Channel,
    each: Option<Duration>,
    until: Option<Instant>,
}

/// The time for all has passed: a peer that moves a byte now and then meets this one alone.
#[derive(Debug)]
pub struct Over;

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it took longer than it may")
    }
}

impl std::error::Error for Over {}

impl Over {
    /// Whether it is what `error` is about.
    pub fn is_cause_of(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|cause| cause.is::<Self>())
    }
}

impl<'a> Paced<'a> {
    /// From now on no call waits longer than `each`, and all of them not longer than `whole`.
    pub fn new(
        channel: &'a Channel,
        each: Option<Duration>,
        whole: Option<Duration>,
    ) -> anyhow::Result<Self> {
        if each.is_some() {
            channel.set_read_timeout(each)?;
            channel.set_write_timeout(each)?;
        }
        // One that no clock can tell is none.
        let until = whole.and_then(|whole| Instant::now().checked_add(whole));
        Ok(Self {
            channel,
            each,
            until,
        })
    }

    /// As [`Channel::transact`].
    pub fn transact(&mut self, request: &[u8], reply: &mut [u8]) -> io::Result<Received> {
        if self.until.is_none() {
            return self.channel.transact(request, reply);
        }
        if self.channel.has_records() && !request.is_empty() {
            self.wait(Channel::set_write_timeout, || self.channel.send(request))?;
        } else {
            self.write_all(request)?;
        }
        self.wait(Channel::set_read_timeout, || {
            self.channel.transact(&[], reply)
        })
    }

    /// Calls what may wait, with the time that is left.
    fn wait<T>(
        &self,
        set: impl Fn(&Channel, Option<Duration>) -> idts::Result<()>,
        call: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let Some(until) = self.until else {
            return call();
        };
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(over());
        }
        set(
            self.channel,
            Some(self.each.map_or(left, |each| each.min(left))),
        )?;
        call().map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut if until <= Instant::now() => over(),
            _ => error,
        })
    }
}

fn over() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, Over)
}

impl Read for Paced<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut channel = self.channel;
        self.wait(Channel::set_read_timeout, || channel.read(buffer))
    }
}

impl Write for Paced<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut channel = self.channel;
        self.wait(Channel::set_write_timeout, || channel.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Wire for Paced<'_> {
    fn refuse(&mut self) {
        // A channel that is gone takes no more either.
        let _ = self.channel.shutdown(Shutdown::Read);
    }

    fn hurry(&mut self) {
        let soon = Instant::now() + REPLY_WAIT;
        self.until = Some(self.until.map_or(soon, |until| until.min(soon)));
    }

    fn come_to_the_end(&mut self) {
        self.until = Some(Instant::now() + LAST_WORDS);
    }
}
