// SPDX-License-Identifier: GPL-2.0
//! `tunnel-mgr watch`: sets tunnels up as domains come and removes what they
//! leave.
//!
//! An event is only a reason to look at the domain that it is about: what is
//! there, and what should be. So nothing is lost when this program is killed and
//! started again. Each domain has a pace of its own: a guest that keeps writing is
//! looked at less and less often, and so is one that nothing can be done for. Nobody
//! is waited for.

mod domain;
mod seen;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use idts_xenstore::DOMAINS;
use signal_hook::consts::SIGHUP;

use self::seen::{Seen, Told};
use super::Manager;
use crate::cli::Watch;
use crate::model::{ask_path, tell_on_demand};
use crate::settings::disk;
use crate::settings::file::File;
use crate::signals::{self, Signals};
use crate::store::{name_path, transact};
use crate::text::Name;
use crate::{promise, say, store, sweep};

/// Between two looks at who uses which tunnel.
const TICK: Duration = Duration::from_secs(1);
/// Between two looks at everything, whatever happens.
const DAILY: Duration = Duration::from_secs(24 * 3600);
/// Looked at between two looks at signals and events.
const BATCH: usize = 64;

/// Until more events are read.
const GATHER: Duration = Duration::from_millis(20);

/// Told of domains that come and go.
const COME_AND_GO: [&str; 2] = ["@introduceDomain", "@releaseDomain"];

pub fn run(manager: &mut Manager<'_>, args: &Watch) -> Result<()> {
    let mut signals = Signals::catch()?;
    say::serve();
    for path in COME_AND_GO {
        store::watch(manager.store, path)?;
    }
    let mut watcher = Watcher::new(args)?;
    // What others promise is theirs.
    watcher.is_alone = promise::settle(manager).unwrap_or(true);
    let _lock = match args.idle.map(|_| promise::make(manager)).transpose() {
        Ok(lock) => lock,
        Err(error) => {
            say::remark(&format!("guests will wait if this is killed: {error:#}"));
            None
        }
    };
    watcher.look_around(manager, Instant::now())?;
    say::remark("watching");
    loop {
        for signal in signals.take() {
            match &args.settings {
                Some(path) if signal == SIGHUP => {
                    watcher.read_again(manager, path, Instant::now());
                }
                _ => {
                    watcher.leave(manager);
                    signals::die(signal);
                }
            }
        }
        let changes = manager.store.changes();
        let changes = changes.context("cannot wait for xenstore")?;
        let now = Instant::now();
        watcher.hear(manager, &changes, now)?;
        if !changes.is_empty() {
            // A guest may write as fast as they are read.
            sleep(GATHER);
        }
        watcher.work(manager, now);
        let next = watcher.next(now);
        let waited = manager.store.wait(next, Some(signals.wake()));
        waited.context("cannot wait for xenstore")?;
    }
}

/// Reads a settings file.
fn read(path: &Path) -> Result<File> {
    let text = disk::read(path)?;
    let text = text.with_context(|| format!("there is no {}", path.display()))?;
    File::parse(&text).with_context(|| path.display().to_string())
}

#[derive(Debug)]
struct Watcher {
    attach: Vec<String>,
    idle: Option<Duration>,
    /// Nobody else promises tunnels.
    is_alone: bool,
    /// What the settings file says, if there is one.
    file: Option<File>,
    seen: BTreeMap<u16, Seen>,
    /// When everything is looked at again.
    around_at: Option<Instant>,
    tick_at: Option<Instant>,
    /// It was said that nobody can tell which tunnel is idle.
    said_blind: bool,
    /// Of whom settings were lost, as far as that is known.
    lost: Option<Vec<(Vec<u8>, String)>>,
}

impl Watcher {
    fn new(args: &Watch) -> Result<Self> {
        Ok(Self {
            attach: args.attach.clone(),
            file: args.settings.as_deref().map(read).transpose()?,
            idle: args.idle.map(|s| Duration::from_secs(s.into())),
            is_alone: true,
            seen: BTreeMap::new(),
            around_at: None,
            tick_at: None,
            said_blind: false,
            lost: None,
        })
    }

    /// Reads the settings file again and has everybody's settings be what it says;
    /// or leaves all as it is.
    fn read_again(&mut self, manager: &mut Manager<'_>, path: &Path, now: Instant) {
        match read(path) {
            Err(error) => say::remark(&format!("{error:#}; nothing is changed")),
            Ok(file) => {
                let settings = manager.settings();
                for (id, seen) in &mut self.seen {
                    seen.is_told = false;
                    seen.due = Some(now);
                    // Two domains may change their aliases with each other.
                    let Some((uuid, name)) = &seen.who else {
                        continue;
                    };
                    let said = file.said(uuid.as_deref(), name);
                    let let_go = transact(manager.store, |store| {
                        settings.let_go_of_alias(store, *id, &said)
                    });
                    if let Err(error) = let_go {
                        say::remark(&format!("domain {id} keeps its alias: {error:#}"));
                    }
                }
                self.file = Some(file);
                say::remark("the settings file was read again");
            }
        }
    }

