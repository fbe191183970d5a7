// SPDX-License-Identifier: MIT OR Apache-2.0
//! `idts publish`: records to all the subscribers of a group.

use std::time::Instant;

use anyhow::{Context, Result};
use idts::output::{print_account, say};
use idts::Publisher;
use serde_json::json;

use crate::cli::Publish;
use crate::input::{Input, Pieces};
use crate::open;
use crate::records::{Made, Tally};

pub fn run(args: &Publish) -> Result<()> {
    let publish = idts::Publish::to(&args.group)
        .ring(args.ring.unwrap_or_default())
        .may_block(args.may_block);
    let publisher = open::patiently(args.wait.wait, || Ok(publish.open()?))?;
    say(format_args!("publishing to {}", args.group));
    let started = Instant::now();
    let mut tally = Tally::default();
    match args.count {
        Some(count) => send_made(&publisher, args, count, &mut tally),
        None => send_input(&publisher, args.lines, &mut tally),
    }
    .with_context(|| format!("the group {}, record {}", args.group, tally.records))?;
    if args.output.json {
        let object = json!({
            "group": args.group, "records": tally.records, "bytes": tally.bytes,
            "seconds": started.elapsed().as_secs_f64(),
        });
        print_account(object)?;
    }
    Ok(())
}

fn send_made(publisher: &Publisher, args: &Publish, count: u64, tally: &mut Tally) -> Result<()> {
    let mut made = Made::of_size(args.size as usize);
    for number in 0..count {
        if number > 0 && !args.interval.is_zero() {
            std::thread::sleep(args.interval);
        }
        send(publisher, made.number(number), tally)?;
    }
    Ok(())
}

fn send_input(publisher: &Publisher, lines: bool, tally: &mut Tally) -> Result<()> {
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

fn send(publisher: &Publisher, record: &[u8], tally: &mut Tally) -> Result<()> {
    publisher.send(record).context("sending")?;
    tally.add(record);
    Ok(())
}
