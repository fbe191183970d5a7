// SPDX-License-Identifier: GPL-2.0

//! `/dev/idts`: the file operations, and the ioctls.
//!
//! Each entry point borrows the endpoint of its file, calls one method and translates the
//! result. The kernel crate's `miscdevice` has no `poll` and no `owner`, so the table of file
//! operations is our own. It is in helpers.c, because only C can name its module in a constant.

use core::pin::Pin;

use idts_core::uapi;
use idts_core::wire::Kind;
use kernel::error::to_result;
use kernel::ffi::{c_int, c_long, c_uint, c_ulong, c_void};
use kernel::iov::{IovIterDest, IovIterSource};
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};
use kernel::sync::{Arc, ArcBorrow};
use kernel::types::{ForeignOwnable, Opaque};
use kernel::uaccess::{UserPtr, UserSlice};
use zerocopy::{FromBytes, IntoBytes};

use crate::context::Context;
use crate::endpoint::Endpoint;
use crate::sys::bindings;
use crate::sys::errno::invalid;
use crate::tunnel::payer::Payer;

/// `FIONREAD` (asm-generic/ioctls.h).
const FIONREAD: u32 = 0x541b;

/// The registered device.
#[pin_data(PinnedDrop)]
pub(crate) struct CharDev {
    #[pin]
    misc: Opaque<bindings::miscdevice>,
    registered: Atomic<bool>,
}

// SAFETY: Registered and deregistered from any thread; not changed in between.
unsafe impl Send for CharDev {}
// SAFETY: As above.
unsafe impl Sync for CharDev {}

impl CharDev {
    /// Registers `/dev/idts`, mode 0660. Open files keep the module loaded.
    ///
    /// # Errors
    /// `ENOMEM`; `EBUSY`: no minor number is free; the driver core's.
    pub(crate) fn register() -> Result<Pin<KBox<Self>>> {
        let device = KBox::pin_init(
            pin_init!(Self {
                misc: Opaque::zeroed(),
                registered: Atomic::new(false),
            }),
            GFP_KERNEL,
        )?;
        // SAFETY: Not registered yet, so no other thread accesses it. The device is pinned until
        // `drop` has deregistered it, and the table is a constant.
        to_result(unsafe {
            let misc = device.misc.get();
            (*misc).minor = bindings::MISC_DYNAMIC_MINOR as c_int;
            (*misc).name = c"idts".as_char_ptr();
            (*misc).mode = 0o660;
            (*misc).fops = &raw const bindings::idts_fops;
            bindings::misc_register(misc)
        })?;
        device.registered.store(true, Relaxed);
        Ok(device)
    }
}

#[pinned_drop]
impl PinnedDrop for CharDev {
    fn drop(self: Pin<&mut Self>) {
        if self.registered.load(Relaxed) {
            // SAFETY: Registered, as `register` noted, and deregistered once.
            unsafe { bindings::misc_deregister(self.misc.get()) };
        }
    }
}

/// Borrows the endpoint of a file of ours.
///
/// # Safety
///
/// `file` is open and ours, and stays so for `'a`.
unsafe fn endpoint<'a>(file: *mut bindings::file) -> ArcBorrow<'a, Endpoint> {
    // SAFETY: `open` or `accept` stored an `Arc<Endpoint>`.
    unsafe { Arc::<Endpoint>::borrow((*file).private_data) }
}

/// Marks a file of ours as a stream that supports nonblocking reads and writes (`IOCB_NOWAIT`).
///
/// # Safety
///
/// `file` is ours, and no other thread has seen it.
unsafe fn be_stream(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
    // SAFETY: As the caller guarantees; a stream does not look at the inode.
    unsafe {
        let opened = bindings::stream_open(inode, file);
        (*file).f_mode |= bindings::IDTS_FMODE_NOWAIT;
        opened
    }
}

