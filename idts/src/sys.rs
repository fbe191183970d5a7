// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ioctls of `/dev/idts` as safe functions over the structures of
//! `idts_core::uapi`. The only `unsafe` of the crate is here.

use std::ffi::c_void;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use idts_core::ioctl::COUNT_MAX;
use idts_core::uapi::Transact;
use idts_core::uapi::{nr, CLOEXEC, MAGIC, RECORD};
pub use idts_core::uapi::{Accept, Addr, Connect, Group, Info, Listen, Version, DOMID_ANY};
use rustix::fs::{fcntl_getfl, fcntl_setfl, Mode, OFlags};
use rustix::io::{Errno, Result};
use rustix::ioctl::{
    ioctl, opcode, Getter, IntegerSetter, Ioctl, IoctlOutput, Opcode, Setter, Updater,
};

/// The driver's device node.
pub const DEVICE: &str = "/dev/idts";

const IOC_VERSION: Opcode = opcode::read::<Version>(MAGIC, nr::VERSION);
const IOC_BIND: Opcode = opcode::write::<Addr>(MAGIC, nr::BIND);
const IOC_LISTEN: Opcode = opcode::write::<Listen>(MAGIC, nr::LISTEN);
const IOC_ACCEPT: Opcode = opcode::read_write::<Accept>(MAGIC, nr::ACCEPT);
const IOC_CONNECT: Opcode = opcode::write::<Connect>(MAGIC, nr::CONNECT);
const IOC_SHUTDOWN: Opcode = opcode::none(MAGIC, nr::SHUTDOWN);
const IOC_GET_INFO: Opcode = opcode::read::<Info>(MAGIC, nr::GET_INFO);
const IOC_GET_ERROR: Opcode = opcode::read::<i32>(MAGIC, nr::GET_ERROR);
const IOC_PUBLISH: Opcode = opcode::write::<Group>(MAGIC, nr::PUBLISH);
const IOC_SUBSCRIBE: Opcode = opcode::write::<Group>(MAGIC, nr::SUBSCRIBE);
const IOC_TRANSACT: Opcode = opcode::read_write::<Transact>(MAGIC, nr::TRANSACT);

/// Bytes that [`transact`] writes at most.
pub const REQUEST_MAX: usize = COUNT_MAX as usize;

/// The flag by which records are asked for.
pub const fn record_flag(records: bool) -> u32 {
    if records {
        RECORD
    } else {
        0
    }
}

