// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who has connected to `idts recv` and not said yet what it sends. All are listened to
//! beside each other, so that nobody has to wait until a stranger has used its time up.

use std::io::{self, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use idts::output::causes;
use idts::seldom::Seldom;
use idts::{Address, Channel, Listener};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::open::{may_pass, PAUSE};
use crate::transfer::{missing, read_header, Failure, Header};

/// Who connects says within this time what it sends, or it is no sender.
const HEADER_WAIT: Duration = Duration::from_secs(30);

/// So many are listened to. One more takes the place of one whose domain has the most.
const SEATS: usize = 64;

/// One who has connected.
struct Guest {
    channel: Channel,
    peer: Address,
    until: Instant,
    said: Vec<u8>,
}

struct Lobby {
    guests: Vec<Guest>,
    log: Seldom,
}

/// Waits for the first peer that says in time what it sends; `limit` makes that sooner than
/// it is without.
pub fn wait_for_sender(listener: &Listener, limit: Option<Duration>) -> Result<(Channel, Header)> {
    let limit = limit.map_or(HEADER_WAIT, |limit| limit.min(HEADER_WAIT));
    listener.set_nonblocking(true)?;
    let mut lobby = Lobby {
        guests: Vec::new(),
        log: Seldom::default(),
    };
    loop {
        lobby.wait(listener)?;
        if let Some((channel, header)) = lobby.hear() {
            channel.set_nonblocking(false)?;
            return Ok((channel, header));
        }
        lobby.let_in(listener, limit)?;
    }
}

impl Lobby {
    /// Waits until somebody comes, says something, or has used its time up.
    fn wait(&self, listener: &Listener) -> Result<()> {
        let mut fds = vec![PollFd::new(listener, PollFlags::IN)];
        let guests = self.guests.iter();
        fds.extend(guests.map(|guest| PollFd::new(&guest.channel, PollFlags::IN)));
        let first = self.guests.iter().map(|guest| guest.until).min();
        let left = first.map(|until| until.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut fds, left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(io::Error::from(errno).into()),
        }
    }

    /// Takes what the guests have said; whose time is up, or who is no sender, goes.
    fn hear(&mut self) -> Option<(Channel, Header)> {
        let now = Instant::now();
        let mut at = 0;
        while let Some(guest) = self.guests.get_mut(at) {
            let header = match guest.hear() {
                Ok(None) if now < guest.until => {
                    at += 1;
                    continue;
                }
                Ok(Some(header)) => Ok(header),
                Ok(None) => Err(Failure::Silent {
                    when: "at the header".into(),
                }),
                Err(failure) => Err(failure),
            };
            let guest = self.guests.remove(at);
            match header {
                Ok(header) => return Some((guest.channel, header)),
                Err(failure) => self.pass_over(guest.peer, &failure.to_string()),
            }
        }
        None
    }

    /// Accepts all who wait.
    fn let_in(&mut self, listener: &Listener, limit: Duration) -> Result<()> {
        loop {
            match listener.accept() {
                Ok((channel, peer)) => {
                    channel.set_nonblocking(true)?;
                    if self.guests.len() >= SEATS {
                        self.send_one_away();
                    }
                    self.guests.push(Guest {
                        channel,
                        peer,
                        until: Instant::now() + limit,
                        said: Vec::new(),
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => {
                    let error = error.into();
                    if !may_pass(&error) {
                        return Err(error);
                    }
                    // What has run out comes back when somebody goes.
                    self.log.say(&format!("idts: {}", causes(&error)));
                    self.send_one_away();
                    thread::sleep(PAUSE);
                    return Ok(());
                }
            }
        }
    }

    fn send_one_away(&mut self) {
        if let Some(at) = whom_to_send_away(&self.guests, |guest| guest.peer.domain) {
            let guest = self.guests.remove(at);
            self.pass_over(guest.peer, "too many of its domain are silent");
        }
    }

    fn pass_over(&mut self, peer: Address, why: &str) {
        self.log.say(&format!("idts: {peer} is passed over: {why}"));
    }
}

/// The one that has been here for longest of the domain that has the most.
fn whom_to_send_away<T>(guests: &[T], domain: impl Fn(&T) -> u16) -> Option<usize> {
    let crowd = |of: u16| guests.iter().filter(|guest| domain(guest) == of).count();
    // Of equals max_by_key takes the last.
    (0..guests.len())
        .rev()
        .max_by_key(|at| crowd(domain(&guests[*at])))
}

impl Guest {
    /// Reads what is there; the header once it is whole.
    fn hear(&mut self) -> Result<Option<Header>, Failure> {
        loop {
            let missing = missing(&self.said);
            if missing == 0 {
                return read_header(self).map(Some);
            }
            let mut more = vec![0; missing];
            let mut channel = &self.channel;
            match channel.read(&mut more) {
                // It ends within the header, which reading that tells.
                Ok(0) => return read_header(self).map(Some),
                Ok(bytes) => self.said.extend(&more[..bytes]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => {
                    return Err(Failure::Broke {
                        when: "at the header".into(),
                        cause,
                    })
                }
            }
        }
    }
}

/// Gives what was said already.
impl Read for Guest {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = (&self.said[..]).read(buffer)?;
        self.said.drain(..bytes);
        Ok(bytes)
    }
}

impl Write for Guest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&self.channel).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_of_one_domain_makes_room_for_others() {
        let away = |domains: &[u16]| whom_to_send_away(domains, |domain| *domain);
        assert_eq!(away(&[]), None);
        assert_eq!(away(&[7]), Some(0));
        assert_eq!(away(&[7, 3, 3]), Some(1));
        assert_eq!(away(&[3, 7, 7, 3, 3]), Some(0));
        assert_eq!(away(&[4, 7, 4, 7]), Some(0));
    }
}