/// The access mode of a file, and whether its calls are nonblocking.
#[derive(Clone, Copy)]
struct Mode {
    reads: bool,
    writes: bool,
    nonblock: bool,
}

impl Mode {
    /// Reads the mode of a file.
    ///
    /// # Safety
    ///
    /// As [`endpoint`].
    unsafe fn of(file: *mut bindings::file) -> Self {
        // SAFETY: As the caller guarantees; the mode stays as it was at open.
        let (mode, nonblock) = unsafe { ((*file).f_mode, nonblock(file)) };
        Self {
            reads: mode & bindings::IDTS_FMODE_READ != 0,
            writes: mode & bindings::IDTS_FMODE_WRITE != 0,
            nonblock,
        }
    }
}

/// Returns whether `O_NONBLOCK` is set.
///
/// # Safety
///
/// As [`endpoint`].
unsafe fn nonblock(file: *mut bindings::file) -> bool {
    // SAFETY: As the caller guarantees; the flags are one word.
    unsafe { (&raw const (*file).f_flags).read_volatile() & uapi::NONBLOCK != 0 }
}

/// Returns the endpoint of a read or a write, and true if the call is nonblocking.
///
/// # Safety
///
/// `iocb` is valid for `'a`, and on a file of ours.
unsafe fn transfer<'a>(iocb: *mut bindings::kiocb) -> (ArcBorrow<'a, Endpoint>, bool) {
    // SAFETY: As the caller guarantees.
    unsafe {
        let file = (*iocb).ki_filp;
        let nowait = (*iocb).ki_flags & bindings::IDTS_IOCB_NOWAIT as c_int != 0;
        (endpoint(file), nowait || nonblock(file))
    }
}

/// # Safety
///
/// Called by the VFS, on a file of ours.
#[no_mangle]
unsafe extern "C" fn idts_open(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
    let made = Context::current().and_then(|context| {
        // SAFETY: The VFS passes a file that this process is opening.
        let payer = unsafe { Payer::current(file, &context.services.users)? };
        Endpoint::open(context, &payer)
    });
    match made {
        Ok(endpoint) => {
            // SAFETY: The VFS passes a file that is being opened.
            unsafe {
                (*file).private_data = endpoint.into_foreign();
                be_stream(inode, file)
            }
        }
        Err(error) => error.to_errno(),
    }
}

/// # Safety
///
/// Called by the VFS, on a file of ours.
#[no_mangle]
unsafe extern "C" fn idts_release(
    _inode: *mut bindings::inode,
    file: *mut bindings::file,
) -> c_int {
    // SAFETY: The last close, so the endpoint is not borrowed through this file any more.
    let endpoint = unsafe { Arc::<Endpoint>::from_foreign((*file).private_data) };
    endpoint.release();
    0
}

/// # Safety
///
/// Called by the VFS, on a file of ours.
#[no_mangle]
unsafe extern "C" fn idts_read_iter(
    iocb: *mut bindings::kiocb,
    iter: *mut bindings::iov_iter,
) -> isize {
    // SAFETY: The VFS passes a valid iocb on a file of ours, and an iterator to
    // copy to.
    let ((endpoint, nonblock), iter) = unsafe { (transfer(iocb), IovIterDest::from_raw(iter)) };
    match endpoint.read(iter, nonblock) {
        Ok(n) => n as isize,
        Err(error) => error.to_errno() as isize,
    }
}

/// # Safety
///
/// Called by the VFS, on a file of ours.
#[no_mangle]
unsafe extern "C" fn idts_write_iter(
    iocb: *mut bindings::kiocb,
    iter: *mut bindings::iov_iter,
) -> isize {
    // SAFETY: As in `read_iter`, with an iterator to copy from.
    let ((endpoint, nonblock), iter) = unsafe { (transfer(iocb), IovIterSource::from_raw(iter)) };
    match endpoint.write(iter, nonblock) {
        Ok(n) => n as isize,
        Err(error) => error.to_errno() as isize,
    }
}

