// SPDX-License-Identifier: GPL-2.0
//! The command line of the exerciser.

use clap::{Args, Parser, Subcommand};
use idts::Address;

/// Uses /dev/idts in one way, and reports what happened as JSON.
#[derive(Parser)]
#[command(name = "idts-exercise")]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Subcommand)]
pub enum Verb {
    /// Sends the pattern: so many bytes, or until something breaks
    Send(Send),
    /// Takes one stream and compares it with the pattern
    Recv(Recv),
    /// Opens many channels, then moves data on all of them, both ways
    Many(Many),
    /// The other end of `many`
    ManyServe(ManyServe),
    /// Opens very many channels with small rings and one with large ones, waits for a line, then
    /// moves data on all of them, both ways
    Crowd(Crowd),
    /// The other end of `crowd`
    CrowdServe(CrowdServe),
    /// Opens and closes channels in turns, and counts what the kernel did for it
    Cycle(Cycle),
    /// The other end of `cycle`
    CycleServe(CycleServe),
    /// Waits by poll or epoll alone: for bytes, for room
    Poll(Poll),
    /// The other end of `poll`
    PollServe(PollServe),
    /// Takes a stream without blocking, under a cap
    Capped(Capped),
    /// Makes each system call once, on a stream
    Calls(Calls),
    /// The other end of `calls`
    CallsServe(CallsServe),
    /// Sends records of all sizes
    Records(Calls),
    /// The other end of `records`
    RecordsServe(CallsServe),
    /// Gives up a connect to this domain that stands still
    RaceHome(Race),
    /// Connects right after a connect that was refused, and waits for what comes then
    RaceNumber(RaceNumber),
    /// Asks and takes the answers in one call each
    Transact(Calls),
    /// The other end of `transact`
    TransactServe(CallsServe),
    /// Publishes records of these lengths once a line came
    GroupPublish(GroupPublish),
    /// Takes all records of a group
    GroupSubscribe(GroupSubscribe),
    /// Notes how a channel looks whose peer closed it
    Hangup(Hangup),
    /// The other end of `hangup`
    HangupServe(HangupServe),
    /// Writes from a buffer that is not there before a line comes on standard input
    FaultWrite(Fault),
    /// Reads into such a buffer
    FaultRead(Fault),
    /// Tries every call against everything
    Table(Table),
    /// The other end of `table`, until a line comes on standard input
    TableServe(CallsServe),
    /// Connects, and notes what came of it
    Connect(Connect),
    /// Listens, and notes what came of it
    Listen(Listen),
    /// Makes many of something until one fails, and keeps them until a line comes on standard input
    Hold(Hold),
}

#[derive(Args)]
pub struct Send {
    pub to: Address,
    /// How many; without it until something breaks
    #[arg(long)]
    pub bytes: Option<u64>,
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Bytes of one write
    #[arg(long, default_value_t = 256 << 10)]
    pub chunk: usize,
}

#[derive(Args)]
pub struct Recv {
    pub port: u32,
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Bytes of one read
    #[arg(long, default_value_t = 256 << 10)]
    pub chunk: usize,
}

#[derive(Args)]
pub struct Many {
    pub to: Address,
    #[arg(long, default_value_t = 16)]
    pub channels: u64,
    /// In each direction of each channel
    #[arg(long)]
    pub bytes: u64,
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Size of the rings
    #[arg(long, default_value_t = 0)]
    pub ring: u32,
}

