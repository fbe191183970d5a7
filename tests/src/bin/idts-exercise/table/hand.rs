// SPDX-License-Identifier: GPL-2.0
//! The far end of the table's channels: a server in the other domain, which does what it is told
//! over a channel of its own. One session for each check, so that none is disturbed by what another
//! left.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use idts::{Address, Bind, Channel, Listener};
use idts_core::uapi;
use serde_json::{json, Value};

use super::raw;
use crate::{cli, probe};

/// What the server is told: numbers, with up to two arguments.
#[derive(Clone, Copy)]
#[repr(u32)]
enum Order {
    /// Listen, for records or not: gives the port.
    Listen,
    /// Accept: gives a handle.
    Accept,
    /// Connect to a port of the caller's domain: gives a handle.
    Connect,
    /// Connect twice at once and talk on both until both are served.
    Talk,
    /// Write so many bytes, or a record of that length.
    Write,
    /// Read so many bytes, or that many records: gives the bytes.
    Read,
    /// Send back what comes, until the end.
    Echo,
    Shutdown,
    Close,
}

const ORDERS: [Order; 9] = [
    Order::Listen,
    Order::Accept,
    Order::Connect,
    Order::Talk,
    Order::Write,
    Order::Read,
    Order::Echo,
    Order::Shutdown,
    Order::Close,
];

/// Order, two arguments, and milliseconds to wait before it is done; such an order is answered
/// before.
type Words = [u32; 4];

fn put(mut channel: &Channel, words: &[u32]) -> Result<()> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    Ok(channel.write_all(&bytes)?)
}

fn get<const N: usize>(mut channel: &Channel) -> Result<[u32; N]> {
    let mut words = [0; N];
    for word in &mut words {
        let mut bytes = [0; 4];
        channel.read_exact(&mut bytes)?;
        *word = u32::from_le_bytes(bytes);
    }
    Ok(words)
}

/// The caller's view of a session.
pub struct Far {
    control: RefCell<Channel>,
    domain: u16,
}

impl Far {
    pub fn new(to: Address) -> Result<Self> {
        Ok(Self {
            control: RefCell::new(Channel::connect(to)?),
            domain: to.domain,
        })
    }

    fn tell(&self, order: Order, a: u32, b: u32, later: Duration) -> Result<u32> {
        let control = self.control.borrow();
        put(&control, &[order as u32, a, b, later.as_millis() as u32])?;
        let [status, value] = get::<2>(&control)?;
        ensure!(
            status == 0,
            "the far end could not do order {}",
            order as u32
        );
        Ok(value)
    }

    fn order(&self, order: Order, a: u32, b: u32) -> Result<u32> {
        self.tell(order, a, b, Duration::ZERO)
    }

    /// What a connect to `port` there says.
    pub fn request(&self, port: u32, flags: u32, ring: u32) -> uapi::Connect {
        uapi::Connect {
            peer: uapi::Addr {
                domid: self.domain,
                reserved: 0,
                port,
            },
            tx_ring: ring,
            rx_ring: ring,
            flags,
            ..uapi::Connect::default()
        }
    }

    /// A listener there; its port.
    pub fn listen(&self, flags: u32) -> Result<u32> {
        self.order(Order::Listen, flags, 0)
    }

    /// Accepts there.
    pub fn accept(&self) -> Result<u32> {
        self.order(Order::Accept, 0, 0)
    }

    /// A channel: our descriptor, and the handle of the other end.
    pub fn channel(&self, mode: i32, flags: u32, ring: u32) -> Result<(OwnedFd, u32)> {
        let port = self.listen(flags)?;
        let fd = raw::open(mode)?;
        let mut request = self.request(port, flags, ring);
        raw::want(
            "CONNECT",
            raw::ioctl(&fd, raw::CONNECT, &mut request),
            Ok(0),
        )?;
        Ok((fd, self.accept()?))
    }

    /// A stream that both read and write, with rings of 16 KiB.
    pub fn stream(&self) -> Result<(OwnedFd, u32)> {
        self.channel(raw::BOTH, 0, 4 << 12)
    }

    /// The same of records.
    pub fn records(&self) -> Result<(OwnedFd, u32)> {
        self.channel(raw::BOTH, uapi::RECORD, 4 << 12)
    }

    pub fn connect(&self, port: u32) -> Result<u32> {
        self.order(Order::Connect, port, 0)
    }

    pub fn connect_later(&self, port: u32) -> Result<()> {
        self.tell(Order::Connect, port, 0, raw::SOON).map(drop)
    }

    /// Two clients connect at once, `later`, and talk `rounds` times.
    pub fn talk(&self, port: u32, rounds: u32, later: Duration) -> Result<()> {
        self.tell(Order::Talk, port, rounds, later).map(drop)
    }

    pub fn write(&self, handle: u32, bytes: u32) -> Result<()> {
        self.order(Order::Write, handle, bytes).map(drop)
    }

    pub fn write_later(&self, handle: u32, bytes: u32) -> Result<()> {
        self.tell(Order::Write, handle, bytes, raw::SOON).map(drop)
    }

    /// Reads so many bytes, or records, there.
    pub fn read(&self, handle: u32, count: u32) -> Result<u32> {
        self.order(Order::Read, handle, count)
    }

    pub fn read_later(&self, handle: u32, count: u32) -> Result<()> {
        self.tell(Order::Read, handle, count, raw::SOON).map(drop)
    }

