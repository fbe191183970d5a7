// SPDX-License-Identifier: GPL-2.0
//! What programs do with descriptors every day, and what has gone wrong elsewhere with files that
//! are not quite sockets: io_uring that waits at submission, splice, edges of epoll, descriptors
//! that are passed on.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::ptr;
use std::thread;

use anyhow::{anyhow, ensure, Context, Result};
use idts_core::uapi;
use libc::{POLLIN, POLLRDHUP};
use rustix::event::{epoll, Timespec};
use rustix::net::{
    recvmsg, sendmsg, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

use super::raw::{self, read, want, write, HUNG, SOON};
use super::uring::Uring;
use super::Ground;

type Check = fn(&Ground) -> Result<()>;

const RING: usize = 4 << 12;

pub const CHECKS: &[(&str, Check)] = &[
    ("io_uring reads what comes later", uring_read),
    ("io_uring writes more than fits", uring_write),
    ("io_uring reads what another takes", uring_rivals),
    ("io_uring echoes over one ring", uring_echo),
    ("a thread of the kernel submits", uring_thread),
    ("splice out of a channel", splice_out),
    ("splice into a channel", splice_in),
    ("sendfile", sendfile),
    ("epoll by edge and once", epoll_modes),
    ("dup", duplicates),
    ("a descriptor is passed on", passed_on),
    ("vectors of many pieces", vectors),
    ("nothing is read or written", nothing),
    ("shutdown wakes who reads", shutdown_wakes),
    ("a place in the file", places),
];

/// An edge-triggered epoll of a descriptor.
pub fn edges(fd: &OwnedFd) -> Result<OwnedFd> {
    let edge = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
    epoll::add(&edge, fd, epoll::EventData::new_u64(0), flags)?;
    Ok(edge)
}

/// The next edge's events.
pub fn want_edge(edge: &OwnedFd) -> Result<u32> {
    let got = look(edge, Some(&Timespec::try_from(HUNG / 2)?))?;
    got.context("epoll: nothing happened: an edge is lost")
}

fn look(edge: &OwnedFd, limit: Option<&Timespec>) -> Result<Option<u32>> {
    let mut events = [epoll::Event {
        flags: epoll::EventFlags::empty(),
        data: epoll::EventData::new_u64(0),
    }];
    let count = epoll::wait(edge, &mut events, limit)?;
    let flags = events[0].flags;
    Ok((count > 0).then_some(flags.bits()))
}

fn uring_read(ground: &Ground) -> Result<()> {
    let (fd, there) = ground.far.stream()?;
    let mut ring = Uring::new(false)?;
    let mut buffer = [0; 16];
    ring.read(&fd, &mut buffer, 1)?;
    ensure!(ring.done(1).is_none(), "it read nothing");
    ground.far.write(there, 9)?;
    want("it came", Ok(ring.wait(1)?.into()), Ok(9))
}

fn uring_write(ground: &Ground) -> Result<()> {
    let (fd, there) = ground.far.stream()?;
    let mut ring = Uring::new(false)?;
    let bytes = vec![5; 3 * RING];
    ring.write(&fd, &bytes, 1)?;
    // Submission does not wait: a part is written, as by a socket that does not block.
    want("a part", Ok(ring.wait(1)?.into()), Ok(RING as i64))?;
    ring.write(&fd, &bytes, 2)?;
    ensure!(ring.done(2).is_none(), "it wrote into a full ring");
    ground.far.read(there, RING as u32)?;
    let more = ring.wait(2)?;
    ensure!(more > 0 && more as usize <= RING, "then {more}");
    Ok(())
}

/// What poll has seen may be taken by another before it is read.
fn uring_rivals(ground: &Ground) -> Result<()> {
    let (fd, there) = ground.far.stream()?;
    let mut ring = Uring::new(false)?;
    let (mut one, mut two) = ([0; 16], [0; 16]);
    ring.read(&fd, &mut one, 1)?;
    ring.read(&fd, &mut two, 2)?;
    ground.far.write(there, 4)?;
    raw::until("one of them", || {
        let _ = ring.wait_once();
        Ok(ring.peek() > 0)
    })?;
    ground.far.write(there, 5)?;
    let got = ring.wait(1)? + ring.wait(2)?;
    ensure!(got == 9, "{got} bytes came");
    Ok(())
}

/// One thread, one ring, a message that does not fit: whoever waits at submission waits for ever.
fn uring_echo(ground: &Ground) -> Result<()> {
    let (fd, there) = ground.far.stream()?;
    ground.far.echo(there)?;
    let mut ring = Uring::new(false)?;
    let bytes = vec![6; 5 * RING];
    let mut back = vec![0; bytes.len()];
    let (mut sent, mut got, mut writing, mut reading) = (0, 0, false, false);
    while got < bytes.len() {
        if !writing && sent < bytes.len() {
            ring.write(&fd, &bytes[sent..], 1)?;
            writing = true;
        }
        if !reading {
            ring.read(&fd, &mut back[got..], 2)?;
            reading = true;
        }
        ring.wait_once()?;
        if let Some(count) = ring.done(1) {
            ensure!(count > 0, "write: {count}");
            (sent, writing) = (sent + count as usize, false);
        }
        if let Some(count) = ring.done(2) {
            ensure!(count > 0, "read: {count}");
            (got, reading) = (got + count as usize, false);
        }
    }
    ensure!(back == bytes, "other bytes came back");
    Ok(())
}

/// A file that stands still must not stop the kernel's thread, which serves others too.
fn uring_thread(ground: &Ground) -> Result<()> {
    let (stuck, there) = ground.far.stream()?;
    let mut ring = Uring::new(true)?;
    let bytes = vec![5; 2 * RING];
    ring.write(&stuck, &bytes, 1)?;
    want("a part", Ok(ring.wait(1)?.into()), Ok(RING as i64))?;
    ring.write(&stuck, &bytes, 2)?;
    let mut buffer = [0; 4];
    ring.read(&stuck, &mut buffer, 3)?;
    let (other, _there) = ground.far.stream()?;
    ring.write(&other, &bytes[..10], 4)?;
    want("another file", Ok(ring.wait(4)?.into()), Ok(10))?;
    ground.far.read(there, RING as u32)?;
    ensure!(ring.wait(2)? > 0, "the file that stood still");
    Ok(())
}

fn splice(from: &OwnedFd, to: &OwnedFd, len: usize) -> raw::Answer {
    let (from, to, none) = (from.as_raw_fd(), to.as_raw_fd(), ptr::null_mut());
    // SAFETY: Two descriptors, no places.
    raw::answer(unsafe { libc::splice(from, none, to, none, len, 0) } as i64)
}

fn splice_out(ground: &Ground) -> Result<()> {
    let (fd, there) = ground.far.stream()?;
    let (from, to) = raw::pipe()?;
    ground.far.write(there, 5000)?;
    raw::until("bytes", || Ok(raw::info(&fd)?.rx_avail == 5000))?;
    want("a part", splice(&fd, &to, 4096), Ok(4096))?;
    want("the rest", splice(&fd, &to, 1 << 20), Ok(904))?;
    ensure!(raw::read_all(&from, 5000)? == 5000, "bytes are lost");
    raw::set_nonblocking(&fd, true)?;
    raw::refused("nothing", splice(&fd, &to, 16), libc::EAGAIN)?;
    ground.far.close(there)?;
    raw::want_event(&fd, POLLRDHUP)?;
    want("the end", splice(&fd, &to, 16), Ok(0))
}

fn splice_in(ground: &Ground) -> Result<()> {
    let (fd, there) = ground.far.stream()?;
    let (from, to) = raw::pipe()?;
    want("the pipe", write(&to, &[4; 6000]), Ok(6000))?;
    want("all of it", splice(&from, &fd, 1 << 20), Ok(6000))?;
    want(
        "it came",
        Ok(ground.far.read(there, 6000)?.into()),
        Ok(6000),
    )?;
    // Each piece of the pipe that comes to a channel of records is one.
    let (fd, there) = ground.far.records()?;
    want("the pipe", write(&to, &[4; 300]), Ok(300))?;
    want("a record", splice(&from, &fd, 1 << 20), Ok(300))?;
    want("it came", Ok(ground.far.read(there, 1)?.into()), Ok(300))
}

fn sendfile(ground: &Ground) -> Result<()> {
    let name = std::ffi::CString::new("table")?;
    // SAFETY: A name that ends with a zero.
    let file = raw::own(unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) })?;
    let mut file = File::from(file);
    file.write_all(&[8; 40_000])?;
    let (fd, there) = ground.far.stream()?;
    let send = |to: &OwnedFd, from: i32, mut at: i64, place: bool| {
        let place = if place { &raw mut at } else { ptr::null_mut() };
        // SAFETY: Two descriptors, and a place of ours or none.
        raw::answer(unsafe { libc::sendfile(to.as_raw_fd(), from, place, 40_000) } as i64)
    };
    // More than the ring holds: it waits for the reader.
    ground.far.read_later(there, 40_000)?;
    want(
        "into a channel",
        send(&fd, file.as_raw_fd(), 0, true),
        Ok(40_000),
    )?;
    let (from, to) = raw::pipe()?;
    ground.far.write(there, 70)?;
    raw::want_event(&fd, POLLIN)?;
    want("into a pipe", send(&to, fd.as_raw_fd(), 0, false), Ok(70))?;
    ensure!(raw::read_all(&from, 70)? == 70, "bytes are lost");
    // What has no places cannot be sent into a file, as a socket cannot.
    let file = OwnedFd::from(file);
    raw::refused(
        "into a file",
        send(&file, fd.as_raw_fd(), 0, false),
        libc::EINVAL,
    )
}

