// SPDX-License-Identifier: GPL-2.0
//! System calls as they are, with their errnos: what the client crate hides is what is looked at
//! here. And what the calls are tried against: signals, forks, threads, memory that ends.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, ensure, Context, Result};
use idts_core::uapi::{self, nr, MAGIC};
use rustix::ioctl::{opcode, Opcode};
use rustix::mm::{mmap_anonymous, munmap, MapFlags, ProtFlags};

use crate::{calls, probe};

pub const PAGE: usize = 4096;
/// Whatever takes longer hangs.
pub const HUNG: Duration = Duration::from_secs(200);
/// Long enough for another thread to have begun to wait, mostly: if not, a check is easier to pass.
pub const SOON: Duration = Duration::from_millis(60);

pub const READ: i32 = libc::O_RDONLY;
pub const WRITE: i32 = libc::O_WRONLY;
pub const BOTH: i32 = libc::O_RDWR;

/// A count, or an errno.
pub type Answer = Result<i64, i32>;

pub const VERSION: Opcode = opcode::read::<uapi::Version>(MAGIC, nr::VERSION);
pub const BIND: Opcode = opcode::write::<uapi::Addr>(MAGIC, nr::BIND);
pub const LISTEN: Opcode = opcode::write::<uapi::Listen>(MAGIC, nr::LISTEN);
pub const ACCEPT: Opcode = opcode::read_write::<uapi::Accept>(MAGIC, nr::ACCEPT);
pub const CONNECT: Opcode = opcode::write::<uapi::Connect>(MAGIC, nr::CONNECT);
pub const SHUTDOWN: Opcode = opcode::none(MAGIC, nr::SHUTDOWN);
pub const GET_INFO: Opcode = opcode::read::<uapi::Info>(MAGIC, nr::GET_INFO);
pub const GET_ERROR: Opcode = opcode::read::<i32>(MAGIC, nr::GET_ERROR);
pub const PUBLISH: Opcode = opcode::write::<uapi::Group>(MAGIC, nr::PUBLISH);
pub const SUBSCRIBE: Opcode = opcode::write::<uapi::Group>(MAGIC, nr::SUBSCRIBE);
pub const TRANSACT: Opcode = opcode::read_write::<uapi::Transact>(MAGIC, nr::TRANSACT);
pub const FIONREAD: Opcode = libc::FIONREAD as Opcode;

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// What a call gave.
pub fn answer(result: i64) -> Answer {
    if result < 0 {
        Err(errno())
    } else {
        Ok(result)
    }
}

fn show(answer: Answer) -> String {
    match answer {
        Ok(count) => count.to_string(),
        Err(errno) => probe::name(Some(errno)).to_string(),
    }
}

/// An answer must be so.
pub fn want(what: &str, got: Answer, wanted: Answer) -> Result<()> {
    ensure!(got == wanted, "{what}: {}, not {}", show(got), show(wanted));
    Ok(())
}

/// Answers of several threads must be these, in some order.
pub fn want_all(what: &str, got: &[Answer], wanted: &[Answer]) -> Result<()> {
    let sorted = |answers: &[Answer]| {
        let mut answers: Vec<_> = answers.iter().copied().map(show).collect();
        answers.sort();
        answers
    };
    let (got, wanted) = (sorted(got), sorted(wanted));
    ensure!(got == wanted, "{what}: {got:?}, not {wanted:?}");
    Ok(())
}

