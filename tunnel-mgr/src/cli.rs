// SPDX-License-Identifier: GPL-2.0
//! The command line: arguments, their checks, and all of `--help`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Set tunnels up between this domain and others, and tear them down.
///
/// A tunnel joins a domain with the one that runs tunnel-mgr, which is dom0 as
/// a rule. It stands when idts_back is loaded here and idts_front there; which
/// of them comes first does not matter. Then programs in both domains can open
/// channels through it, see idts(1).
///
/// DOM is a domain's id or its name, as `xl list` shows them.
#[derive(Debug, Parser)]
#[command(name = "tunnel-mgr", version, max_term_width = 80, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  tunnel-mgr attach u1            until the tunnel with u1 is connected
  tunnel-mgr attach u1 --wait 0   for a guest that has yet to boot
  tunnel-mgr list --json
  tunnel-mgr set u1 weight=4 rate=100M
  tunnel-mgr watch --attach all
  tunnel-mgr detach u1

Exit status:
  0  done
  1  failed; stderr says what happened and to whom
  2  wrong usage

Files:
  /run/xenstored/socket (or /dev/xen/xenbus)
                         the way to xenstore
  /sys/kernel/debug/idts/DOMID
                         counters of a tunnel, shown by list and stats
  /run/tunnel-mgr.watch  locked by a watch with --idle; what it told guests goes
                         with the next command if it was killed
  /run/tunnel-mgr.save   locked while a settings file is written";

#[derive(Debug, Subcommand)]
pub enum Command {
    Attach(Attach),
    Detach(Detach),
    List(List),
    Set(Set),
    Scheduler(Scheduler),
    Stats(Stats),
    Watch(Watch),
}

/// Set a tunnel up with a domain.
///
/// Writes the nodes of the device `idts` for both sides, all at once, and waits
/// until both are connected. When they are not in time, the tunnel stays
/// attached and connects as soon as both sides can. What tunnels of dead
/// domains left behind is removed first.
#[derive(Debug, Args)]
pub struct Attach {
    /// The domain, by id or name
    #[arg(value_name = "DOM", value_parser = domain)]
    pub domain: String,
    /// Wait at most this long for both sides; 0 does not wait
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub wait: u32,
    /// Do not fail when there is a tunnel already
    #[arg(long)]
    pub if_absent: bool,
}

/// Tear a tunnel down.
///
/// Asks both sides to close, waits until the backend let go of the domain's
/// memory, and removes the nodes. Channels through it break with ECONNRESET. Of
/// a domain that is gone it removes what is left.
#[derive(Debug, Args)]
pub struct Detach {
    /// The domain, by id or name
    #[arg(value_name = "DOM", value_parser = domain)]
    pub domain: String,
    /// Wait at most this long for the backend
    #[arg(long, value_name = "SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub wait: u32,
    /// Remove the nodes at once, whatever the two sides are doing
    #[arg(long)]
    pub force: bool,
}

/// Show all tunnels of this domain.
///
/// The state of each side is that of xenbus: a tunnel works when both are
/// Connected. Counters come from the backend's driver, and are absent where it
/// is not loaded or debugfs is not mounted. A tunnel whose domain is gone, or
/// that lost one side's nodes, is marked as a leftover. Behind are the domain's
/// alias and rights, as `set` has them.
#[derive(Debug, Args)]
pub struct List {
    /// Print a JSON array
    #[arg(long)]
    pub json: bool,
    /// Remove leftovers first
    #[arg(long)]
    pub sweep: bool,
}

/// Show or set what a domain may do and how it is served.
///
/// Takes effect at once: what connect, publish or subscribe does not allow any
/// more ends. What is typed lives as long as the domain has its UUID, also without
/// a tunnel, over reboot, save and restore. It is lost when the host restarts, and
/// when the domain is made anew without `uuid=` in its configuration: then only a
/// settings file knows it (see --save, and `watch --settings`). An empty value
/// takes a setting away. No guest can read or write any of it.
///
/// For each key the first of these holds: what was typed for the domain; the
/// file's tables by UUID, by name, for all; what was typed with --default; the
/// built-in.
#[derive(Debug, Args)]
#[command(after_help = SET_HELP)]
pub struct Set {
    /// The domain, by id or name; none with --default
    #[arg(value_name = "DOM", value_parser = domain, required_unless_present = "default")]
    pub domain: Option<String>,
    /// What to set; without any, all settings are shown
    #[arg(value_name = "KEY=VALUE")]
    pub changes: Vec<String>,
    /// Of all domains for which nothing else is set
    #[arg(long)]
    pub default: bool,
    /// Print a JSON object of what holds then
    #[arg(long)]
    pub json: bool,
    /// Write it into this settings file too, in place; without KEY=VALUE, all that
    /// was typed. A watch reads it at SIGHUP
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
}

