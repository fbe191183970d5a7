// SPDX-License-Identifier: GPL-2.0
//! The command line of the hostile peer and of those who watch it.

use clap::{Args, Parser, Subcommand};
use idts::Address;

/// Plays one side of a tunnel, badly; and the honest programs around that.
#[derive(Parser)]
#[command(name = "idts-hostile")]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Subcommand)]
pub enum Verb {
    /// Plays the front, in a guest that has no frontend's module
    Front(Play),
    /// Plays the back, in dom0, of a device that the backend's module let go
    Back(Play),
    /// Uses every channel that the hostile side opens, or opens them, until its input ends
    Victim(Victim),
    /// Notes what the kernel says of a tunnel, until its input ends
    Witness(Witness),
    /// Plays the front and sends events that bring nothing
    Storm(crate::storm::Storm),
    /// Names the cells of the matrix
    Cells,
    /// As front, sets its tunnel up again and again
    Flap(Flap),
    /// As front, opens channels after it has said that it closes
    LastWords(LastWords),
    /// As back, keeps a page mapped until its input ends
    Hold(Hold),
}

#[derive(Args)]
pub struct Flap {
    /// The guest's id
    pub guest: u32,
    /// How often
    pub rounds: u32,
}

#[derive(Args)]
pub struct LastWords {
    /// The guest's id
    pub guest: u32,
    /// A port of the back's domain
    pub port: u32,
    /// For how many milliseconds
    pub ms: u64,
}

#[derive(Args)]
pub struct Hold {
    /// The guest's id
    pub guest: u32,
    /// The grant reference
    pub reference: u32,
}

#[derive(Args)]
pub struct Play {
    /// The guest's id
    pub guest: u32,
    /// How many attacks; 0 is one for every cell of the matrix
    #[arg(long, default_value_t = 0)]
    pub attacks: u64,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Only rows that contain this
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub only: String,
}

#[derive(Args)]
pub struct Victim {
    /// Listens on two ports, the first for streams, the next for records
    #[arg(long)]
    pub listen: Option<u32>,
    /// Connects to two ports, likewise, again and again
    #[arg(long, conflicts_with = "listen", required_unless_present = "listen")]
    pub connect: Option<Address>,
}

#[derive(Args)]
pub struct Witness {
    /// The other domain of the tunnel
    pub peer: u32,
    /// The guest whose tunnel it is
    pub guest: u32,
}
