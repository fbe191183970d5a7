// SPDX-License-Identifier: GPL-2.0
//! One side of the tunnel, played by the rules: set-up, messages, channels, end. What breaks the
//! rules is in [`crate::attack`].

use anyhow::{bail, Context, Result};
use idts_core::control::ControlRing;
use idts_core::role::Role;
use idts_core::wire::{FIRST_WINDOWS, WINDOW_PAGES};

use crate::cli;
use crate::rng::Rng;
use crate::session::Session;
use crate::store::{Store, HUNG};
use crate::xen::{Events, Granted, Mapped};

/// Xenbus states.
pub mod state {
    pub const INITIALISING: u32 = 1;
    pub const INIT_WAIT: u32 = 2;
    pub const INITIALISED: u32 = 3;
    pub const CONNECTED: u32 = 4;
    pub const CLOSING: u32 = 5;
    pub const CLOSED: u32 = 6;
}

/// Pages of the first segment, and of one more that attacks may add.
pub const FIRST_PAGES: usize = (FIRST_WINDOWS * WINDOW_PAGES) as usize;
pub const MORE_PAGES: usize = WINDOW_PAGES as usize;
/// Whoever does not answer for so long is asked by other means.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// What a set-up came to.
pub enum Setup {
    Up(Box<Session>),
    Refused,
}

