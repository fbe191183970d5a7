// SPDX-License-Identifier: MIT OR Apache-2.0
//! `idts publish`: records to all the subscribers of a group.

use std::time::Instant;

use anyhow::{Context, Result};
use idts::output::{print_account, say, Unwritten};
use idts::Publisher;
use serde_json::json;

use crate::cli::Publish;
use crate::input::{Input, Pieces};
use crate::open;
use crate::records::{Kept, Made, Tally};
use crate::signals::before_the_end;

pub fn run(args: &Publish) -> Result<()> {
    let publish = idts::Publish::to(&args.group)
        .ring(args.ring.unwrap_or_default())
        .may_block(args.may_block);
    let publisher = open::patiently(args.wait.wait, || Ok(publish.open()?))?;
    say(format_args!("publishing to {}", args.group));
    let started = Instant::now();
    let tally = Kept::default();
    if args.output.json {
        let (group, tally) = (args.group.clone(), tally.clone());
        // Nobody can be told that nobody was told.
        let tell = move |tally| print_json(&group, tally, started).unwrap_or(());
        before_the_end(move |_| tally.tell(tell)).context("cannot wait for signals")?;
    }
    match args.count {
        Some(count) => send_made(&publisher, args, count, &tally),
        None => send_input(&publisher, args.lines, &tally),
    }
    .with_context(|| format!("the group {}, record {}", args.group, tally.get().records))?;
    if args.output.json {
        tally.tell(|tally| print_json(&args.group, tally, started))?;
    }
    Ok(())
}

fn print_json(group: &str, tally: Tally, started: Instant) -> Result<(), Unwritten> {
    print_account(json!({
        "group": group, "records": tally.records, "bytes": tally.bytes,
        "seconds": started.elapsed().as_secs_f64(),
    }))
}

fn send_made(publisher: &Publisher, args: &Publish, count: u64, tally: &Kept) -> Result<()> {
    let mut made = Made::of_size(args.size as usize);
    for number in 0..count {
        if number > 0 && !args.interval.is_zero() {
            std::thread::sleep(args.interval);
        }
        send(publisher, made.number(number), tally)?;
    }
    Ok(())
}

fn send_input(publisher: &Publisher, lines: bool, tally: &Kept) -> Result<()> {
    let longest = publisher.info()?.longest_tx_record();
    let mut input = Input::stdin(if lines {
        Pieces::Lines(longest)
    } else {
        Pieces::Reads(longest)
    })?;
    while let Some(record) = input.next(publisher)? {
        send(publisher, record, tally)?;
    }
    Ok(())
}

fn send(publisher: &Publisher, record: &[u8], tally: &Kept) -> Result<()> {
    publisher.send(record).context("sending")?;
    tally.add(record);
    Ok(())
}
