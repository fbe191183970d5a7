// SPDX-License-Identifier: GPL-2.0
//! Dom0's toolstack: makes and ends domains as libxl does, and reads and writes
//! what it wants. Speaks to xenstored by itself, for the client is tested here.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use anyhow::{bail, Result};

/// Lists a part of a node's children.
pub const DIRECTORY_PART: u32 = 22;
/// Reads a node.
pub const READ: u32 = 2;
/// Asks whose a node is.
pub const GET_PERMS: u32 = 3;
/// A domain has come.
pub const INTRODUCE: u32 = 8;
/// A domain has gone.
pub const RELEASE: u32 = 9;
/// Writes a node.
pub const WRITE: u32 = 11;
/// Removes a node.
pub const RM: u32 = 13;
/// Says whose a node is.
pub const SET_PERMS: u32 = 14;
/// An answer: it failed.
pub const ERROR: u32 = 16;

/// A message: its type, then its payload.
pub fn message(kind: u32, payload: &[u8]) -> Vec<u8> {
    let words = [kind, 0, 0, payload.len() as u32];
    let mut message: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    message.extend(payload);
    message
}

/// The type and the payload's length of a header.
pub fn header(bytes: &[u8; 16]) -> (u32, usize) {
    let word = |at: usize| u32::from_ne_bytes([0, 1, 2, 3].map(|byte| bytes[at + byte]));
    (word(0), word(12) as usize)
}

/// A connection as dom0.
pub struct Dom0 {
    socket: UnixStream,
}

impl Dom0 {
    /// With its own nodes.
    pub fn new(socket: UnixStream) -> Result<Self> {
        let mut dom0 = Self { socket };
        dom0.write("/local/domain/0/name", "Domain-0")?;
        dom0.write("/local/domain/0/domid", "0")?;
        Ok(dom0)
    }

    /// Asks, and gives the answer.
    pub fn request(&mut self, kind: u32, payload: &[u8]) -> Result<Vec<u8>> {
        self.socket.write_all(&message(kind, payload))?;
        let mut bytes = [0; 16];
        self.socket.read_exact(&mut bytes)?;
        let (answered, length) = header(&bytes);
        let mut payload = vec![0; length];
        self.socket.read_exact(&mut payload)?;
        if answered == ERROR {
            bail!("{}", String::from_utf8_lossy(&payload));
        }
        Ok(payload)
    }

    /// Writes a node.
    pub fn write(&mut self, path: &str, value: impl AsRef<[u8]>) -> Result<()> {
        let payload = [path.as_bytes(), b"\0", value.as_ref()].concat();
        self.request(WRITE, &payload).map(drop)
    }

    /// A node with its permissions, as in `n0 r3`.
    fn make(&mut self, path: &str, permissions: &str) -> Result<()> {
        self.write(path, "")?;
        let permissions = permissions.replace(' ', "\0");
        let payload = format!("{path}\0{permissions}\0");
        self.request(SET_PERMS, payload.as_bytes()).map(drop)
    }

    /// The value of a node, if there is one.
    pub fn read(&mut self, path: &str) -> Option<String> {
        let value = self.request(READ, format!("{path}\0").as_bytes()).ok()?;
        Some(String::from_utf8_lossy(&value).into_owned())
    }

    /// Whose a node is, as in `n0 r3`.
    pub fn permissions(&mut self, path: &str) -> Result<String> {
        let permissions = self.request(GET_PERMS, format!("{path}\0").as_bytes())?;
        let text = String::from_utf8(permissions)?;
        Ok(text.trim_end_matches('\0').replace('\0', " "))
    }

    /// Removes a node, which need not be there.
    pub fn remove(&mut self, path: &str) {
        let _ = self.request(RM, format!("{path}\0").as_bytes());
    }

    /// How many children a node has, by its parts.
    pub fn count(&mut self, path: &str) -> Result<usize> {
        let mut names = Vec::new();
        loop {
            let payload = format!("{path}\0{}\0", names.len());
            let answer = self.request(DIRECTORY_PART, payload.as_bytes());
            let Ok(answer) = answer else { return Ok(0) };
            let at = answer.iter().position(|byte| *byte == 0).unwrap_or(0) + 1;
            names.extend(&answer[at..]);
            if names.ends_with(&[0, 0]) || names == [0] {
                return Ok(names.iter().filter(|byte| **byte == 0).count() - 1);
            }
        }
    }

    /// Makes a domain's nodes, not its name.
    pub fn nodes(&mut self, id: u16, uuid: Option<&str>) -> Result<()> {
        let home = format!("/local/domain/{id}");
        let (read_only, own) = (format!("n0 r{id}"), format!("n{id}"));
        self.make(&home, &read_only)?;
        let made_up = format!("00000000-0000-0000-0000-{id:012}");
        self.write(
            &format!("{home}/vm"),
            format!("/vm/{}", uuid.unwrap_or(&made_up)),
        )?;
        self.write(&format!("{home}/domid"), id.to_string())?;
        for folder in ["device", "control"] {
            self.make(&format!("{home}/{folder}"), &read_only)?;
        }
        for folder in ["data", "error"] {
            self.make(&format!("{home}/{folder}"), &own)?;
        }
        Ok(())
    }

    /// Makes a domain, which xenstored serves over its ring.
    pub fn domain(&mut self, id: u16, name: impl AsRef<[u8]>) -> Result<()> {
        self.domain_of(id, name, None)
    }

    /// The same with a UUID.
    pub fn domain_of(&mut self, id: u16, name: impl AsRef<[u8]>, uuid: Option<&str>) -> Result<()> {
        self.nodes(id, uuid)?;
        self.write(&format!("/local/domain/{id}/name"), name)?;
        let payload = format!("{id}\0{}\0{}\0", 1, 1);
        self.request(INTRODUCE, payload.as_bytes()).map(drop)
    }

    /// Ends a domain.
    pub fn destroy(&mut self, id: u16) {
        let _ = self.request(RELEASE, format!("{id}\0").as_bytes());
        self.remove(&format!("/local/domain/{id}"));
        let _ = std::fs::remove_file(format!("/run/xen/ring.{id}"));
    }
}
