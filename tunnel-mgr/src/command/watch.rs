// SPDX-License-Identifier: GPL-2.0
//! `tunnel-mgr watch`: sets tunnels up as domains come and removes what they
//! leave.
//!
//! Every event is only a reason to look at everything again: what is there, and
//! what should be. So nothing is lost when this program is killed and started
//! again. A guest can make it look at most a few times a second.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{attach, detach, Manager};
use crate::cli::Watch;
use crate::model::{ask_path, tell_on_demand, wish, Tunnel, Wish};
use crate::text::Name;
use crate::{say, store, sweep};

/// Between two looks, however many events there are.
const PAUSE: Duration = Duration::from_millis(100);
/// Until the next look, when something is under way or failed.
const SOON: Duration = Duration::from_secs(1);
/// Until the next look, when nothing is.
const LATER: Duration = Duration::from_secs(24 * 3600);

/// Told of domains that come and go.
const DOMAINS: [&str; 2] = ["@introduceDomain", "@releaseDomain"];

pub fn run(manager: &mut Manager<'_>, args: &Watch) -> Result<()> {
    for path in DOMAINS {
        manager
            .store
            .watch(path)
            .with_context(|| format!("cannot watch {path}"))?;
    }
    let mut watcher = Watcher::new(args);
    say::remark("watching");
    loop {
        let next = watcher.look(manager, Instant::now())?;
        sleep(PAUSE);
        manager.wait(next)?;
    }
}

/// What is known of a domain since it was seen first.
#[derive(Debug, Default)]
struct Seen {
    /// It had a tunnel, so that who removed it had a reason.
    was_attached: bool,
    /// Since when nobody uses the tunnel, and its count of channels then.
    idle: Option<(Instant, u64)>,
}

#[derive(Debug)]
struct Watcher {
    attach: Vec<String>,
    idle: Option<Duration>,
    seen: BTreeMap<u16, Seen>,
}

impl Watcher {
    fn new(args: &Watch) -> Self {
        Self {
            attach: args.attach.clone(),
            idle: args.idle.map(|s| Duration::from_secs(s.into())),
            seen: BTreeMap::new(),
        }
    }

    /// Whether a domain of that name may have a tunnel.
    fn allows(&self, name: &Name) -> bool {
        self.attach
            .iter()
            .any(|wanted| wanted == "all" || wanted.as_bytes() == name.0)
    }

    /// Does what is to be done now; says when to look again at the latest.
    /// Fails only when xenstore does.
    fn look(&mut self, manager: &mut Manager<'_>, now: Instant) -> Result<Instant> {
        let mut next = now + LATER;
        if let Err(error) = sweep::run(manager) {
            say::remark(&format!("{error:#}"));
            next = now + SOON;
        }
        let mut domains = store::named_domains(manager.store)?;
        domains.retain(|(id, _)| *id != manager.domain);
        self.forget_all_but(manager, &domains);
        for (id, name) in domains {
            self.notice(manager, id)?;
            match self.look_at(manager, id, &name, now) {
                Ok(again) => next = next.min(again),
                Err(error) => {
                    {
                        let label = manager.label(id);
                        say::remark(&format!("{label}: {error:#}"))
                    };
                    next = next.min(now + SOON);
                }
            }
        }
        Ok(next)
    }

    fn forget_all_but(&mut self, manager: &mut Manager<'_>, domains: &[(u16, Name)]) {
        self.seen.retain(|id, _| {
            let stays = domains.iter().any(|(other, _)| other == id);
            if !stays {
                for path in paths(*id) {
                    // Watches of nodes that are gone harm nobody.
                    let _ = manager.store.unwatch(&path);
                }
            }
            stays
        });
    }

    /// Sees to it that changes of a new domain are told.
    fn notice(&mut self, manager: &mut Manager<'_>, id: u16) -> Result<()> {
        if self.seen.contains_key(&id) {
            return Ok(());
        }
        for path in paths(id) {
            manager
                .store
                .watch(&path)
                .with_context(|| format!("cannot watch {path}"))?;
        }
        self.seen.insert(id, Seen::default());
        Ok(())
    }

