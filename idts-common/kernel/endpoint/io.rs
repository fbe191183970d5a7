// SPDX-License-Identifier: GPL-2.0

//! `read(2)` and `write(2)` of a connected endpoint, and `IDTS_IOC_TRANSACT`.

use idts_core::uapi;
use idts_core::wire::{self, Kind};
use kernel::iov::{IovIterDest, IovIterSource};
use kernel::prelude::*;
use kernel::sync::atomic::Relaxed;

use super::caps::{settle, wait_turn, Blocked};
use super::endpoint::Endpoint;
use crate::channel::{Channel, Stop};
use crate::sys::busy_poll::BusyPoll;
use crate::sys::errno::Errno;
use crate::sys::uaccess::{fault_in_readable, fault_in_writable, signal_check, UserBuffer};
use crate::sys::wait::Awaited;

impl Endpoint {
    /// `read(2)`.
    ///
    /// # Errors
    /// As for a socket: `EAGAIN`, `ECONNRESET`, `EFAULT`, `ENOTCONN`, `EPROTO`, `ERESTARTSYS`.
    /// `EBADF`: the endpoint publishes.
    pub(crate) fn read(&self, to: &mut IovIterDest<'_>, nonblock: bool) -> Result<usize> {
        let channel = self.channel()?;
        if to.is_empty() {
            return Ok(0);
        }
        if channel.kind == Kind::Publish {
            return Err(EBADF);
        }
        let reader = (!nonblock).then_some(&self.reading);
        loop {
            let news = Awaited::of(&channel.waiter.read);
            let charged = self.charge_read(channel, len_u32(to.len()), reader);
            let result = charged.and_then(|charged| {
                let result = channel.try_read(to, charged, reader);
                settle(channel, charged, result.as_ref().map_or(0, |got| got.taken));
                Ok(result?.given)
            });
            match result {
                Ok(n) => {
                    if !to.is_empty() && channel.kind == Kind::Stream && channel.has_more() {
                        // The attempt stopped at pages that were not resident. They are faulted
                        // in for the next read, which reports a failure.
                        let _ = fault_in_writable(to, 1);
                    }
                    if nonblock || self.polled.load(Relaxed) {
                        match channel.levels().0 {
                            0 => self.watch_read(channel),
                            _ => self.watch_turn(channel),
                        }
                    }
                    return Ok(n as usize);
                }
                Err(Blocked::Stop(Stop::End)) => return Ok(0),
                Err(Blocked::Stop(Stop::Deaf | Stop::TooLong | Stop::Broken)) => {
                    return Err(channel.fate().into())
                }
                Err(Blocked::Stop(Stop::Fault(need))) => fault_in_writable(to, need)?,
                Err(Blocked::Stop(Stop::Blocked) | Blocked::Turn(_)) if nonblock => {
                    return Err(EAGAIN)
                }
                Err(Blocked::Turn(turn)) => wait_turn(channel, turn)?,
                Err(Blocked::Stop(Stop::Blocked)) => {
                    self.wait_for(channel, &self.reading, news)?;
                }
            }
        }
    }

    /// `write(2)`.
    ///
    /// # Errors
    /// As for a socket: `EAGAIN`, `ECONNRESET`, `EFAULT`, `EMSGSIZE`, `ENOTCONN`, `EPIPE`,
    /// `EPROTO`, `ERESTARTSYS`. `EBADF`: the endpoint subscribes.
    pub(crate) fn write(&self, from: &mut IovIterSource<'_>, nonblock: bool) -> Result<usize> {
        let channel = self.channel()?;
        if channel.kind == Kind::Subscribe {
            return Err(EBADF);
        }
        let mut total = 0usize;
        let mut spins = true;
        while !from.is_empty() {
            let charged = self.charge_write(channel, len_u32(from.len()), nonblock);
            let result = charged.and_then(|charged| {
                let result = channel.try_write(from, charged);
                settle(channel, charged, result.as_ref().map_or(0, |n| *n));
                Ok(result?)
            });
            let error = match result {
                Ok(n) => {
                    total = total.wrapping_add(n as usize);
                    spins = true;
                    continue;
                }
                Err(Blocked::Stop(Stop::Fault(need))) => fault_in_readable(from, need).err(),
                Err(Blocked::Turn(_)) if nonblock => Some(EAGAIN),
                Err(Blocked::Turn(turn)) => wait_turn(channel, turn).err(),
                Err(Blocked::Stop(Stop::Blocked)) => {
                    let mode = (nonblock, core::mem::replace(&mut spins, false));
                    self.blocked_write(channel, from.len(), mode).err()
                }
                // The bytes that were written are reported first; the next write reports the
                // error.
                Err(_) if total > 0 => break,
                Err(Blocked::Stop(Stop::Broken)) => Some(channel.fate().into()),
                Err(Blocked::Stop(Stop::TooLong)) => Some(Errno::MsgSize.into()),
                Err(Blocked::Stop(Stop::Deaf | Stop::End)) => Some(EPIPE),
            };
            match error {
                None => {}
                Some(_) if total > 0 => break,
                Some(error) => return Err(error),
            }
        }
        Ok(total)
    }

    /// `IDTS_IOC_TRANSACT`: writes the whole request, then reads. `sent` counts the bytes that
    /// were written, also on failure.
    ///
    /// # Errors
    /// As [`Self::write`] and [`Self::read`].
    pub(crate) fn transact(
        &self,
        request: &uapi::Transact,
        nonblock: bool,
        sent: &mut u32,
    ) -> Result<usize> {
        if request.tx_len > 0 {
            UserBuffer::source(request.tx, request.tx_len, |from| -> Result {
                while !from.is_empty() {
                    let n = self.write(from, nonblock)?;
                    *sent = sent.wrapping_add(n as u32);
                }
                Ok(())
            })??;
        }
        UserBuffer::dest(request.rx, request.rx_len, |to| self.read(to, nonblock))?
    }

    /// Waits for room to write some of `len` bytes. `spins`: it spins first, once for each
    /// progress, for a peer may show room that is not there.
    fn blocked_write(
        &self,
        channel: &Channel,
        len: usize,
        (nonblock, spins): (bool, bool),
    ) -> Result {
        if !nonblock {
            signal_check()?;
        }
        let room = channel.room_for(len);
        if !nonblock && spins && channel.spin_for_room(&self.writing, room) {
            channel.link.stats.looks.add(1);
            return Ok(());
        }
        let news = Awaited::of(&channel.waiter.write);
        let want = if nonblock {
            channel.room_for_poll()
        } else {
            room
        };
        if channel.arm_write(want) {
            return Ok(());
        }
        if nonblock {
            return Err(EAGAIN);
        }
        self.wait_for(channel, &self.writing, news)
    }

    /// Waits for `news` of the channel, by halting in place or sleeping.
    fn wait_for(&self, channel: &Channel, busy_poll: &BusyPoll, news: Awaited<'_>) -> Result {
        let cpu = channel.event_cpu();
        busy_poll.block(news, cpu, || {
            channel.link.stats.sleeps.add(1);
            self.sleep(news, None).map(|_| ())
        })
    }

    /// Arms for reading without blocking, and wakes pollers if data came in between.
    fn watch_read(&self, channel: &Channel) {
        channel.waiter.read.arm();
        if channel.arm_read() {
            channel.waiter.tell();
        }
    }
}

/// Limits a length to that of the largest ring.
fn len_u32(len: usize) -> u32 {
    len.min(wire::RING_MAX as usize) as u32
}
