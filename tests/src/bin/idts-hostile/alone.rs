// SPDX-License-Identifier: GPL-2.0
//! Deeds that have a test of their own, without matrix, victim and witness.

use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, Result};
use idts_core::role::Role;
use idts_core::wire::FrontMessage;
use serde_json::{json, Value};

use crate::cli::{Flap, Hold, LastWords};
use crate::player::{state, Player, Setup};
use crate::session::spare_open;
use crate::store::{HUNG, LOOK};
use crate::xen::Mapped;

/// Front: sets its tunnel up and ends it, in turn with offers that cannot be mapped, as often and as
/// fast as the back lets it. Tells when each began, in milliseconds.
pub fn flap(args: &Flap) -> Result<Value> {
    let mut player = Player::alone(Role::Front, args.guest, 1)?;
    let start = Instant::now();
    let mut began = Vec::new();
    for round in 0..args.rounds {
        let lies = match round % 2 {
            0 => vec![],
            _ => vec![("control-ref", Some("0".into()))],
        };
        player.store.wait_state(&[state::INIT_WAIT], HUNG)?;
        began.push(start.elapsed().as_millis() as u64);
        player.offer(&lies, true)?;
        player.store.switch(state::CLOSING)?;
        player.store.wait_state(&[state::CLOSED], HUNG)?;
        player.store.switch(state::CLOSED)?;
        eprintln!("moved {round}");
    }
    player.leave()?;
    Ok(json!({ "began": began }))
}

/// Front: says that it closes, and goes on opening channels to a port of the back's domain for as
/// long as nobody minds. Tells how many were opened.
pub fn last_words(args: &LastWords) -> Result<Value> {
    let mut player = Player::alone(Role::Front, args.guest, 1)?;
    let Setup::Up(mut session) = player.offer(&vec![], true)? else {
        bail!("an honest offer was refused");
    };
    session.add_segment(&mut player, 0)?;
    player.store.switch(state::CLOSING)?;
    let start = Instant::now();
    let mut asked = 0;
    while start.elapsed() < Duration::from_millis(args.ms) {
        // A number of its own each time; the slices are the same, for one is enough.
        let open = FrontMessage::Open(spare_open(10 + asked, args.port));
        asked += u32::from(session.try_send(&player, &open.encode()).is_some());
        session.pump(&mut player)?;
        thread::sleep(LOOK * 10);
    }
    player.store.wait_state(&[state::CLOSED], HUNG)?;
    player.store.switch(state::CLOSED)?;
    player.store.wait_state(&[state::INIT_WAIT], HUNG)?;
    player.leave()?;
    Ok(json!({ "asked": asked, "opened": session.opened }))
}

/// Back: maps a page that a guest granted, and keeps it until its input ends.
pub fn hold(args: &Hold) -> Result<Value> {
    let page = Mapped::new(args.guest, &[args.reference])?;
    eprintln!("ready");
    let _ = std::io::stdin().read(&mut [0]);
    drop(page);
    Ok(json!({}))
}
