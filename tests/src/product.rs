// SPDX-License-Identifier: GPL-2.0
//! What the testbed is for: IDTS itself in the domains. Modules, tunnels, and the way of a rebuilt
//! module or program into domains that run.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use serde_json::Value;

use crate::initrd::{write_archive, Entry};
use crate::running::{Testbed, HANG};
use crate::tell::Tell;

/// Folder of the modules in a domain.
pub const MODULES: &str = "/usr/lib/idts";
/// What target/dist holds for a domain: name, folder there, mode.
const PARTS: [(&str, &str, u32); 4] = [
    ("idts_front.ko", MODULES, 0o644),
    ("idts_back.ko", MODULES, 0o644),
    ("idts", "/usr/bin", 0o755),
    ("tunnel-mgr", "/usr/bin", 0o755),
];
/// Path, mode and content of a file.
type Part = (String, u32, Vec<u8>);
/// How often tunnel-mgr is asked while a tunnel connects.
const ASK: Duration = Duration::from_millis(200);

/// The module of a domain.
pub fn module_of(domain: &str) -> &'static str {
    if domain == "dom0" {
        "idts_back"
    } else {
        "idts_front"
    }
}

impl Testbed {
    /// Loads a domain's module.
    pub fn load_module(&self, domain: &str) -> Result<()> {
        self.load_module_with(domain, "")
    }

    /// Loads a domain's module with parameters.
    pub fn load_module_with(&self, domain: &str, parameters: &str) -> Result<()> {
        let module = module_of(domain);
        let path = format!("{MODULES}/{module}.ko");
        let there = self.exec(domain, &["test", "-e", &path])?.success();
        ensure!(
            there,
            "{module}.ko is not in the images; build it, or use `up --bare`"
        );
        self.sh(domain, &format!("insmod {path} {parameters}"))?;
        Ok(())
    }

    /// Unloads a domain's module, if it is loaded.
    pub fn unload_module(&self, domain: &str) -> Result<()> {
        let module = module_of(domain);
        // A bound device holds its driver's module: xenbus takes a reference.
        let unbind = "for device in /sys/bus/xen*/drivers/idts/idts-*; do \
                      [ ! -e \"$device\" ] || echo ${device##*/} >${device%/*}/unbind; done";
        self.sh(
            domain,
            &format!("[ ! -d /sys/module/{module} ] || {{ {unbind}; rmmod {module}; }}"),
        )?;
        Ok(())
    }

    /// Sets a guest's tunnel up and waits until it is connected.
    pub fn attach_tunnel(&self, guest: &str) -> Result<()> {
        self.exec("dom0", &["tunnel-mgr", "attach", guest, "--wait", "0"])?
            .check("tunnel-mgr attach")?;
        self.wait_connected(guest)
    }

    /// Lets a guest connect to every domain, and publish and subscribe whatever it likes.
    pub fn allow_all(&self, guest: &str) -> Result<()> {
        let everything = ["connect=all", "publish=all", "subscribe=all"];
        let argv: Vec<_> = ["tunnel-mgr", "set", guest]
            .into_iter()
            .chain(everything)
            .collect();
        self.exec("dom0", &argv)?.check("tunnel-mgr set")?;
        Ok(())
    }

    /// Takes a guest's tunnel down.
    pub fn detach_tunnel(&self, guest: &str) -> Result<()> {
        self.exec("dom0", &["tunnel-mgr", "detach", guest])?
            .check("tunnel-mgr detach")?;
        Ok(())
    }

    /// Waits until both ends of a guest's tunnel say that it is connected.
    pub fn wait_connected(&self, guest: &str) -> Result<()> {
        let start = Instant::now();
        loop {
            let list = self.tunnels()?;
            if list.iter().any(|tunnel| is_connected(tunnel, guest)) {
                return Ok(());
            }
            if start.elapsed() > HANG {
                bail!(
                    "the tunnel of {guest} does not connect: {}",
                    Value::Array(list)
                );
            }
            thread::sleep(ASK);
        }
    }

