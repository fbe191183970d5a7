// SPDX-License-Identifier: GPL-2.0
//! The tests on real Xen. They share one testbed: a PV guest u1, a PVH guest u2, and u3, which a
//! test makes when it wants to destroy one. Each starts with all tunnels connected and must leave
//! them so: see [`lab`]. tests/README.md has the table of what they prove.
//!
//! `scripts/test` runs this program, with the images named to it by the environment. `IDTS_SEED`
//! and `IDTS_LONG` are its `--seed` and `--long`.

mod bed;
mod bed_life;
mod c_program;
mod calls;
mod channels;
mod command;
mod counts;
mod debug;
mod demand;
mod demo;
mod domains;
mod drivers;
mod earlier;
mod entry;
mod errors;
mod faults;
mod flow;
mod groups;
mod hangup;
mod hostile;
mod idle;
mod lab;
mod leaks;
mod lifecycle;
mod loading;
mod looks;
mod memory;
mod neighbours;
mod own_host;
mod policy;
mod polling;
mod queues;
mod races;
mod run;
mod saves;
mod scheduler;
mod skips;
mod storms;
mod teardown;
mod transfer;
mod versions;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use testbed::GuestType;

use lab::{Guest, Lab};

/// A test with one guest.
type Case = fn(&Lab, &Guest) -> anyhow::Result<()>;
/// A test in a testbed without modules.
type BareCase = fn(&Lab) -> anyhow::Result<()>;
/// A test that boots what it needs.
type ApartCase = fn() -> anyhow::Result<()>;

/// What is done with the guests u1 and u2 in turn, in this order.
const WITH_GUEST: &[(&str, Case)] = &[
    ("transfer::small", transfer::small),
    ("transfer::large", transfer::large),
    ("errors::connect", errors::connect),
    ("domains::relay", domains::relay),
    ("domains::records", domains::records),
];

/// The same, in the default lane with the PV guest only.
const WITH_PV_GUEST: &[(&str, Case)] = &[
    ("testbed::streams", bed::streams),
    ("testbed::eight_at_once", bed::eight_at_once),
    ("testbed::many_at_once", bed::many_at_once),
    ("testbed::interrupt", bed::interrupt),
    ("testbed::push_pull", bed::push_pull),
    ("testbed::idle", bed::idle),
    ("transfer::odd_sizes", transfer::odd_sizes),
    ("polling::level", polling::level),
    ("polling::edge", polling::edge),
    ("looks::off_and_on", looks::off_and_on),
    ("calls::stream", calls::stream),
    ("calls::records", calls::records),
    ("calls::transact", calls::transact),
    ("calls::long_in_group", calls::long_in_group),
    ("calls::table", calls::table),
    ("channels::sixteen", channels::sixteen),
    ("channels::region_grows_and_shrinks", channels::region),
    ("channels::limits", channels::limits),
    ("queues::spread", queues::spread),
    ("queues::events", queues::events),
    ("races::dom0", races::dom0),
    ("errors::listen", errors::listen),
    ("errors::backlog", errors::backlog),
    ("errors::no_tunnel", errors::no_tunnel),
    ("errors::connect_loses_tunnel", errors::connect_loses_tunnel),
    ("hangup::all_read", hangup::all_read),
    ("hangup::data_unread", hangup::data_unread),
    ("c_program::both_ways", c_program::both_ways),
    ("command::send_recv", command::send_recv),
    ("command::interrupted", command::interrupted),
    ("command::echo_ping_cat", command::echo_ping_cat),
    ("command::cat_records", command::cat_records),
    ("domains::forbidden", domains::forbidden),
    ("domains::group", domains::group),
    ("groups::members", groups::members),
    ("domains::alias", domains::alias),
    ("demand::idle", demand::idle),
    ("memory::users", memory::users),
    ("memory::home", memory::home),
    ("memory::listeners", memory::listeners),
    ("memory::peers", memory::peers),
    ("memory::questions", memory::questions),
    ("policy::connect", policy::connect),
    ("policy::malformed", policy::malformed),
    ("policy::lists", policy::lists),
    ("policy::limits", policy::limits),
    ("policy::keys", policy::keys),
    ("policy::rates", policy::rates),
    ("idle::costs_nothing", idle::costs_nothing),
    ("faults::write_waits_for_its_buffer", faults::write_mended),
    ("faults::read_waits_for_its_buffer", faults::read_mended),
    ("flow::kill_sender", flow::kill_sender),
    ("flow::kill_receiver", flow::kill_receiver),
    ("flow::module_in_use", flow::module_in_use),
    ("flow::pause", flow::pause),
    ("teardown::detach", teardown::detach),
    ("teardown::unbind_front", teardown::unbind_front),
    ("teardown::unbind_back", teardown::unbind_back),
    ("lifecycle::module_orders", lifecycle::module_orders),
    ("lifecycle::front_reloaded", lifecycle::front_reloaded),
    ("lifecycle::back_reloaded", lifecycle::back_reloaded),
];