fn epoll_modes(ground: &Ground) -> Result<()> {
    let (fd, there) = ground.far.stream()?;
    let none = Timespec::default();
    let edge = edges(&fd)?;
    raw::set_nonblocking(&fd, true)?;
    for round in 0..20 {
        ground.far.write_later(there, 10)?;
        want_edge(&edge).with_context(|| format!("round {round}"))?;
        // Each edge is told once, also while something is left unread.
        ensure!(look(&edge, Some(&none))?.is_none(), "an edge is told twice");
        want("what came", read(&fd, &mut [0; 16]), Ok(10))?;
        if round % 2 == 0 {
            // A short read says that it is empty as well as this does.
            raw::refused("empty", read(&fd, &mut [0; 16]), libc::EAGAIN)?;
        }
    }
    raw::set_nonblocking(&fd, false)?;
    let once = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let flags = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
    epoll::add(&once, &fd, epoll::EventData::new_u64(0), flags)?;
    ground.far.write(there, 1)?;
    want_edge(&once)?;
    ensure!(look(&once, Some(&none))?.is_none(), "once is not once");
    epoll::modify(&once, &fd, epoll::EventData::new_u64(0), flags)?;
    want_edge(&once).map(drop)
}

fn duplicates(ground: &Ground) -> Result<()> {
    let (fd, there) = ground.far.stream()?;
    let copy = fd.try_clone()?;
    drop(fd);
    want("the copy", write(&copy, &[1; 3]), Ok(3))?;
    want("it came", Ok(ground.far.read(there, 3)?.into()), Ok(3))?;
    ground.far.write(there, 2)?;
    want("and back", read(&copy, &mut [0; 8]), Ok(2))?;
    let events = raw::poll(&copy, POLLRDHUP, std::time::Duration::ZERO);
    want("no hang-up", events, Ok(0))
}