    /// What `tunnel-mgr list --json` says.
    pub fn tunnels(&self) -> Result<Vec<Value>> {
        let list = self.exec("dom0", &["tunnel-mgr", "list", "--json"])?;
        let list = list.check("tunnel-mgr list")?;
        serde_json::from_slice(&list.stdout).context("tunnel-mgr list --json")
    }

    pub(crate) fn load_all(&self, tell: Tell<'_>) -> Result<()> {
        tell("loading the modules");
        for domain in self.all() {
            self.load_module(&domain)?;
        }
        Ok(())
    }

    pub(crate) fn attach_all(&self, tell: Tell<'_>) -> Result<()> {
        for guest in self.guests() {
            tell(&format!("attaching the tunnel of {guest}"));
            if self.config().allow {
                self.allow_all(&guest)?;
            }
            self.attach_tunnel(&guest)?;
        }
        Ok(())
    }

    /// Brings what was rebuilt in `dist` into all running domains, and into those made from now on;
    /// modules that were loaded are loaded anew, tunnels that were there are set up again.
    pub fn reload(&self, dist: &Path, tell: Tell<'_>) -> Result<()> {
        let was_loaded = self
            .exec("dom0", &["test", "-d", "/sys/module/idts_back"])?
            .success();
        if was_loaded {
            tell("taking tunnels down, unloading the modules");
            self.detach_all()?;
            for domain in self.all().into_iter().rev() {
                self.unload_module(&domain)?;
            }
        }
        tell("copying modules and programs");
        let parts = read_parts(dist)?;
        for domain in self.all() {
            for (path, mode, content) in &parts {
                self.write(&domain, path, content)?;
                self.sh(&domain, &format!("chmod {mode:o} {path}"))?;
            }
        }
        self.renew_ramdisk(&parts)?;
        if was_loaded || !self.config().bare {
            self.load_all(tell)?;
            self.attach_all(tell)?;
        }
        Ok(())
    }

    fn detach_all(&self) -> Result<()> {
        for tunnel in self.tunnels()? {
            let id = tunnel["domid"]
                .as_u64()
                .context("tunnel-mgr list: no domid")?;
            self.detach_tunnel(&id.to_string())?;
        }
        Ok(())
    }

    /// Guests of later get the new parts by one more archive behind the others.
    fn renew_ramdisk<'a>(&self, parts: &'a [Part]) -> Result<()> {
        let entry = |(path, mode, content): &'a Part| Entry {
            path,
            mode: *mode,
            content,
        };
        let entries: Vec<_> = parts.iter().map(entry).collect();
        let mut archive = Vec::new();
        write_archive(&mut archive, &entries)?;
        self.write("dom0", "/guest/reload.cpio", &archive)?;
        let join = "cat /guest/guest.cpio /dist.cpio /guest/reload.cpio >/guest/.new && \
            mv /guest/.new /guest/ramdisk";
        self.sh("dom0", join)?;
        Ok(())
    }

    /// dom0 and the guests of `up` that still are.
    fn all(&self) -> Vec<String> {
        let there = self.domains().unwrap_or_default();
        let alive = |name: &String| there.iter().any(|domain| domain.name == *name);
        std::iter::once("dom0".into())
            .chain(self.guests().into_iter().filter(alive))
            .collect()
    }
}

fn read_parts(dist: &Path) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    for (name, folder, mode) in PARTS {
        let path = dist.join(name);
        let content = std::fs::read(&path)
            .with_context(|| format!("there is no {}; `scripts/build` makes it", path.display()))?;
        parts.push((format!("{folder}/{name}"), mode, content));
    }
    Ok(parts)
}

/// Whether this is `guest`'s tunnel with both ends connected.
fn is_connected(tunnel: &Value, guest: &str) -> bool {
    let says = |key: &str, value: &str| tunnel[key].as_str() == Some(value);
    says("name", guest) && says("front", "Connected") && says("back", "Connected")
}