    pub fn echo(&self, handle: u32) -> Result<()> {
        // Only a later order runs beside others.
        let later = Duration::from_millis(1);
        self.tell(Order::Echo, handle, 0, later).map(drop)
    }

    pub fn shutdown_later(&self, handle: u32) -> Result<()> {
        self.tell(Order::Shutdown, handle, 0, raw::SOON).map(drop)
    }

    pub fn close(&self, handle: u32) -> Result<()> {
        self.order(Order::Close, handle, 0).map(drop)
    }
}

/// The server's side of a session.
struct Session {
    caller: u16,
    listener: Mutex<Option<Listener>>,
    channels: Mutex<HashMap<u32, Arc<Channel>>>,
    /// The last handle.
    last: AtomicU32,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    fn keep(&self, channel: Channel) -> u32 {
        let handle = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        lock(&self.channels).insert(handle, Arc::new(channel));
        handle
    }

    fn find(&self, handle: u32) -> Result<Arc<Channel>> {
        let channels = lock(&self.channels);
        channels.get(&handle).cloned().context("no such handle")
    }

    fn obey(&self, order: Order, a: u32, b: u32) -> Result<u32> {
        match order {
            Order::Listen => {
                let bind = Bind::new(0);
                let listener = if a == 0 { bind } else { bind.records() }.listen()?;
                let port = listener.info()?.local_port.context("no port")?;
                *lock(&self.listener) = Some(listener);
                return Ok(port);
            }
            Order::Accept => {
                let listener = lock(&self.listener);
                let (channel, _) = listener.as_ref().context("nobody listens")?.accept()?;
                return Ok(self.keep(channel));
            }
            Order::Connect => return Ok(self.keep(self.call(a)?)),
            Order::Talk => self.talk(a, b)?,
            Order::Write => {
                let channel = self.find(a)?;
                let bytes = vec![b as u8; b as usize];
                if channel.has_records() {
                    channel.send(&bytes)?;
                } else {
                    (&*channel).write_all(&bytes)?;
                }
            }
            Order::Read => return read(&*self.find(a)?, b),
            Order::Echo => echo(&*self.find(a)?)?,
            Order::Shutdown => self.find(a)?.shutdown(Shutdown::Write)?,
            Order::Close => drop(lock(&self.channels).remove(&a)),
        }
        Ok(0)
    }

    fn call(&self, port: u32) -> Result<Channel> {
        Ok(Channel::connect(Address::new(self.caller, port))?)
    }

    /// Two clients at once: each asks and waits for the answer, and neither is done before both
    /// have been answered once.
    fn talk(&self, port: u32, rounds: u32) -> Result<()> {
        for _ in 0..rounds {
            raw::twice(|| {
                let mut channel = &self.call(port)?;
                channel.write_all(&[1])?;
                let mut reply = [0];
                channel.read_exact(&mut reply)?;
                anyhow::Ok(())
            })?
            .into_iter()
            .collect::<Result<Vec<()>>>()?;
        }
        Ok(())
    }
}

/// So many bytes of a stream, or so many records: how many bytes there were, and each record of
/// one value alone.
fn read(mut channel: &Channel, count: u32) -> Result<u32> {
    let mut total = 0;
    if !channel.has_records() {
        let mut buffer = vec![0; count as usize];
        while total < count {
            match channel.read(&mut buffer[total as usize..])? {
                0 => break,
                n => total += n as u32,
            }
        }
        return Ok(total);
    }
    let mut buffer = vec![0; 1 << 16];
    for _ in 0..count {
        let got = channel.recv(&mut buffer)?.len;
        let record = &buffer[..got];
        ensure!(record.iter().all(|b| *b == record[0]), "a mixed record");
        total += got as u32;
    }
    Ok(total)
}

fn echo(mut channel: &Channel) -> Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let got = channel.read(&mut buffer)?;
        if got == 0 {
            return Ok(());
        }
        channel.write_all(&buffer[..got])?;
    }
}

fn serve_session(control: &Channel, session: &Arc<Session>) -> Result<()> {
    loop {
        let [number, a, b, later]: Words = get(control)?;
        let order = *ORDERS.get(number as usize).context("no such order")?;
        if later > 0 {
            let session = Arc::clone(session);
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(later.into()));
                // The caller sees what came of it.
                if let Err(error) = session.obey(order, a, b) {
                    eprintln!("order {number}: {error:#}");
                }
            });
            put(control, &[0, 0])?;
            continue;
        }
        let (status, value) = match session.obey(order, a, b) {
            Ok(value) => (0, value),
            Err(error) => {
                eprintln!("order {number}: {error:#}");
                (1, 0)
            }
        };
        put(control, &[status, value])?;
    }
}

/// Serves sessions until a line comes.
pub fn serve(args: &cli::CallsServe) -> Result<Value> {
    let listener = Bind::new(args.port).backlog(128).listen()?;
    eprintln!("listening on {}", args.port);
    thread::spawn(move || loop {
        let Ok((control, from)) = listener.accept() else {
            return;
        };
        thread::spawn(move || {
            let session = Arc::new(Session {
                caller: from.domain,
                listener: Mutex::default(),
                channels: Mutex::default(),
                last: AtomicU32::new(0),
            });
            // It ends when the caller goes.
            let _ = serve_session(&control, &session);
        });
    });
    probe::wait_for_line()?;
    Ok(json!({ "error": Value::Null }))
}
