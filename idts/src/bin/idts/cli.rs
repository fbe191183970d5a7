// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line: arguments, their checks, and all of `--help`.

mod values;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use idts::OnLag;

use values::{mode, ring, seconds, size, some_seconds};
pub use values::{Domain, Target};

/// Move data between Xen domains over memory that they share.
///
/// idts uses channels of /dev/idts: no network is involved. A tunnel must stand
/// between the two domains, see tunnel-mgr(8) in dom0.
///
/// An address is DOM:PORT. DOM is a domain's id, and dom0 is 0; or the alias that
/// `tunnel-mgr set` gave it, and dom0 is dom0; or, for root in dom0, the name of a domain,
/// unless it is an alias too. Ports below 1024 need CAP_NET_BIND_SERVICE to be listened on.
#[derive(Debug, Parser)]
#[command(name = "idts", version, max_term_width = 80, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  idts recv 7000 kernel.img                in dom0: take one file
  idts send kernel.img 0:7000 --wait 30    in a guest: send it, dom0 may be late
  idts echo 7001                           in a guest called u1
  idts ping u1:7001 -c 100                 in dom0: how long is a round trip?
  tar c /etc | idts cat 0:7002             a stream of unknown length
  idts subscribe news --lines              in any domains: print what comes
  vmstat -n 1 | idts publish news --lines  in one: tell it to all of them

Exit status:
  0  done
  1  failed; stderr says what happened and to whom, but nothing where standard
     output is a pipe that nobody reads, and data is lost
  2  wrong usage

Files:
  /dev/idts              the driver, for root and the group idts
  /run/xenstored/socket  (or /dev/xen/xenbus) looked up for domain names";

#[derive(Debug, Subcommand)]
pub enum Command {
    Send(Send),
    Recv(Recv),
    Cat(Cat),
    Echo(Echo),
    Ping(Ping),
    Publish(Publish),
    Subscribe(Subscribe),
    Info(Info),
}

/// Send a file to `idts recv`.
///
/// Done when the receiver says that the whole file stands at its side, with the
/// right checksum. FILE must be a regular file, for its length is told ahead,
/// and one that does not change meanwhile; use `idts cat` for streams.
#[derive(Debug, Args)]
pub struct Send {
    /// The file to send
    pub file: PathBuf,
    /// Where `idts recv` listens, DOM:PORT
    pub to: Target,
    /// Size of the ring that is written, 4K to 4M [default: the driver's]
    #[arg(long, value_name = "SIZE", value_parser = ring)]
    pub ring: Option<u32>,
    #[command(flatten)]
    pub wait: Wait,
    #[command(flatten)]
    pub patience: Patience,
    #[command(flatten)]
    pub output: Output,
}

/// Take one file from `idts send`.
///
/// Says `listening on PORT` on stderr once a sender can connect, takes one
/// file, and exits: that of the first who says what it sends. Others may be
/// connected meanwhile; who is no sender, or has not said so after half a
/// minute, is passed over. The bytes go to a temporary beside FILE that becomes
/// FILE only when length and checksum fit; a transfer that fails leaves none of
/// both, and an older FILE as it was. FILE's folder is looked up at the start
/// and never again; no symbolic link of another user than you and root is
/// followed.
///
/// A FILE that is a device or a pipe is written straight, and keeps what a
/// transfer that fails has written.
#[derive(Debug, Args)]
pub struct Recv {
    /// The port to listen on; 0 takes a free one
    pub port: u32,
    /// The file to write
    pub file: PathBuf,
    #[command(flatten)]
    pub only: Only,
    /// Refuse a file of more bytes; K, M, G or T after a number are units of 1024
    /// and its powers [default: what is free in the folder, or what the device holds]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max: Option<u64>,
    /// Give the file this mode, octal [default: 666 without the umask's bits, and no more
    /// than FILE has if it is there]
    #[arg(long, value_name = "MODE", value_parser = mode)]
    pub mode: Option<u32>,
    /// Write FILE even if it is a device or a pipe of another user than you and root
    #[arg(long)]
    pub device: bool,
    /// Refuse a sender that wants a larger ring, 4K to 4M [default: take any]
    #[arg(long, value_name = "SIZE", value_parser = ring)]
    pub max_ring: Option<u32>,
    #[command(flatten)]
    pub patience: Patience,
    #[command(flatten)]
    pub output: Output,
}

