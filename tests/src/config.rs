// SPDX-License-Identifier: GPL-2.0
//! What to boot, and what follows from it for the emulator and for Xen.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How a guest is virtualised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GuestType {
    /// Paravirtualised.
    Pv,
    /// Hardware page tables, no device model.
    Pvh,
}

impl FromStr for GuestType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "pv" => Ok(GuestType::Pv),
            "pvh" => Ok(GuestType::Pvh),
            _ => Err(format!("{text}: a guest's type is pv or pvh")),
        }
    }
}

impl fmt::Display for GuestType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GuestType::Pv => "pv",
            GuestType::Pvh => "pvh",
        })
    }
}

/// What `up` shall bring up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Number of guests, named u1, u2 ...
    pub guests: u32,
    /// Their types; the list is repeated as needed.
    pub types: Vec<GuestType>,
    /// Virtual CPUs of each guest.
    pub cpus: u32,
    /// Virtual CPUs of dom0; always one when instructions are counted.
    pub dom0_cpus: u32,
    /// Time is instructions executed: for figures.
    pub icount: bool,
    /// Every domain of `up` has CPUs of its own, as many as it has virtual ones.
    pub own_cpus: bool,
    /// Domains only: no module loaded, no tunnel.
    pub bare: bool,
    /// dom0's kernel and file system on the machine itself: no Xen, no guests.
    pub plain: bool,
    /// dom0 loads its module before xenstored runs; with `bare`.
    pub early: bool,
    /// A network between the domains.
    pub net: bool,
    /// A guest whose tunnel is attached may reach every domain and join every group.
    pub allow: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            guests: 1,
            types: vec![GuestType::Pv],
            cpus: 1,
            dom0_cpus: 2,
            icount: false,
            own_cpus: false,
            bare: false,
            plain: false,
            early: false,
            net: false,
            allow: true,
        }
    }
}

/// MiB of a guest.
pub const GUEST_MEMORY: u32 = 256;
/// MiB of dom0: its file system, the images that guests are saved to, and itself.
pub const DOM0_MEMORY: u32 = 1536;
/// MiB that Xen keeps, with room for a guest that a test makes on top.
const REST_MEMORY: u32 = 1024;

impl Config {
    /// The type of guest `number`, counted from 1.
    pub fn guest_type(&self, number: u32) -> GuestType {
        let index = number.saturating_sub(1) as usize % self.types.len().max(1);
        self.types.get(index).copied().unwrap_or(GuestType::Pv)
    }

    /// Whether the emulator loses guests of this type: when it counts, it delivers events twice (see
    /// tests/BENCH.md).
    pub fn loses(&self, kind: GuestType) -> bool {
        self.icount && kind == GuestType::Pvh
    }

    /// Virtual CPUs that dom0 really gets.
    pub fn dom0_cpus(&self) -> u32 {
        if self.icount {
            1
        } else {
            self.dom0_cpus
        }
    }

    /// CPUs of the emulated machine.
    pub fn machine_cpus(&self) -> u32 {
        if self.own_cpus {
            self.dom0_cpus() + self.guests * self.cpus
        } else if self.icount {
            1 + self.cpus
        } else {
            self.dom0_cpus.max(self.cpus).max(2)
        }
    }

    /// The CPUs that guest `number` has to itself, first and last.
    pub fn own_cpus(&self, number: u32) -> Option<(u32, u32)> {
        let first = self.dom0_cpus() + number.saturating_sub(1) * self.cpus;
        self.own_cpus.then_some((first, first + self.cpus - 1))
    }

    /// MiB of the emulated machine.
    pub fn machine_memory(&self) -> u32 {
        // Xen needs some pages for each guest besides the guest's own.
        DOM0_MEMORY + REST_MEMORY + self.guests * (GUEST_MEMORY + 32)
    }

    /// Model of the emulated CPU. PVH wants nested paging, and a model that the emulator gets right
    /// under Xen; without it the plain one is quicker. Neither has `erms`.
    pub fn cpu_model(&self) -> &'static str {
        if self.types.contains(&GuestType::Pvh) {
            "qemu64,+npt,+nrip-save"
        } else {
            "qemu64"
        }
    }

    /// Xen's own command line.
    pub fn xen_options(&self) -> String {
        let pin = if self.icount || self.own_cpus {
            " dom0_vcpus_pin"
        } else {
            ""
        };
        format!(
            "dom0_mem={DOM0_MEMORY}M,max:{DOM0_MEMORY}M dom0_max_vcpus={}{pin} \
             console=com1 com1=115200 loglvl=info guest_loglvl=info conring_size=1M bootscrub=off",
            self.dom0_cpus()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_repeat() {
        let types = vec![GuestType::Pv, GuestType::Pvh];
        let config = Config {
            guests: 3,
            types,
            ..Config::default()
        };
        let seen: Vec<_> = (1..=3).map(|n| config.guest_type(n)).collect();
        assert_eq!(seen, [GuestType::Pv, GuestType::Pvh, GuestType::Pv]);
    }

    #[test]
    fn counting_pins_dom0_to_one_cpu() {
        let config = Config {
            icount: true,
            dom0_cpus: 4,
            ..Config::default()
        };
        assert_eq!(config.dom0_cpus(), 1);
        assert_eq!(config.machine_cpus(), 2);
        assert!(config.xen_options().contains("dom0_vcpus_pin"));
        assert_eq!(config.own_cpus(1), None);
    }

    #[test]
    fn own_cpus_follow_those_of_dom0() {
        let config = Config {
            own_cpus: true,
            guests: 3,
            cpus: 2,
            ..Config::default()
        };
        assert_eq!(config.machine_cpus(), 8);
        assert_eq!(config.own_cpus(1), Some((2, 3)));
        assert_eq!(config.own_cpus(3), Some((6, 7)));
    }
}
