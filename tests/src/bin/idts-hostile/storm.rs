// SPDX-License-Identifier: GPL-2.0
//! Storms of events that bring nothing: how often a peer may disturb the other side is the other
//! side's to bound, so all that is done here is to send as many as one can.

use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use clap::{Args, ValueEnum};
use idts_core::mem::SharedMem;
use idts_core::role::Role;
use idts_core::wire::CHANNELS;
use serde_json::{json, Value};

use crate::cli;
use crate::player::Player;
use crate::session::{Session, Wait};

/// What is wrong with the events.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Kind {
    /// A rule was broken, and the tunnel is over
    Dead,
    /// The control ring's mark, and no message
    Control,
    /// Marks of channels that are open, and no byte
    Idle,
    /// Marks of all numbers, with a message for each event
    Messages,
}

#[derive(Args)]
pub struct Storm {
    /// The guest's id
    pub guest: u32,
    pub kind: Kind,
    /// Events that are sent, if there is time for them
    #[arg(long, default_value_t = 20_000)]
    pub events: u64,
    /// How long at most
    #[arg(long, default_value_t = 5)]
    pub seconds: u64,
}

/// Sends events as the front of a tunnel that stands.
pub fn run(args: &Storm) -> Result<Value> {
    let play = cli::Play {
        guest: args.guest,
        attacks: 0,
        seed: 1,
        only: String::new(),
    };
    let mut player = Player::new(Role::Front, &play)?;
    let mut session = player.begin(None).context("a tunnel")?;
    if matches!(args.kind, Kind::Dead) {
        session.send(&mut player, [99; 16])?;
        if session.wait_only_broken(&mut player)? != Wait::Broken {
            bail!("message 99 broke no rule");
        }
    }
    // Whoever waits at the other end waits by now.
    std::thread::sleep(Duration::from_millis(300));
    eprintln!("ready");
    wait_for_line()?;
    let start = Instant::now();
    let mut sent = 0;
    while sent < args.events && start.elapsed().as_secs() < args.seconds {
        sent += u64::from(one(&mut player, &mut session, args.kind)?);
    }
    let ms = start.elapsed().as_millis() as u64;
    eprintln!("over");
    // The counters go with the tunnel: time for those who look at them.
    wait_for_line()?;
    let dead = matches!(args.kind, Kind::Dead);
    let answered = dead || session.ping(&mut player)? == Wait::Done;
    player.end(Some(session))?;
    player.leave()?;
    Ok(json!({ "sent": sent, "ms": ms, "answered": answered }))
}

fn wait_for_line() -> Result<()> {
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}

/// Sends an event; `false`: none could be sent by the rules of this storm.
fn one(player: &mut Player, session: &mut Session, kind: Kind) -> Result<bool> {
    let bell = player.role.tx_doorbell(0);
    match kind {
        Kind::Dead | Kind::Control => bell.ring(&session.page, 0),
        Kind::Idle => {
            for chan in &session.chans {
                bell.ring(&session.page, chan.id.id);
            }
        }
        Kind::Messages => {
            for word in 0..CHANNELS / 64 {
                session.page.or64(bell.words + 8 * word, u64::MAX);
            }
            session.page.or64(bell.summary, u64::MAX);
            session.pump(player)?;
            return Ok(session.try_ping(player));
        }
    }
    player.events.notify(session.port);
    Ok(true)
}
