// SPDX-License-Identifier: GPL-2.0

//! Negotiation of a tunnel on xenstore: the back announces its capabilities, the front answers.
//!
//! `idts_core::negotiation` decides. The side that refuses logs the reason; the other side
//! notices the refusal and logs that. PROTOCOL.md sections 3 and 8.5.

use idts_core::negotiation::{feature, Capabilities, Negotiated};
use idts_core::nodes;
use idts_core::wire::{QUEUES, VERSION};
use kernel::prelude::*;

use super::services::Services;
use crate::sys::bindings;
use crate::sys::test_override::built;
use crate::xen::xenbus::Device;

/// The capabilities of this side: one queue for each online CPU.
fn ours() -> Capabilities {
    // SAFETY: Reads a counter.
    let cpus = unsafe { bindings::idts_online_cpus() };
    Capabilities {
        versions: (built(0, VERSION), built(1, VERSION)),
        features: built(2, feature::KNOWN),
        queues: cpus.clamp(1, QUEUES),
    }
}

/// Reads a node of the peer; if there is none, its value is `absent`.
fn optional(device: &Device, node: &str, absent: u32, (min, max): (u32, u32)) -> Result<u32> {
    match device.read_peer(node, min, max) {
        Err(error) if error == ENOENT => Ok(absent),
        value => value,
    }
}

/// Reads the range of versions that the peer speaks.
fn their_versions(device: &Device) -> Result<(u32, u32)> {
    let low = device.read_peer(nodes::MIN_VERSION, 1, u32::MAX)?;
    Ok((low, device.read_peer(nodes::MAX_VERSION, low, u32::MAX)?))
}

/// Writes the range of versions that this side speaks.
fn say_versions(device: &Device, ours: &Capabilities) -> Result {
    device.write(nodes::MIN_VERSION, ours.versions.0)?;
    device.write(nodes::MAX_VERSION, ours.versions.1)
}

/// Checks that the two sides have a version in common, and logs it if not.
fn compare(device: &Device, services: &Services, ours: (u32, u32), theirs: (u32, u32)) -> Result {
    if nodes::common_version(ours, theirs).is_some() {
        return Ok(());
    }
    say_apart(device, services, ours, theirs);
    Err(EINVAL)
}

/// Logs that there is no version in common, as the rate limit allows. Returns whether it did.
fn say_apart(device: &Device, services: &Services, ours: (u32, u32), theirs: (u32, u32)) -> bool {
    let may_say = services.may_log(device.peer());
    if may_say {
        dev_err!(
            device.device(),
            "refused: domain {} speaks protocol {} to {}, we speak {} to {}\n",
            device.peer(),
            theirs.0,
            theirs.1,
            ours.0,
            ours.1
        );
    }
    may_say
}

/// Back: announces its capabilities.
///
/// # Errors
/// xenstore's.
pub fn announce(device: &Device) -> Result {
    let ours = ours();
    say_versions(device, &ours)?;
    device.write(nodes::FEATURES, ours.features)?;
    device.write(nodes::MAX_QUEUES, ours.queues)
}

/// Front: answers with the capabilities that both sides have. It writes its versions first,
/// because the back reads them if the front closes without an offer.
///
/// # Errors
/// `EINVAL`: the two sides have nothing in common. xenstore's.
pub(super) fn answer(device: &Device, services: &Services) -> Result<Negotiated> {
    let ours = ours();
    say_versions(device, &ours)?;
    let theirs = Capabilities {
        versions: their_versions(device)?,
        features: optional(device, nodes::FEATURES, 0, (0, u32::MAX))?,
        queues: optional(device, nodes::MAX_QUEUES, 1, (1, QUEUES))?,
    };
    compare(device, services, ours.versions, theirs.versions)?;
    let terms = ours.intersect(&theirs).map_err(|_| EINVAL)?;
    device.write(nodes::VERSION, terms.version)?;
    device.write(nodes::FEATURES, terms.features)?;
    device.write(nodes::QUEUE_COUNT, terms.queues.count())?;
    Ok(terms)
}

/// Back: validates the front's answer.
///
/// # Errors
/// `EINVAL`: it does not fit the announcement. xenstore's.
pub(super) fn judge(device: &Device, services: &Services) -> Result<Negotiated> {
    let version = device.read_peer(nodes::VERSION, 1, u32::MAX)?;
    let features = optional(device, nodes::FEATURES, 0, (0, u32::MAX))?;
    let queues = optional(device, nodes::QUEUE_COUNT, 1, (0, u32::MAX))?;
    let ours = ours();
    ours.validate(version, features, queues).map_err(|unfit| {
        if services.may_log(device.peer()) {
            dev_err!(
                device.device(),
                "refused: domain {} answered version {}, features {:#x}, {} queues ({:?}); \
                 we have {} to {}, {:#x}, {}\n",
                device.peer(),
                version,
                features,
                queues,
                unfit,
                ours.versions.0,
                ours.versions.1,
                ours.features,
                ours.queues
            );
        }
        EINVAL
    })
}

/// Back: handles a front that closed without an offer. If that is because the versions do not
/// overlap, it logs this. Returns whether it did.
pub fn was_refused(device: &Device, services: &Services) -> bool {
    let ours = ours().versions;
    let apart = |theirs: &(u32, u32)| nodes::common_version(ours, *theirs).is_none();
    let theirs = their_versions(device).ok().filter(apart);
    theirs.is_some_and(|theirs| say_apart(device, services, ours, theirs))
}
