// SPDX-License-Identifier: GPL-2.0

//! Who pays for what programs make.
//!
//! Whoever opened the file pays; for a connection that came in, whoever opened
//! the listener's. Never the process or the worker that happens to handle a
//! message. Objects, and rings inside this domain, are charged to the memory
//! cgroup in which the file was opened. Endpoints and the rings of all tunnels
//! are in the module's own book as well (`idts_core::quota`), by user: pages of a
//! guest's region are shared, so no cgroup can have them.
//!
//! Owns the book and what is given back by being dropped.

use core::ffi::c_void;

use idts_core::quota::{Limits, QuotaError, Quotas, Scope, User, LOOPBACK_SHARE};
use idts_core::usage::Usage;
use kernel::debugfs::Writer;
use kernel::fmt;
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};
use kernel::sync::{new_mutex, Arc, Mutex};

use crate::sys::bindings;
use crate::sys::counter::Counter;
use crate::sys::errno::Errno;

/// The modules' parameters: MiB of rings of a user, its endpoints, MiB of rings
/// in the tunnel of the domain with itself, or 0.
static BOUNDS: [Atomic<u32>; 3] = [const { Atomic::new(0) }; 3];

/// Sets how much programs may have; before the module has its book.
pub fn bound(user_memory: u32, user_endpoints: u32, home_memory: u32) {
    let values = [user_memory, user_endpoints, home_memory];
    for (bound, value) in BOUNDS.iter().zip(values) {
        bound.store(value, Relaxed);
    }
}

fn limits() -> Limits {
    let [user_memory, user_endpoints, home_memory] = &BOUNDS;
    // SAFETY: No requirements.
    let total = unsafe { bindings::idts_total_memory() };
    let bytes = |bound: &Atomic<u32>| u64::from(bound.load(Relaxed)) << 20;
    Limits {
        user_memory: bytes(user_memory),
        user_endpoints: user_endpoints.load(Relaxed),
        loopback_memory: match bytes(home_memory) {
            0 => total / LOOPBACK_SHARE,
            bytes => bytes,
        },
    }
}

/// How often room is made before the book is held for full.
const ROOM_TRIES: usize = 2;

/// What is entered.
type Entry<'a> = &'a dyn Fn(&mut Quotas<KVec<Usage>>) -> Result<(), QuotaError>;

/// The module's book, and how often it was full.
#[pin_data]
pub struct Users {
    #[pin]
    book: Mutex<Quotas<KVec<Usage>>>,
    no_user_memory: Counter,
    no_user_endpoints: Counter,
    no_home_memory: Counter,
    /// Rings or objects for which there was no memory, in the domain or the cgroup.
    no_memory: Counter,
    /// Connections inside the domain for which no channel was left.
    no_channel: Counter,
    /// Connections with larger rings than their listener takes.
    pub(crate) rings_too_large: Counter,
    /// Binds for which there were too many ports.
    pub(crate) no_port: Counter,
}

impl Users {
    /// An empty book.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                book <- new_mutex!(Quotas::new(limits(), KVec::new())),
                no_user_memory: Counter::new(),
                no_user_endpoints: Counter::new(),
                no_home_memory: Counter::new(),
                no_memory: Counter::new(),
                no_channel: Counter::new(),
                rings_too_large: Counter::new(),
                no_port: Counter::new(),
            }),
            GFP_KERNEL,
        )
    }

    fn try_enter(&self, what: Entry<'_>) -> Result<(), QuotaError> {
        let mut book = self.book.lock();
        let users = book.users();
        if !users.has_free_entry() {
            // Without one the book says so.
            let _ = users.entries_mut().push(Usage::default(), GFP_KERNEL);
        }
        what(&mut book)
    }

    /// Enters something, or counts why that cannot be. What was closed a moment
    /// ago is still there: `make_room` sees to that, and may sleep for it.
    fn enter(&self, what: Entry<'_>, make_room: impl Fn()) -> Result<(), Errno> {
        let mut result = self.try_enter(what);
        for _ in 0..ROOM_TRIES {
            if !matches!(result, Err(full) if full != QuotaError::NoEntry) {
                break;
            }
            make_room();
            result = self.try_enter(what);
        }
        let counter = match result {
            Ok(()) => return Ok(()),
            Err(QuotaError::UserMemory) => &self.no_user_memory,
            Err(QuotaError::UserEndpoints) => &self.no_user_endpoints,
            Err(QuotaError::LoopbackMemory) => &self.no_home_memory,
            Err(QuotaError::NoEntry) => &self.no_memory,
        };
        counter.add(1);
        Err(Errno::NoSpace)
    }
}

/// What the debugfs file `users` shows.
pub(crate) struct Report(pub(crate) Arc<Users>);

