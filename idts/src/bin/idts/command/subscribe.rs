// SPDX-License-Identifier: MIT OR Apache-2.0
//! `idts subscribe`: the records of a group.

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use idts::output::{print as print_line, say, Output};
use idts::Subscriber;
use rustix::io::Errno;
use serde_json::json;

use crate::cli::Subscribe;
use crate::open;
use crate::records::{self, Place, Tally, Writer};

pub fn run(args: &Subscribe) -> Result<()> {
    let file = args.output.as_deref().map(open_as_it_is).transpose()?;
    let subscribe = idts::Subscribe::to(&args.group)
        .ring(args.ring.unwrap_or_default())
        .on_lag(args.on_lag.into());
    let subscriber = open::patiently(args.wait.wait, || Ok(subscribe.open()?))?;
    say(format_args!("subscribed to {}", args.group));
    let longest = subscriber.info()?.longest_rx_record();
    let place = place(args, file.flatten())?;
    let lines = args.lines;
    let mut writer = Writer { place, lines };
    let mut tally = Tally::default();
    let result = records::receive(
        |buffer| subscriber.recv(buffer),
        longest,
        args.count,
        &mut writer,
        &mut tally,
    );
    if args.json {
        print(args, &subscriber, tally, ended(&result))?;
    }
    result.with_context(|| format!("the group {}", args.group))?;
    Ok(())
}

/// Opens the file, if it is there, and leaves it as it is: whether it can be written is known
/// before the group is joined, and it loses nothing if that fails.
fn open_as_it_is(path: &Path) -> Result<Option<File>> {
    match File::options().write(true).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot write {}", path.display())),
    }
}

/// Where the records go: with --json standard output has another use. `file` is what was
/// there before.
fn place(args: &Subscribe, file: Option<File>) -> Result<Place> {
    let Some(path) = &args.output else {
        return Ok(if args.json {
            Place::Nowhere
        } else {
            Place::Stdout(Output::Stdout)
        });
    };
    let open = || match file {
        None => File::create(path),
        Some(file) => {
            if file.metadata()?.is_file() {
                file.set_len(0)?;
            }
            Ok(file)
        }
    };
    let file = open().with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Place::File(Output::File(file)))
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
    Ok(print_line(object)?)
}

#[cfg(test)]
mod tests {
    use super::*;

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