    fn look_at(
        &mut self,
        manager: &mut Manager<'_>,
        id: u16,
        name: &Name,
        now: Instant,
    ) -> Result<Instant> {
        let tunnel = Tunnel {
            front: id,
            back: manager.domain,
        };
        let allowed = self.allows(name);
        let seen = self.seen.entry(id).or_default();
        let wish = wish(manager.store, id)?;
        let on_demand = allowed && self.idle.is_some();
        tell_on_demand(manager.store, id, manager.domain, on_demand)?;
        if tunnel.ends(manager.store)?.are_absent() {
            if allowed && (wish == Wish::Attach || !seen.was_attached) {
                attach::create(manager, tunnel)?;
                let _ = say::result(&format!("attached domain {id} ({name})\n"));
                seen.was_attached = true;
                seen.idle = None;
            }
            return Ok(now + LATER);
        }
        seen.was_attached = true;
        let Some(limit) = self.idle.filter(|_| allowed) else {
            return Ok(now + LATER);
        };
        if !tunnel.is_online(manager.store)? {
            // Somebody detaches: the sweep removes what is left.
            return Ok(now + SOON);
        }
        let used = wish != Wish::None || seen.is_used(manager, tunnel, now);
        if used {
            seen.idle = None;
        }
        match seen.idle {
            Some((since, _)) if now.saturating_duration_since(since) >= limit => {
                detach::begin(manager, tunnel)?;
                let _ = say::result(&format!("detached domain {id} ({name}): idle\n"));
                seen.idle = None;
                Ok(now + SOON)
            }
            _ => Ok(now + SOON),
        }
    }
}

impl Seen {
    /// Whether a channel is open, or was since the last look.
    fn is_used(&mut self, manager: &Manager<'_>, tunnel: Tunnel, now: Instant) -> bool {
        let Some(counters) = manager.kernel.counters(tunnel) else {
            // Without its counters nobody knows.
            return true;
        };
        let count = |name| counters.get(name).copied().unwrap_or_default();
        let opened = count("opened");
        let (_, before) = *self.idle.get_or_insert((now, opened));
        if count("channels") > 0 {
            return true;
        }
        if before != opened {
            self.idle = Some((now, opened));
        }
        false
    }
}

