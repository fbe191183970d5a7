// SPDX-License-Identifier: MIT OR Apache-2.0
//! In place of `sys`, by the feature `sockets`, which no product has: unix sockets, so
//! that the whole command runs without Xen in the tests.
//!
//! `IDTS_SOCKETS` names a folder; without it, or until it is there, there is no driver, and
//! with a file `forbidden` in it nobody may open the device. `IDTS_DOMAIN` is the domain that a
//! process plays, 0 without it. A file `alias.NAME` holds the id of the domain that has
//! this alias. A group has one subscriber, and a publisher that comes after it.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::process;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

pub use idts_core::uapi::{Addr, Connect, Group, Info, Listen, Version, DOMID_ANY};
use idts_core::uapi::{
    RECORD, ROLE_BACK, ROLE_FRONT, SHUT_RD, SHUT_WR, STATE_CONNECTED, UAPI_VERSION,
};
use rustix::fs::{fcntl_getfl, fcntl_setfl, Mode, OFlags};
use rustix::io::{Errno, Result};
use rustix::net::{self, AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType};

#[cfg(not(debug_assertions))]
compile_error!("the feature `sockets` is for tests alone");

/// What messages call the device; here it is a folder of sockets.
pub const DEVICE: &str = "/dev/idts";

/// Bytes that a request has at most.
pub const REQUEST_MAX: usize = 1 << 30;

const RING: u32 = 128 << 10;

/// Ports and flags of the endpoints that are bound.
static BOUND: Mutex<Option<HashMap<RawFd, Addr>>> = Mutex::new(None);

fn bound() -> MutexGuard<'static, Option<HashMap<RawFd, Addr>>> {
    BOUND.lock().unwrap_or_else(PoisonError::into_inner)
}

pub const fn record_flag(records: bool) -> u32 {
    if records {
        RECORD
    } else {
        0
    }
}

fn folder() -> Result<PathBuf> {
    let folder = env::var_os("IDTS_SOCKETS").ok_or(Errno::NOENT)?;
    Ok(folder.into())
}

fn own_domain() -> u16 {
    env::var("IDTS_DOMAIN").map_or(0, |id| id.parse().unwrap_or(0))
}

fn at(name: &str) -> Result<SocketAddrUnix> {
    SocketAddrUnix::new(folder()?.join(name))
}

/// Where `port` of `domain` listens for streams or for records.
fn door(domain: u16, port: u32, flags: u32) -> Result<SocketAddrUnix> {
    at(&format!("{domain}-{port}-{flags}"))
}

fn socket(flags: u32) -> Result<OwnedFd> {
    let kind = if flags & RECORD == 0 {
        SocketType::STREAM
    } else {
        SocketType::SEQPACKET
    };
    net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
}

/// Has `fd`, which the caller owns, stand for the file of `other`; it keeps whether it blocks.
fn become_other(fd: BorrowedFd<'_>, other: &OwnedFd) -> Result<()> {
    let nonblocking = fcntl_getfl(fd)?.contains(OFlags::NONBLOCK);
    // SAFETY: the descriptor is open, for it is borrowed, and is not closed here.
    let mut owned = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(fd.as_raw_fd()) });
    rustix::io::dup3(other, &mut owned, rustix::io::DupFlags::CLOEXEC)?;
    set_nonblocking(fd, nonblocking)
}

pub fn open() -> Result<OwnedFd> {
    let folder = folder()?;
    if !folder.exists() {
        return Err(Errno::NOENT);
    }
    if folder.join("forbidden").exists() {
        return Err(Errno::ACCESS);
    }
    rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}

pub fn set_nonblocking(fd: impl AsFd, on: bool) -> Result<()> {
    let mut flags = fcntl_getfl(&fd)?;
    flags.set(OFlags::NONBLOCK, on);
    fcntl_setfl(fd, flags)
}

/// Whether O_NONBLOCK is set.
pub fn is_nonblocking(fd: impl AsFd) -> Result<bool> {
    Ok(fcntl_getfl(fd)?.contains(OFlags::NONBLOCK))
}

pub fn version(_: impl AsFd) -> Result<Version> {
    let role = if own_domain() == 0 {
        ROLE_BACK
    } else {
        ROLE_FRONT
    };
    Ok(Version {
        uapi: UAPI_VERSION,
        role,
        features: 0,
    })
}

pub fn bind(fd: impl AsFd, addr: Addr) -> Result<()> {
    let mut addr = addr;
    if addr.port == 0 {
        addr.port = 30000 + process::id() % 30000;
    }
    let number = fd.as_fd().as_raw_fd();
    bound().get_or_insert_default().insert(number, addr);
    Ok(())
}

pub fn listen(fd: impl AsFd, listen: Listen) -> Result<()> {
    let number = fd.as_fd().as_raw_fd();
    let addr = bound().as_ref().and_then(|all| all.get(&number).copied());
    let door = door(own_domain(), addr.ok_or(Errno::INVAL)?.port, listen.flags)?;
    listen_at(fd.as_fd(), &door, listen.flags)
}