impl Writer for Report {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let users = &self.0;
        let mut book = users.book.lock();
        let limits = book.limits();
        writeln!(f, "user_memory {}", limits.user_memory)?;
        writeln!(f, "user_endpoints {}", limits.user_endpoints)?;
        writeln!(f, "home_memory {}", limits.loopback_memory)?;
        writeln!(f, "home_used {}", book.loopback_bytes())?;
        writeln!(f, "no_user_memory {}", users.no_user_memory.get())?;
        writeln!(f, "no_user_endpoints {}", users.no_user_endpoints.get())?;
        writeln!(f, "no_home_memory {}", users.no_home_memory.get())?;
        writeln!(f, "no_memory {}", users.no_memory.get())?;
        writeln!(f, "no_channel {}", users.no_channel.get())?;
        writeln!(f, "rings_too_large {}", users.rings_too_large.get())?;
        writeln!(f, "no_port {}", users.no_port.get())?;
        for (uid, account) in book.users().iter() {
            writeln!(f, "user_{uid}_endpoints {}", account.count)?;
            writeln!(f, "user_{uid}_memory {}", account.bytes)?;
        }
        Ok(())
    }
}

/// A reference to a memory cgroup, or to none.
struct Cgroup(*mut c_void);

// SAFETY: A counted reference, which may be used and put anywhere.
unsafe impl Send for Cgroup {}
// SAFETY: As above.
unsafe impl Sync for Cgroup {}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // SAFETY: The one reference that `Payer::current` took; null is fine.
        unsafe { bindings::idts_memcg_put(self.0) };
    }
}

/// Somebody who opened a file.
pub struct Payer {
    user: User,
    cgroup: Cgroup,
    users: Arc<Users>,
}

impl Payer {
    /// Of a file that this process opens.
    ///
    /// # Safety
    ///
    /// `file` is being opened by this process.
    pub(crate) unsafe fn current(
        file: *const bindings::file,
        users: &Arc<Users>,
    ) -> Result<Arc<Self>> {
        // SAFETY: As the caller guarantees; a file has its credentials for as
        // long as it is there, and a process that opens one has an `mm` or none.
        let (user, cgroup) = unsafe {
            let user = User {
                uid: bindings::idts_opener(file),
                is_exempt: bindings::idts_sys_resource(),
            };
            (user, Cgroup(bindings::idts_memcg_get()))
        };
        let payer = Self {
            user,
            cgroup,
            users: users.clone(),
        };
        Ok(Arc::new(payer, GFP_KERNEL_ACCOUNT)?)
    }

    /// The user.
    pub(crate) fn uid(&self) -> u32 {
        self.user.uid
    }

    /// Runs `make` with what it allocates charged to this one's cgroup, as far
    /// as it asks for that.
    pub fn charge<R>(&self, make: impl FnOnce() -> R) -> R {
        // SAFETY: `self` has a reference, and outlives the call.
        unsafe { charge_to(self.cgroup.0, make) }
    }

    /// Enters an endpoint; where there is none left, `make_room` may see to it.
    pub(crate) fn seat(self: &Arc<Self>, make_room: impl Fn()) -> Result<Seat, Errno> {
        let open = |book: &mut Quotas<_>| book.charge_endpoint(self.user);
        self.users.enter(&open, make_room)?;
        Ok(Seat(self.clone()))
    }

    /// Enters rings of so many bytes, as [`Self::seat`] does an endpoint.
    pub(crate) fn rings(
        self: &Arc<Self>,
        place: Scope,
        bytes: u32,
        make_room: impl Fn(),
    ) -> Result<Rings, Errno> {
        let take = |book: &mut Quotas<_>| book.charge_rings(self.user, place, bytes);
        self.users.enter(&take, make_room)?;
        Ok(Rings {
            payer: self.clone(),
            place,
            bytes,
        })
    }

    /// Counts what there was none of.
    pub(crate) fn got_none(&self, error: Error) -> Errno {
        match error == ENOSPC {
            true => self.users.no_channel.add(1),
            false => self.users.no_memory.add(1),
        }
        Errno::NoSpace
    }
}

/// Runs `make` at a cgroup's cost: what it allocates to be accounted.
///
/// # Safety
///
/// The caller keeps a reference to `cgroup` until this returns, or it is the root,
/// which needs none, or null.
unsafe fn charge_to<R>(cgroup: *mut c_void, make: impl FnOnce() -> R) -> R {
    // SAFETY: As the caller guarantees; it is set back below, in this same task.
    let other = unsafe { bindings::idts_memcg_charge(cgroup) };
    let made = make();
    // SAFETY: Whoever set it keeps it until it is set back.
    unsafe { bindings::idts_memcg_charge(other) };
    made
}

/// Runs `make` at somebody's cost, or, with none, at nobody's: what no program of
/// this domain asked for.
pub fn charge<R>(payer: Option<&Payer>, make: impl FnOnce() -> R) -> R {
    match payer {
        Some(payer) => payer.charge(make),
        // SAFETY: The root.
        None => unsafe { charge_to(bindings::idts_memcg_root(), make) },
    }
}

/// An endpoint in the book.
pub(crate) struct Seat(Arc<Payer>);

impl Seat {
    /// Who has it.
    pub(crate) fn payer(&self) -> &Arc<Payer> {
        &self.0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.users.book.lock().uncharge_endpoint(self.0.user.uid);
    }
}

/// Rings in the book.
pub(crate) struct Rings {
    payer: Arc<Payer>,
    place: Scope,
    bytes: u32,
}

impl Rings {
    /// Who has them.
    pub(crate) fn payer(&self) -> &Payer {
        &self.payer
    }
}

impl Drop for Rings {
    fn drop(&mut self) {
        let mut book = self.payer.users.book.lock();
        book.uncharge_rings(self.payer.user.uid, self.place, self.bytes);
    }
}
