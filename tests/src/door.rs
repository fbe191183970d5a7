// SPDX-License-Identifier: GPL-2.0
//! The door of dom0's agent. Whoever reaches its port may be a stranger, until he has said the token:
//! few stand there at once, and none for long, however slowly he speaks.

use std::io::{self, Read};
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::wire::{self, Hello, Kind};

/// How long a greeting may take.
pub const GREETING: Duration = Duration::from_secs(5);

/// Who has not greeted yet; others wait in the port's backlog.
const STRANGERS: usize = 64;

/// Counts strangers.
#[derive(Default)]
pub struct Door {
    strangers: Mutex<usize>,
    left: Condvar,
}

/// A stranger's place; free again when it is dropped.
pub struct Step(Arc<Door>);

impl Door {
    /// A place for the next one, once there is one.
    pub fn step(self: &Arc<Self>) -> Step {
        let strangers = self
            .strangers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let full = |strangers: &mut usize| *strangers >= STRANGERS;
        let waited = self.left.wait_while(strangers, full);
        *waited.unwrap_or_else(PoisonError::into_inner) += 1;
        Step(Arc::clone(self))
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        let strangers = self.0.strangers.lock();
        *strangers.unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.left.notify_one();
    }
}

/// Who calls, if he says so within `limit`, by the token; `None` if he has gone.
pub fn greeting(link: &TcpStream, token: &str, limit: Duration) -> anyhow::Result<Option<Hello>> {
    let until = Instant::now() + limit;
    let Some(frame) = wire::read_frame(&mut Until { link, until })? else {
        return Ok(None);
    };
    link.set_read_timeout(None)?;
    ensure!(frame.kind == Kind::Hello, "a greeting must come first");
    let hello: Hello = serde_json::from_slice(&frame.body)?;
    ensure!(hello.token == token, "the token is not that of this run");
    Ok(Some(hello))
}

/// A connection that is read until a time, in as many pieces as there are.
struct Until<'a> {
    link: &'a TcpStream,
    until: Instant,
}

impl Read for Until<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.link.set_read_timeout(Some(left))?;
        let mut link = self.link;
        link.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{Ipv4Addr, TcpListener};
    use std::sync::mpsc;
    use std::thread;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    fn hello(token: &str) -> Vec<u8> {
        let hello = Hello {
            token: token.into(),
            domain: "u1".into(),
            wait_secs: 1,
        };
        wire::frame(Kind::Hello, &serde_json::to_vec(&hello).unwrap())
    }

    #[test]
    fn who_has_the_token_is_heard() {
        let (mut near, far) = pair();
        near.write_all(&hello("secret")).unwrap();
        let heard = greeting(&far, "secret", GREETING).unwrap().unwrap();
        assert_eq!(heard.domain, "u1");
        assert_eq!(
            far.read_timeout().unwrap(),
            None,
            "commands take their time"
        );
        near.write_all(&hello("guess")).unwrap();
        assert!(greeting(&far, "secret", GREETING).is_err());
        drop(near);
        assert!(greeting(&far, "secret", GREETING).unwrap().is_none());
    }

    #[test]
    fn who_says_nothing_or_little_is_heard_no_longer() {
        let (mut near, far) = pair();
        let slow = thread::spawn(move || {
            let pieces = hello("secret").into_iter();
            // Each in time, and all of them not.
            for byte in pieces.cycle() {
                if near.write_all(&[byte]).is_err() {
                    break;
                }
                thread::sleep(Duration::from_millis(20));
            }
        });
        assert!(greeting(&far, "secret", Duration::from_millis(200)).is_err());
        drop(far);
        slow.join().unwrap();
    }

    #[test]
    fn so_many_strangers_and_no_more() {
        let door = Arc::new(Door::default());
        let mut steps: Vec<Step> = (0..STRANGERS).map(|_| door.step()).collect();
        let (came, coming) = mpsc::channel();
        let other = Arc::clone(&door);
        let late = thread::spawn(move || {
            came.send(()).unwrap();
            drop(other.step());
            came.send(()).unwrap();
        });
        coming.recv().unwrap();
        assert!(coming.try_recv().is_err());
        steps.pop();
        coming.recv().unwrap();
        late.join().unwrap();
    }
}