/// What tells of changes of a domain that matter here: that it goes, or gets
/// another name, and what it asks.
fn paths(id: u16) -> [String; 2] {
    [format!("/local/domain/{id}/name"), ask_path(id)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::tests::{manager, Ground};
    use std::path::PathBuf;

    const FRONT: &str = "/local/domain/3/device/idts/0/state";
    const BACK: &str = "/local/domain/0/backend/idts/3/0/state";
    const ASK: &str = "/local/domain/3/data/idts";

    fn watcher(attach: &[&str], idle: Option<u32>) -> Watcher {
        Watcher::new(&Watch {
            attach: attach.iter().map(|a| a.to_string()).collect(),
            idle,
        })
    }

    fn look(watcher: &mut Watcher, ground: &mut Ground) {
        watcher.look(&mut manager(ground), Instant::now()).unwrap();
    }

    fn is_attached(ground: &Ground, id: u16) -> bool {
        let path = format!("/local/domain/{id}/device/idts/0/state");
        ground.store.value(&path).is_some()
    }

    #[test]
    fn attaches_whom_it_is_told_as_they_come() {
        let mut ground = Ground::new(&[3, 4]);
        let mut one = watcher(&["u3", "u5"], None);
        look(&mut one, &mut ground);
        assert!(is_attached(&ground, 3) && !is_attached(&ground, 4));
        assert!(!is_attached(&ground, 0));
        // Not before it has its name; and again when it comes by another id.
        ground.store.set("/local/domain/5/device", "");
        look(&mut one, &mut ground);
        assert!(!is_attached(&ground, 5));
        ground.store.set("/local/domain/5/name", "u5");
        look(&mut one, &mut ground);
        assert!(is_attached(&ground, 5));
        ground.store.unset("/local/domain/5");
        ground.store.set("/local/domain/6/name", "u5");
        look(&mut one, &mut ground);
        assert!(is_attached(&ground, 6));
        assert_eq!(ground.store.value("/local/domain/0/backend/idts/5"), None);
        let watched: Vec<_> = ground.store.watches.iter().cloned().collect();
        assert!(!watched.iter().any(|path| path.contains("/5/")));
        assert!(watched.contains(&"/local/domain/6/name".into()));
        look(&mut watcher(&["all"], None), &mut ground);
        assert!(is_attached(&ground, 4));
    }

    #[test]
    fn a_detach_by_hand_stays() {
        let mut ground = Ground::new(&[3]);
        let mut all = watcher(&["all"], None);
        look(&mut all, &mut ground);
        let tunnel = Tunnel { front: 3, back: 0 };
        tunnel.remove(&mut ground.store).unwrap();
        look(&mut all, &mut ground);
        assert!(!is_attached(&ground, 3));
        // Unless the guest asks, and may.
        ground.store.set(ASK, "attach");
        look(&mut watcher(&["u4"], None), &mut ground);
        assert!(!is_attached(&ground, 3));
        look(&mut all, &mut ground);
        assert!(is_attached(&ground, 3));
    }

    /// Ground with the driver's counters of domain 3.
    fn counted(channels: u64, opened: u64) -> PathBuf {
        let name = format!("idts-watch-{}", std::process::id());
        let root = std::env::temp_dir().join(name);
        let dir = root.join("sys/kernel/debug/idts");
        std::fs::create_dir_all(&dir).unwrap();
        let text = format!("channels {channels}\nopened {opened}\n");
        std::fs::write(dir.join("3"), text).unwrap();
        root
    }

    #[test]
    fn an_idle_tunnel_goes_and_comes_when_asked_for() {
        let mut ground = Ground::new(&[3]);
        let mut all = watcher(&["all"], Some(10));
        let start = Instant::now();
        let mut look = |ground: &mut Ground, seconds, channels, opened| {
            let mut manager = manager(ground);
            manager.kernel.root = counted(channels, opened);
            let now = start + Duration::from_secs(seconds);
            all.look(&mut manager, now).unwrap();
        };
        look(&mut ground, 0, 0, 0);
        ground.store.set(FRONT, "4");
        ground.store.set(BACK, "4");
        look(&mut ground, 1, 1, 1);
        look(&mut ground, 50, 1, 1);
        look(&mut ground, 51, 0, 1);
        // One was open between two looks.
        look(&mut ground, 60, 0, 2);
        look(&mut ground, 69, 0, 2);
        assert_eq!(ground.store.value(BACK), Some("4"));
        ground.store.set(ASK, "keep");
        look(&mut ground, 100, 0, 2);
        let told = ground.store.value("/local/domain/3/control/idts");
        assert_eq!(told, Some("on-demand"));
        ground.store.set(ASK, "");
        look(&mut ground, 101, 0, 2);
        look(&mut ground, 110, 0, 2);
        assert_eq!(ground.store.value(BACK), Some("4"));
        look(&mut ground, 111, 0, 2);
        assert_eq!(ground.store.value(BACK), Some("5"));
        // It is asked for again while it closes.
        ground.store.set(ASK, "attach");
        look(&mut ground, 112, 0, 2);
        assert_eq!(ground.store.value(BACK), Some("5"));
        ground.store.set(FRONT, "6");
        ground.store.set(BACK, "6");
        look(&mut ground, 113, 0, 2);
        assert_eq!(ground.store.value(BACK), Some("1"));
        std::fs::remove_dir_all(counted(0, 0)).unwrap();
    }

    #[test]
    fn a_restored_domain_has_its_settings_before_its_tunnel() {
        let mut ground = Ground::new(&[3]);
        let weight = [(idts_core::policy::Key::Weight, Some("7".to_string()))];
        let settings = manager(&mut ground).settings();
        settings.write(&mut ground.store, 3, &weight).unwrap();
        let mut all = watcher(&["all"], None);
        look(&mut all, &mut ground);
        ground.store.unset("/local/domain/3");
        ground.store.set("/local/domain/8/vm", "/vm/uuid-of-u3");
        ground.store.set("/local/domain/8/name", "u3");
        look(&mut all, &mut ground);
        assert!(is_attached(&ground, 8));
        let path = "/local/domain/0/idts/domain/8/weight";
        assert_eq!(ground.store.value(path), Some("7"));
    }
}
