// SPDX-License-Identifier: GPL-2.0

//! A guest's router: it reaches every domain through its backend, to which there may be no
//! tunnel yet.
//!
//! dom0 may take down a tunnel that is idle, and set it up again when the domain requests it.
//! dom0 announces this in a node, and the domain requests in one of its own (PROTOCOL.md section
//! 3.1). A work item writes that node, so that no task waits for xenstore with a lock held. Any
//! program can cause reads and writes, so their rate is limited: in between, the last value read
//! holds, and changes are written together.

use idts_core::nodes;
use idts_core::token_bucket::TokenBucket;
use idts_core::{uapi, wire};
use idts_kernel::context::registry::Registry;
use idts_kernel::context::router::{Address, Destination, Router};
use idts_kernel::sys::clock::clock;
use idts_kernel::sys::errno::Errno;
use idts_kernel::sys::work::{self, disable_delayed, flush_delayed};
use idts_kernel::tunnel::host::{Attempt, Broker, Carrier, Host, OpenRequest};
use idts_kernel::tunnel::Tunnel;
use idts_kernel::xen::xenstore;
use kernel::prelude::*;
use kernel::str::CString;
use kernel::sync::{new_mutex, Arc, Mutex};
use kernel::time::msecs_to_jiffies;
use kernel::workqueue::{impl_has_delayed_work, new_delayed_work, DelayedWork, WorkItem};

/// Most connects that wait for a tunnel.
const WAITING_MAX: usize = 256;

/// Rate limit of reads of xenstore, and of writes.
const PACE: TokenBucket = TokenBucket {
    burst: 16,
    interval_ns: 1_000_000_000,
};
const NS_PER_MS: u64 = 1_000_000;

/// The domain id that programs see for a group: the backend's own on the wire.
const OF_GROUPS: u16 = 0;

/// A connect that waits for a tunnel.
struct Waiting {
    attempt: Attempt,
    request: OpenRequest,
}

/// State under the router's lock.
struct State {
    /// Set while ports are bound, which keeps the tunnel.
    listens: bool,
    /// Set while there is no tunnel and one is requested.
    asks: bool,
    waiting: KVec<Waiting>,
    /// The content of this domain's node, if it is known.
    told: Option<&'static str>,
    /// Set if dom0 set tunnels up on demand at the last read.
    enabled: bool,
    /// Times at which the buckets of reads and writes are full.
    reads: u64,
    writes: u64,
}

impl State {
    /// The content that this domain's node should have.
    fn word(&self) -> &'static str {
        match (self.asks, self.listens) {
            (true, _) => nodes::REQUEST_ATTACH,
            (false, true) => nodes::REQUEST_KEEP,
            (false, false) => "",
        }
    }
}

/// The router, with the connects that wait for a tunnel.
pub(crate) struct OnDemand {
    registry: Arc<Registry>,
    shared: Arc<Demand>,
}

/// The part of the router that its work item uses.
#[pin_data]
struct Demand {
    #[pin]
    work: DelayedWork<Demand>,
    #[pin]
    state: Mutex<State>,
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self> for Demand { self.work }
}

impl OnDemand {
    /// Creates a router without waiting connects.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn router(registry: &Arc<Registry>) -> Result<Arc<dyn Router>> {
        let shared = Arc::pin_init(
            pin_init!(Demand {
                work <- new_delayed_work!("idts_on_demand"),
                state <- new_mutex!(State {
                    listens: false,
                    asks: false,
                    waiting: KVec::new(),
                    told: Some(""),
                    enabled: false,
                    reads: 0,
                    writes: 0,
                }),
            }),
            GFP_KERNEL,
        )?;
        let registry = registry.clone();
        Ok(Arc::new(Self { registry, shared }, GFP_KERNEL)?)
    }

    /// Returns whether dom0 sets a tunnel up on request. May read xenstore.
    fn is_enabled(&self) -> bool {
        {
            let mut state = self.shared.state.lock();
            match PACE.take(state.reads, clock()) {
                Some(next) => state.reads = next,
                None => return state.enabled,
            }
        }
        let (dir, node) = nodes::ON_DEMAND;
        let enabled = CString::try_from_fmt(fmt!("{dir}"))
            .and_then(|dir| xenstore::read(&dir, node))
            .is_ok_and(|text| text.as_slice() == nodes::ON_DEMAND_ENABLED.as_bytes());
        self.shared.state.lock().enabled = enabled;
        enabled
    }

    /// Continues the waiting connects with a tunnel that has come up.
    fn tunnel_up(&self, tunnel: Arc<dyn Carrier>) {
        let waiting = {
            let mut state = self.shared.state.lock();
            state.asks = false;
            if state.listens {
                // Taking the last tunnel down by hand has removed this domain's node.
                state.told = None;
            }
            self.shared.tell(&state);
            core::mem::take(&mut state.waiting)
        };
        for Waiting { attempt, request } in waiting {
            attempt.go_on(&tunnel, request);
        }
    }
}

