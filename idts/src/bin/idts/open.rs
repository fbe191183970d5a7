// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the verbs get their channels: resolve names, connect with patience,
//! listen and say so.

use std::io;
use std::time::{Duration, Instant};

use anyhow::{bail, Result};
use idts::output::say;
use idts::{Address, Alias, Bind, Channel, Connect, Listener, Peer};
use rustix::io::Errno;

use crate::cli::{Domain, Target};
use crate::names::{self, NoSuchName};

/// Pause between two tries to connect.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// The longest pause between two looks for a name, for which all domains are looked at.
const LOOK_AFTER: Duration = Duration::from_secs(2);

/// Before another try where something has run out.
pub const PAUSE: Duration = Duration::from_millis(200);

/// Connects to `target`, trying again for as long as `wait` while the peer,
/// its domain or the tunnel may still be on its way.
pub fn connect(
    target: &Target,
    wait: Duration,
    options: impl Fn(Connect) -> Connect,
) -> Result<Channel> {
    patiently(wait, || open(target, &options))
}

/// Calls `attempt` again for as long as `wait` while what it failed by may pass.
pub fn patiently<T>(wait: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    let mut pause = RETRY_AFTER;
    loop {
        let error = match attempt() {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        if started.elapsed() >= wait || !is_transient(&error) {
            return Err(error);
        }
        std::thread::sleep(pause.min(wait.saturating_sub(started.elapsed())));
        pause = next_pause(pause, error.is::<NoSuchName>());
    }
}

fn next_pause(pause: Duration, a_name_was_looked_for: bool) -> Duration {
    if a_name_was_looked_for {
        (2 * pause).min(LOOK_AFTER)
    } else {
        RETRY_AFTER
    }
}

/// No such name is transient as well: the domain may be on its way.
fn is_transient(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<idts::Error>() {
        Some(error) => error.is_transient(),
        None => error.is::<NoSuchName>(),
    }
}

/// Opens a channel to `target`. Of names the driver's word counts, which knows `dom0` and
/// the aliases; then, in dom0, what xenstore has.
fn open(target: &Target, options: &impl Fn(Connect) -> Connect) -> Result<Channel> {
    let by = |peer: Peer| Ok(options(Connect::with(peer)).open()?);
    let (name, port) = match target {
        Target::Id(address) => return by((*address).into()),
        Target::Name(name, port) => (name, *port),
    };
    let unknown = match name.parse::<Alias>() {
        Ok(alias) => match by(Peer::Alias(alias, port)) {
            Err(error) if is_unknown(&error) => error,
            result => return result,
        },
        Err(error) if !names::are_known()? => {
            bail!("{error}; a guest knows domains by id or alias")
        }
        Err(error) => error.into(),
    };
    if !names::are_known()? {
        return Err(unknown);
    }
    by(Address::new(names::id_of_name(name)?, port).into())
}

/// True where dom0's driver has no domain of that alias.
fn is_unknown(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<idts::Error>();
    error.and_then(idts::Error::raw_os_error) == Some(Errno::HOSTUNREACH.raw_os_error())
}

/// Listens and says so on stderr.
pub fn listen(bind: &Bind) -> Result<Listener> {
    let listener = bind.listen()?;
    say(format_args!("listening on {}", listener.port()));
    Ok(listener)
}

/// Waits for one peer; others are refused from then on.
pub fn accept_one(bind: &Bind) -> Result<Channel> {
    Ok(listen(bind)?.accept()?.0)
}

/// What has run out comes back; that a peer has gone is its own business.
pub fn may_pass(error: &anyhow::Error) -> bool {
    let errno = error
        .downcast_ref::<idts::Error>()
        .and_then(idts::Error::raw_os_error)
        .or_else(|| error.downcast_ref::<io::Error>()?.raw_os_error());
    let passing = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::NOBUFS,
        Errno::NOSPC,
        Errno::AGAIN,
        Errno::CONNABORTED,
        Errno::CONNRESET,
        Errno::NOTCONN,
    ];
    errno.is_some_and(|errno| passing.iter().any(|one| one.raw_os_error() == errno))
}

/// Listens on `port`, for records if that is wanted, for one domain alone if one is named.
pub fn bind(port: u32, records: bool, from: Option<&Domain>) -> Result<Bind> {
    let mut bind = Bind::new(port);
    if records {
        bind = bind.records();
    }
    if let Some(domain) = from {
        bind = bind.from_domain(names::id_of(domain)?);
    }
    Ok(bind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_long_for_a_name_looks_seldom() {
        let mut pause = RETRY_AFTER;
        let looks = (0..60).map(|_| {
            pause = next_pause(pause, true);
            pause
        });
        assert!(looks.sum::<Duration>() > Duration::from_secs(100));
        assert_eq!(next_pause(LOOK_AFTER, false), RETRY_AFTER);
    }
}
