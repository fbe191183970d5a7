// SPDX-License-Identifier: GPL-2.0
//! The testbed: real Xen under an emulator, domains in it, and commands run in them.
//!
//! The program `testbed` and the tests use this library alike:
//!
//! ```no_run
//! use testbed::{Config, Testbed};
//!
//! let tb = Testbed::up(&Config::default(), &testbed::on_stderr)?;
//! let output = tb.exec("u1", &["uname", "-r"])?;
//! assert!(output.success());
//! print!("{}", output.stdout_text());
//! tb.down()?;
//! # Ok::<(), anyhow::Error>(())
//! ```
//!
//! Reading order: [`config`] (what to boot), [`place`] (where it is kept, locks), `emulator` and
//! `initrd` (booting), [`session`] (a command in a domain), [`running`] (the testbed itself),
//! `up`, `tell`, `files`, `monitor`, [`guests`], [`product`], [`logs`], [`tables`], [`delays`] (what it can do),
//! [`wire`] (what driver and agents say to each other), [`door`] (strangers there; the agents are `src/bin/tb-agent`).

pub mod config;
pub mod delays;
pub mod door;
mod emulator;
mod files;
pub mod guests;
mod initrd;
pub mod logs;
mod monitor;
pub mod place;
pub mod product;
pub mod running;
pub mod session;
pub mod tables;
mod tell;
mod up;
pub mod wire;

pub use config::{Config, GuestType};
pub use guests::Domain;
pub use running::Testbed;
pub use session::{Child, Output};
pub use tell::{on_stderr, Tell};
