// SPDX-License-Identifier: GPL-2.0
//! dom0's agent: a TCP port for the driver, at the far end of the emulator's own network device.
//!
//! It runs commands in dom0 itself, and connects commands for a guest to the spare vchan server
//! that the guest's agent announces.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use testbed::door::{self, Door, Step, GREETING};
use testbed::wire::{
    self, Hello, Kind, DOM0_ADDRESS, DOM0_PORT, READY_MARK, SPARE_NODE, TOKEN_FILE,
};

use crate::command;
use crate::splice::{self, AtEnd};
use crate::store::Store;
use crate::vchan::Vchan;

/// The last spare that was used, by domain id. A domain's entry is locked while somebody connects.
type Used = Arc<Mutex<HashMap<u32, Arc<Mutex<u64>>>>>;

/// What is read of a caller who is refused, at most.
const UNREAD: u64 = 1 << 20;

/// After an accept that failed.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves the driver for ever.
pub fn serve() -> anyhow::Result<()> {
    let token = std::fs::read_to_string(TOKEN_FILE).with_context(|| TOKEN_FILE.to_string())?;
    let token: Arc<str> = token.trim().into();
    ensure!(!token.is_empty(), "{TOKEN_FILE} is empty");
    let listener = TcpListener::bind((DOM0_ADDRESS, DOM0_PORT))?;
    println!("{READY_MARK}");
    let used = Used::default();
    let door = Arc::new(Door::default());
    loop {
        let step = door.step();
        // Neither ends the agent, for commands run that nobody could end any more.
        let link = match listener.accept() {
            Ok((link, _)) => link,
            Err(error) => {
                eprintln!("tb-agent: {error}");
                thread::sleep(PAUSE);
                continue;
            }
        };
        let (token, used) = (Arc::clone(&token), Arc::clone(&used));
        let thread = thread::Builder::new().spawn(move || {
            if let Ok(copy) = link.try_clone() {
                if let Err(error) = answer(link, step, &token, &used) {
                    refuse(copy, &error);
                }
            }
        });
        if let Err(error) = thread {
            eprintln!("tb-agent: {error}");
        }
    }
}

/// Tells the caller why; one that has gone does not mind.
fn refuse(mut link: TcpStream, error: &anyhow::Error) {
    let _ = link.set_nonblocking(false);
    let _ = link.set_read_timeout(Some(GREETING));
    let _ = link.write_all(&wire::frame(Kind::Failed, format!("{error:#}").as_bytes()));
    // Closed with bytes unread, the connection would be reset and the words lost.
    let _ = io::copy(&mut link.take(UNREAD), &mut io::sink());
}

fn answer(link: TcpStream, step: Step, token: &str, used: &Used) -> anyhow::Result<()> {
    link.set_nodelay(true)?;
    let Some(hello) = door::greeting(&link, token, GREETING)? else {
        return Ok(());
    };
    drop(step);
    (&mut &link).write_all(&wire::frame(Kind::Welcome, b""))?;
    if hello.domain == "dom0" {
        return command::serve(link);
    }
    let store = Store::open().context("xenstore")?;
    store.watch("@releaseDomain")?;
    let (domid, vchan) = connect(&store, &hello, used)?;
    let gone = || {
        // If xenstored itself had gone, the domain could not be told from a dead one.
        store.drain().is_err() || !store.is_alive(domid)
    };
    splice::run(&vchan, &link, AtEnd::Close, store.fd(), gone)?;
    Ok(())
}

/// Connects to the domain's spare server, and waits for one if there is none yet.
fn connect(store: &Store, hello: &Hello, used: &Used) -> anyhow::Result<(u32, Vchan)> {
    let name = &hello.domain;
    let domid = find(store, name).with_context(|| format!("no domain is named {name}"))?;
    let entry = Arc::clone(lock(used).entry(domid).or_default());
    let mut last = lock(&entry);
    let home = format!("/local/domain/{domid}");
    store.watch(&format!("{home}/{SPARE_NODE}"))?;
    let deadline = Instant::now() + Duration::from_secs(hello.wait_secs);
    loop {
        store.drain()?;
        ensure!(store.is_alive(domid), "domain {name} has gone");
        let spare = store.read(&format!("{home}/{SPARE_NODE}"));
        if let Some(number) = spare
            .and_then(|text| text.parse().ok())
            .filter(|n| n > &*last)
        {
            *last = number;
            let path = format!("{home}/{SPARE_NODE}/{number}");
            // One that cannot be had was left behind by an agent that died; the next will do.
            if let Ok(vchan) = Vchan::connect(domid.try_into()?, &path) {
                return Ok((domid, vchan));
            }
        }
        if !wait_until(store, deadline)? {
            bail!("no agent answers in {name} after {} s", hello.wait_secs);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The id of the domain with this name.
fn find(store: &Store, name: &str) -> Option<u32> {
    let ids = store.list("/local/domain");
    let named = |id: &&String| {
        store
            .read(&format!("/local/domain/{id}/name"))
            .is_some_and(|found| found == name)
    };
    ids.iter().find(named)?.parse().ok()
}

/// Sleeps until a watch fires; false when the deadline has passed instead.
fn wait_until(store: &Store, deadline: Instant) -> io::Result<bool> {
    let left = deadline.saturating_duration_since(Instant::now());
    let left = Timespec {
        tv_sec: left.as_secs() as i64,
        tv_nsec: left.subsec_nanos().into(),
    };
    let mut fds = [PollFd::from_borrowed_fd(store.fd(), PollFlags::IN)];
    match poll(&mut fds, Some(&left)) {
        Err(rustix::io::Errno::INTR) => Ok(true),
        other => Ok(other? > 0),
    }
}
