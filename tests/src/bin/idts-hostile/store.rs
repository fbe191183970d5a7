// SPDX-License-Identifier: GPL-2.0
//! The nodes of the device, seen from the side that is played here.

use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use idts_core::role::Role;
use idts_xenstore::{Client, Tree};

/// Whatever takes longer hangs.
pub const HUNG: Duration = Duration::from_secs(600);
/// How often shared memory is looked at.
pub const LOOK: Duration = Duration::from_millis(1);
/// How long a state must stay to be taken for settled.
const SETTLED: Duration = Duration::from_millis(300);

/// Both directories of the device.
pub struct Store {
    client: Client,
    /// What our side writes.
    own: String,
    /// What the other side writes.
    peer: String,
    /// The guest's place for anything.
    data: String,
    /// The peer's state, as it was when a watch last told of it.
    state: u32,
}

impl Store {
    /// Of the tunnel between `guest` and `back`.
    pub fn open(role: Role, guest: u32, back: u32) -> Result<Self> {
        let front_dir = format!("/local/domain/{guest}/device/idts/0");
        let back_dir = format!("/local/domain/{back}/backend/idts/{guest}/0");
        let (own, peer) = match role {
            Role::Front => (front_dir, back_dir),
            Role::Back => (back_dir, front_dir),
        };
        let mut store = Self {
            client: Client::open().context("xenstore")?,
            own,
            peer,
            data: format!("/local/domain/{guest}/data/hostile"),
            state: 0,
        };
        let state = format!("{}/state", store.peer);
        store.client.watch(&state).context(state)?;
        Ok(store)
    }

    /// Writes a node of ours.
    pub fn write(&mut self, node: &str, value: &str) -> Result<()> {
        let path = format!("{}/{node}", self.own);
        self.client.write(&path, value.as_bytes()).context(path)
    }

    /// Takes a node of ours away.
    pub fn remove(&mut self, node: &str) -> Result<()> {
        let path = format!("{}/{node}", self.own);
        self.client.remove(&path).context(path)
    }

    /// Writes our state.
    pub fn switch(&mut self, state: u32) -> Result<()> {
        self.write("state", &state.to_string())
    }

    /// A number of the peer's; 0 if there is none.
    pub fn peer_number(&mut self, node: &str) -> u32 {
        let text = self.client.read(&format!("{}/{node}", self.peer));
        let text = text.ok().flatten();
        let text = text.and_then(|text| String::from_utf8(text).ok());
        text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }

    /// The peer's state, read now.
    fn read_state(&mut self) -> u32 {
        self.state = self.peer_number("state");
        self.state
    }

    /// The peer's state, read if a watch says that it changed.
    pub fn peer_state(&mut self) -> u32 {
        if self
            .client
            .changes()
            .is_ok_and(|changes| !changes.is_empty())
        {
            self.read_state();
        }
        self.state
    }

    /// Waits until the peer's state is one of these.
    pub fn wait_state(&mut self, wanted: &[u32], limit: Duration) -> Result<u32> {
        let deadline = Instant::now() + limit;
        loop {
            let state = self.read_state();
            if wanted.contains(&state) {
                return Ok(state);
            }
            if !self.changed_before(deadline)? {
                bail!("the peer's state stays {state}, waited for one of {wanted:?}");
            }
        }
    }

    /// Waits for a state of the peer, or until it stays at another one.
    pub fn wait_settled(&mut self, wanted: u32) -> Result<u32> {
        loop {
            let state = self.read_state();
            if state == wanted || !self.changed_before(Instant::now() + SETTLED)? {
                return Ok(state);
            }
        }
    }

    /// Waits until something watched changes; false when the deadline passed first.
    fn changed_before(&mut self, deadline: Instant) -> Result<bool> {
        let changed = self.client.wait(deadline)?;
        self.client.changes()?;
        Ok(changed)
    }

    /// Has dom0's witness attach the device anew, and waits until it has.
    pub fn attach_anew(&mut self) -> Result<()> {
        // A detach waits for that; the directory may be gone already.
        let _ = self.switch(6);
        self.ask("attach")
    }

    /// Has the witness keep what the honest kernel said until now as that of set-up `number`.
    pub fn mark(&mut self, number: u64) -> Result<()> {
        self.ask(&format!("mark {number}"))
    }

    /// Asks the witness for something, and waits until it is done.
    fn ask(&mut self, what: &str) -> Result<()> {
        let path = self.data.clone();
        self.client.write(&path, what.as_bytes())?;
        self.client.watch(&path)?;
        let deadline = Instant::now() + HUNG;
        while self.client.read(&path)?.as_deref() != Some(b"done") {
            if !self.changed_before(deadline)? {
                bail!("the witness does not answer to `{what}`");
            }
        }
        self.client.unwatch(&path)?;
        Ok(())
    }
}