/// A new idle endpoint.
pub fn open(mode: i32) -> Result<OwnedFd> {
    let path = std::ffi::CString::new(idts::DEVICE)?;
    // SAFETY: The path ends with a zero.
    let fd = unsafe { libc::open(path.as_ptr(), mode | libc::O_CLOEXEC) };
    ensure!(fd >= 0, "open: {}", io::Error::last_os_error());
    // SAFETY: Just opened, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// An ioctl with an address or a number.
pub fn ioctl_at(fd: &OwnedFd, code: Opcode, at: usize) -> Answer {
    // SAFETY: Whatever the address is: the driver expects any, and the callers name memory that is
    // theirs or nobody's.
    answer(unsafe { libc::ioctl(fd.as_raw_fd(), code as _, at) }.into())
}

/// An ioctl with a structure.
pub fn ioctl<T>(fd: &OwnedFd, code: Opcode, value: &mut T) -> Answer {
    ioctl_at(fd, code, ptr::from_mut(value) as usize)
}

/// All that is known of an endpoint.
pub fn info(fd: &OwnedFd) -> Result<uapi::Info> {
    let mut info = uapi::Info::default();
    want("GET_INFO", ioctl(fd, GET_INFO, &mut info), Ok(0))?;
    Ok(info)
}

/// An endpoint must be in this state.
pub fn want_state(fd: &OwnedFd, state: u32) -> Result<()> {
    let is = info(fd)?.state;
    ensure!(is == state, "the state is {is}, not {state}");
    Ok(())
}

pub fn shutdown(fd: &OwnedFd, how: u32) -> Answer {
    ioctl_at(fd, SHUTDOWN, how as usize)
}

pub fn read_at(fd: &OwnedFd, at: usize, len: usize) -> Answer {
    // SAFETY: As `ioctl_at`.
    answer(unsafe { libc::read(fd.as_raw_fd(), at as *mut _, len) } as i64)
}

pub fn write_at(fd: &OwnedFd, at: usize, len: usize) -> Answer {
    // SAFETY: As `ioctl_at`.
    answer(unsafe { libc::write(fd.as_raw_fd(), at as *const _, len) } as i64)
}

pub fn read(fd: &OwnedFd, buffer: &mut [u8]) -> Answer {
    read_at(fd, buffer.as_mut_ptr() as usize, buffer.len())
}

pub fn write(fd: &OwnedFd, bytes: &[u8]) -> Answer {
    write_at(fd, bytes.as_ptr() as usize, bytes.len())
}

/// Reads so many bytes of a stream, or up to its end; how many.
pub fn read_all(fd: &OwnedFd, len: usize) -> Result<usize> {
    let mut buffer = vec![0; len];
    let mut got = 0;
    while got < len {
        match read(fd, &mut buffer[got..]) {
            Ok(0) => break,
            Ok(count) => got += count as usize,
            Err(errno) => bail!("read: {}", show(Err(errno))),
        }
    }
    Ok(got)
}

/// preadv2 and pwritev2 without waiting, on a descriptor that waits.
pub fn read_nowait(fd: &OwnedFd, buffer: &mut [u8]) -> Answer {
    let vector = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: The vector names a buffer that is borrowed for the call.
    answer(unsafe { libc::preadv2(fd.as_raw_fd(), &vector, 1, -1, libc::RWF_NOWAIT) } as i64)
}

pub fn write_nowait(fd: &OwnedFd, bytes: &[u8]) -> Answer {
    let vector = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: As `read_nowait`; it is only read.
    answer(unsafe { libc::pwritev2(fd.as_raw_fd(), &vector, 1, -1, libc::RWF_NOWAIT) } as i64)
}

pub fn set_nonblocking(fd: &OwnedFd, on: bool) -> Result<()> {
    let flag = if on { libc::O_NONBLOCK } else { 0 };
    // SAFETY: Flags of a descriptor that is borrowed.
    let set = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flag) };
    want("F_SETFL", answer(set.into()), Ok(0))
}

/// Polls one descriptor; no event within the time is 0.
pub fn poll(fd: &OwnedFd, events: i16, limit: Duration) -> Answer {
    let mut entry = libc::pollfd {
        fd: fd.as_raw_fd(),
        events,
        revents: 0,
    };
    // SAFETY: One entry, borrowed for the call.
    let result = unsafe { libc::poll(&mut entry, 1, limit.as_millis() as i32) };
    answer(result.into()).map(|_| entry.revents.into())
}

/// Polls until an event that is wanted comes: not before the deadline, so a lost one is a failure.
pub fn want_event(fd: &OwnedFd, events: i16) -> Result<i16> {
    let got = poll(fd, events, HUNG / 2).map_err(|e| anyhow!("poll: {}", show(Err(e))))?;
    ensure!(got != 0, "poll: nothing happened: a wake-up is lost");
    Ok(got as i16)
}

/// The descriptors of a pipe: to read, to write.
pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe()?)
}

/// Memory of one page, after which there is nothing.
pub struct Half(usize);