/// Copy standard input to a channel, and the channel to standard output.
///
/// At the end of the input the channel's sending half is closed; when the peer
/// closes its half, standard output is; idts ends when both are. What the peer
/// sends is written as it is, also to a terminal.
///
/// With --record the channel keeps the bounds of what is sent; both ends must
/// say so. Each read of the input is then one record, or each line by --lines.
#[derive(Debug, Args)]
pub struct Cat {
    /// Whom to connect to, DOM:PORT
    #[arg(required_unless_present = "listen", conflicts_with = "listen")]
    pub peer: Option<Target>,
    /// Wait for one peer on this port instead; 0 takes a free one
    #[arg(short, long, value_name = "PORT", conflicts_with = "wait")]
    pub listen: Option<u32>,
    /// With --listen, let only this domain connect: an id or, in dom0, an alias or a name
    #[arg(long, value_name = "DOM", requires = "listen")]
    pub from: Option<Domain>,
    /// A channel of records
    #[arg(long)]
    pub record: bool,
    /// One line is one record, without its newline; empty lines are left out. A
    /// newline in a record that comes is printed as \\n
    #[arg(long, requires = "record")]
    pub lines: bool,
    /// Size of each of both rings, 4K to 4M [default: the driver's]
    #[arg(long, value_name = "SIZE", value_parser = ring, conflicts_with = "listen")]
    pub ring: Option<u32>,
    #[command(flatten)]
    pub wait: Wait,
}

/// Send everything back to where it came from.
///
/// Says `listening on PORT` on stderr once peers can connect, then serves them
/// until it is ended by a signal: --peers at a time, and of these as many as
/// 64 MiB of buffers are enough for. What goes wrong with peers is said once a
/// minute at most.
#[derive(Debug, Args)]
pub struct Echo {
    /// The port to listen on; 0 takes a free one
    pub port: u32,
    /// Serve one peer, then exit
    #[arg(long)]
    pub once: bool,
    /// Serve at most that many at a time; more wait until one has ended
    #[arg(long, value_name = "N", default_value_t = 64, conflicts_with = "once",
          value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub peers: u32,
    #[command(flatten)]
    pub only: Only,
    /// Take channels of records
    #[arg(long)]
    pub record: bool,
    /// Refuse peers that want larger rings, 4K to 4M [default: take any]
    #[arg(long, value_name = "SIZE", value_parser = ring)]
    pub max_ring: Option<u32>,
    #[command(flatten)]
    pub patience: Patience,
}

/// Measure round trips to `idts echo`.
///
/// Each round trip writes BYTES and reads them back; what comes back is
/// compared with what was sent. What was measured is told at the end, also if
/// that is a failure or a signal.
#[derive(Debug, Args)]
pub struct Ping {
    /// Where `idts echo` listens, DOM:PORT
    pub peer: Target,
    /// How many round trips
    #[arg(short, long, default_value_t = 10, value_name = "N",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub count: u64,
    /// Bytes in each
    #[arg(short, long, default_value_t = 64, value_name = "BYTES",
          value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub size: u32,
    /// Seconds between two, fractions allowed
    #[arg(short, long, default_value = "0", value_name = "SECONDS", value_parser = seconds)]
    pub interval: Duration,
    /// Fail when a round trip takes longer, fractions allowed [default: no limit]
    #[arg(short = 'W', long, value_name = "SECONDS", value_parser = some_seconds)]
    pub timeout: Option<Duration>,
    /// Use a channel of records, each round trip one; so must the echo
    #[arg(long)]
    pub record: bool,
    /// Size of each of both rings, 4K to 4M [default: 64K or what BYTES need]
    #[arg(long, value_name = "SIZE", value_parser = ring)]
    pub ring: Option<u32>,
    #[command(flatten)]
    pub wait: Wait,
    #[command(flatten)]
    pub output: Output,
}

/// Send records to all the subscribers of a group.
///
/// Says `publishing to GROUP` on stderr once it does. Each read of the standard
/// input is one record, or each line by --lines; a subscriber gets what is
/// published after it joined. At the end of the input the subscribers come to
/// the end as well.
///
/// With --count the records are made instead: each begins with its number, from
/// 0, in 8 bytes, little-endian; each byte after that is its own offset, modulo
/// 256.
#[derive(Debug, Args)]
pub struct Publish {
    /// The group's name
    pub group: String,
    /// One line is one record, without its newline; empty lines are left out
    #[arg(long, conflicts_with = "count")]
    pub lines: bool,
    /// Let subscribers that ask for it hold this publisher up
    #[arg(long)]
    pub may_block: bool,
    /// Make that many records, read no input
    #[arg(short, long, value_name = "N")]
    pub count: Option<u64>,
    /// Bytes in each that is made
    #[arg(short, long, default_value_t = 64, value_name = "BYTES", requires = "count",
          value_parser = clap::value_parser!(u32).range(1..=4 << 20))]
    pub size: u32,
    /// Seconds between two that are made, fractions allowed
    #[arg(short, long, default_value = "0", value_name = "SECONDS", value_parser = seconds,
          requires = "count")]
    pub interval: Duration,
    /// Size of the ring that is written, 4K to 4M [default: the driver's]
    #[arg(long, value_name = "SIZE", value_parser = ring)]
    pub ring: Option<u32>,
    #[command(flatten)]
    pub wait: Wait,
    #[command(flatten)]
    pub output: Output,
}