/// By SCM_RIGHTS, and the sender's own is closed meanwhile.
fn passed_on(ground: &Ground) -> Result<()> {
    let (fd, there) = ground.far.stream()?;
    let (left, right) = UnixStream::pair()?;
    {
        let fds = [fd.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        ensure!(
            control.push(SendAncillaryMessage::ScmRights(&fds)),
            "no room"
        );
        sendmsg(
            &left,
            &[IoSlice::new(b"x")],
            &mut control,
            SendFlags::empty(),
        )?;
    }
    drop(fd);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(
        &right,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::empty(),
    )?;
    let mut passed = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            passed = fds.last();
        }
    }
    let passed = passed.context("no descriptor came")?;
    want("the receiver", write(&passed, &[1; 3]), Ok(3))?;
    want("it came", Ok(ground.far.read(there, 3)?.into()), Ok(3))
}

fn vectors(ground: &Ground) -> Result<()> {
    let (fd, there) = ground.far.stream()?;
    let mut file = File::from(fd);
    // As many pieces as a call takes, many of them empty.
    let pieces: Vec<_> = (0..1024).map(|n| IoSlice::new(&[7; 5][..n % 6])).collect();
    let all: usize = pieces.iter().map(|piece| piece.len()).sum();
    ensure!(file.write_vectored(&pieces)? == all, "a part alone");
    want(
        "it came",
        Ok(ground.far.read(there, all as u32)?.into()),
        Ok(all as i64),
    )?;
    ground.far.write(there, 10)?;
    let (mut a, mut b, mut c) = ([0; 4], [0; 0], [0; 20]);
    let got = file.read_vectored(&mut [
        IoSliceMut::new(&mut a),
        IoSliceMut::new(&mut b),
        IoSliceMut::new(&mut c),
    ])?;
    ensure!(got == 10, "{got} bytes");
    let (fd, there) = ground.far.records()?;
    let mut file = File::from(fd);
    ensure!(file.write_vectored(&pieces)? == all, "no record");
    want(
        "a record",
        Ok(ground.far.read(there, 1)?.into()),
        Ok(all as i64),
    )
}