fn listen_at(fd: BorrowedFd<'_>, door: &SocketAddrUnix, flags: u32) -> Result<()> {
    if net::connect(socket(flags)?, door).is_ok() {
        return Err(Errno::ADDRINUSE);
    }
    // Whoever sees it can connect; one of a process that has ended is replaced.
    let listener = socket(flags)?;
    let new = format!("new-{}-{}", process::id(), fd.as_raw_fd());
    net::bind(&listener, &at(&new)?)?;
    net::listen(&listener, 16)?;
    let path = door
        .path()
        .ok_or(Errno::INVAL)?
        .to_string_lossy()
        .into_owned();
    fs::rename(folder()?.join(new), path).map_err(|_| Errno::IO)?;
    become_other(fd, &listener)
}

pub fn accept(fd: impl AsFd) -> Result<(OwnedFd, Addr)> {
    let number = fd.as_fd().as_raw_fd();
    let only = bound().as_ref().and_then(|all| all.get(&number).copied());
    loop {
        let (channel, from) = net::acceptfrom_with(&fd, SocketFlags::CLOEXEC)?;
        // One without a name only looked whether somebody listens.
        let Some(domid) = domain_of(from) else {
            continue;
        };
        if only.is_none_or(|only| only.domid == DOMID_ANY || only.domid == domid) {
            let peer = Addr {
                domid,
                reserved: 0,
                port: 9,
            };
            return Ok((channel, peer));
        }
    }
}

/// Who connects binds itself to a name that tells its domain.
fn domain_of(from: Option<SocketAddrAny>) -> Option<u16> {
    let from = SocketAddrUnix::try_from(from?).ok()?;
    let name = PathBuf::from(from.path()?.to_str().ok()?);
    let (_, id) = name.extension()?.to_str()?.split_once('-')?;
    id.parse().ok()
}

pub fn connect(fd: impl AsFd, request: Connect) -> Result<()> {
    let domain = match alias(&request) {
        None => request.peer.domid,
        Some(name) => domain_called(&name)?,
    };
    let channel = socket(request.flags)?;
    let own = format!(
        "{}-{}.from-{}",
        process::id(),
        fd.as_fd().as_raw_fd(),
        own_domain()
    );
    let _ = fs::remove_file(folder()?.join(&own));
    net::bind(&channel, &at(&own)?)?;
    let door = door(domain, request.peer.port, request.flags)?;
    net::connect(&channel, &door).map_err(|errno| match errno {
        Errno::NOENT => Errno::CONNREFUSED,
        errno => errno,
    })?;
    become_other(fd.as_fd(), &channel)
}

fn alias(request: &Connect) -> Option<String> {
    let name = request.alias.split(|byte| *byte == 0).next()?;
    (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned())
}

fn domain_called(alias: &str) -> Result<u16> {
    if alias == "dom0" {
        return Ok(0);
    }
    let unknown = if own_domain() == 0 {
        Errno::HOSTUNREACH
    } else {
        Errno::ACCESS
    };
    let id = fs::read_to_string(folder()?.join(format!("alias.{alias}"))).map_err(|_| unknown)?;
    id.trim().parse().map_err(|_| unknown)
}

fn group(group: &Group) -> Result<SocketAddrUnix> {
    let name = group.name.split(|byte| *byte == 0).next();
    at(&format!(
        "group-{}",
        String::from_utf8_lossy(name.unwrap_or_default())
    ))
}

/// Without a subscriber the records go nowhere.
pub fn publish(fd: BorrowedFd<'_>, asked: Group) -> Result<()> {
    let channel = socket(RECORD)?;
    match net::connect(&channel, &group(&asked)?) {
        Ok(()) => become_other(fd, &channel),
        Err(_) => Ok(()),
    }
}

/// The first publisher that comes is handed through to the subscriber.
pub fn subscribe(fd: BorrowedFd<'_>, asked: Group) -> Result<()> {
    let (near, far) = net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let listener = socket(RECORD)?;
    listen_at(listener.as_fd(), &group(&asked)?, RECORD)?;
    let relay = thread::Builder::new().spawn(move || -> Result<()> {
        let publisher = net::accept_with(&listener, SocketFlags::CLOEXEC)?;
        let mut record = vec![0; RING as usize];
        loop {
            match rustix::io::read(&publisher, &mut record)? {
                0 => return Ok(()),
                len => rustix::io::write(&far, &record[..len])?,
            };
        }
    });
    relay.map_err(|_| Errno::AGAIN)?;
    become_other(fd, &near)
}

pub fn shutdown(fd: impl AsFd, how: u32) -> Result<()> {
    let how = match how {
        SHUT_RD => net::Shutdown::Read,
        SHUT_WR => net::Shutdown::Write,
        _ => net::Shutdown::Both,
    };
    net::shutdown(fd, how)
}

pub fn info(fd: impl AsFd) -> Result<Info> {
    let mut info = Info {
        state: STATE_CONNECTED,
        tx_ring: RING,
        rx_ring: RING,
        ..Info::default()
    };
    info.flags = record_flag(net::sockopt::socket_type(&fd) == Ok(SocketType::SEQPACKET));
    let number = fd.as_fd().as_raw_fd();
    if let Some(addr) = bound().as_ref().and_then(|all| all.get(&number)) {
        info.local.port = addr.port;
    }
    Ok(info)
}

pub fn take_error(_: impl AsFd) -> Result<i32> {
    Ok(0)
}

pub fn transact(_: impl AsFd, _: &[u8], _: &mut [u8], _: &mut usize) -> Result<usize> {
    Err(Errno::NOTTY)
}
