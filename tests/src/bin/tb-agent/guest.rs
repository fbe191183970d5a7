// SPDX-License-Identifier: GPL-2.0
//! The agent of a guest: always one vchan server to spare, a thread for each command.
//!
//! The spare's number stands in xenstore. When it has gone from there, the domain was restored:
//! every stream of before is dead and is given up, and a new spare is made.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::Context;
use rustix::event::{eventfd, poll, EventfdFlags, PollFd, PollFlags};
use rustix::io::Errno;
use testbed::wire::SPARE_NODE;

use crate::command;
use crate::splice::{self, AtEnd};
use crate::store::Store;
use crate::vchan::{Peer, Vchan};

/// Streams in use, by number, with what ends them when the domain was restored.
type Streams = Arc<Mutex<HashMap<u64, Arc<OwnedFd>>>>;

/// Serves commands for ever.
pub fn serve() -> anyhow::Result<()> {
    let store = Store::open()?;
    let streams = Streams::default();
    // A watch fires once at first and once after each restore; the node itself never changes.
    store.watch("domid")?;
    let mut number = last_number(&store);
    // Left behind by an agent that died.
    store.remove(&node(number));
    let mut called = None;
    loop {
        number += 1;
        let spare = Vchan::serve(0, &node(number)).context("offering a vchan")?;
        store
            .write(SPARE_NODE, &number.to_string())
            .context("announcing it")?;
        // Not before: who has run a command finds a spare, as it was, and counts no grant less.
        if let Some((vchan, number)) = called.take() {
            hand_over(vchan, number, &streams)?;
        }
        if wait_for_caller(&store, &spare)? {
            // dom0 has read the nodes; it will not need them again.
            store.remove(&node(number));
            called = Some((spare, number));
        } else {
            spare.abandon();
            give_up_all(&streams);
        }
    }
}

fn node(number: u64) -> String {
    format!("{SPARE_NODE}/{number}")
}

/// Numbers go on from where an agent before us left off, so that no caller meets one twice.
fn last_number(store: &Store) -> u64 {
    store
        .read(SPARE_NODE)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

/// Sleeps until dom0 connects to the spare; false when the domain was restored instead.
fn wait_for_caller(store: &Store, spare: &Vchan) -> anyhow::Result<bool> {
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(spare.fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(store.fd(), PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        let [called, watched] = fds.map(|fd| !fd.revents().is_empty());
        if watched {
            store.drain()?;
            if store.read(SPARE_NODE).is_none() {
                return Ok(false);
            }
        }
        if called {
            spare.take_event();
        }
        if spare.peer() != Peer::Awaited {
            return Ok(true);
        }
    }
}

/// Serves one caller in threads of its own: one moves bytes, one runs the command.
fn hand_over(vchan: Vchan, number: u64, streams: &Streams) -> io::Result<()> {
    let (near, far) = UnixStream::pair()?;
    let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
    lock(streams).insert(number, Arc::clone(&stop));
    let streams = Arc::clone(streams);
    thread::Builder::new().spawn(move || {
        let restored = splice::run(&vchan, &near, AtEnd::Linger, stop.as_fd(), || true);
        lock(&streams).remove(&number);
        if matches!(restored, Ok(true)) {
            vchan.abandon();
        }
    })?;
    thread::Builder::new().spawn(move || {
        if let Err(error) = command::serve(far) {
            report(&error);
        }
    })?;
    Ok(())
}

fn give_up_all(streams: &Streams) {
    for (_, stop) in lock(streams).drain() {
        // An eventfd takes eight bytes as long as its count has room, and this is the first.
        let _ = rustix::io::write(&*stop, &1u64.to_ne_bytes());
    }
}

fn lock(streams: &Streams) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<OwnedFd>>> {
    streams.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A caller that leaves early is no news; all else is.
fn report(error: &anyhow::Error) {
    let early = error.downcast_ref::<io::Error>().is_some_and(|error| {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
    });
    if !early {
        eprintln!("tb-agent: {error:#}");
    }
}
