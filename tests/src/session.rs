// SPDX-License-Identifier: GPL-2.0
//! A command in a domain, seen from here: like `std::process`, with the domain far away.

use std::fs::File;
use std::io::{self, ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use rustix::event::{poll, PollFd, PollFlags};
use rustix::fs::{flock, FlockOperation};
use rustix::io::Errno;

use crate::wire::{self, Frame, Hello, Kind, Spec, STDIN_WINDOW};

const CHUNK: usize = 16 << 10;

/// Where the three streams of a command come from and go to on this side.
pub struct Streams {
    /// Read and sent to the command.
    pub stdin: Option<OwnedFd>,
    /// Gets the command's standard output.
    pub stdout: OwnedFd,
    /// Gets the command's standard error.
    pub stderr: OwnedFd,
}

/// A running command. Dropped before its end, it is killed.
pub struct Child {
    /// Its standard input, if it is a pipe; drop it to end the input.
    pub stdin: Option<PipeWriter>,
    /// Its standard output, if it is a pipe.
    pub stdout: Option<PipeReader>,
    /// Its standard error, if it is a pipe.
    pub stderr: Option<PipeReader>,
    link: Arc<Link>,
    what: String,
}

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Output {
    /// As shells count it: 126, 127 when it could not be run, 128 and the signal that ended it.
    pub code: i32,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// All of its standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Whether the code is 0.
    pub fn success(&self) -> bool {
        self.code == 0
    }

    /// Standard output as text.
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Itself when the code is 0, else an error that shows what the command said.
    pub fn check(self, what: &str) -> Result<Output> {
        if !self.success() {
            let said = self.stderr_text();
            bail!("{what}: exit code {}: {}", self.code, said.trim_end());
        }
        Ok(self)
    }
}

/// What the threads of a session share.
struct Link {
    stream: TcpStream,
    writing: Mutex<()>,
    state: Mutex<Progress>,
    changed: Condvar,
    /// Closed at the end, which wakes the sender out of waiting for input.
    over: Mutex<Option<PipeWriter>>,
}

#[derive(Default)]
struct Progress {
    credit: usize,
    started: bool,
    end: Option<Result<i32, String>>,
}

impl Link {
    fn send(&self, kind: Kind, body: &[u8]) -> io::Result<()> {
        let _one = lock(&self.writing);
        (&self.stream).write_all(&wire::frame(kind, body))
    }

    fn update(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut lock(&self.state));
        self.changed.notify_all();
    }

    /// Waits until `ready` finds something; `None` when the deadline passes first.
    fn wait<T>(
        &self,
        limit: Option<Duration>,
        mut ready: impl FnMut(&mut Progress) -> Option<T>,
    ) -> Option<T> {
        let deadline = limit.map(|limit| Instant::now() + limit);
        let mut state = lock(&self.state);
        loop {
            if let Some(found) = ready(&mut state) {
                return Some(found);
            }
            state = match deadline {
                None => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.checked_duration_since(Instant::now())?;
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    fn finish(&self, end: Result<i32, String>) {
        // Closing first is our part: the agent frees everything when we have.
        let _ = self.stream.shutdown(Shutdown::Both);
        self.update(|state| state.end = state.end.take().or(Some(end)));
        *lock(&self.over) = None;
    }
}

/// The way to dom0's agent.
#[derive(Clone, Debug)]
pub struct Door {
    /// Port on this host, which the emulator passes on.
    pub port: u16,
    /// Whose lock lets one connection through at a time. The emulator's own queue has room for one
    /// that it has not taken; of more some get lost, seconds later.
    pub queue: PathBuf,
}

impl Door {
    /// Waits for our turn, which lasts until the file is dropped.
    fn enter(&self) -> Result<File> {
        let failed = || format!("{}", self.queue.display());
        let mut options = File::options();
        options.write(true).create(true).truncate(false).mode(0o600);
        let queue = options.open(&self.queue).with_context(failed)?;
        loop {
            match flock(&queue, FlockOperation::LockExclusive) {
                Err(Errno::INTR) => {}
                result => break result.with_context(failed)?,
            }
        }
        Ok(queue)
    }
}

/// Starts a command through the door of dom0's agent.
pub fn start(door: &Door, hello: &Hello, spec: &Spec, streams: Streams) -> Result<Child> {
    let turn = door.enter()?;
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, door.port)).context("no way to dom0")?;
    stream.set_nodelay(true)?;
    let (woken, waker) = io::pipe()?;
    let link = Arc::new(Link {
        stream: stream.try_clone()?,
        writing: Mutex::default(),
        state: Mutex::new(Progress {
            credit: STDIN_WINDOW,
            ..Progress::default()
        }),
        changed: Condvar::new(),
        over: Mutex::new(Some(waker)),
    });
    let mut greeting = wire::frame(Kind::Hello, &serde_json::to_vec(hello)?);
    wire::put(&mut greeting, Kind::Spec, &serde_json::to_vec(spec)?);
    (&stream)
        .write_all(&greeting)
        .context("dom0's agent has gone")?;

    let outputs = [
        Some(File::from(streams.stdout)),
        Some(File::from(streams.stderr)),
    ];
    let receiver = Arc::clone(&link);
    thread::spawn(move || receive(&receiver, stream, outputs, turn));
    if let Some(stdin) = streams.stdin {
        let link = Arc::clone(&link);
        thread::spawn(move || send_input(&link, File::from(stdin), woken));
    }
    let what = format!("{} in {}", spec.argv.join(" "), hello.domain);
    Ok(Child {
        stdin: None,
        stdout: None,
        stderr: None,
        link,
        what,
    })
}

/// As [`start`], with a pipe for each stream.
pub fn start_piped(door: &Door, hello: &Hello, spec: &Spec) -> Result<Child> {
    let (stdin, to_stdin) = io::pipe()?;
    let (from_stdout, stdout) = io::pipe()?;
    let (from_stderr, stderr) = io::pipe()?;
    let streams = Streams {
        stdin: Some(stdin.into()),
        stdout: stdout.into(),
        stderr: stderr.into(),
    };
    let mut child = start(door, hello, spec, streams)?;
    child.stdin = Some(to_stdin);
    child.stdout = Some(from_stdout);
    child.stderr = Some(from_stderr);
    Ok(child)
}

/// Takes frames until the command has ended; with the first of them, it is the next one's turn.
fn receive(link: &Link, mut stream: TcpStream, mut outputs: [Option<File>; 2], turn: File) {
    let mut turn = Some(turn);
    let end = loop {
        let frame = wire::read_frame(&mut stream);
        drop(turn.take());
        match frame {
            Ok(Some(frame)) => {
                if let Some(end) = take(link, &frame, &mut outputs) {
                    break end;
                }
            }
            Ok(None) => break Err("the domain or its agent has gone".to_string()),
            Err(error) => break Err(format!("connection lost: {error}")),
        }
    };
    // Readers of the outputs see their end before anybody sees that of the command.
    drop(outputs);
    link.finish(end);
}

fn take(
    link: &Link,
    frame: &Frame,
    outputs: &mut [Option<File>; 2],
) -> Option<Result<i32, String>> {
    match frame.kind {
        Kind::Welcome => {}
        Kind::Started => link.update(|state| state.started = true),
        Kind::Stdout => pass_on(link, outputs, 0, &frame.body),
        Kind::Stderr => pass_on(link, outputs, 1, &frame.body),
        Kind::Credit => {
            let more = frame.number().unwrap_or(0) as usize;
            link.update(|state| state.credit += more);
        }
        Kind::StdinClosed => *lock(&link.over) = None,
        Kind::Exit => return Some(Ok(frame.number().unwrap_or(125) as i32)),
        Kind::Failed => return Some(Err(frame.text())),
        _ => return Some(Err("the agent speaks another language".into())),
    }
    None
}

fn pass_on(link: &Link, outputs: &mut [Option<File>; 2], which: usize, bytes: &[u8]) {
    if let Some(output) = &mut outputs[which] {
        if output.write_all(bytes).is_err() {
            // Nobody reads it here, so the command shall learn that, as it would locally.
            outputs[which] = None;
            let _ = link.send(Kind::CloseOutput, &[which as u8 + 1]);
        }
    }
}

/// Sends input, as credit allows, until it ends or the command has no use for it.
fn send_input(link: &Link, mut from: File, over: PipeReader) {
    let mut piece = [0; CHUNK];
    loop {
        let credit = link.wait(None, |state| match (&state.end, state.credit) {
            (Some(_), _) => Some(0),
            (None, 0) => None,
            (None, credit) => Some(credit),
        });
        let room = credit.unwrap_or(0).min(CHUNK);
        if room == 0 || !wait_for_input(&from, &over) {
            return;
        }
        let sent = match from.read(&mut piece[..room]) {
            Ok(0) => link
                .send(Kind::StdinEof, b"")
                .and(Err(ErrorKind::UnexpectedEof.into())),
            Ok(n) => {
                link.update(|state| state.credit -= n);
                link.send(Kind::Stdin, &piece[..n])
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => link.send(Kind::StdinEof, b"").and(Err(error)),
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Sleeps until there is input; false when it is no longer wanted.
fn wait_for_input(from: &File, over: &PipeReader) -> bool {
    let wanted = PollFlags::IN;
    let mut fds = [PollFd::new(from, wanted), PollFd::new(over, wanted)];
    loop {
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return false,
            Ok(_) => return fds[1].revents().is_empty(),
        }
    }
}

impl Child {
    /// Sends a signal, by number, to the command's process group.
    pub fn signal(&self, number: i32) -> Result<()> {
        self.link
            .send(Kind::Signal, &[number as u8])
            .context("the command has ended")
    }

    /// Ends the command by SIGKILL; [`Child::wait`] then tells its code.
    pub fn kill(&self) -> Result<()> {
        self.signal(rustix::process::Signal::KILL.as_raw())
    }

    /// Tells a command on a terminal how large it is now.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        let [a, b] = rows.to_le_bytes();
        let [c, d] = columns.to_le_bytes();
        Ok(self.link.send(Kind::Resize, &[a, b, c, d])?)
    }

    /// Waits until the agent says that the command runs.
    pub fn wait_started(&self, limit: Duration) -> Result<()> {
        let seen = |state: &mut Progress| match &state.end {
            Some(Err(why)) => Some(Err(why.clone())),
            Some(Ok(_)) => Some(Ok(())),
            None => state.started.then_some(Ok(())),
        };
        match self.link.wait(Some(limit), seen) {
            Some(Ok(())) => Ok(()),
            Some(Err(why)) => bail!("{}: {why}", self.what),
            None => bail!("{}: not started after {} s", self.what, limit.as_secs()),
        }
    }

    /// The code, if the command has ended.
    pub fn try_wait(&self) -> Result<Option<i32>> {
        let end = lock(&self.link.state).end.clone();
        end.map(|end| self.judge(end)).transpose()
    }

    /// Waits for the command's end, however long it takes. All that it said has been passed on.
    pub fn wait(&self) -> Result<i32> {
        let end = self.link.wait(None, |state| state.end.clone());
        let end = end.unwrap_or_else(|| Err("never ended".into()));
        self.judge(end)
    }

    /// Waits for the command's end; one that is not over by then hangs, which is an error.
    pub fn wait_for(&self, limit: Duration) -> Result<i32> {
        match self.link.wait(Some(limit), |state| state.end.clone()) {
            Some(end) => self.judge(end),
            None => bail!(
                "{}: hangs, not ended after {} s",
                self.what,
                limit.as_secs()
            ),
        }
    }

    /// Closes the input, collects both outputs and waits. A command that is not over by the limit
    /// hangs, which is an error.
    pub fn wait_with_output(mut self, limit: Duration) -> Result<Output> {
        drop(self.stdin.take());
        let stdout = collect(self.stdout.take());
        let stderr = collect(self.stderr.take());
        let code = self.wait_for(limit)?;
        let join = |thread: JoinHandle<Vec<u8>>| thread.join().unwrap_or_default();
        Ok(Output {
            code,
            stdout: join(stdout),
            stderr: join(stderr),
        })
    }

    fn judge(&self, end: Result<i32, String>) -> Result<i32> {
        end.map_err(|why| anyhow::anyhow!("{}: {why}", self.what))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.link.finish(Err("given up".into()));
    }
}

fn collect(pipe: Option<PipeReader>) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // A pipe ends or fails; either way this is all there is.
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A second handle on one of our own standard streams.
pub fn own(stream: impl AsFd) -> Result<OwnedFd> {
    Ok(stream.as_fd().try_clone_to_owned()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::Timespec;
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Connections at once.
    const MANY: usize = 16;
    /// Only what hangs takes so long.
    const HUNG: Duration = Duration::from_secs(600);

    /// Answers as the agents do, for a command that ends with 7.
    fn answer(mut link: TcpStream) -> io::Result<()> {
        link.write_all(&wire::frame(Kind::Welcome, b""))?;
        while let Some(frame) = wire::read_frame(&mut link)? {
            if frame.kind == Kind::Spec {
                link.write_all(&wire::frame(Kind::Exit, &7u32.to_le_bytes()))?;
            }
        }
        Ok(())
    }

    /// The emulator's queue has room for one, and it looks there now and then: nobody comes
    /// before the one ahead of him is in.
    #[test]
    fn of_many_at_once_one_comes_at_a_time() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        rustix::net::listen(&listener, 1).unwrap();
        let folder = std::env::temp_dir().join(format!("testbed-queue-{}", std::process::id()));
        let door = Door {
            port: listener.local_addr().unwrap().port(),
            queue: folder.clone(),
        };
        let crowded = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&crowded);
        thread::spawn(move || loop {
            let (link, _) = listener.accept().unwrap();
            thread::sleep(Duration::from_millis(20));
            let mut next = [PollFd::new(&listener, PollFlags::IN)];
            let waiting = poll(&mut next, Some(&Timespec::default())).unwrap();
            seen.fetch_add(waiting, Ordering::Relaxed);
            thread::spawn(move || answer(link));
        });
        let hello = Hello {
            token: String::new(),
            domain: "u1".into(),
            wait_secs: 0,
        };
        let spec = Spec {
            argv: vec!["true".into()],
            env: Vec::new(),
            pty: None,
        };
        thread::scope(|scope| {
            for _ in 0..MANY {
                scope.spawn(|| {
                    let child = start_piped(&door, &hello, &spec).unwrap();
                    assert_eq!(child.wait_for(HUNG).unwrap(), 7);
                });
            }
        });
        std::fs::remove_file(folder).unwrap();
        assert_eq!(crowded.load(Ordering::Relaxed), 0);
    }
}