impl Demand {
    /// Schedules a write of the node, if its content should change.
    fn tell(self: &Arc<Self>, state: &State) {
        if state.told != Some(state.word()) {
            // Work that is already scheduled writes the latest content.
            let ms = PACE.wait(state.writes, clock()).div_ceil(NS_PER_MS);
            let delay = msecs_to_jiffies(ms.try_into().unwrap_or(u32::MAX));
            let _ = work::queue().enqueue_delayed(self.clone(), delay);
        }
    }
}

/// A guest brokers nothing.
impl Broker for OnDemand {}

impl Router for OnDemand {
    fn role(&self) -> u32 {
        uapi::ROLE_FRONT
    }

    fn own_domid(&self) -> u16 {
        uapi::DOMID_ANY
    }

    fn start(&self, _: Arc<dyn Host>) -> Result {
        Ok(())
    }

    fn finish(&self) {
        // A pending write is done first.
        flush_delayed(&self.shared.work);
        disable_delayed::<_, 0>(&self.shared);
    }

    fn restored(&self) {
        let mut state = self.shared.state.lock();
        state.told = None;
        state.asks = state.listens || !state.waiting.is_empty();
        self.shared.tell(&state);
    }

    fn address(&self, destination: Destination) -> Result<Address> {
        Ok(match destination {
            Destination::Domain(domid) => Address {
                domid,
                domain: domid.into(),
                name: None,
            },
            // Only the backend can resolve it.
            Destination::Alias(name) => Address {
                domid: uapi::DOMID_ANY,
                domain: 0,
                name: Some(name),
            },
            Destination::Group(name) => Address {
                domid: OF_GROUPS,
                domain: 0,
                name: Some(name),
            },
        })
    }

    fn route(&self, address: &Address) -> Result<Option<Arc<dyn Carrier>>> {
        if address.name.is_none() && address.domain >= wire::DOMAINS {
            return Err(Errno::Access.into());
        }
        if let Some(tunnel) = self.registry.default_peer() {
            return Ok(Some(tunnel));
        }
        match self.is_enabled() {
            true => Ok(None),
            false => Err(Errno::NetDown.into()),
        }
    }

    fn wait(&self, attempt: &Attempt, request: OpenRequest) -> Result {
        {
            let mut state = self.shared.state.lock();
            if state.waiting.len() >= WAITING_MAX {
                return Err(Errno::NoSpace.into());
            }
            let attempt = attempt.clone();
            let waiting = Waiting { attempt, request };
            state.waiting.push(waiting, GFP_KERNEL)?;
            state.asks = true;
            self.shared.tell(&state);
        }
        // A tunnel may have come up in the meantime.
        if let Some(tunnel) = self.registry.default_peer() {
            self.tunnel_up(tunnel);
        }
        Ok(())
    }

    fn abandon(&self, attempt: &Attempt) {
        let mut state = self.shared.state.lock();
        state.waiting.retain(|w| !w.attempt.is(attempt));
        if state.waiting.is_empty() && !state.listens {
            state.asks = false;
        }
        self.shared.tell(&state);
    }

    fn ports_changed(&self, any: &dyn Fn() -> bool) {
        let has_tunnel = self.registry.default_peer().is_some();
        let mut state = self.shared.state.lock();
        // Under the lock: of two who call this, the later one has the later answer.
        let any = any();
        state.listens = any;
        if any && !has_tunnel {
            state.asks = true;
        } else if !any && state.waiting.is_empty() {
            state.asks = false;
        }
        self.shared.tell(&state);
    }

    fn up(&self, tunnel: &Arc<Tunnel>) -> Result {
        self.registry.add(tunnel)?;
        self.tunnel_up(tunnel.clone());
        Ok(())
    }
}

impl WorkItem for Demand {
    type Pointer = Arc<Demand>;

    fn run(this: Arc<Demand>) {
        let word = {
            let mut state = this.state.lock();
            let word = state.word();
            if state.told == Some(word) {
                return;
            }
            state.told = Some(word);
            let now = clock();
            state.writes = PACE.take(state.writes, now).unwrap_or(state.writes);
            word
        };
        let (dir, node) = nodes::REQUEST;
        let written =
            CString::try_from_fmt(fmt!("{dir}")).and_then(|dir| xenstore::write(&dir, node, word));
        if let Err(error) = written {
            pr_warn!("cannot write {}/{}: {:?}\n", dir, node, error);
            // The next change tries again.
            this.state.lock().told = None;
        }
    }
}
