// SPDX-License-Identifier: GPL-2.0
//! The driver's command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use testbed::{Config, GuestType};

/// Real Xen under an emulator, with domains to try IDTS in. NAME is dom0, u1, u2 ...
#[derive(Parser)]
#[command(name = "testbed", disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Subcommand)]
pub enum Verb {
    /// Boots Xen, dom0 and guests; loads the modules and sets tunnels up
    Up(Up),
    /// Runs a command in a domain; its exit code is ours, 125 is a failure of the testbed
    Exec {
        /// Domain
        name: String,
        /// Program and arguments
        #[arg(required = true, last = true)]
        command: Vec<String>,
    },
    /// Opens a shell, or runs a command, on a terminal in a domain
    Shell {
        /// Domain
        name: String,
        /// Program and arguments
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Copies a file into a domain
    Push {
        /// File here
        src: PathBuf,
        /// NAME:FILE or NAME:FOLDER/
        dst: String,
    },
    /// Copies a file out of a domain
    Pull {
        /// NAME:FILE
        src: String,
        /// File or folder here
        dst: PathBuf,
    },
    /// Prints what a domain wrote to its console; dom0's has Xen's words too
    Console {
        /// Domain
        name: String,
        /// Goes on printing
        #[arg(short, long)]
        follow: bool,
    },
    /// Runs xl in dom0
    #[command(disable_help_flag = true)]
    Xl {
        /// Arguments of xl
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Makes one more guest
    Create {
        /// Its name
        name: String,
        /// pv or pvh
        #[arg(long = "type", default_value = "pv")]
        kind: GuestType,
        /// Its virtual CPUs
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=8))]
        cpus: u32,
    },
    /// Destroys a guest
    Destroy {
        /// Domain
        name: String,
    },
    /// Brings rebuilt modules and programs of target/dist into the running domains
    Reload {
        /// Folder with them
        #[arg(long, default_value_os_t = dist_folder())]
        dist: PathBuf,
    },
    /// Tells what runs
    Status {
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// Prints the counts of Xen's grant and event-channel tables, and what is wrong in the logs
    Check,
    /// Ends the emulator and all domains
    Down,
}

/// Where the entry script's checkout has them.
fn dist_folder() -> PathBuf {
    PathBuf::from(std::env::var_os("IDTS_TOP").unwrap_or(".".into())).join("target/dist")
}

/// What to boot.
#[derive(Args)]
pub struct Up {
    /// Number of guests
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=16))]
    guests: u32,
    /// Types of the guests, pv or pvh, repeated as needed
    #[arg(long = "type", value_delimiter = ',', default_value = "pv")]
    types: Vec<GuestType>,
    /// Virtual CPUs of each guest
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=8))]
    cpus: u32,
    /// Virtual CPUs of dom0
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=8))]
    dom0_cpus: u32,
    /// Virtual time counts instructions: for figures, not for races
    #[arg(long)]
    icount: bool,
    /// Each domain has CPUs of the machine to itself
    #[arg(long)]
    own_cpus: bool,
    /// No modules, no tunnels
    #[arg(long)]
    bare: bool,
    /// No Xen: dom0's kernel and file system alone
    #[arg(long, requires = "bare", conflicts_with = "net")]
    plain: bool,
    /// dom0's module is loaded before xenstored runs
    #[arg(long, requires = "bare", conflicts_with = "plain")]
    early: bool,
    /// A network between the domains, 10.99.0.0/24; the guests' devices are no part of IDTS
    #[arg(long)]
    net: bool,
    /// Guests may reach dom0's ports only, as without this testbed; else everything is allowed
    #[arg(long)]
    no_allow: bool,
}

impl From<Up> for Config {
    fn from(up: Up) -> Config {
        Config {
            guests: if up.plain { 0 } else { up.guests },
            types: up.types,
            cpus: up.cpus,
            dom0_cpus: up.dom0_cpus,
            icount: up.icount,
            own_cpus: up.own_cpus,
            bare: up.bare,
            plain: up.plain,
            early: up.early,
            net: up.net,
            allow: !up.no_allow,
        }
    }
}
