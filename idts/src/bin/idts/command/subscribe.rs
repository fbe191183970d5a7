// SPDX-License-Identifier: MIT OR Apache-2.0
//! `idts subscribe`: the records of a group.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use idts::output::{print_account, say, Output};
use idts::Subscriber;
use rustix::io::Errno;
use serde_json::json;

use crate::cli::Subscribe;
use crate::open;
use crate::place::{self, Found};
use crate::records::{self, Kept, Place, Tally, Writer};
use crate::signals::before_the_end;

pub fn run(args: &Subscribe) -> Result<()> {
    let unwritable = || {
        let path = args.output.as_deref().unwrap_or(Path::new(""));
        format!("cannot write {}", path.display())
    };
    let target = args.output.as_deref().map(find).transpose();
    let target = target.with_context(unwritable)?;
    let subscribe = idts::Subscribe::to(&args.group)
        .ring(args.ring.unwrap_or_default())
        .on_lag(args.on_lag.into());
    let subscriber = Arc::new(open::patiently(args.wait.wait, || Ok(subscribe.open()?))?);
    say(format_args!("subscribed to {}", args.group));
    let longest = subscriber.info()?.longest_rx_record();
    let place = place(args, target).with_context(unwritable)?;
    let lines = args.lines;
    let mut writer = Writer { place, lines };
    let tally = Kept::default();
    if args.json {
        let (group, subscriber) = (args.group.clone(), Arc::clone(&subscriber));
        let tally = tally.clone();
        // Nobody can be told that nobody was told.
        let tell = move |tally| print(&group, &subscriber, tally, "signal").unwrap_or(());
        before_the_end(move |_| tally.tell(tell)).context("cannot wait for signals")?;
    }
    let result = records::receive(
        |buffer| subscriber.recv(buffer),
        longest,
        args.count,
        &mut writer,
        &tally,
    );
    let printed = match args.json {
        true => tally.tell(|tally| print(&args.group, &subscriber, tally, ended(&result))),
        false => Ok(()),
    };
    // A failure is the first thing to tell.
    result.with_context(|| format!("the group {}", args.group))?;
    printed
}

/// Where `--output` leads, looked up once.
enum Target {
    /// Nothing yet.
    New(place::Place),
    /// A file as it is: whether it can be written is known before the group is joined, and
    /// it loses nothing if that fails.
    File(File),
    /// A pipe or a device.
    Special(File),
}

fn find(path: &Path) -> io::Result<Target> {
    Ok(match place::find(path, false)? {
        Found::Special(file) => Target::Special(file),
        Found::Place(place) => match place.open_as_it_is()? {
            Some(file) => Target::File(file),
            None => Target::New(place),
        },
    })
}

impl Target {
    fn open(self) -> io::Result<File> {
        match self {
            Self::New(place) => place.make(),
            Self::File(file) => file.set_len(0).map(|()| file),
            Self::Special(file) => Ok(file),
        }
    }
}

/// With --json standard output has another use.
fn place(args: &Subscribe, target: Option<Target>) -> io::Result<Place> {
    Ok(match target {
        Some(target) => Place::File(Output::File(target.open()?)),
        None if args.json => Place::Nowhere,
        None => Place::Stdout(Output::Stdout),
    })
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

fn print(group: &str, subscriber: &Subscriber, tally: Tally, ended: &str) -> Result<()> {
    let info = subscriber.info()?;
    let object = json!({
        "group": group, "records": tally.records, "bytes": tally.bytes,
        "lag": info.lag, "truncated": info.truncated, "ended": ended,
    });
    Ok(print_account(object)?)
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
