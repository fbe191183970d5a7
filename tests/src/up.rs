// SPDX-License-Identifier: GPL-2.0
//! Bringing a testbed up, step by step, and cleaning up after a step that failed.

use std::fs::{self, File};
use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};

use crate::config::Config;
use crate::guests::Guest;
use crate::place::{Images, Place, State};
use crate::running::{Testbed, HANG};
use crate::tell::Tell;
use crate::wire::READY_MARK;
use crate::{emulator, initrd};

/// How often the serial log is looked at while dom0 boots.
const LOOK: Duration = Duration::from_millis(200);
/// How often a guest is made that is lost, and after how long one is that does not answer.
const TRIES: u32 = 8;
const LOST: Duration = Duration::from_secs(400);
/// Marks in the serial log, and what they say about the boot.
const STAGES: [(&str, &str); 3] = [
    ("Xen version", "Xen runs"),
    ("Linux version", "dom0's kernel runs"),
    (READY_MARK, ""),
];

impl Testbed {
    /// Boots a testbed and returns when all domains answer; unless `bare`, with modules loaded and
    /// tunnels attached.
    pub fn up(config: &Config, tell: Tell<'_>) -> Result<Testbed> {
        up(Place::from_env(), &Images::from_env()?, config, tell)
    }

    /// Returns when all guests answer. Of a counted machine, PVH guests that are lost are made again.
    pub fn mend(&self, tell: Tell<'_>) -> Result<()> {
        wait_for_guests(self, tell)
    }
}

fn up(place: Place, images: &Images, config: &Config, tell: Tell<'_>) -> Result<Testbed> {
    place.create()?;
    let Some(own) = place.lock()? else {
        bail!("a testbed runs already; `scripts/testbed down` ends it");
    };
    let all = place.emulator_lock(tell)?;
    let state = boot(&place, images, config, [own, all], tell)?;
    let testbed = Testbed::new(place.clone(), state.clone());
    match finish(&testbed, tell) {
        Ok(()) => Ok(testbed),
        Err(error) => {
            let tail = tail(&place);
            emulator::stop(&state)?;
            place.clear();
            Err(error.context(format!("up failed; last lines of the serial log:\n{tail}")))
        }
    }
}

fn boot(
    place: &Place,
    images: &Images,
    config: &Config,
    locks: [File; 2],
    tell: Tell<'_>,
) -> Result<State> {
    let token = token()?;
    initrd::compose(images, &token, config.early, &place.file("initrd.cpio"))?;
    let time = if config.icount {
        ", counting instructions"
    } else {
        ""
    };
    let (cpus, memory) = (config.machine_cpus(), config.machine_memory());
    let what = if config.plain { "Linux" } else { "Xen" };
    tell(&format!(
        "starting {what} in the emulator: {cpus} CPUs, {memory} MiB{time}"
    ));
    let state = emulator::start(place, images, config, &token, &locks)?;
    place
        .save(&state)
        .inspect_err(|_| drop(emulator::stop(&state)))?;
    Ok(state)
}

fn finish(testbed: &Testbed, tell: Tell<'_>) -> Result<()> {
    let config = testbed.config();
    wait_for_dom0(testbed, tell)?;
    if config.net {
        tell("making the bridge xenbr0 in dom0");
        testbed.make_bridge()?;
    }
    for number in 1..=config.guests {
        let guest = testbed.guest_config(number);
        tell(&format!("creating {} ({})", guest.name, guest.kind));
        testbed.create(&guest)?;
        if config.icount {
            // They would boot in turns, no faster, and the more run the sooner one is lost.
            wait_for_guest(testbed, &guest, tell)?;
        }
    }
    wait_for_guests(testbed, tell)?;
    if !config.bare {
        testbed.load_all(tell)?;
        testbed.attach_all(tell)?;
    }
    Ok(())
}

fn wait_for_dom0(testbed: &Testbed, tell: Tell<'_>) -> Result<()> {
    let start = Instant::now();
    let no_xen = usize::from(testbed.config().plain);
    let mut stages = STAGES.iter().skip(no_xen).peekable();
    while let Some((mark, meaning)) = stages.peek() {
        if serial(testbed.place()).contains(mark) {
            stages.next();
            if !meaning.is_empty() {
                tell(meaning);
            }
            continue;
        }
        if !testbed.is_running() {
            let said = fs::read_to_string(testbed.place().file("emulator.log"));
            bail!(
                "the emulator ended while dom0 booted: {}",
                said.unwrap_or_default().trim()
            );
        }
        if start.elapsed() > HANG {
            bail!("dom0 does not come up");
        }
        thread::sleep(LOOK);
    }
    testbed.wait_answers("dom0")?;
    tell("dom0 answers");
    Ok(())
}

fn wait_for_guests(testbed: &Testbed, tell: Tell<'_>) -> Result<()> {
    for number in 1..=testbed.config().guests {
        let guest = testbed.guest_config(number);
        wait_for_guest(testbed, &guest, tell)?;
        tell(&format!("{} answers", guest.name));
    }
    Ok(())
}

/// A guest that the emulator loses is made again.
fn wait_for_guest(testbed: &Testbed, guest: &Guest, tell: Tell<'_>) -> Result<()> {
    let name = guest.name.as_str();
    if !testbed.config().loses(guest.kind) {
        return testbed.wait_answers(name);
    }
    for _ in 1..TRIES {
        let Err(error) = testbed.wait_answers_within(name, LOST) else {
            return Ok(());
        };
        tell(&format!("{name} is lost and made again: {error:#}"));
        // It may be gone: one that crashes is.
        if testbed.domains()?.iter().any(|domain| domain.name == name) {
            testbed.destroy(name)?;
        }
        testbed.create(guest)?;
    }
    testbed.wait_answers_within(name, LOST)
}

fn serial(place: &Place) -> String {
    let bytes = fs::read(place.serial_log()).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn tail(place: &Place) -> String {
    let text = serial(place);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// A secret that nobody guesses.
fn token() -> Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?
        .read_exact(&mut bytes)
        .context("/dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
