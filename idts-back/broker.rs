// SPDX-License-Identifier: GPL-2.0

//! The broker: dom0's router, with a tunnel to each guest.
//!
//! [`policy`] decides which domain may reach which. [`relay`] joins channels between guests,
//! [`group`] those of a group. [`worker`] runs their [`job`]s in the order of the scheduler, and
//! [`throttle`] applies it to this domain's own programs. A guest's module has none of this.

mod group;
mod job;
mod policy;
mod relay;
mod relay_end;
mod report;
mod throttle;
mod worker;

use idts_core::policy::{affected, Affected, DomainSettings};
use idts_core::sched::Params;
use idts_core::uapi;
use idts_core::wire::{Name, Open, Refusal};
use idts_kernel::channel::Channel;
use idts_kernel::context::registry::Registry;
use idts_kernel::context::router::{Address, Destination, Router};
use idts_kernel::context::Context;
use idts_kernel::sys::errno::Errno;
use idts_kernel::tunnel::host::{self, Carrier, Host, LocalMember};
use idts_kernel::tunnel::services::Services;
use idts_kernel::tunnel::Tunnel;
use idts_kernel::xen::xenstore::Watch;
use kernel::debugfs;
use kernel::prelude::*;
use kernel::sync::{new_mutex, Arc, Mutex};

use self::group::{Asker, Groups, Joining};
use self::job::RelayEnd;
use self::policy::Policies;
use self::relay::Relay;
use self::report::SchedulerReport;
use self::worker::Worker;

/// This domain's id, as the module runs in dom0. Peers use the same number on the wire for the
/// backend's domain.
const OWN: u16 = 0;

/// The broker of the module.
#[pin_data]
pub(crate) struct Broker {
    services: Arc<Services>,
    registry: Arc<Registry>,
    policies: Arc<Policies>,
    groups: Arc<Groups>,
    worker: Arc<Worker>,
    /// The debugfs file of the scheduler.
    #[pin]
    file: Mutex<Option<Pin<KBox<debugfs::File<SchedulerReport>>>>>,
    /// The tunnel of this domain with itself.
    #[pin]
    home: Mutex<Option<Arc<Tunnel>>>,
    /// The xenstore watch on the policy.
    #[pin]
    watch: Mutex<Option<Pin<KBox<Watch>>>>,
}

impl Broker {
    /// Makes the broker of the module.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn router(
        services: &Arc<Services>,
        registry: &Arc<Registry>,
    ) -> Result<Arc<dyn Router>> {
        let worker = Worker::new()?;
        let (services, registry) = (services.clone(), registry.clone());
        let (policies, groups) = (Policies::new()?, Groups::new()?);
        let broker = Arc::pin_init(
            pin_init!(Self {
                services,
                registry,
                policies,
                groups,
                worker,
                file <- new_mutex!(None),
                home <- new_mutex!(None),
                watch <- new_mutex!(None),
            }),
            GFP_KERNEL,
        )?;
        Ok(broker)
    }

    /// Applies the policy of one domain, or of all.
    fn obey(&self, domid: Option<u16>) {
        if domid.is_none() {
            let (policy, rate) = policy::scheduler();
            self.worker.set_policy(policy, rate);
            // It is not in the registry, and a cap on all is one on it.
            if let Some(home) = self.home.lock().clone() {
                self.update_cap(&home);
            }
        }
        self.registry.for_each(|tunnel| {
            if domid.is_none_or(|d| d == tunnel.peer) {
                self.apply_policy(tunnel);
            }
        });
        // Every tunnel is checked, because an alias also appears in the rules of others.
        self.registry.for_each(|tunnel| tunnel.end_unrightful());
    }

    /// Loads the policy of a tunnel's peer and applies it.
    fn apply_policy(&self, tunnel: &Arc<Tunnel>) {
        let _obeying = self.policies.one_at_a_time();
        // None: the tunnel is being connected, or has ended.
        let Some(throttle) = tunnel.link.throttle() else {
            return;
        };
        let numbers = self.policies.load(&self.services, tunnel.peer);
        if !tunnel.link.is_open() && self.registry.tunnel(tunnel.peer).is_none() {
            // It is being stopped, and may have been forgotten already.
            self.policies.forget(tunnel.peer);
        }
        self.worker.set(throttle.flow(), numbers.params);
        self.update_cap(tunnel);
    }

    /// Tells a tunnel's link whether a cap holds.
    fn update_cap(&self, tunnel: &Tunnel) {
        if let Some(throttle) = tunnel.link.throttle() {
            let is_capped = self.worker.is_capped(throttle.flow());
            tunnel.link.set_capped(is_capped);
        }
    }

    /// Adds a tunnel's link to the scheduler.
    fn schedule(&self, tunnel: &Arc<Tunnel>, params: Params) -> Result {
        let throttle = self.worker.join(&tunnel.link, params)?;
        tunnel.link.set_throttle(throttle);
        self.update_cap(tunnel);
        Ok(())
    }

    /// Creates the relay end of a channel that a peer opened.
    fn end(&self, channel: &Arc<Channel>) -> Result<Arc<RelayEnd>, Refusal> {
        RelayEnd::accepted(self.worker.clone(), channel).map_err(|_| Refusal::NoSpace)
    }

    /// Begins to let an end join a group; the worker does the rest.
    fn begin_to_join(&self, end: Arc<RelayEnd>, joining: Joining) -> Result<(), Refusal> {
        let joining = Arc::new(joining, GFP_KERNEL_ACCOUNT).map_err(|_| Refusal::NoSpace)?;
        end.serve(joining);
        end.kick();
        Ok(())
    }
}

