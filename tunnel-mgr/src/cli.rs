// SPDX-License-Identifier: GPL-2.0
//! The command line: arguments, their checks, and all of `--help`.

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
  tunnel-mgr detach u1

Exit status:
  0  done
  1  failed; stderr says what happened and to whom
  2  wrong usage

Files:
  /run/xenstored/socket (or /dev/xen/xenbus)
                         the way to xenstore
  /sys/kernel/debug/idts/DOMID
                         counters of a tunnel, shown by list";

#[derive(Debug, Subcommand)]
pub enum Command {
    Attach(Attach),
    Detach(Detach),
    List(List),
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
/// that lost one side's nodes, is marked as a leftover.
#[derive(Debug, Args)]
pub struct List {
    /// Print a JSON array
    #[arg(long)]
    pub json: bool,
    /// Remove leftovers first
    #[arg(long)]
    pub sweep: bool,
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
