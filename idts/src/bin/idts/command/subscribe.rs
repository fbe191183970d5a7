// SPDX-License-Identifier: MIT OR Apache-2.0
//! `idts subscribe`: the records of a group.

use std::fs::File;

use anyhow::{Context, Result};
use idts::Subscriber;
use rustix::io::Errno;
use serde_json::json;

use crate::cli::Subscribe;
use crate::open;
use crate::records::{self, Output, Tally};

pub fn run(args: &Subscribe) -> Result<()> {
    let mut output = output(args)?;
    let subscribe = idts::Subscribe::to(&args.group)
        .ring(args.ring.unwrap_or_default())
        .on_lag(args.on_lag.into());
    let subscriber = open::patiently(args.wait.wait, || Ok(subscribe.open()?))?;
    eprintln!("subscribed to {}", args.group);
    let longest = subscriber.info()?.longest_rx_record();
    let mut tally = Tally::default();
    let result = records::receive(
        |buffer| subscriber.recv(buffer),
        longest,
        args.count,
        &mut output,
        &mut tally,
    );
    if args.json {
        print(args, &subscriber, tally, ended(&result))?;
    }
    result.with_context(|| format!("the group {}", args.group))?;
    Ok(())
}

/// Where the records go: with --json standard output has another use.
fn output(args: &Subscribe) -> Result<Output> {
    let file = match &args.output {
        Some(path) => {
            Some(File::create(path).with_context(|| format!("cannot write {}", path.display()))?)
        }
        None if args.json => None,
        None => Some(Output::stdout()?),
    };
    Ok(Output::new(file, args.lines))
}

/// How it ended, in a word.
fn ended(result: &Result<bool>) -> &'static str {
    match result {
        Ok(true) => "publisher",
        Ok(false) => "count",
        Err(error) => match error.downcast_ref().and_then(Errno::from_io_error) {
            Some(Errno::CONNRESET | Errno::NOTCONN) => "reset",
            _ => "error",
        },
    }
}

fn print(args: &Subscribe, subscriber: &Subscriber, tally: Tally, ended: &str) -> Result<()> {
    let info = subscriber.info()?;
    let object = json!({
        "group": args.group, "records": tally.records, "bytes": tally.bytes,
        "lag": info.lag, "truncated": info.truncated, "ended": ended,
    });
    println!("{object}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn a_reset_is_told_from_other_errors() {
        let failed =
            |errno: Errno| -> Result<bool> { Err(io::Error::from(errno)).context("receiving") };
        assert_eq!(ended(&Ok(true)), "publisher");
        assert_eq!(ended(&Ok(false)), "count");
        assert_eq!(ended(&failed(Errno::CONNRESET)), "reset");
        assert_eq!(ended(&failed(Errno::PROTO)), "error");
    }
}
