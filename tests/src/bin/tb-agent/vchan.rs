// SPDX-License-Identifier: GPL-2.0
//! A byte stream between dom0 and a guest: the part of libxenvchan that the agents use.

use std::ffi::{c_char, c_int, c_void, CString};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

/// Bytes of each ring: a few pages, for each command takes a pair of them from the grant table.
const RING: usize = 16 << 10;

#[repr(C)]
struct LibXenVchan {
    _opaque: [u8; 0],
}

#[link(name = "xenvchan")]
#[link(name = "xengnttab")]
#[link(name = "xenevtchn")]
#[link(name = "xenstore")]
#[link(name = "xentoolcore")]
#[link(name = "xentoollog")]
extern "C" {
    fn libxenvchan_server_init(
        logger: *mut c_void,
        domain: c_int,
        path: *const c_char,
        read_min: usize,
        write_min: usize,
    ) -> *mut LibXenVchan;
    fn libxenvchan_client_init(
        logger: *mut c_void,
        domain: c_int,
        path: *const c_char,
    ) -> *mut LibXenVchan;
    fn libxenvchan_close(ctrl: *mut LibXenVchan);
    fn libxenvchan_read(ctrl: *mut LibXenVchan, data: *mut c_void, size: usize) -> c_int;
    fn libxenvchan_write(ctrl: *mut LibXenVchan, data: *const c_void, size: usize) -> c_int;
    fn libxenvchan_wait(ctrl: *mut LibXenVchan) -> c_int;
    fn libxenvchan_fd_for_select(ctrl: *mut LibXenVchan) -> c_int;
    fn libxenvchan_is_open(ctrl: *mut LibXenVchan) -> c_int;
    fn libxenvchan_data_ready(ctrl: *mut LibXenVchan) -> c_int;
    fn libxenvchan_buffer_space(ctrl: *mut LibXenVchan) -> c_int;
}

/// How the other side stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A server that nobody has called yet.
    Awaited,
    /// Connected.
    There,
    /// Gone; bytes that it left may still be read.
    Gone,
}

/// One end of a stream. Not for two threads at once, hence not `Sync`.
pub struct Vchan(NonNull<LibXenVchan>);

// SAFETY: libxenvchan keeps no thread-local state; one owner at a time is all that it asks.
unsafe impl Send for Vchan {}

impl Vchan {
    /// Offers a stream to `domain` and announces it at `path` in xenstore.
    pub fn serve(domain: i32, path: &str) -> io::Result<Vchan> {
        let path = CString::new(path)?;
        let none = std::ptr::null_mut();
        // SAFETY: no logger is allowed, `path` ends in NUL and is only read during the call.
        let ctrl = unsafe { libxenvchan_server_init(none, domain, path.as_ptr(), RING, RING) };
        NonNull::new(ctrl)
            .map(Vchan)
            .ok_or_else(io::Error::last_os_error)
    }

    /// Connects to the stream that `domain` announced at `path`.
    pub fn connect(domain: i32, path: &str) -> io::Result<Vchan> {
        let path = CString::new(path)?;
        // SAFETY: as above.
        let ctrl = unsafe { libxenvchan_client_init(std::ptr::null_mut(), domain, path.as_ptr()) };
        NonNull::new(ctrl)
            .map(Vchan)
            .ok_or_else(io::Error::last_os_error)
    }

    /// Readable when the other side did something.
    pub fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the stream is open.
        let fd = unsafe { libxenvchan_fd_for_select(self.0.as_ptr()) };
        // SAFETY: only the closing of the stream, which ends the borrow, closes the file.
        unsafe { BorrowedFd::borrow_raw(fd) }
    }

    /// Takes the event that made [`Vchan::fd`] readable.
    pub fn take_event(&self) {
        // SAFETY: the stream is open.
        unsafe { libxenvchan_wait(self.0.as_ptr()) };
    }

    /// How the other side stands.
    pub fn peer(&self) -> Peer {
        // SAFETY: the stream is open.
        match unsafe { libxenvchan_is_open(self.0.as_ptr()) } {
            1 => Peer::There,
            2 => Peer::Awaited,
            _ => Peer::Gone,
        }
    }

    /// Bytes that can be read now; when there are none, their coming is an event.
    pub fn ready(&self) -> usize {
        // SAFETY: the stream is open.
        usize::try_from(unsafe { libxenvchan_data_ready(self.0.as_ptr()) }).unwrap_or(0)
    }

    /// Bytes that can be written now; when there are none, room is an event.
    pub fn space(&self) -> usize {
        // SAFETY: the stream is open.
        usize::try_from(unsafe { libxenvchan_buffer_space(self.0.as_ptr()) }).unwrap_or(0)
    }

    /// Reads at most `ready()` bytes, so never blocks.
    pub fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let size = into.len().min(self.ready());
        if size == 0 {
            return Ok(0);
        }
        // SAFETY: the stream is open and `into` has `size` writable bytes.
        let n = unsafe { libxenvchan_read(self.0.as_ptr(), into.as_mut_ptr().cast(), size) };
        usize::try_from(n).map_err(|_| io::ErrorKind::ConnectionReset.into())
    }

    /// Writes at most `space()` bytes, so never blocks.
    pub fn write(&self, from: &[u8]) -> io::Result<usize> {
        let size = from.len().min(self.space());
        if size == 0 {
            return Ok(0);
        }
        // SAFETY: the stream is open and `from` has `size` readable bytes.
        let n = unsafe { libxenvchan_write(self.0.as_ptr(), from.as_ptr().cast(), size) };
        usize::try_from(n).map_err(|_| io::ErrorKind::ConnectionReset.into())
    }

    /// Gives the stream up without closing it, for one whose domain was restored since: its event
    /// channel went with the old domain, and the kernel's evtchn device stumbles over the number.
    pub fn abandon(self) {
        let _kept = ManuallyDrop::new(self);
    }
}

impl Drop for Vchan {
    fn drop(&mut self) {
        // SAFETY: the stream is open and this is its last use.
        unsafe { libxenvchan_close(self.0.as_ptr()) };
    }
}
