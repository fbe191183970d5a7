// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the verbs get their channels: resolve names, connect with patience,
//! listen and say so.

use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, Context, Result};
use idts::{Address, Alias, Bind, Channel, Connect, Driver, Listener, Peer, Role};
use idts_xenstore::{domain_by_name, Client};

use crate::cli::Target;

/// Pause between two tries to connect.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Connects to `target`, trying again for as long as `wait` while the peer,
/// its domain or the tunnel may still be on its way.
pub fn connect(
    target: &Target,
    wait: Duration,
    options: impl Fn(Connect) -> Connect,
) -> Result<Channel> {
    patiently(wait, || {
        let peer = resolve(target)?;
        Ok(options(Connect::with(peer)).open()?)
    })
}

/// Calls `attempt` again for as long as `wait` while what it failed by may pass.
pub fn patiently<T>(wait: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        let error = match attempt() {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        if started.elapsed() >= wait || !is_transient(&error) {
            return Err(error);
        }
        std::thread::sleep(RETRY_AFTER.min(wait.saturating_sub(started.elapsed())));
    }
}

/// No such name is transient as well: the domain may be on its way.
fn is_transient(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<idts::Error>() {
        Some(error) => error.is_transient(),
        None => error.is::<NoSuchName>(),
    }
}

#[derive(Debug)]
struct NoSuchName(String);

impl std::fmt::Display for NoSuchName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no domain is called `{}`", self.0)
    }
}

impl std::error::Error for NoSuchName {}

/// In dom0 a name is a domain's, or else an alias; in a guest it is an alias,
/// which dom0 knows.
fn resolve(target: &Target) -> Result<Peer> {
    let (name, port) = match target {
        Target::Id(address) => return Ok((*address).into()),
        Target::Name(name, port) => (name, *port),
    };
    let alias = name.parse::<Alias>();
    if Driver::query()?.role == Role::Back {
        let domain = Client::open()
            .and_then(|mut client| domain_by_name(&mut client, name))
            .with_context(|| format!("cannot look up `{name}`"))?;
        return match (domain, alias) {
            (Some(domain), _) => Ok(Address::new(domain, port).into()),
            (None, Ok(alias)) => Ok(Peer::Alias(alias, port)),
            (None, Err(_)) => Err(anyhow!(NoSuchName(name.clone()))),
        };
    }
    match alias {
        Ok(alias) => Ok(Peer::Alias(alias, port)),
        Err(error) => bail!("{error}; a guest knows domains by id or alias"),
    }
}

/// Listens and says so on stderr.
pub fn listen(bind: &Bind) -> Result<Listener> {
    let listener = bind.listen()?;
    eprintln!("listening on {}", listener.port());
    Ok(listener)
}

/// Waits for one peer; others are refused from then on.
pub fn accept_one(bind: &Bind) -> Result<Channel> {
    Ok(listen(bind)?.accept()?.0)
}

/// Listens on `port`, for records if that is wanted.
pub fn bind(port: u32, records: bool) -> Bind {
    let bind = Bind::new(port);
    if records {
        bind.records()
    } else {
        bind
    }
}