impl Set {
    /// The domain, and what to set.
    pub fn target(&self) -> (Option<&str>, Vec<&str>) {
        let mut changes: Vec<_> = self.changes.iter().map(String::as_str).collect();
        let mut domain = self.domain.as_deref();
        if self.default {
            // There is no domain: what stands in its place is the first change.
            changes.splice(0..0, domain.take());
        }
        (domain, changes)
    }
}

const SET_HELP: &str = "\
Keys:
  weight=N           share under the policy drr, 1 to 1024 [1]
  prio=N             rank under the policy prio, 0 to 7, which is first [3]
  rate=SIZE          cap, in bytes a second; 0 for none [0]
  limit-channels=N   channels that may be open [4095]
  limit-memory=SIZE  size of the shared memory, 128K to 128M [17M]
  limit-peer=N       percent of it that one other domain may ask for [75]
  alias=NAME         name under which other domains may connect to it
  connect=RULES      where it may connect to [dom0]
  publish=GROUPS     groups that it may publish [none]
  subscribe=GROUPS   groups that it may subscribe to [none]

  RULES is all, none, or up to 16 of dom0 and DOM:PORTS with commas between;
  DOM is a domain id, an alias, or dom0; PORTS is a port, a range A-B, or *.
  GROUPS is all, none, or up to 16 names, or beginnings of names with * behind.
  SIZE is a number, or one with K, M, G or T behind, in steps of 1024.

A settings file is TOML. A name is its giver's word: who may name domains may
choose their table.
  [default]
  connect = \"none\"
  [name.\"u1\"]
  rate = \"100M\"
  [uuid.\"01234567-89ab-cdef-0123-456789abcdef\"]
  weight = 4

Examples:
  tunnel-mgr set u1 weight=4 rate=100M alias=web connect=dom0,db:5432
  tunnel-mgr set --default connect=none
  tunnel-mgr set u1 connect=all --save /etc/idts.toml";

/// Show or set in which order domains are served, and how fast together.
///
/// Takes effect at once, also on data under way.
#[derive(Debug, Args)]
#[command(after_help = SCHEDULER_HELP)]
pub struct Scheduler {
    /// A policy, rate=SIZE, or both; without any, both are shown
    #[arg(value_name = "POLICY|rate=SIZE")]
    pub changes: Vec<String>,
}

const SCHEDULER_HELP: &str = "\
Policies:
  drr   deficit round robin: each domain gets its share by weight; the default
  rr    round robin: each domain gets the same
  prio  the highest prio first, and round robin among equals
  fifo  who waits longest, until it has no more

  rate=SIZE is the cap of all domains together, in bytes a second; 0 for none.";

/// Show all that the backend's driver counts.
#[derive(Debug, Args)]
pub struct Stats {
    /// One domain only, by id or name
    #[arg(value_name = "DOM", value_parser = domain)]
    pub domain: Option<String>,
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
}

/// Set tunnels up as domains come, and remove what they leave.
///
/// Stays in the foreground. At its start, and whenever a domain comes or goes, it
/// removes leftovers and sets up the tunnels that --attach names, also those of
/// domains that were restored. It may be killed and started again at any time. A
/// tunnel that was detached by hand stays so, until its domain comes anew or asks
/// for it.
///
/// With --settings, domains get what the file says, before their tunnels come, and
/// again at SIGHUP. A file with an error in it changes nothing. Where something else
/// was typed for a domain, that holds, and a line says so.
///
/// With --idle, a guest that --attach names gets its tunnel back when a program
/// there connects or listens: its driver asks, in its own xenstore node data/idts.
/// Killed by SIGKILL, it cannot take back that it does so: programs there then wait
/// for a tunnel, as long as they wait for one, until the next command of tunnel-mgr
/// or another watch. A service manager should start it again, or run
/// `tunnel-mgr list` after its end (systemd: Restart=on-failure, ExecStopPost=).
#[derive(Debug, Args)]
pub struct Watch {
    /// Domains that get a tunnel, by name, or `all`
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',')]
    pub attach: Vec<String>,
    /// Detach these domains when they have had no channel and no listener for so long
    #[arg(long, value_name = "SECONDS", requires = "attach",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub idle: Option<u32>,
    /// What domains may do and how they are served, see `tunnel-mgr set --help`
    #[arg(long, value_name = "FILE")]
    pub settings: Option<PathBuf>,
}

/// What can be an id or a name; which domain it is, xenstore knows.
fn domain(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains('/') || text.chars().any(char::is_control) {
        return Err("not a domain's id or name".into());
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn refuses_what_is_no_domain() {
        for text in ["", "a/b", "a\nb"] {
            assert!(Cli::try_parse_from(["tunnel-mgr", "attach", text]).is_err());
        }
        assert!(Cli::try_parse_from(["tunnel-mgr", "detach", "u1", "--wait", "0"]).is_err());
    }
}