/// # Safety
///
/// Called by the VFS, on a file of ours.
#[no_mangle]
unsafe extern "C" fn idts_poll(
    file: *mut bindings::file,
    table: *mut bindings::poll_table_struct,
) -> bindings::__poll_t {
    // SAFETY: The VFS passes a file of ours and its table.
    unsafe { endpoint(file).poll(file, table) }
}

/// # Safety
///
/// Called by the VFS, on a file of ours.
#[no_mangle]
unsafe extern "C" fn idts_ioctl(
    file: *mut bindings::file,
    command: c_uint,
    arg: c_ulong,
) -> c_long {
    // SAFETY: The VFS passes a file of ours.
    let (endpoint, mode) = unsafe { (endpoint(file), Mode::of(file)) };
    let result = if command == FIONREAD {
        fionread(&endpoint, arg).map(|()| 0)
    } else if (command >> 8) as u8 == uapi::MAGIC {
        let size = ((command >> 16) & 0x3fff) as usize;
        dispatch(endpoint, command as u8, Argument { at: arg, size }, mode)
    } else {
        Err(ENOTTY)
    };
    match result {
        Ok(n) => n as c_long,
        Err(error) => error.to_errno() as c_long,
    }
}

/// The caller's structure of an ioctl: its address and its size.
#[derive(Clone, Copy)]
struct Argument {
    at: usize,
    size: usize,
}

impl Argument {
    /// Copies the caller's structure in, once. A shorter one is extended with zeroes.
    ///
    /// # Errors
    /// `E2BIG`: a longer one is not zero beyond ours. `EFAULT`.
    fn read<T: FromBytes + IntoBytes + Default>(self) -> Result<T> {
        let mut value = T::default();
        let bytes = value.as_mut_bytes();
        let common = bytes.len().min(self.size);
        let mut user = UserSlice::new(UserPtr::from_addr(self.at), self.size).reader();
        user.read_slice(bytes.get_mut(..common).ok_or(EINVAL)?)?;
        while !user.is_empty() {
            if user.read::<u8>()? != 0 {
                return Err(E2BIG);
            }
        }
        Ok(value)
    }

    /// Copies out as much of our structure as the caller's can hold.
    ///
    /// # Errors
    /// `EFAULT`.
    fn write<T: IntoBytes + zerocopy::Immutable>(self, value: &T) -> Result {
        let bytes = value.as_bytes();
        let common = bytes.len().min(self.size);
        let mut user = UserSlice::new(UserPtr::from_addr(self.at), self.size).writer();
        user.write_slice(bytes.get(..common).ok_or(EINVAL)?)
    }
}

/// `FIONREAD`: the number of bytes that a read would return.
fn fionread(endpoint: &Endpoint, arg: usize) -> Result {
    let there = endpoint.channel()?.levels().0;
    Argument { at: arg, size: 4 }.write(&there)
}

/// Runs the ioctl with `number`.
fn dispatch(
    endpoint: ArcBorrow<'_, Endpoint>,
    number: u8,
    arg: Argument,
    mode: Mode,
) -> Result<usize> {
    use uapi::nr;
    let nonblock = mode.nonblock;
    let owned = || Arc::from(endpoint);
    let done = match number {
        nr::TRANSACT => return transact(&endpoint, arg, mode),
        nr::VERSION => arg.write(&uapi::Version {
            uapi: uapi::UAPI_VERSION,
            role: Context::current()?.router.role(),
            features: uapi::FEATURES,
        }),
        nr::BIND => {
            let address: uapi::Addr = arg.read()?;
            address.check().map_err(invalid)?;
            // SAFETY: No requirements.
            if address.is_privileged() && !unsafe { bindings::idts_net_bind_service() } {
                return Err(EACCES);
            }
            owned().bind(address.port, address.domid)
        }
        nr::LISTEN => {
            let listen: uapi::Listen = arg.read()?;
            endpoint.listen(listen.check().map_err(invalid)?)
        }
        nr::ACCEPT => accept(&endpoint, arg, nonblock),
        nr::CONNECT => owned().connect(&arg.read()?, nonblock),
        nr::PUBLISH => owned().join(&arg.read()?, Kind::Publish, nonblock),
        nr::SUBSCRIBE => owned().join(&arg.read()?, Kind::Subscribe, nonblock),
        nr::SHUTDOWN => endpoint.shutdown(u32::try_from(arg.at).map_err(|_| EINVAL)?),
        nr::GET_INFO => arg.write(&endpoint.info()),
        nr::GET_ERROR => arg.write(&endpoint.take_error()),
        _ => Err(ENOTTY),
    };
    done.map(|()| 0)
}