    /// Whether a domain of that name may have a tunnel.
    fn allows(&self, name: &Name) -> bool {
        self.attach
            .iter()
            .any(|wanted| wanted == "all" || wanted.as_bytes() == name.0)
    }

    /// When there is something to do next.
    fn next(&self, now: Instant) -> Instant {
        let due = self.seen.values().filter_map(|seen| seen.due).min();
        let all = [due, self.around_at, self.tick_at];
        all.into_iter().flatten().min().unwrap_or(now + DAILY)
    }

    /// Takes note of what has changed.
    fn hear(
        &mut self,
        manager: &mut Manager<'_>,
        changes: &BTreeSet<String>,
        now: Instant,
    ) -> Result<()> {
        if COME_AND_GO.iter().any(|path| changes.contains(*path)) {
            self.count_domains(manager, now)?;
        }
        for path in changes {
            let id = path.strip_prefix(DOMAINS).and_then(|rest| rest.get(1..));
            let id = id.and_then(|rest| store::domain_id(rest.split('/').next()?));
            if let Some(seen) = id.and_then(|id| self.seen.get_mut(&id)) {
                seen.hear(now);
            }
        }
        if self.around_at.is_some_and(|at| now >= at) {
            self.look_around(manager, now)?;
        }
        if self.tick_at.is_some_and(|at| now >= at) {
            self.tick(manager, now);
        }
        Ok(())
    }

    /// Has everybody looked at, and what is left of those who are gone.
    fn look_around(&mut self, manager: &mut Manager<'_>, now: Instant) -> Result<()> {
        self.around_at = Some(now + DAILY);
        self.tick_at = self.idle.map(|_| now + TICK);
        // Those of whom something is left count as seen.
        let mut known = sweep::backs(manager.store, manager.domain)?;
        known.extend(manager.settings().ids(manager.store)?);
        for id in known {
            self.note(manager, id, now)?;
        }
        self.count_domains(manager, now)?;
        for seen in self.seen.values_mut() {
            seen.due = Some(now);
        }
        Ok(())
    }

    /// Has a domain looked at, now and when something happens to it.
    fn note(&mut self, manager: &mut Manager<'_>, id: u16, now: Instant) -> Result<()> {
        if id != manager.domain && !self.seen.contains_key(&id) {
            store::watch(manager.store, &name_path(id))?;
            self.seen.insert(id, Seen::due(now));
        }
        Ok(())
    }

    /// Finds out who has come and who has gone.
    fn count_domains(&mut self, manager: &mut Manager<'_>, now: Instant) -> Result<()> {
        let ids = sweep::ids(manager.store, DOMAINS)?;
        for id in &ids {
            self.note(manager, *id, now)?;
        }
        for (id, seen) in &mut self.seen {
            seen.is_gone = !ids.contains(id);
            if seen.is_gone {
                seen.due = Some(now);
            }
        }
        Ok(())
    }

    /// Does what is to be done by now, or a part of it.
    fn work(&mut self, manager: &mut Manager<'_>, now: Instant) {
        self.lost = None;
        let is_due = |seen: &Seen| seen.due.is_some_and(|due| now >= due);
        let due = self.seen.iter().filter(|(_, seen)| is_due(seen));
        // What was set for those who are gone may be for one who comes.
        let mut due: Vec<_> = due.map(|(id, seen)| (!seen.is_gone, *id)).collect();
        due.sort_unstable();
        for (_, id) in due.into_iter().take(BATCH) {
            let Some(mut seen) = self.seen.remove(&id) else {
                continue;
            };
            seen.due = None;
            seen.pace.look(now);
            match self.look_at(manager, id, &mut seen, now) {
                Ok(true) => {
                    self.seen.insert(id, seen);
                }
                Ok(false) => self.forget(manager, id),
                Err(error) => {
                    let label = manager.label(id);
                    let line = format!("{label}: {error:#}");
                    seen.lines
                        .judge(&line, now)
                        .iter()
                        .for_each(|line| say::remark(line));
                    seen.again(now);
                    self.seen.insert(id, seen);
                }
            }
        }
    }

    /// Ends the watches of a domain that has gone.
    fn forget(&mut self, manager: &mut Manager<'_>, id: u16) {
        for path in [name_path(id), ask_path(id)] {
            // Watches of nodes that are gone harm nobody.
            let _ = manager.store.unwatch(&path);
        }
    }

