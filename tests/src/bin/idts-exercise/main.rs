// SPDX-License-Identifier: GPL-2.0
//! What the tests run inside domains: each verb uses `/dev/idts` in one way, through the client
//! crate, and prints what it met as one JSON object.
//!
//! Exit codes: 0 there is a report, whatever it says; 1 there is none, or bytes were not those that
//! the pattern wants; 2 usage. The test judges the report, this program only notes.

mod calls;
mod capped;
mod cli;
mod crowd;
mod cycle;
mod fault;
mod hangup;
mod hold;
mod many;
mod pattern;
mod polling;
mod probe;
mod race;
mod stream;
mod table;
mod trace;
mod transact;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use serde_json::Value;

use cli::{Cli, Verb};

fn main() -> ExitCode {
    match run(Cli::parse().verb) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("idts-exercise: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<Value> {
    match verb {
        Verb::Send(args) => stream::send(&args),
        Verb::Recv(args) => stream::recv(&args),
        Verb::Many(args) => many::connect(&args),
        Verb::ManyServe(args) => many::serve(&args),
        Verb::Crowd(args) => crowd::connect(&args),
        Verb::CrowdServe(args) => crowd::serve(&args),
        Verb::Cycle(args) => cycle::connect(&args),
        Verb::CycleServe(args) => cycle::serve(&args),
        Verb::Poll(args) => polling::client(&args),
        Verb::PollServe(args) => polling::serve(&args),
        Verb::Capped(args) => capped::serve(&args),
        Verb::Calls(args) => calls::client(&args),
        Verb::CallsServe(args) => calls::serve(&args),
        Verb::Records(args) => calls::records(&args),
        Verb::RecordsServe(args) => calls::records_serve(&args),
        Verb::RaceHome(args) => race::home(&args),
        Verb::RaceNumber(args) => race::number(&args),
        Verb::Transact(args) => transact::client(&args),
        Verb::TransactServe(args) => transact::serve(&args),
        Verb::GroupPublish(args) => calls::publish(&args),
        Verb::GroupSubscribe(args) => calls::subscribe(&args),
        Verb::Hangup(args) => hangup::client(&args),
        Verb::HangupServe(args) => hangup::serve(&args),
        Verb::FaultWrite(args) => fault::write(&args),
        Verb::FaultRead(args) => fault::read(&args),
        Verb::Table(args) => table::client(&args),
        Verb::TableServe(args) => table::hand::serve(&args),
        Verb::Connect(args) => probe::connect(&args),
        Verb::Listen(args) => probe::listen(&args),
        Verb::Hold(args) => hold::hold(&args),
    }
}