fn nothing(ground: &Ground) -> Result<()> {
    for (fd, there) in [ground.far.stream()?, ground.far.records()?] {
        want("a write", write(&fd, &[]), Ok(0))?;
        want("a read", read(&fd, &mut []), Ok(0))?;
        ground.far.write(there, 2)?;
        raw::want_event(&fd, POLLIN)?;
        want("a read", read(&fd, &mut []), Ok(0))?;
        want("it is left", read(&fd, &mut [0; 4]), Ok(2))?;
        ground.far.close(there)?;
        raw::want_event(&fd, POLLRDHUP)?;
        want("a read at the end", read(&fd, &mut []), Ok(0))?;
    }
    Ok(())
}

/// A thread that reads or writes is told of its own side's end, which another thread brings.
fn shutdown_wakes(ground: &Ground) -> Result<()> {
    let (fd, _there) = ground.far.stream()?;
    let ended = |how, blocked: &(dyn Fn() -> raw::Answer + Sync)| {
        thread::scope(|scope| {
            let waiting = scope.spawn(blocked);
            thread::sleep(SOON);
            want("shutdown", raw::shutdown(&fd, how), Ok(0))?;
            waiting.join().map_err(|_| anyhow!("panic"))
        })
    };
    let read = ended(uapi::SHUT_RD, &|| read(&fd, &mut [0; 8]))?;
    want("who reads", read, Ok(0))?;
    let written = ended(uapi::SHUT_WR, &|| write(&fd, &[1; 2 * RING]))?;
    want("who writes", written, Ok(RING as i64))?;
    raw::refused("then", write(&fd, &[1]), libc::EPIPE)
}

/// A stream has no places.
fn places(ground: &Ground) -> Result<()> {
    let (fd, _there) = ground.far.stream()?;
    let number = fd.as_raw_fd();
    // SAFETY: A descriptor and numbers.
    let sought = unsafe { libc::lseek(number, 0, libc::SEEK_CUR) };
    // SAFETY: As above; there is no buffer, and nothing is to come.
    let read = unsafe { libc::pread(number, ptr::null_mut(), 0, 7) };
    ensure!(sought <= 0, "lseek: {sought}");
    ensure!(read == -1, "pread: {read}");
    Ok(())
}