/// What wants version 0.1.0.
const EARLIER: &str = "earlier::version";

/// What is done once, with u1.
const ONCE: &[(&str, Case)] = &[
    ("testbed::own_failures", bed::own_failures),
    ("testbed::up_and_down", bed::up_and_down),
    ("testbed::reload", bed_life::reload),
    ("versions::apart", versions::apart),
    (EARLIER, earlier::version),
    ("drivers::flaps", drivers::flaps),
    ("drivers::last_words", drivers::last_words),
    ("drivers::gone_while_mapped", drivers::gone_while_mapped),
    ("memory::scattered", memory::scattered),
];

/// What needs domains without modules.
const BARE: &[(&str, BareCase)] = &[
    ("own_host", own_host::steps),
    ("testbed::without_modules", bed_life::without_modules),
    ("pv::testbed::restored", bed_life::restored_pv),
    ("pvh::testbed::restored", bed_life::restored_pvh),
];

/// What boots a testbed of its own.
const APART: &[(&str, ApartCase)] = &[
    ("demo", demo::demo),
    ("testbed::killed_emulator", bed_life::killed_emulator),
    ("drivers::without_xen", loading::without_xen),
    ("drivers::before_xenstored", loading::before_xenstored),
];

/// What is done with a guest that the test makes: u3, of each type.
const WITH_NEW_GUEST: &[(&str, Case)] = &[("teardown::destroy", teardown::destroy)];

/// The same, in the default lane with a PV guest only.
const WITH_NEW_PV_GUEST: &[(&str, Case)] = &[
    (
        "lifecycle::attach_before_boot",
        lifecycle::attach_before_boot,
    ),
    ("queues::one_cpu", queues::one_cpu),
    ("groups::destroyed", groups::destroyed),
    (
        "faults::destroy_while_write_stalls",
        faults::destroy_while_write_stalls,
    ),
    (
        "faults::destroy_while_read_stalls",
        faults::destroy_while_read_stalls,
    ),
    ("saves::restore_with_watch", saves::restore_with_watch),
    ("storms::front", storms::front),
    ("hostile::front", hostile::front),
    ("hostile::back", hostile::back),
];

/// The same again and again, in the default lane fewer times and with a PV guest only; with the
/// guest that is there (false) or with u3 (true).
const AGAIN: &[(&str, Case, bool)] = &[
    ("leaks::channels", leaks::channels, false),
    ("leaks::tunnels", leaks::tunnels, false),
    ("leaks::domains", leaks::domains, true),
];

/// Great numbers, in the long lane, likewise.
const IN_NUMBERS: &[(&str, Case, bool)] = &[
    ("counts::crowd", counts::crowd, false),
    ("counts::cost", counts::cost, false),
    ("neighbours::disk_and_vif", neighbours::disk_and_vif, true),
];

