// SPDX-License-Identifier: GPL-2.0
//! Stands between `tunnel-mgr` and xenstored: counts requests, and can stop at
//! one of them, so that a test can kill the program there.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::spawn;

use anyhow::Result;

use crate::bed::SOCKET;
use idts_host::dom0::header;

/// Where xenstored itself listens then.
const REAL: &str = "/run/xenstored/real";

/// Connections made from now on go through it, until the bed ends.
pub struct Proxy {
    requests: Arc<AtomicU64>,
    limit: Arc<AtomicU64>,
}

impl Proxy {
    pub fn start() -> Result<Self> {
        fs::rename(SOCKET, REAL)?;
        let listener = UnixListener::bind(SOCKET)?;
        let requests = Arc::new(AtomicU64::new(0));
        let limit = Arc::new(AtomicU64::new(u64::MAX));
        let (count, stop) = (requests.clone(), limit.clone());
        spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (count, stop) = (count.clone(), stop.clone());
                let _ = serve(client, count, stop);
            }
        });
        Ok(Self { requests, limit })
    }

    /// Requests until now.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    /// Counts anew, and hands on `limit` requests more; of the last one the
    /// answer is kept back.
    pub fn stop_after(&self, limit: u64) {
        self.requests.store(0, Ordering::SeqCst);
        self.limit.store(limit, Ordering::SeqCst);
    }

    /// Whether it has stopped.
    pub fn has_stopped(&self) -> bool {
        self.requests() >= self.limit.load(Ordering::SeqCst)
    }
}

fn serve(client: UnixStream, count: Arc<AtomicU64>, stop: Arc<AtomicU64>) -> Result<()> {
    let server = UnixStream::connect(REAL)?;
    let (mut from_server, to_server) = (server.try_clone()?, server);
    let (mut to_client, from_client) = (client.try_clone()?, client);
    let (seen, limit) = (count.clone(), stop.clone());
    spawn(move || {
        let mut bytes = [0; 8192];
        while let Ok(length @ 1..) = from_server.read(&mut bytes) {
            if seen.load(Ordering::SeqCst) >= limit.load(Ordering::SeqCst)
                || to_client.write_all(&bytes[..length]).is_err()
            {
                break;
            }
        }
    });
    spawn(move || {
        let _ = hand_on(from_client, &to_server, &count, &stop);
        let _ = to_server.shutdown(Shutdown::Both);
    });
    Ok(())
}

fn hand_on(
    mut from: UnixStream,
    mut to: &UnixStream,
    count: &AtomicU64,
    limit: &AtomicU64,
) -> std::io::Result<()> {
    loop {
        let mut head = [0; 16];
        from.read_exact(&mut head)?;
        let mut payload = vec![0; header(&head).1];
        from.read_exact(&mut payload)?;
        if count.fetch_add(1, Ordering::SeqCst) < limit.load(Ordering::SeqCst) {
            to.write_all(&[&head[..], &payload].concat())?;
        }
    }
}