impl Half {
    pub fn new() -> Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: A mapping of our own, at a place that the kernel chooses.
        let at =
            unsafe { mmap_anonymous(ptr::null_mut(), 2 * PAGE, protection, MapFlags::PRIVATE)? };
        // SAFETY: Its second page, which nobody has seen.
        unsafe { munmap(at.wrapping_byte_add(PAGE), PAGE)? };
        // SAFETY: Its first page.
        unsafe { at.cast::<u8>().write_bytes(7, PAGE) };
        Ok(Self(at as usize))
    }

    /// Where the page begins.
    pub fn start(&self) -> usize {
        self.0
    }

    /// A place with so many bytes before the end.
    pub fn last(&self, bytes: usize) -> usize {
        self.0 + PAGE - bytes
    }

    /// Puts the first half of a value at the end of the page; where it begins.
    pub fn straddle<T: Copy>(&self, value: &T) -> usize {
        let half = size_of::<T>() / 2;
        let at = self.last(half);
        // SAFETY: Half of the value, into the last bytes of the page.
        unsafe { ptr::copy_nonoverlapping(ptr::from_ref(value).cast::<u8>(), at as *mut u8, half) };
        at
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        // SAFETY: The page that is left; nobody refers to it any more.
        let _ = unsafe { munmap(self.0 as *mut _, PAGE) };
    }
}

/// Runs `act` in a process of its own. What fails there fails here; what does not end is ended.
pub fn in_child(act: impl FnOnce() -> Result<()>) -> Result<()> {
    let (from, to) = pipe()?;
    // SAFETY: This process has one thread where it forks, or its child uses nothing that another
    // thread may have held but the allocator, which the C library mends.
    let pid = unsafe { libc::fork() };
    ensure!(pid >= 0, "fork: {}", io::Error::last_os_error());
    if pid == 0 {
        drop(from);
        let result = catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|_| Err(anyhow!("panic")));
        let text = match result {
            Ok(()) => "ok".into(),
            Err(error) => format!("{error:#}"),
        };
        let _ = std::fs::File::from(to).write_all(text.as_bytes());
        // SAFETY: Ends the child, and runs nothing of the parent's.
        unsafe { libc::_exit(0) };
    }
    drop(to);
    let ended = poll(&from, libc::POLLIN, HUNG);
    // SAFETY: Our own child, not waited for yet; it has nothing more to do.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    // SAFETY: As above; nobody asks how it ended.
    unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
    ensure!(ended.is_ok_and(|events| events != 0), "it hangs");
    let mut text = String::new();
    std::fs::File::from(from).read_to_string(&mut text)?;
    ensure!(text == "ok", "{text}");
    Ok(())
}

/// Runs `act` in two threads at once, and gives both results.
pub fn twice<T: Send>(act: impl Fn() -> T + Sync) -> Result<[T; 2]> {
    thread::scope(|scope| {
        let [a, b] = [scope.spawn(&act), scope.spawn(&act)];
        let failed = |_| anyhow!("a thread panicked");
        Ok([a.join().map_err(failed)?, b.join().map_err(failed)?])
    })
}

/// Runs `act` while signals come to its thread, `each` apart, whose handler does nothing. With
/// `restart` the kernel is to start the call again.
pub fn under_signals<T: Send>(
    restart: bool,
    each: Duration,
    act: impl FnOnce() -> T + Send,
) -> Result<T> {
    calls::quiet_signal(restart)?;
    // The thread: 0 before it is there, the maximum once it is done.
    let thread = AtomicU64::new(0);
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            // SAFETY: No requirements.
            thread.store(unsafe { libc::pthread_self() }, Ordering::Release);
            let result = act();
            thread.store(u64::MAX, Ordering::Release);
            result
        });
        calls::signal_until_done(&thread, each);
        worker.join().map_err(|_| anyhow!("the thread panicked"))
    })
}

/// Waits until `fine`.
pub fn until(what: &str, mut fine: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !fine()? {
        ensure!(start.elapsed() < HUNG / 2, "{what}: it does not become so");
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Takes a descriptor that a call made.
pub fn own(fd: RawFd) -> Result<OwnedFd> {
    ensure!(fd >= 0, "no descriptor");
    // SAFETY: Just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The errno that a call must give.
pub fn refused(what: &str, got: Answer, errno: i32) -> Result<()> {
    want(what, got, Err(errno)).context("it is to be refused")
}

/// Has this process, and its threads from now on, one CPU.
pub fn one_cpu() -> Result<()> {
    let mut cpus = rustix::thread::CpuSet::new();
    cpus.set(0);
    Ok(rustix::thread::sched_setaffinity(None, &cpus)?)
}

/// Has this thread run before all that are not as urgent, or no more.
pub fn go_first(first: bool) -> Result<()> {
    let policy = if first {
        libc::SCHED_FIFO
    } else {
        libc::SCHED_OTHER
    };
    let param = libc::sched_param {
        sched_priority: first.into(),
    };
    // SAFETY: This thread, and a whole structure.
    let set = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &param) };
    want("sched_setscheduler", answer(set), Ok(0))
}