/// Take the records of a group.
///
/// Says `subscribed to GROUP` on stderr once it is, and ends when the publisher
/// does. Records go to standard output as they are, or with a newline after each
/// by --lines, and then a newline in a record is printed as \\n; with --json they are only counted, unless --output is given.
///
/// The JSON object has: records and bytes that came; lag, records that were
/// missed; truncated, records that were cut; ended, which is `publisher`,
/// `count`, `reset` (thrown out, or the tunnel is gone), `signal` or `error`.
#[derive(Debug, Args)]
pub struct Subscribe {
    /// The group's name
    pub group: String,
    /// What to do when this subscriber is too slow and its ring is full
    #[arg(long, value_enum, default_value_t, value_name = "WAY")]
    pub on_lag: Lag,
    /// End after that many records
    #[arg(short, long, value_name = "N",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Print a newline after each record
    #[arg(long)]
    pub lines: bool,
    /// Write the records to this file, which is looked up at the start; no link, device or
    /// pipe of another user than you and root
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Size of the ring that is read, 4K to 4M [default: the driver's]
    #[arg(long, value_name = "SIZE", value_parser = ring)]
    pub ring: Option<u32>,
    #[command(flatten)]
    pub wait: Wait,
    /// Print one JSON object on standard output at the end
    #[arg(long)]
    pub json: bool,
}

/// The ways of `--on-lag`.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum Lag {
    /// Miss the record
    #[default]
    Drop,
    /// Be thrown out
    Disconnect,
    /// Hold the publisher up for a while, if it allows that, then be thrown out
    Block,
}

impl From<Lag> for OnLag {
    fn from(lag: Lag) -> Self {
        match lag {
            Lag::Drop => Self::Drop,
            Lag::Disconnect => Self::Disconnect,
            Lag::Block => Self::Block,
        }
    }
}

/// Tell which driver serves /dev/idts here.
#[derive(Debug, Args)]
pub struct Info {
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct Wait {
    /// Keep trying to connect for this long, fractions allowed
    #[arg(long, default_value = "0", value_name = "SECONDS", value_parser = seconds)]
    pub wait: Duration,
}

#[derive(Clone, Copy, Debug, Args)]
pub struct Patience {
    /// Fail when nothing moves for so long because of the peer, fractions allowed
    /// [default: no limit]
    #[arg(long, value_name = "SECONDS", value_parser = some_seconds)]
    pub timeout: Option<Duration>,
    /// Fail when a peer is not done with after so long, however much moves, fractions
    /// allowed [default: no limit]
    #[arg(long, value_name = "SECONDS", value_parser = some_seconds)]
    pub max_time: Option<Duration>,
}

#[derive(Debug, Args)]
pub struct Only {
    /// Let only this domain connect: an id or, in dom0, an alias or a name
    #[arg(id = "from", long = "from", value_name = "DOM")]
    pub domain: Option<Domain>,
}

#[derive(Debug, Args)]
pub struct Output {
    /// Print one JSON object on standard output at the end
    #[arg(long)]
    pub json: bool,
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
    fn cat_wants_exactly_one_of_peer_and_port() {
        assert!(Cli::try_parse_from(["idts", "cat"]).is_err());
        assert!(Cli::try_parse_from(["idts", "cat", "0:7", "--listen", "7"]).is_err());
        assert!(Cli::try_parse_from(["idts", "cat", "--listen", "7"]).is_ok());
        assert!(Cli::try_parse_from(["idts", "cat", "0:7", "--wait", "0.5"]).is_ok());
    }

    #[test]
    fn lines_of_a_channel_are_records() {
        assert!(Cli::try_parse_from(["idts", "cat", "0:7", "--lines"]).is_err());
        assert!(Cli::try_parse_from(["idts", "cat", "0:7", "--record", "--lines"]).is_ok());
        assert!(Cli::try_parse_from(["idts", "cat", "-l", "7", "--ring", "4K"]).is_err());
    }

    #[test]
    fn publish_takes_input_or_makes_records() {
        let parse = |rest: &[&str]| {
            let words = ["idts", "publish", "news"].iter().chain(rest);
            Cli::try_parse_from(words).is_ok()
        };
        assert!(parse(&[]) && parse(&["--lines"]));
        assert!(parse(&["--count", "5"]) && parse(&["--count", "5", "--size", "9"]));
        assert!(!parse(&["--size", "9"]) && !parse(&["--count", "5", "--lines"]));
    }
}