/// The call of the watch on the policy, which can carry no state.
fn changed(path: &[u8]) {
    if let Ok(context) = Context::current() {
        context.router.policy_changed(path);
    }
}

impl Router for Broker {
    fn role(&self) -> u32 {
        uapi::ROLE_BACK
    }

    fn own_domid(&self) -> u16 {
        OWN
    }

    fn start(&self, host: Arc<dyn Host>) -> Result {
        let report = Ok(SchedulerReport(self.worker.clone()));
        let directory = self.registry.debugfs();
        let file = directory.read_only_file::<_, Error>(c"scheduler", report);
        *self.file.lock() = KBox::pin_init(file, GFP_KERNEL).ok();
        let home = Tunnel::loopback(OWN, &self.services, host)?;
        self.schedule(&home, Params::DEFAULT)?;
        *self.home.lock() = Some(home);
        let watch = Watch::new(c"idts", changed)?;
        *self.watch.lock() = Some(watch);
        Ok(())
    }

    fn finish(&self) {
        let (file, watch) = (self.file.lock().take(), self.watch.lock().take());
        drop((file, watch));
        let home = self.home.lock().take();
        if let Some(home) = home {
            self.down(&home);
            home.stop(Errno::ConnReset);
            home.give_back();
        }
        self.worker.finish();
        self.groups.finish();
    }

    fn address(&self, destination: Destination) -> Result<Address> {
        let (domid, name) = match destination {
            Destination::Domain(domid) => (domid, None),
            Destination::Alias(name) => {
                let domid = self.policies.named(&name);
                (domid.ok_or(Errno::HostUnreach)?, None)
            }
            Destination::Group(name) => (OWN, Some(name)),
        };
        // This domain requests in its own name.
        let domain = OWN.into();
        Ok(Address {
            domid,
            domain,
            name,
        })
    }

    fn route(&self, address: &Address) -> Result<Option<Arc<dyn Carrier>>> {
        if address.domid == OWN {
            let home = self.home.lock().clone();
            let home: Arc<dyn Carrier> = home.ok_or(Errno::NetDown)?;
            return Ok(Some(home));
        }
        let tunnel = self.registry.tunnel(address.domid);
        let tunnel: Arc<dyn Carrier> = tunnel.ok_or(Errno::HostUnreach)?;
        Ok(Some(tunnel))
    }

    fn up(&self, tunnel: &Arc<Tunnel>) -> Result {
        // A policy change from here on finds the tunnel in the registry.
        let _obeying = self.policies.one_at_a_time();
        self.registry.add(tunnel)?;
        let numbers = self.policies.load(&self.services, tunnel.peer);
        self.schedule(tunnel, numbers.params)
    }

    fn down(&self, tunnel: &Arc<Tunnel>) {
        if let Some(throttle) = tunnel.link.throttle() {
            self.worker.leave(throttle.flow());
        }
    }

    fn gone(&self, peer: u16) {
        self.policies.forget(peer);
    }

    fn policy_changed(&self, path: &[u8]) {
        match affected(path) {
            Affected::All => self.obey(None),
            Affected::One(domid) => self.obey(Some(domid)),
            Affected::None => {}
        }
    }
}

impl host::Broker for Broker {
    fn limits(&self, peer: u16) -> DomainSettings {
        self.policies.limits(peer)
    }

    fn resolve(&self, alias: &Name) -> Option<u16> {
        self.policies.named(alias)
    }

    fn may_open(&self, peer: u16, open: &Open, group: Option<&Name>) -> bool {
        let policies = &self.policies;
        match group {
            Some(name) => policies.may_join(peer, open.kind, name.text()),
            None => policies.may_connect(peer, open.domain as u16, open.ports.target),
        }
    }

    fn lost_right(&self, peer: u16, open: &Open, group: Option<&Name>) -> bool {
        let policies = &self.policies;
        match group {
            Some(name) => policies.ends_join(peer, open.kind, name.text()),
            None => policies.ends_connect(peer, open.domain as u16, open.ports.target),
        }
    }

    fn take(
        &self,
        tunnel: Arc<dyn Carrier>,
        channel: &Arc<Channel>,
        open: &Open,
        group: Option<Name>,
    ) -> Result<(), Refusal> {
        let end = self.end(channel)?;
        let Some(name) = group else {
            let no_space = |_| Refusal::NoSpace;
            let target = RelayEnd::new(self.worker.clone()).map_err(no_space)?;
            return Relay::begin(
                &self.registry,
                (tunnel, channel.link.clone()),
                (end, target),
                open,
            )
            .map_err(no_space);
        };
        let joining = Joining {
            groups: self.groups.clone(),
            name,
            kind: open.kind,
            options: open.ports.source,
            asker: Asker::Peer {
                tunnel,
                peer: channel.link.peer,
                id: open.channel,
                policies: self.policies.clone(),
            },
        };
        self.begin_to_join(end, joining)
    }

    fn join(&self, far: &Arc<Channel>, member: LocalMember) -> Result<(), Refusal> {
        let end = self.end(far)?;
        let joining = Joining {
            groups: self.groups.clone(),
            name: member.name,
            kind: member.kind,
            options: member.options,
            asker: Asker::Local(member),
        };
        self.begin_to_join(end, joining)
    }
}
