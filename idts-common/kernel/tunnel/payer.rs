// SPDX-License-Identifier: GPL-2.0

//! Accounting: the user and the memory cgroup that pay for endpoints and rings.
//!
//! The opener of the file pays; for an incoming connection, the opener of the listener's file.
//! The process or worker that happens to handle a message never pays. Objects, and rings inside
//! this domain, are charged to the memory cgroup in which the file was opened. Endpoints and the
//! rings of all tunnels are also counted by user (`idts_core::quota`), because pages of a
//! guest's region are shared, and so cannot belong to a cgroup.
//!
//! This file owns the quotas, and the charges that are refunded when dropped.

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

/// Module parameters: MiB of rings of a user, endpoints of a user, MiB of rings of the loopback
/// tunnel; 0 is the default of the last.
static BOUNDS: [Atomic<u32>; 3] = [const { Atomic::new(0) }; 3];

/// Sets the limits of programs. To be called before the module has its quotas.
pub fn bound(user_memory: u32, user_endpoints: u32, home_memory: u32) {
    let values = [user_memory, user_endpoints, home_memory];
    for (bound, value) in BOUNDS.iter().zip(values) {
        bound.store(value, Relaxed);
    }
}

/// The limits, from the module parameters and the domain's memory.
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

/// Attempts to make room before a quota counts as exhausted.
const ROOM_TRIES: usize = 2;

/// A charge, as an operation on the quotas.
type Entry<'a> = &'a dyn Fn(&mut Quotas<KVec<Usage>>) -> Result<(), QuotaError>;

/// The quotas of all users, and counters of failed charges.
#[pin_data]
pub struct Users {
    #[pin]
    book: Mutex<Quotas<KVec<Usage>>>,
    no_user_memory: Counter,
    no_user_endpoints: Counter,
    no_home_memory: Counter,
    /// Failures for lack of memory, in the domain or the cgroup.
    no_memory: Counter,
    /// Loopback connections that failed because all channels were in use.
    no_channel: Counter,
    /// Connections whose rings were larger than their listener accepts.
    pub(crate) rings_too_large: Counter,
    /// Binds that failed because too many ports were bound.
    pub(crate) no_port: Counter,
}

impl Users {
    /// Creates quotas without charges.
    ///
    /// # Errors
    /// `ENOMEM`.
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

    /// Makes a charge once.
    fn try_enter(&self, what: Entry<'_>) -> Result<(), QuotaError> {
        let mut book = self.book.lock();
        let users = book.users();
        if !users.has_free_entry() {
            // Without memory for an entry the charge fails.
            let _ = users.entries_mut().push(Usage::default(), GFP_KERNEL);
        }
        what(&mut book)
    }

    /// Makes a charge, or counts why it failed.
    ///
    /// Objects that were just closed may still be charged: `make_room` waits until they are
    /// freed, and may sleep.
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

/// The debugfs file `users`.
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

/// The opener of a file: the user and the cgroup that pay.
pub struct Payer {
    user: User,
    cgroup: Cgroup,
    users: Arc<Users>,
}

impl Payer {
    /// Creates the payer of a file that this process opens.
    ///
    /// # Errors
    /// `ENOMEM`.
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

    /// The user's id.
    pub(crate) fn uid(&self) -> u32 {
        self.user.uid
    }

    /// Runs `make`. Its allocations with `__GFP_ACCOUNT` are charged to this payer's cgroup.
    pub fn charge<R>(&self, make: impl FnOnce() -> R) -> R {
        // SAFETY: `self` has a reference, and outlives the call.
        unsafe { charge_to(self.cgroup.0, make) }
    }

    /// Charges an endpoint to the user. `make_room` may free some if the limit is reached.
    ///
    /// # Errors
    /// [`Errno::NoSpace`]: the limit is reached, or there is no memory.
    pub(crate) fn seat(self: &Arc<Self>, make_room: impl Fn()) -> Result<Seat, Errno> {
        let open = |book: &mut Quotas<_>| book.charge_endpoint(self.user);
        self.users.enter(&open, make_room)?;
        Ok(Seat(self.clone()))
    }

    /// Charges rings of `bytes` bytes to the user. `make_room` may free some if the limit is
    /// reached.
    ///
    /// # Errors
    /// [`Errno::NoSpace`]: the limit is reached, or there is no memory.
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

    /// Counts a failed allocation of memory or of a channel.
    pub(crate) fn got_none(&self, error: Error) -> Errno {
        match error == ENOSPC {
            true => self.users.no_channel.add(1),
            false => self.users.no_memory.add(1),
        }
        Errno::NoSpace
    }
}

/// Runs `make`. Its allocations with `__GFP_ACCOUNT` are charged to `cgroup`.
///
/// # Safety
///
/// The caller keeps a reference to `cgroup` until this returns, or it is the root, which needs
/// none, or null.
unsafe fn charge_to<R>(cgroup: *mut c_void, make: impl FnOnce() -> R) -> R {
    // SAFETY: As the caller guarantees; it is set back below, in this same task.
    let other = unsafe { bindings::idts_memcg_charge(cgroup) };
    let made = make();
    // SAFETY: The task's former cgroup, which its setter keeps until it is set back.
    unsafe { bindings::idts_memcg_charge(other) };
    made
}

/// Runs `make` at the cost of `payer`, or of the root cgroup if no program of this domain made
/// the request.
pub fn charge<R>(payer: Option<&Payer>, make: impl FnOnce() -> R) -> R {
    match payer {
        Some(payer) => payer.charge(make),
        // SAFETY: The root.
        None => unsafe { charge_to(bindings::idts_memcg_root(), make) },
    }
}

/// The charge for an endpoint, refunded when dropped.
pub(crate) struct Seat(Arc<Payer>);

impl Seat {
    /// The account that is charged.
    pub(crate) fn payer(&self) -> &Arc<Payer> {
        &self.0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.users.book.lock().uncharge_endpoint(self.0.user.uid);
    }
}

/// The charge for the rings of a channel, refunded when dropped.
pub(crate) struct Rings {
    payer: Arc<Payer>,
    place: Scope,
    bytes: u32,
}

impl Rings {
    /// The account that is charged.
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