/// Nodes that are written otherwise: a name, and the text, or none.
pub type Lies = Vec<(&'static str, Option<String>)>;

/// Who plays.
pub struct Player {
    pub role: Role,
    pub guest: u32,
    pub peer: u32,
    pub store: Store,
    pub events: Events,
    pub rng: Rng,
    /// Front: the control page, and the pages of two segments.
    pub pages: Option<(Granted, Granted)>,
    pub port: u32,
    /// The device is gone; dom0 has to attach it anew.
    pub lost: bool,
    /// Back: pages of tunnels that are over, still mapped.
    pub kept: Vec<Mapped>,
    /// Nodes that who plays by the rules does not write here, for he has one queue, and that may be
    /// there.
    left: Vec<&'static str>,
    /// Number of the set-up; what the honest kernel says is kept by it.
    pub setup: u64,
}

impl Player {
    pub fn new(role: Role, args: &cli::Play) -> Result<Self> {
        let mut player = Self::alone(role, args.guest, args.seed)?;
        player.store.mark(0)?;
        if role == Role::Front && player.store.peer_number("state") != state::INIT_WAIT {
            // Somebody else left it so.
            player.store.attach_anew()?;
        }
        Ok(player)
    }

    /// Without a witness.
    pub fn alone(role: Role, guest: u32, seed: u64) -> Result<Self> {
        let events = Events::open()?;
        let peer = match role {
            Role::Front => 0,
            Role::Back => guest,
        };
        let (mut pages, mut port) = (None, 0);
        if role == Role::Front {
            let data = Granted::new(peer, FIRST_PAGES + MORE_PAGES, true)?;
            pages = Some((Granted::new(peer, 1, true)?, data));
            port = events.offer(peer)?;
        }
        Ok(Self {
            role,
            guest,
            peer,
            store: Store::open(role, guest, 0)?,
            events,
            rng: Rng::new(seed),
            pages,
            port,
            lost: false,
            kept: Vec::new(),
            // Of the real back, or of a player before.
            left: vec![
                "min-version",
                "max-version",
                "features",
                "max-queues",
                "queues",
                "event-channel-1",
            ],
            setup: 0,
        })
    }

    /// Publishes what this side publishes, but for `lies`, and waits for the other side's verdict.
    /// `connect` is false for who then does not go on himself.
    pub fn offer(&mut self, lies: &Lies, connect: bool) -> Result<Setup> {
        match self.role {
            Role::Front => self.offer_front(lies, connect),
            Role::Back => self.offer_back(lies),
        }
    }

    /// Writes what is `honest`, but for `lies`, and takes away what else was written before.
    fn publish(&mut self, honest: &[(&'static str, u32)], lies: &Lies) -> Result<()> {
        for (node, value) in honest {
            if lies.iter().all(|(lie, _)| lie != node) {
                self.store.write(node, &value.to_string())?;
            }
        }
        for node in std::mem::take(&mut self.left) {
            if lies.iter().all(|(lie, _)| *lie != node)
                && honest.iter().all(|(own, _)| *own != node)
            {
                self.store.remove(node)?;
            }
        }
        for (node, text) in lies {
            match text {
                Some(text) => self.store.write(node, text)?,
                None => self.store.remove(node)?,
            }
            self.left.push(node);
        }
        Ok(())
    }

    fn offer_front(&mut self, lies: &Lies, connect: bool) -> Result<Setup> {
        self.store.wait_state(&[state::INIT_WAIT], HUNG)?;
        let (control, data) = self.pages.as_ref().context("no pages")?;
        let (page, region, reference) = (control.mem, data.mem, control.refs[0]);
        page.clear(0, 4096);
        region.clear(0, 4096);
        let nodes = [
            ("version", 1),
            ("control-ref", reference),
            ("event-channel", self.port),
        ];
        self.publish(&nodes, lies)?;
        self.store.switch(state::INITIALISED)?;
        let wanted = [state::CONNECTED, state::CLOSING, state::CLOSED];
        if self.store.wait_state(&wanted, HUNG)? != state::CONNECTED {
            return Ok(Setup::Refused);
        }
        if connect {
            self.store.switch(state::CONNECTED)?;
        }
        let ring = ControlRing::new(self.role);
        Ok(Setup::Up(Box::new(Session::new(
            ring, page, region, self.port,
        ))))
    }

    /// Back: says what it speaks, but for `lies`, and that it waits for a front.
    pub fn announce(&mut self, lies: &Lies) -> Result<()> {
        self.publish(&[("min-version", 1), ("max-version", 1)], lies)?;
        self.store.switch(state::INIT_WAIT)
    }

    fn offer_back(&mut self, lies: &Lies) -> Result<Setup> {
        self.announce(lies)?;
        // One that refuses is Closed already, and says so once more or not at all.
        let verdict = match lies.is_empty() {
            true => self.store.wait_state(&[state::INITIALISED], HUNG)?,
            false => self.store.wait_settled(state::INITIALISED)?,
        };
        if verdict != state::INITIALISED {
            return Ok(Setup::Refused);
        }
        let reference = self.store.peer_number("control-ref");
        let port = self.store.peer_number("event-channel");
        let control = Mapped::new(self.peer, &[reference])?;
        let port = self.events.bind(self.peer, port)?;
        self.store.switch(state::CONNECTED)?;
        let wanted = [state::CONNECTED, state::CLOSING, state::CLOSED];
        self.store.wait_state(&wanted, HUNG)?;
        let ring = ControlRing::new(self.role);
        let mut session = Session::new(ring, control.mem, control.mem, port);
        session.mapped.push(control);
        Ok(Setup::Up(Box::new(session)))
    }

    /// A whole set-up: tunnel, first segment, a channel of each kind.
    pub fn begin(&mut self, hold: Option<u32>) -> Result<Box<Session>> {
        let Setup::Up(mut session) = self.offer(&vec![], true)? else {
            bail!("an honest offer was refused");
        };
        session.hold = hold;
        session.furnish(self).context("furnishing a tunnel")?;
        Ok(session)
    }

    /// Ends a set-up and waits until the next may begin.
    pub fn end(&mut self, session: Option<Box<Session>>) -> Result<()> {
        match self.role {
            Role::Front => self.end_front()?,
            Role::Back => self.end_back(session)?,
        }
        self.setup += 1;
        self.store.mark(self.setup)
    }

    /// The last thing: leaves the device as one may find it.
    pub fn leave(&mut self) -> Result<()> {
        self.kept.clear();
        if self.role == Role::Front {
            self.store.switch(state::INITIALISING)?;
        }
        Ok(())
    }

    fn end_front(&mut self) -> Result<()> {
        if std::mem::take(&mut self.lost) {
            return self.store.attach_anew();
        }
        self.store.switch(state::CLOSING)?;
        let closed = self.store.wait_state(&[state::CLOSED], PATIENCE);
        self.store.switch(state::CLOSED)?;
        let waiting = self.store.wait_state(&[state::INIT_WAIT], PATIENCE);
        if closed.is_err() || waiting.is_err() {
            self.store.attach_anew()?;
        }
        Ok(())
    }

    fn end_back(&mut self, session: Option<Box<Session>>) -> Result<()> {
        self.store.switch(state::CLOSING)?;
        let gone = [state::CLOSING, state::CLOSED];
        self.store.wait_state(&gone, HUNG)?;
        if let Some(session) = session {
            self.events.unbind(session.port);
        }
        self.store.switch(state::CLOSED)?;
        self.store.wait_state(&[state::CLOSED], HUNG)?;
        Ok(())
    }
}