#[derive(Args)]
pub struct ManyServe {
    pub port: u32,
    #[arg(long, default_value_t = 16)]
    pub channels: u64,
    #[arg(long)]
    pub bytes: u64,
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

#[derive(Args)]
pub struct Crowd {
    pub to: Address,
    /// With small rings
    #[arg(long)]
    pub channels: u64,
    /// Size of the small rings
    #[arg(long, default_value_t = 4096)]
    pub ring: u32,
    /// Size of the rings of one channel more; 0: there is none
    #[arg(long, default_value_t = 0)]
    pub big_ring: u32,
    /// In each direction of each channel
    #[arg(long)]
    pub bytes: u64,
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

#[derive(Args)]
pub struct CrowdServe {
    pub port: u32,
    /// All of them
    #[arg(long)]
    pub channels: u64,
    #[arg(long)]
    pub bytes: u64,
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

#[derive(Args)]
pub struct Cycle {
    pub to: Address,
    #[arg(long)]
    pub count: u64,
    /// Size of the rings of what is opened and closed
    #[arg(long, default_value_t = 4096)]
    pub ring: u32,
    /// Size of the rings of what stays open, if another
    #[arg(long)]
    pub anchor_ring: Option<u32>,
    /// Counts calls
    #[arg(long)]
    pub trace: bool,
}

#[derive(Args)]
pub struct CycleServe {
    pub port: u32,
    #[arg(long)]
    pub count: u64,
    #[arg(long)]
    pub trace: bool,
}

#[derive(Args)]
pub struct Poll {
    pub to: Address,
    #[arg(long, default_value_t = 100)]
    pub rounds: u64,
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// By an edge-triggered epoll that is set up once
    #[arg(long)]
    pub edge: bool,
}

#[derive(Args)]
pub struct PollServe {
    pub port: u32,
    #[arg(long, default_value_t = 100)]
    pub rounds: u64,
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    #[arg(long)]
    pub edge: bool,
}

#[derive(Args)]
pub struct Capped {
    pub port: u32,
    /// How many
    #[arg(long)]
    pub bytes: u64,
    /// By an edge-triggered epoll that is set up once
    #[arg(long)]
    pub edge: bool,
}

#[derive(Args)]
pub struct Calls {
    pub to: Address,
}

#[derive(Args)]
pub struct CallsServe {
    pub port: u32,
}

#[derive(Args)]
pub struct GroupPublish {
    pub group: String,
    pub sizes: Vec<usize>,
}

#[derive(Args)]
pub struct GroupSubscribe {
    pub group: String,
    #[arg(long, default_value_t = 0)]
    pub ring: u32,
}

#[derive(Args)]
pub struct Hangup {
    pub to: Address,
    /// The peer leaves data unread
    #[arg(long)]
    pub unread: bool,
}

#[derive(Args)]
pub struct HangupServe {
    pub port: u32,
    #[arg(long)]
    pub unread: bool,
    /// Ends both directions and keeps the channel until a line comes
    #[arg(long)]
    pub keep: bool,
}

#[derive(Args)]
pub struct Fault {
    pub to: Address,
}

#[derive(Args)]
pub struct Table {
    pub to: Address,
    /// An address in a domain that answers nobody
    #[arg(long)]
    pub silent: Address,
    /// The other end is this domain
    #[arg(long)]
    pub home: bool,
    /// Only the cells whose row and column hold this
    #[arg(long)]
    pub only: Option<String>,
}

#[derive(Args)]
pub struct Connect {
    pub to: Address,
    #[arg(long, default_value_t = 0)]
    pub timeout_ms: u64,
    /// Does not wait, but polls
    #[arg(long)]
    pub nonblock: bool,
    #[arg(long, default_value_t = 0)]
    pub ring: u32,
    /// Opens so many, and keeps them until a line comes on standard input
    #[arg(long, conflicts_with = "nonblock")]
    pub hold: Option<usize>,
}

#[derive(Args)]
pub struct Listen {
    pub port: u32,
    /// Connections that may wait
    #[arg(long, default_value_t = 0)]
    pub backlog: u32,
    /// Keeps listening, accepts nobody, until a line comes on standard input
    #[arg(long)]
    pub hold: bool,
    /// Without any capability
    #[arg(long)]
    pub unprivileged: bool,
    /// The largest ring that is taken
    #[arg(long, default_value_t = 0)]
    pub max_ring: u32,
    /// Listens with the structure of the first driver, of 8 bytes
    #[arg(long, conflicts_with = "max_ring")]
    pub first: bool,
    /// As this user
    #[arg(long)]
    pub user: Option<u32>,
}

/// Without a name or an address: open files.
#[derive(Args)]
pub struct Hold {
    /// So many at most
    pub count: usize,
    /// Subscriptions to this group
    #[arg(long, conflicts_with = "to")]
    pub group: Option<String>,
    /// Connections to this address
    #[arg(long)]
    pub to: Option<Address>,
    /// Connections that are asked for and not waited for; what is refused at once fails
    #[arg(long, requires = "to")]
    pub nonblock: bool,
    /// Size of the rings
    #[arg(long, default_value_t = 0)]
    pub ring: u32,
    /// As this user
    #[arg(long)]
    pub user: Option<u32>,
    /// In this cgroup
    #[arg(long)]
    pub cgroup: Option<String>,
}

#[derive(Args)]
pub struct Race {
    pub port: u32,
    #[arg(long, default_value_t = 5)]
    pub rounds: u32,
}

#[derive(Args)]
pub struct RaceNumber {
    /// Where nobody listens, in another guest
    pub nobody: Address,
    /// Where everything is answered, in dom0
    pub echo: Address,
    /// For how long the module stands still
    pub delay_ms: u32,
    #[arg(long, default_value_t = 5)]
    pub rounds: u32,
}
