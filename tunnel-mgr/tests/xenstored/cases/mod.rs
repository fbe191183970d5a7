// SPDX-License-Identifier: GPL-2.0
//! The tests, by what they are about.

mod hostile;
mod killed;
mod many;
mod outputs;
mod watch;

use anyhow::Result;

pub type Test = fn() -> Result<()>;

pub const ALL: &[(&str, Test)] = &[
    (
        "hostile::a_flood_holds_nobody",
        hostile::a_flood_holds_nobody,
    ),
    ("hostile::bytes_harm_nobody", hostile::bytes_harm_nobody),
    ("hostile::names_are_one_word", hostile::names_are_one_word),
    (
        "hostile::a_full_quota_harms_nobody",
        hostile::a_full_quota_harms_nobody,
    ),
    (
        "hostile::nodes_are_whose_they_should_be",
        hostile::nodes_are_whose_they_should_be,
    ),
    ("killed::at_every_request", killed::at_every_request),
    ("many::come_and_go", many::come_and_go),
    ("many::a_thousand", many::a_thousand),
    ("outputs::every_command", outputs::every_command),
    (
        "watch::one_guest_costs_little",
        watch::one_guest_costs_little,
    ),
    (
        "watch::what_was_detached_stays_so",
        watch::what_was_detached_stays_so,
    ),
    (
        "watch::nobody_waits_for_a_neighbour",
        watch::nobody_waits_for_a_neighbour,
    ),
    (
        "watch::a_log_that_nobody_reads",
        watch::a_log_that_nobody_reads,
    ),
    ("watch::leaves_no_promise", watch::leaves_no_promise),
    ("watch::says_what_was_lost", watch::says_what_was_lost),
];

/// A tunnel's nodes: the front's folder and the back's.
fn front(id: u16) -> String {
    format!("/local/domain/{id}/device/idts/0")
}

fn back(id: u16) -> String {
    format!("/local/domain/0/backend/idts/{id}/0")
}
