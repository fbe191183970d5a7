// SPDX-License-Identifier: GPL-2.0
//! The tests, by what they are about.

use idts_host::apart::Test;

mod hostile;
mod killed;
mod many;
mod outputs;
mod settings;
mod watch;

/// Names tests by their modules.
macro_rules! tests {
    ($($about:ident: $($name:ident)+;)+) => {
        pub const ALL: &[(&str, Test)] = &[
            $($((concat!(stringify!($about), "::", stringify!($name)), $about::$name),)+)+
        ];
    };
}

tests! {
    hostile: a_flood_holds_nobody bytes_harm_nobody names_are_one_word
        a_full_quota_harms_nobody nodes_are_whose_they_should_be;
    killed: at_every_request while_it_watches;
    many: come_and_go a_thousand one_noisy_among_a_thousand;
    outputs: every_command;
    settings: the_nearest_counts a_file_survives_what_xenstore_does_not
        a_file_is_edited_in_place a_file_is_saved_with_care list_shows_rights
        a_file_that_is_overruled_says_so a_file_of_another_editor aliases_change_hands nobody_is_meant;
    watch: one_guest_costs_little what_was_detached_stays_so nobody_waits_for_a_neighbour
        a_log_that_nobody_reads leaves_no_promise killed_it_leaves_none
        says_what_was_lost settings_come_along;
}

/// A tunnel's nodes: the front's folder and the back's.
fn front(id: u16) -> String {
    format!("/local/domain/{id}/device/idts/0")
}

fn back(id: u16) -> String {
    format!("/local/domain/0/backend/idts/{id}/0")
}