/// The same, in the long lane only.
const LONG_WITH_NEW_GUEST: &[(&str, Case)] = &[
    ("saves::checkpoint", saves::checkpoint),
    ("saves::restore_by_hand", saves::restore_by_hand),
    ("saves::restore_paused", saves::restore_paused),
    ("demand::killed", demand::killed),
];

/// What is done with a guest u3 of a type.
fn with_new_guest(kind: GuestType) -> impl Iterator<Item = &'static (&'static str, Case)> {
    let long = lab::is_long();
    let some = |wanted, cases: &'static [(&'static str, Case)]| match wanted {
        true => cases,
        false => &[],
    };
    WITH_NEW_GUEST
        .iter()
        .chain(some(long || kind == GuestType::Pv, WITH_NEW_PV_GUEST))
        .chain(some(long, LONG_WITH_NEW_GUEST))
}

fn main() -> ExitCode {
    let arguments = Arguments {
        // One testbed, one test at a time, in order.
        test_threads: Some(1),
        ..Arguments::from_args()
    };
    let mut skips = match skips::read() {
        Ok(skips) => skips,
        Err(error) => {
            eprintln!("xen: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    if let Some(why) = earlier::absent() {
        eprintln!("xen: {EARLIER} is skipped: {why}");
        skips.insert(EARLIER.into(), why);
    }
    let mut trials = Vec::new();
    for &(name, case) in APART {
        trials.push(Trial::test(name, move || lab::run_apart(name, case)));
    }
    for &(name, case) in BARE {
        trials.push(Trial::test(name, move || lab::run_bare(name, case)));
    }
    for &(name, case) in ONCE {
        let guest = Guest {
            name: "u1",
            kind: GuestType::Pv,
        };
        trials.push(trial(name.into(), case, guest));
    }
    for (kind, guest) in [(GuestType::Pv, "u1"), (GuestType::Pvh, "u2")] {
        let pv = if lab::is_long() || kind == GuestType::Pv {
            WITH_PV_GUEST
        } else {
            &[]
        };
        for &(name, case) in pv.iter().chain(WITH_GUEST) {
            trials.push(trial(
                format!("{kind}::{name}"),
                case,
                Guest { name: guest, kind },
            ));
        }
        for &(name, case) in with_new_guest(kind) {
            trials.push(trial(
                format!("{kind}::{name}"),
                case,
                Guest { name: "u3", kind },
            ));
        }
    }
    for (kind, guest) in [(GuestType::Pv, "u1"), (GuestType::Pvh, "u2")] {
        let long = lab::is_long();
        let again = if long || kind == GuestType::Pv {
            AGAIN
        } else {
            &[]
        };
        let in_numbers = if long { IN_NUMBERS } else { &[] };
        for &(name, case, new) in again.iter().chain(in_numbers) {
            let name = format!("{kind}::{name}");
            let guest = if new { "u3" } else { guest };
            trials.push(trial(name, case, Guest { name: guest, kind }));
        }
    }
    if debug::is_on() {
        // What all of the above may have lost, while their testbed is up.
        trials.push(Trial::test("debug::kmemleak", || {
            lab::run_bare("debug::kmemleak", debug::kmemleak)
        }));
    }
    trials.push(Trial::test("scheduler::shares", || {
        lab::run_own("scheduler::shares", &scheduler::TESTBED, scheduler::shares)
    }));
    if lab::is_long() {
        let name = "testbed::many_over_eight";
        let case = move || lab::run_own(name, &bed::EIGHT, bed::many_over_eight);
        trials.push(Trial::test(name, case));
    }
    let trials = trials.into_iter().map(|trial| {
        let skipped = skips.contains_key(trial.name());
        trial.with_ignored_flag(skipped)
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    lab::close();
    conclusion.exit_code()
}

fn trial(name: String, case: Case, guest: Guest) -> Trial {
    let known = name.clone();
    Trial::test(name, move || lab::run(&known, &guest, case))
}
