// SPDX-License-Identifier: GPL-2.0
//! The table: every command of `idts` and `tunnel-mgr`, each way in which it uses its outputs or
//! waits, and everything that all of them are tried against. A cell is a check, or says why it is
//! none.

use rustix::process::Signal;

use crate::outputs::Kind;

/// What a command has for its standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prints {
    /// Nothing.
    Nothing,
    /// What can be asked for again: a reader who goes has had enough.
    Report,
    /// Data of a peer, or the account of a transfer: lost if it is not read.
    Data,
}

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// By itself.
    Itself,
    /// The same once its peer comes.
    WithPeer,
    /// By a signal alone.
    Signalled,
    /// The same, but SIGHUP has it read a file again.
    Reloading,
}

/// The other end of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// There is none.
    None,
    /// Its arguments, and whether it gets input.
    Is(&'static str, bool),
    /// The same, once somebody has subscribed.
    Publishes(&'static str),
}

/// What a command needs of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// The driver.
    Driver,
    /// Xenstore.
    Store,
    /// Both.
    Both,
}

/// A command as it is tried.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its arguments; no blanks in any.
    pub args: &'static str,
    /// What it needs.
    pub needs: Needs,
    /// Whether it gets input.
    pub input: bool,
    /// What goes to its standard output.
    pub prints: Prints,
    /// How it ends.
    pub ends: Ends,
    /// The other end, if it needs one.
    pub peer: Peer,
}

impl Row {
    /// Its verb, or option.
    pub fn verb(&self) -> &'static str {
        self.args.split(' ').next().unwrap_or_default()
    }

    /// Whether it needs what is taken away in a column.
    pub fn needs(&self, column: Column) -> bool {
        match column {
            Column::Driverless => matches!(self.needs, Needs::Driver | Needs::Both),
            Column::Storeless => matches!(self.needs, Needs::Store | Needs::Both),
            Column::Forbidden => self.needs != Needs::Nothing,
            _ => false,
        }
    }
}

const fn row(args: &'static str, needs: Needs, prints: Prints, ends: Ends, peer: Peer) -> Row {
    Row {
        args,
        needs,
        input: false,
        prints,
        ends,
        peer,
    }
}

const fn fed(args: &'static str, needs: Needs, prints: Prints, ends: Ends, peer: Peer) -> Row {
    Row {
        input: true,
        ..row(args, needs, prints, ends, peer)
    }
}

use Ends::{Itself, Reloading, Signalled, WithPeer};
use Needs::{Both, Driver, Store};
use Prints::{Data, Nothing, Report};

const SENDER: Peer = Peer::Is("send out 0:7 --wait 60", false);
const RECEIVER: Peer = Peer::Is("recv 7 in", false);
const ECHO: Peer = Peer::Is("echo 7 --once", false);
const SILENT: Peer = Peer::Is("cat -l 8", false);

/// The rows of `idts`.
pub const IDTS: [Row; 25] = [
    row("--help", Needs::Nothing, Report, Itself, Peer::None),
    row("--version", Needs::Nothing, Report, Itself, Peer::None),
    row("ping --help", Needs::Nothing, Report, Itself, Peer::None),
    row("info", Driver, Report, Itself, Peer::None),
    row("info --json", Driver, Report, Itself, Peer::None),
    row(
        "send out 0:7 --wait 60",
        Driver,
        Nothing,
        WithPeer,
        RECEIVER,
    ),
    row(
        "send out 0:7 --wait 60 --json",
        Driver,
        Data,
        WithPeer,
        RECEIVER,
    ),
    row("send out 0:8", Driver, Nothing, Signalled, SILENT),
    row("recv 7 in", Driver, Nothing, WithPeer, SENDER),
    row("recv 7 in --json", Driver, Data, WithPeer, SENDER),
    fed(
        "cat 0:7 --wait 60",
        Driver,
        Data,
        WithPeer,
        Peer::Is("cat -l 7", true),
    ),
    fed(
        "cat -l 7",
        Driver,
        Data,
        WithPeer,
        Peer::Is("cat 0:7 --wait 60", true),
    ),
    fed(
        "cat 0:7 --wait 60 --record",
        Driver,
        Data,
        WithPeer,
        Peer::Is("cat -l 7 --record", true),
    ),
    row("cat 0:8", Driver, Data, Signalled, SILENT),
    row("echo 7", Driver, Nothing, Signalled, Peer::None),
    row(
        "echo 7 --once",
        Driver,
        Nothing,
        WithPeer,
        Peer::Is("ping 0:7 --wait 60", false),
    ),
    row("ping 0:7 --wait 60", Driver, Report, WithPeer, ECHO),
    row("ping 0:7 --wait 60 --json", Driver, Report, WithPeer, ECHO),
    row("ping 0:8", Driver, Report, Signalled, SILENT),
    fed("publish news", Driver, Nothing, Itself, Peer::None),
    row(
        "publish news --count 9",
        Driver,
        Nothing,
        Itself,
        Peer::None,
    ),
    row(
        "publish news --count 9 --json",
        Driver,
        Data,
        Itself,
        Peer::None,
    ),
    row(
        "publish news --count 999999 --interval 9",
        Driver,
        Nothing,
        Signalled,
        Peer::None,
    ),
    row(
        "subscribe news",
        Driver,
        Data,
        WithPeer,
        Peer::Publishes("publish news --count 99 --size 60000"),
    ),
    row(
        "subscribe news --json",
        Driver,
        Data,
        WithPeer,
        Peer::Publishes("publish news --count 99"),
    ),
];