    /// Looks at who uses which tunnel.
    fn tick(&mut self, manager: &mut Manager<'_>, now: Instant) {
        self.tick_at = Some(now + TICK);
        let Some(limit) = self.idle else { return };
        let mut is_blind = false;
        for (id, seen) in &mut self.seen {
            if seen.is_allowed && seen.has_tunnel {
                is_blind |= !seen.tick(manager, *id, limit, now);
            }
        }
        if is_blind && !self.said_blind && manager.kernel.report("scheduler").is_none() {
            self.said_blind = true;
            say::remark(
                "nobody can tell which tunnels are idle: is idts_back loaded, and debugfs mounted?",
            );
        }
    }

    /// Nobody brings tunnels any more: guests must not wait for one.
    fn leave(&mut self, manager: &mut Manager<'_>) {
        for (id, seen) in &self.seen {
            if seen.told == Some(Told::OnDemand) {
                let _ = tell_on_demand(manager.store, *id, manager.domain, false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::tests::{manager, Ground};
    use crate::model::Tunnel;
    use std::path::PathBuf;

    const FRONT: &str = "/local/domain/3/device/idts/0/state";
    const BACK: &str = "/local/domain/0/backend/idts/3/0/state";
    const ASK: &str = "/local/domain/3/data/idts";

    fn watcher(attach: &[&str], idle: Option<u32>) -> Watcher {
        Watcher::new(&Watch {
            attach: attach.iter().map(|a| a.to_string()).collect(),
            idle,
            settings: None,
        })
        .unwrap()
    }

    /// Has it look at everything.
    fn look_at_all(watcher: &mut Watcher, manager: &mut Manager<'_>, now: Instant) {
        for tick in [true, false] {
            watcher.look_around(manager, now).unwrap();
            watcher.work(manager, now);
            if tick {
                watcher.tick(manager, now);
            }
        }
    }

    fn look(watcher: &mut Watcher, ground: &mut Ground) {
        look_at_all(watcher, &mut manager(ground), Instant::now());
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
            look_at_all(&mut all, &mut manager, now);
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
    fn a_guest_that_flaps_is_served_less_and_less() {
        let mut ground = Ground::new(&[3]);
        let mut all = watcher(&["all"], None);
        let start = Instant::now();
        let mut now = start;
        look_at_all(&mut all, &mut manager(&mut ground), now);
        let mut attached = 0;
        while now < start + Duration::from_secs(3600) {
            attached += u32::from(is_attached(&ground, 3));
            ground.store.unset("/local/domain/3/device/idts");
            ground.store.set(ASK, "attach");
            let mut manager = manager(&mut ground);
            all.hear(&mut manager, &[ASK.to_string()].into(), now)
                .unwrap();
            now = all.next(now);
            all.work(&mut manager, now);
        }
        assert!(
            (60..100).contains(&attached),
            "{attached} tunnels in an hour"
        );
    }

    #[test]
    fn whom_the_file_cannot_be_applied_to_gets_no_tunnel() {
        let mut ground = Ground::new(&[3, 4]);
        let mut all = watcher(&["all"], None);
        let text = "[name.u3]\nalias = \"a\"\n[name.u4]\nalias = \"a\"\nconnect = \"none\"\n";
        all.file = Some(File::parse(text).unwrap());
        look(&mut all, &mut ground);
        assert!(is_attached(&ground, 3) && !is_attached(&ground, 4));
        let path = "/local/domain/0/idts/domain/3/alias";
        assert_eq!(ground.store.value(path), Some("a"));
        all.file = Some(File::parse(&text.replacen("\"a\"", "\"b\"", 1)).unwrap());
        all.seen.values_mut().for_each(|seen| seen.is_told = false);
        look(&mut all, &mut ground);
        assert!(is_attached(&ground, 4));
        assert_eq!(ground.store.value(path), Some("b"));
    }

    #[test]
    fn a_restored_domain_has_its_settings_before_its_tunnel() {
        let mut ground = Ground::new(&[3]);
        let weight = [(idts_core::policy::Key::Weight, Some("7".to_string()))];
        let settings = manager(&mut ground).settings();
        settings.write(&mut ground.store, 3, &weight).unwrap();
        let mut all = watcher(&["all"], None);
        look(&mut all, &mut ground);
        let mut old = 3;
        // Also where its new id comes before the old one.
        for new in [8, 2] {
            ground.store.unset(&format!("/local/domain/{old}"));
            let home = format!("/local/domain/{new}");
            ground.store.set(&format!("{home}/vm"), "/vm/uuid-of-u3");
            ground.store.set(&format!("{home}/name"), "u3");
            look(&mut all, &mut ground);
            assert!(is_attached(&ground, new));
            let path = format!("/local/domain/0/idts/domain/{new}/weight");
            assert_eq!(ground.store.value(&path), Some("7"));
            old = new;
        }
    }
}