/// `IDTS_IOC_TRANSACT`: writes, then reads. A call that fails reports the bytes that were
/// written, and is not restarted after a signal if there are any, because they must not be
/// written again.
fn transact(endpoint: &Endpoint, arg: Argument, mode: Mode) -> Result<usize> {
    let request: uapi::Transact = arg.read()?;
    request.check().map_err(invalid)?;
    // The same checks as in write(2) and read(2).
    if (request.tx_len > 0 && !mode.writes) || (request.rx_len > 0 && !mode.reads) {
        return Err(EBADF);
    }
    let mut sent = 0;
    let result = endpoint.transact(&request, mode.nonblock, &mut sent);
    result.or_else(|error| {
        arg.write(&uapi::Transact { sent, ..request })?;
        Err(match sent > 0 && error == ERESTARTSYS {
            true => EINTR,
            false => error,
        })
    })
}

/// A file descriptor that is reserved and not installed yet.
struct ReservedFd(c_int);

impl ReservedFd {
    /// Reserves a descriptor.
    fn new(flags: u32) -> Result<Self> {
        // SAFETY: No requirements.
        let fd = unsafe { bindings::get_unused_fd_flags(flags) };
        if fd < 0 {
            return Err(Error::from_errno(fd));
        }
        Ok(Self(fd))
    }

    /// Installs `file` under this descriptor.
    fn install(self, file: *mut bindings::file) {
        // SAFETY: Both are ours; the file's reference goes with the number.
        unsafe { bindings::fd_install(self.0 as c_uint, file) };
        core::mem::forget(self);
    }
}

impl Drop for ReservedFd {
    fn drop(&mut self) {
        // SAFETY: Reserved and not installed.
        unsafe { bindings::put_unused_fd(self.0 as c_uint) };
    }
}

/// Accepts a connection and installs a descriptor for it. All steps that can fail come before
/// the accept, or close the connection again.
fn accept(endpoint: &Endpoint, arg: Argument, nonblock: bool) -> Result {
    let mut request: uapi::Accept = arg.read()?;
    request.check().map_err(invalid)?;
    let fd = ReservedFd::new(request.flags & uapi::CLOEXEC)?;
    let child = endpoint.accept(nonblock)?;
    request.fd = fd.0;
    request.peer = child.peer();
    let private = child.into_foreign();
    let flags = (request.flags & uapi::NONBLOCK) as c_int;
    // SAFETY: `private` owns a reference, which the file takes over until `idts_release`.
    let file = unsafe { bindings::idts_anon_file(private.cast::<c_void>(), flags) };
    let file = match kernel::error::from_err_ptr(file) {
        Ok(file) => file,
        Err(error) => {
            // SAFETY: No file took the endpoint over.
            unsafe { Arc::<Endpoint>::from_foreign(private) }.release();
            return Err(error);
        }
    };
    // SAFETY: A new file of ours.
    unsafe { be_stream(core::ptr::null_mut(), file) };
    if let Err(error) = arg.write(&request) {
        // SAFETY: The only reference; this releases the endpoint too.
        unsafe { bindings::fput(file) };
        return Err(error);
    }
    fd.install(file);
    Ok(())
}
