// SPDX-License-Identifier: GPL-2.0
//! Every call of `/dev/idts` against everything that may happen to it: a table whose cells are
//! checks, or say why there is nothing to check. A call or a column without a cell does not
//! compile; that every ioctl of the header is a row is the test's to see.

mod data;
mod everyday;
pub mod hand;
mod quick;
mod raw;
mod setup;
mod uring;

use anyhow::{ensure, Context, Result};
use idts::Address;
use serde_json::{json, Value};

use crate::cli;
use hand::Far;

/// The rows: the ioctls by their names in idts.h, then the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Version,
    Bind,
    Listen,
    Accept,
    Connect,
    Shutdown,
    GetInfo,
    GetError,
    Publish,
    Subscribe,
    Transact,
    Fionread,
    Read,
    Write,
    Poll,
}

const CALLS: [Call; 15] = [
    Call::Version,
    Call::Bind,
    Call::Listen,
    Call::Accept,
    Call::Connect,
    Call::Shutdown,
    Call::GetInfo,
    Call::GetError,
    Call::Publish,
    Call::Subscribe,
    Call::Transact,
    Call::Fionread,
    Call::Read,
    Call::Write,
    Call::Poll,
];

impl Call {
    fn name(self) -> &'static str {
        match self {
            Self::Version => "VERSION",
            Self::Bind => "BIND",
            Self::Listen => "LISTEN",
            Self::Accept => "ACCEPT",
            Self::Connect => "CONNECT",
            Self::Shutdown => "SHUTDOWN",
            Self::GetInfo => "GET_INFO",
            Self::GetError => "GET_ERROR",
            Self::Publish => "PUBLISH",
            Self::Subscribe => "SUBSCRIBE",
            Self::Transact => "TRANSACT",
            Self::Fionread => "FIONREAD",
            Self::Read => "read",
            Self::Write => "write",
            Self::Poll => "poll",
        }
    }
}

/// The columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// A second thread in the same call on the same descriptor.
    Thread,
    /// A signal, with SA_RESTART and without.
    Signal,
    /// A child that has the descriptor too.
    Fork,
    /// A peer that is gone.
    Closed,
    /// O_NONBLOCK, and the same for one call.
    Nonblock,
    /// A structure or a buffer of which only the beginning is there.
    HalfMapped,
    /// A descriptor that was opened to read alone, or to write alone.
    Mode,
}

const COLUMNS: [(Against, &str); 7] = [
    (Against::Thread, "thread"),
    (Against::Signal, "signal"),
    (Against::Fork, "fork"),
    (Against::Closed, "closed"),
    (Against::Nonblock, "nonblock"),
    (Against::HalfMapped, "half-mapped"),
    (Against::Mode, "mode"),
];

/// What a cell turned out to be.
pub enum Cell {
    Holds,
    /// There is nothing to check, for this reason.
    Empty(&'static str),
}

/// Where a check runs.
pub struct Ground {
    pub far: Far,
    /// Somebody who answers nobody.
    pub silent: Address,
    /// The far end is this domain.
    pub home: bool,
}

fn cell(ground: &Ground, call: Call, against: Against) -> Result<Cell> {
    match call {
        Call::Version
        | Call::Bind
        | Call::Listen
        | Call::Shutdown
        | Call::GetInfo
        | Call::GetError
        | Call::Fionread => quick::cell(ground, call, against),
        Call::Accept => setup::accept(ground, against),
        Call::Connect => setup::connect(ground, against),
        Call::Publish => setup::join(true, against),
        Call::Subscribe => setup::join(false, against),
        Call::Transact => data::transacts(ground, against),
        Call::Read => data::reads(ground, against),
        Call::Write => data::writes(ground, against),
        Call::Poll => data::polls(ground, against),
    }
}

/// Runs one check in a process of its own, and notes how it ended.
fn note(
    args: &cli::Table,
    row: &str,
    column: &str,
    check: impl FnOnce(&Ground) -> Result<Cell>,
) -> Value {
    let mut state = "holds";
    let mut why = String::new();
    let result = raw::in_child(|| {
        let ground = Ground {
            far: Far::new(args.to).context("the far end")?,
            silent: args.silent,
            home: args.home,
        };
        match check(&ground)? {
            Cell::Holds => Ok(()),
            Cell::Empty(reason) => Err(anyhow::anyhow!("empty: {reason}")),
        }
    });
    if let Err(error) = result {
        why = format!("{error:#}");
        state = "fails";
        if let Some(reason) = why.strip_prefix("empty: ") {
            why = reason.to_string();
            state = "empty";
        }
    }
    eprintln!("{row} {column}: {state} {why}");
    json!({ "row": row, "column": column, "state": state, "why": why })
}

pub fn client(args: &cli::Table) -> Result<Value> {
    let wanted = |row: &str, column: &str| {
        let name = format!("{row} {column}");
        args.only
            .as_ref()
            .is_none_or(|only| name.contains(only.as_str()))
    };
    let mut cells = Vec::new();
    for call in CALLS {
        for (against, column) in COLUMNS {
            if wanted(call.name(), column) {
                let check = |ground: &Ground| cell(ground, call, against);
                cells.push(note(args, call.name(), column, check));
            }
        }
    }
    for (name, check) in everyday::CHECKS {
        if wanted("everyday", name) {
            let check = |ground: &Ground| check(ground).map(|()| Cell::Holds);
            cells.push(note(args, "everyday", name, check));
        }
    }
    ensure!(!cells.is_empty(), "there is no such cell");
    Ok(json!({ "cells": cells, "columns": COLUMNS.len(), "everyday": everyday::CHECKS.len() }))
}