/// The rows of `tunnel-mgr`, on a host whose domain u3 has a tunnel unless it is to be attached.
pub const TUNNEL_MGR: [Row; 21] = [
    row("--help", Needs::Nothing, Report, Itself, Peer::None),
    row("--version", Needs::Nothing, Report, Itself, Peer::None),
    row("set --help", Needs::Nothing, Report, Itself, Peer::None),
    row("attach u3 --wait 0", Store, Report, Itself, Peer::None),
    row(
        "attach u3 --wait 9999",
        Store,
        Report,
        Signalled,
        Peer::None,
    ),
    row(
        "attach u3 --if-absent --wait 0",
        Store,
        Report,
        Itself,
        Peer::None,
    ),
    row("detach u3", Store, Report, Itself, Peer::None),
    row("detach u3 --force", Store, Report, Itself, Peer::None),
    row(
        "detach u4 --wait 9999",
        Store,
        Report,
        Signalled,
        Peer::None,
    ),
    row("list", Store, Report, Itself, Peer::None),
    row("list --json", Store, Report, Itself, Peer::None),
    row("list --sweep", Store, Report, Itself, Peer::None),
    row("set u3", Store, Report, Itself, Peer::None),
    row("set u3 weight=2", Store, Nothing, Itself, Peer::None),
    row("set u3 weight=2 --json", Store, Report, Itself, Peer::None),
    row("scheduler", Store, Report, Itself, Peer::None),
    row("scheduler rr", Store, Nothing, Itself, Peer::None),
    row("stats", Both, Report, Itself, Peer::None),
    row("stats u3 --json", Both, Report, Itself, Peer::None),
    row(
        "watch --attach all --idle 60",
        Store,
        Nothing,
        Signalled,
        Peer::None,
    ),
    row(
        "watch --attach all --settings settings",
        Store,
        Nothing,
        Reloading,
        Peer::None,
    ),
];

/// What a command is tried against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// What its outputs are.
    Outputs([Kind; 2]),
    /// A signal, while it waits.
    Signal(Signal),
    /// One that whoever started it had ignored, as nohup and the shell's `&` have it.
    Ignored(Signal),
    /// There is no driver.
    Driverless,
    /// There is no xenstored.
    Storeless,
    /// Who runs it may use neither.
    Forbidden,
}

use Kind::{Closed, Full, Nonblocking, Read, Unread};

/// The columns of both.
pub const COLUMNS: [Column; 21] = [
    Column::Outputs([Read, Read]),
    Column::Outputs([Full, Read]),
    Column::Outputs([Read, Full]),
    Column::Outputs([Full, Full]),
    Column::Outputs([Unread, Read]),
    Column::Outputs([Read, Unread]),
    Column::Outputs([Unread, Unread]),
    Column::Outputs([Full, Unread]),
    Column::Outputs([Closed, Read]),
    Column::Outputs([Read, Closed]),
    Column::Outputs([Closed, Closed]),
    Column::Outputs([Nonblocking, Read]),
    Column::Outputs([Nonblocking, Nonblocking]),
    Column::Signal(Signal::HUP),
    Column::Signal(Signal::INT),
    Column::Signal(Signal::TERM),
    Column::Ignored(Signal::HUP),
    Column::Ignored(Signal::INT),
    Column::Driverless,
    Column::Storeless,
    Column::Forbidden,
];

/// Why a cell is no check; None if it is one.
pub fn why_not(row: &Row, column: Column) -> Option<&'static str> {
    let lasts = matches!(row.ends, Signalled | Reloading);
    match column {
        Column::Outputs(_) if lasts => {
            Some("it never ends by itself: its outputs have tests of their own")
        }
        Column::Signal(_) | Column::Ignored(_) if row.ends == Itself && row.prints == Nothing => {
            Some("it waits for nobody: it may have ended before any signal")
        }
        Column::Signal(Signal::HUP) if row.ends == Reloading => {
            Some("SIGHUP has it read its file again, which the tests of settings show")
        }
        Column::Driverless | Column::Storeless | Column::Forbidden
            if !row.needs(column) && row.ends != Itself =>
        {
            Some("it is as ever, for it does not need that, and as ever it waits")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No cell gets lost, whoever edits the table.
    #[test]
    fn cells_are_counted() {
        let count = |rows: &[Row]| {
            let cells = rows
                .iter()
                .flat_map(|row| COLUMNS.map(|column| (row, column)));
            let all = cells.clone().count();
            (
                all,
                cells
                    .filter(|(row, column)| why_not(row, *column).is_none())
                    .count(),
            )
        };
        assert_eq!(count(&IDTS), (525, 433));
        assert_eq!(count(&TUNNEL_MGR), (441, 374));
    }
}
