// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the verbs get their channels: resolve names, connect with patience,
//! listen and say so.

use std::time::{Duration, Instant};

use anyhow::{anyhow, Context, Result};
use idts::xenstore::{domain_by_name, Client};
use idts::{Address, Bind, Channel, Connect, Listener};

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
    let started = Instant::now();
    loop {
        let error = match attempt(target, &options) {
            Ok(channel) => return Ok(channel),
            Err(error) => error,
        };
        if started.elapsed() >= wait || !is_transient(&error) {
            return Err(error);
        }
        std::thread::sleep(RETRY_AFTER.min(wait.saturating_sub(started.elapsed())));
    }
}

fn attempt(target: &Target, options: &impl Fn(Connect) -> Connect) -> Result<Channel> {
    let address = resolve(target)?;
    Ok(options(Connect::to(address)).open()?)
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

fn resolve(target: &Target) -> Result<Address> {
    let (name, port) = match target {
        Target::Id(address) => return Ok(*address),
        Target::Name(name, port) => (name, *port),
    };
    let domain = Client::open()
        .and_then(|mut client| domain_by_name(&mut client, name))
        .with_context(|| format!("cannot look up `{name}`: only dom0 knows names, use the id"))?;
    let domain = domain.ok_or_else(|| anyhow!(NoSuchName(name.clone())))?;
    Ok(Address::new(domain, port))
}

/// Listens on `port` and says so on stderr.
pub fn listen(port: u32, from: Option<u16>) -> Result<Listener> {
    let mut bind = Bind::new(port);
    if let Some(domain) = from {
        bind = bind.from_domain(domain);
    }
    let listener = bind.listen()?;
    eprintln!("listening on {}", listener.port());
    Ok(listener)
}

/// Waits for one peer on `port`; others are refused from then on.
pub fn accept_one(port: u32, from: Option<u16>) -> Result<Channel> {
    Ok(listen(port, from)?.accept()?.0)
}
