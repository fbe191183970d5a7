// SPDX-License-Identifier: GPL-2.0
//! Who is told how a step goes.

/// Tells a person how a step goes. The testbed's steps are told to one of these.
pub type Tell<'a> = &'a dyn Fn(&str);

/// Tells on standard error.
pub fn on_stderr(text: &str) {
    eprintln!("testbed: {text}");
}