/// A new idle endpoint.
pub fn open() -> Result<OwnedFd> {
    rustix::fs::open(DEVICE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}

/// Sets or clears O_NONBLOCK.
pub fn set_nonblocking(fd: impl AsFd, on: bool) -> Result<()> {
    let mut flags = fcntl_getfl(&fd)?;
    flags.set(OFlags::NONBLOCK, on);
    fcntl_setfl(fd, flags)
}

/// Whether O_NONBLOCK is set.
pub fn is_nonblocking(fd: impl AsFd) -> Result<bool> {
    Ok(fcntl_getfl(fd)?.contains(OFlags::NONBLOCK))
}

pub fn version(fd: impl AsFd) -> Result<Version> {
    // SAFETY: the opcode is of a call that writes a `Version`; any bytes are one.
    unsafe { get::<IOC_VERSION, Version>(fd) }
}

pub fn bind(fd: impl AsFd, addr: Addr) -> Result<()> {
    // SAFETY: the opcode is of a call that reads an `Addr`.
    unsafe { set::<IOC_BIND, Addr>(fd, addr) }
}

pub fn listen(fd: impl AsFd, listen: Listen) -> Result<()> {
    // SAFETY: the opcode is of a call that reads a `Listen`.
    unsafe { set::<IOC_LISTEN, Listen>(fd, listen) }
}

/// The next connection and who made it.
pub fn accept(fd: impl AsFd) -> Result<(OwnedFd, Addr)> {
    let mut accept = Accept {
        flags: CLOEXEC,
        fd: -1,
        ..Accept::default()
    };
    // SAFETY: the opcode is of a call that reads and writes an `Accept`, and
    // any bytes are one.
    let call = unsafe { Updater::<IOC_ACCEPT, Accept>::new(&mut accept) };
    // SAFETY: as above; the driver keeps no pointer after the call.
    unsafe { ioctl(fd, call)? };
    if accept.fd < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: on success the driver installed this descriptor for the caller,
    // and nobody else knows its number.
    Ok((unsafe { OwnedFd::from_raw_fd(accept.fd) }, accept.peer))
}

pub fn connect(fd: impl AsFd, connect: Connect) -> Result<()> {
    // SAFETY: the opcode is of a call that reads a `Connect`.
    unsafe { set::<IOC_CONNECT, Connect>(fd, connect) }
}

pub fn publish(fd: BorrowedFd<'_>, group: Group) -> Result<()> {
    // SAFETY: the opcode is of a call that reads a `Group`.
    unsafe { set::<IOC_PUBLISH, Group>(fd, group) }
}

pub fn subscribe(fd: BorrowedFd<'_>, group: Group) -> Result<()> {
    // SAFETY: the opcode is of a call that reads a `Group`.
    unsafe { set::<IOC_SUBSCRIBE, Group>(fd, group) }
}

/// `how` is one of `idts_core::uapi::SHUT_*`.
pub fn shutdown(fd: impl AsFd, how: u32) -> Result<()> {
    // SAFETY: the opcode is of a call that takes a number.
    let call = unsafe { IntegerSetter::<IOC_SHUTDOWN>::new_usize(how as usize) };
    // SAFETY: as above; the driver follows no pointer.
    unsafe { ioctl(fd, call) }
}

pub fn info(fd: impl AsFd) -> Result<Info> {
    // SAFETY: the opcode is of a call that writes an `Info`; any bytes are one.
    unsafe { get::<IOC_GET_INFO, Info>(fd) }
}

/// The pending error of an O_NONBLOCK connect, as an errno; 0 for none.
pub fn take_error(fd: impl AsFd) -> Result<i32> {
    // SAFETY: the opcode is of a call that writes an i32; any bytes are one.
    unsafe { get::<IOC_GET_ERROR, i32>(fd) }
}

/// Writes all of `request`, then reads; the bytes read. Where that fails, `sent`
/// says how much was written.
pub fn transact(
    fd: impl AsFd,
    request: &[u8],
    reply: &mut [u8],
    sent: &mut usize,
) -> Result<usize> {
    let count = |len: usize| u32::try_from(len).unwrap_or(COUNT_MAX).min(COUNT_MAX);
    let mut transact = Transact {
        tx: request.as_ptr() as u64,
        rx: reply.as_mut_ptr() as u64,
        tx_len: count(request.len()),
        rx_len: count(reply.len()),
        ..Transact::default()
    };
    // SAFETY: the opcode is of a call that reads and writes a `Transact`; it
    // reads from `request` and writes to `reply`, which are borrowed for it, and
    // no more than their lengths; the driver keeps no pointer after the call.
    let result = unsafe { ioctl(fd, TransactCall(&mut transact)) };
    *sent = transact.sent as usize;
    result
}

/// An ioctl whose result counts.
struct TransactCall<'a>(&'a mut Transact);

// SAFETY: opcode and pointer belong together, and any bytes are a `Transact`.
unsafe impl Ioctl for TransactCall<'_> {
    type Output = usize;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        IOC_TRANSACT
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut *self.0).cast()
    }

    unsafe fn output_from_ptr(result: IoctlOutput, _: *mut c_void) -> Result<usize> {
        // Errors never come here.
        Ok(usize::try_from(result).unwrap_or(0))
    }
}

/// Runs an ioctl that writes a `T`.
///
/// # Safety
/// `OPCODE` is of a call that writes a `T`, and any bytes are a value of `T`.
unsafe fn get<const OPCODE: Opcode, T>(fd: impl AsFd) -> Result<T> {
    // SAFETY: the caller vouches for opcode and type.
    let call = unsafe { Getter::<OPCODE, T>::new() };
    // SAFETY: as above; the driver keeps no pointer after the call.
    unsafe { ioctl(fd, call) }
}

/// Runs an ioctl that reads a `T`.
///
/// # Safety
/// `OPCODE` is of a call that reads a `T`.
unsafe fn set<const OPCODE: Opcode, T>(fd: impl AsFd, value: T) -> Result<()> {
    // SAFETY: the caller vouches for opcode and type.
    let call = unsafe { Setter::<OPCODE, T>::new(value) };
    // SAFETY: as above; the driver keeps no pointer after the call.
    unsafe { ioctl(fd, call) }
}
