// SPDX-License-Identifier: GPL-2.0
//! Guests by xl: their configuration, their making and their end.

use std::time::Duration;

use anyhow::{ensure, Context, Result};
use serde::Serialize;

use crate::config::{GuestType, GUEST_MEMORY};
use crate::running::{Testbed, HANG};

/// What a guest is made of.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Its name.
    pub name: String,
    /// How it is virtualised.
    pub kind: GuestType,
    /// Its virtual CPUs.
    pub cpus: u32,
    /// The CPUs of the machine that it runs on, first and last; `None`: as is usual.
    pub on: Option<(u32, u32)>,
    /// Last part of its address, when it has a network.
    pub address: Option<u32>,
    /// A block device of dom0 that is its disk xvda.
    pub disk: Option<String>,
}

/// A domain as `xl list` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Domain {
    /// Its name, `Domain-0` for dom0.
    pub name: String,
    /// Its number.
    pub id: u32,
    /// Its state in xl's letters.
    pub state: String,
}

/// The network of the domains; dom0 is number 1.
const NET: &str = "10.99.0.";

impl Testbed {
    /// How `up` makes guest `number`.
    pub fn guest_config(&self, number: u32) -> Guest {
        let config = self.config();
        Guest {
            name: format!("u{number}"),
            kind: config.guest_type(number),
            cpus: config.cpus,
            on: config.own_cpus(number),
            address: config.net.then_some(10 + number),
            disk: None,
        }
    }

    /// Makes a guest; it boots when this returns, see [`Testbed::wait_answers`].
    pub fn create(&self, guest: &Guest) -> Result<()> {
        let able = guest.kind == GuestType::Pv || self.config().types.contains(&GuestType::Pvh);
        ensure!(
            able,
            "this testbed was started without PVH; say `up --type pv,pvh`"
        );
        let path = format!("/etc/xen/{}.cfg", guest.name);
        self.write("dom0", &path, self.xl_config(guest).as_bytes())?;
        let ramdisk = "[ -e /guest/ramdisk ] || \
            { cat /guest/guest.cpio /dist.cpio >/guest/.new && mv /guest/.new /guest/ramdisk; }";
        self.sh("dom0", ramdisk)?;
        self.xl(&["create", "-q", &path])?;
        Ok(())
    }

    fn xl_config(&self, guest: &Guest) -> String {
        let Guest {
            name, kind, cpus, ..
        } = guest;
        // A kernel whose tick has stopped sets its clock on every event before it handles it. If the
        // event comes once more there, that one wants the clock and spins.
        let options = match self.config().loses(*kind) {
            true => "console=hvc0 nohz=off",
            false => "console=hvc0",
        };
        let mut text = format!(
            "name = '{name}'\ntype = '{kind}'\nmemory = {GUEST_MEMORY}\nvcpus = {cpus}\n\
             kernel = '/guest/vmlinuz'\nramdisk = '/guest/ramdisk'\nextra = '{options}'\n\
             on_poweroff = 'destroy'\non_reboot = 'destroy'\non_crash = 'destroy'\n"
        );
        if *kind == GuestType::Pvh {
            // Emulated, Xen is not told where the next instruction of an rdtscp begins.
            text += "tsc_mode = 'native'\n";
        }
        if let Some((first, last)) = guest.on {
            text += &format!("cpus = '{first}-{last}'\n");
        } else if self.config().icount || *kind == GuestType::Pvh {
            // Counted, dom0 has the first CPU to itself. Else it is because that one may not do
            // VMRUN: the emulator's cpu_clear_ignne(), run by any CPU that loads FPU state, writes
            // the first CPU's SVM flags without a lock. A guest there dies of a triple fault, or
            // Xen of a double fault, in about every tenth boot.
            text += "cpus = 'all,^0'\n";
        }
        if let Some(address) = guest.address {
            text += &format!("vif = ['bridge=xenbr0,mac=00:16:3e:00:00:{address:02x}']\n");
        }
        if let Some(disk) = &guest.disk {
            text += &format!("disk = ['phy:{disk},xvda,w']\n");
        }
        text
    }

    /// Returns when the domain's agent runs commands; gives a guest its name and its address.
    pub fn wait_answers(&self, name: &str) -> Result<()> {
        self.wait_answers_within(name, HANG)
    }

    /// As `wait_answers`, for so long at most.
    pub(crate) fn wait_answers_within(&self, name: &str, limit: Duration) -> Result<()> {
        let named = self.spawn(name, &["hostname", name])?;
        named
            .wait_with_output(limit)?
            .check(&format!("{name}: hostname"))?;
        let number = name
            .strip_prefix('u')
            .and_then(|number| number.parse::<u32>().ok());
        if let (true, Some(number)) = (self.config().net, number) {
            let address = 10 + number;
            self.sh(
                name,
                &format!(
                    "modprobe xen-netfront; ip link set eth0 up && \
                     (ip addr show dev eth0 | grep -q inet\\  || ip addr add {NET}{address}/24 dev eth0)"
                ),
            )?;
        }
        Ok(())
    }

    /// Makes the bridge that joins all domains.
    pub fn make_bridge(&self) -> Result<()> {
        self.sh(
            "dom0",
            &format!(
                "modprobe bridge && modprobe xen-netback && brctl addbr xenbr0 && \
                 ip addr add {NET}1/24 dev xenbr0 && ip link set xenbr0 up"
            ),
        )?;
        Ok(())
    }

    /// Destroys a guest, as pulling its plug would.
    pub fn destroy(&self, name: &str) -> Result<()> {
        self.xl(&["destroy", name]).map(drop)
    }

    /// All domains.
    pub fn domains(&self) -> Result<Vec<Domain>> {
        let list = self.xl(&["list"])?.stdout_text();
        list.lines()
            .skip(1)
            .map(|line| parse(line).with_context(|| line.to_string()))
            .collect()
    }
}

/// A line of `xl list`: name, id, memory, CPUs, state, time.
fn parse(line: &str) -> Option<Domain> {
    let words: Vec<_> = line.split_whitespace().collect();
    let [name, id, _, _, state, _] = words.as_slice() else {
        return None;
    };
    Some(Domain {
        name: name.to_string(),
        id: id.parse().ok()?,
        state: state.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_xl_list() {
        let line = "u1                        3   256     1     -b----       1.5";
        let domain = parse(line).unwrap();
        assert_eq!((domain.name.as_str(), domain.id), ("u1", 3));
        assert_eq!(domain.state, "-b----");
        assert!(parse("nonsense").is_none());
    }
}
