// SPDX-License-Identifier: GPL-2.0
//! Runs one command for one connection: a single loop over the connection, the command's pipes and
//! its end. Whatever way the caller goes, the command's process group goes with it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::event::{poll, PollFd, PollFlags};
use rustix::io::{ioctl_fionbio, Errno};
use rustix::process::{kill_process_group, pidfd_open, Pid, PidfdFlags, Signal};
use rustix::pty::{grantpt, openpt, ptsname, unlockpt, OpenptFlags};
use rustix::termios::{tcsetwinsize, Winsize};
use testbed::wire::{self, Decoder, Kind, Spec};

const CHUNK: usize = 16 << 10;
/// While more than this waits for the connection, nothing is read from the command.
const OUT_LIMIT: usize = 64 << 10;

/// Reads a [`Spec`] from `link`, runs it and returns when all is over. `early` holds bytes of the
/// connection that were read already.
pub fn serve<S>(link: S) -> anyhow::Result<()>
where
    S: AsFd,
    for<'a> &'a S: Read + Write,
{
    let Some(first) = wire::read_frame(&mut &link)? else {
        return Ok(());
    };
    anyhow::ensure!(first.kind == Kind::Spec, "a command must come first");
    let spec: Spec = serde_json::from_slice(&first.body)?;
    match Run::start(&spec) {
        Ok(mut run) => run.carry(&link)?,
        Err(error) => refuse(&link, &spec, &error)?,
    }
    // The caller closes first: then nothing that was said last can get lost. What it still sends
    // may begin amid a frame.
    ioctl_fionbio(&link, false)?;
    io::copy(&mut &link, &mut io::sink())?;
    Ok(())
}

/// Answers as a shell does when there is no such program or it cannot be run.
fn refuse<S>(link: &S, spec: &Spec, error: &io::Error) -> io::Result<()>
where
    for<'a> &'a S: Write,
{
    let name = spec.argv.first().map_or("", String::as_str);
    let (code, why) = match error.kind() {
        io::ErrorKind::NotFound => (127u32, "not found".to_string()),
        _ => (126, error.to_string()),
    };
    let mut out = wire::frame(Kind::Started, b"");
    wire::put(
        &mut out,
        Kind::Stderr,
        format!("{name}: {why}\n").as_bytes(),
    );
    wire::put(&mut out, Kind::Exit, &code.to_le_bytes());
    (&mut &*link).write_all(&out)
}

/// A running command and what is under way to and from it.
struct Run {
    child: Child,
    group: Pid,
    ended: OwnedFd,
    status: Option<ExitStatus>,
    stdin: Option<File>,
    stdin_bytes: Vec<u8>,
    stdin_eof: bool,
    outputs: [Option<File>; 2],
    terminal: Option<File>,
    frames: Decoder,
    out: Vec<u8>,
}

/// A place in the list that is polled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    Link,
    Ended,
    Stdin,
    Output(usize),
}

impl Run {
    fn start(spec: &Spec) -> io::Result<Run> {
        let (program, args) = spec.argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command
            .args(args)
            .envs(spec.env.iter().cloned())
            .current_dir("/");
        match spec.pty {
            None => Run::start_on_pipes(command),
            Some(size) => Run::start_on_terminal(command, size),
        }
    }

    fn start_on_pipes(mut command: Command) -> io::Result<Run> {
        command.process_group(0);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let stdin = child
            .stdin
            .take()
            .map(|pipe| File::from(OwnedFd::from(pipe)));
        let stdout = child
            .stdout
            .take()
            .map(|pipe| File::from(OwnedFd::from(pipe)));
        let stderr = child
            .stderr
            .take()
            .map(|pipe| File::from(OwnedFd::from(pipe)));
        Run::new(child, stdin, [stdout, stderr], None)
    }

    fn start_on_terminal(mut command: Command, size: (u16, u16)) -> io::Result<Run> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let path = ptsname(&master, Vec::new())?
            .into_string()
            .map_err(io::Error::other)?;
        let slave = File::options().read(true).write(true).open(path)?;
        tcsetwinsize(&master, window(size))?;
        command
            .stdin(slave.try_clone()?)
            .stdout(slave.try_clone()?)
            .stderr(slave);
        // SAFETY: between fork and exec the closure makes two system calls and touches no memory
        // that another thread of the agent might have held a lock on.
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
                Ok(())
            });
        }
        let child = command.spawn()?;
        let master = File::from(master);
        let (stdin, stdout) = (master.try_clone()?, master.try_clone()?);
        Run::new(child, Some(stdin), [Some(stdout), None], Some(master))
    }

    fn new(
        child: Child,
        stdin: Option<File>,
        outputs: [Option<File>; 2],
        terminal: Option<File>,
    ) -> io::Result<Run> {
        let group = Pid::from_child(&child);
        for pipe in stdin.iter().chain(outputs.iter().flatten()) {
            ioctl_fionbio(pipe, true)?;
        }
        Ok(Run {
            ended: pidfd_open(group, PidfdFlags::empty())?,
            child,
            group,
            status: None,
            stdin,
            stdin_bytes: Vec::new(),
            stdin_eof: false,
            outputs,
            terminal,
            frames: Decoder::default(),
            out: wire::frame(Kind::Started, b""),
        })
    }

    /// Carries bytes until the command has ended and its output is on its way.
    fn carry<S>(&mut self, link: &S) -> io::Result<()>
    where
        S: AsFd,
        for<'a> &'a S: Read + Write,
    {
        ioctl_fionbio(link, true)?;
        loop {
            self.flush(link)?;
            if self.status.is_some() {
                self.drain_outputs();
                if self.outputs.iter().all(Option::is_none) {
                    return self.finish(link);
                }
            }
            for slot in self.sleep(link)? {
                match slot {
                    Slot::Ended => self.status = Some(self.child.wait()?),
                    Slot::Stdin => self.feed(),
                    Slot::Output(which) => self.collect(which),
                    Slot::Link => self.listen(link)?,
                }
            }
        }
    }

    /// Sleeps until something can be done, and says what.
    fn sleep(&self, link: &impl AsFd) -> io::Result<Vec<Slot>> {
        let mut slots = vec![Slot::Link];
        let mut wanted = PollFlags::IN;
        wanted.set(PollFlags::OUT, !self.out.is_empty());
        let mut fds = vec![PollFd::new(link, wanted)];
        if self.status.is_none() {
            slots.push(Slot::Ended);
            fds.push(PollFd::new(&self.ended, PollFlags::IN));
        }
        if let (Some(stdin), false) = (&self.stdin, self.stdin_bytes.is_empty()) {
            slots.push(Slot::Stdin);
            fds.push(PollFd::new(stdin, PollFlags::OUT));
        }
        for (which, output) in self.outputs.iter().enumerate() {
            if let (Some(output), true) = (output, self.out.len() < OUT_LIMIT) {
                slots.push(Slot::Output(which));
                fds.push(PollFd::new(output, PollFlags::IN));
            }
        }
        match poll(&mut fds, None) {
            Err(Errno::INTR) => return Ok(Vec::new()),
            other => other?,
        };
        let busy = slots
            .into_iter()
            .zip(&fds)
            .filter(|(_, fd)| !fd.revents().is_empty());
        Ok(busy.map(|(slot, _)| slot).collect())
    }

    /// Sends what waits, as far as the connection takes it.
    fn flush<S>(&mut self, link: &S) -> io::Result<()>
    where
        for<'a> &'a S: Write,
    {
        while !self.out.is_empty() {
            match (&mut &*link).write(&self.out) {
                Ok(n) => drop(self.out.drain(..n)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what the caller sent; an end of the connection is an error here.
    fn listen<S>(&mut self, link: &S) -> io::Result<()>
    where
        for<'a> &'a S: Read,
    {
        let mut piece = [0; CHUNK];
        match (&mut &*link).read(&mut piece) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => self.frames.push(&piece[..n]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        while let Some(frame) = self.frames.pop()? {
            self.obey(frame.kind, &frame.body);
        }
        Ok(())
    }

    fn obey(&mut self, kind: Kind, body: &[u8]) {
        match (kind, body) {
            (Kind::Stdin, bytes) => {
                self.stdin_bytes.extend_from_slice(bytes);
                self.feed();
            }
            (Kind::StdinEof, _) => {
                self.stdin_eof = true;
                self.feed();
            }
            (Kind::Signal, &[number]) => self.kill(number),
            (Kind::CloseOutput, &[which @ 1..=2]) => self.outputs[usize::from(which) - 1] = None,
            (Kind::Resize, &[a, b, c, d]) => {
                if let Some(terminal) = &self.terminal {
                    let size = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
                    // A terminal that has gone needs no size.
                    let _ = tcsetwinsize(terminal, window(size));
                }
            }
            _ => {}
        }
    }

    fn kill(&self, number: u8) {
        if let (Some(signal), None) = (Signal::from_named_raw(number.into()), self.status) {
            // It may have ended just now.
            let _ = kill_process_group(self.group, signal);
        }
    }

    /// Hands the command its input, as far as it takes it.
    fn feed(&mut self) {
        let Some(stdin) = &mut self.stdin else {
            self.stdin_bytes.clear();
            return;
        };
        let mut taken = 0;
        while taken < self.stdin_bytes.len() {
            match stdin.write(&self.stdin_bytes[taken..]) {
                Ok(n) => taken += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.stdin = None;
                    self.stdin_bytes.clear();
                    wire::put(&mut self.out, Kind::StdinClosed, b"");
                    return;
                }
            }
        }
        self.stdin_bytes.drain(..taken);
        if taken > 0 {
            wire::put(&mut self.out, Kind::Credit, &(taken as u32).to_le_bytes());
        }
        if self.stdin_eof && self.stdin_bytes.is_empty() {
            self.stdin = None;
        }
    }

    /// Takes a piece of the command's output; its end or an error closes it.
    fn collect(&mut self, which: usize) {
        let Some(output) = &mut self.outputs[which] else {
            return;
        };
        let mut piece = [0; CHUNK];
        match output.read(&mut piece) {
            Ok(n) if n > 0 => {
                let kind = [Kind::Stdout, Kind::Stderr][which];
                wire::put(&mut self.out, kind, &piece[..n]);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.status.is_none() => {}
            // Also when it would block after the end: a daemon that the command left behind may
            // hold the pipe for ever.
            _ => self.outputs[which] = None,
        }
    }

    fn drain_outputs(&mut self) {
        for which in 0..self.outputs.len() {
            while self.outputs[which].is_some() && self.out.len() < OUT_LIMIT {
                self.collect(which);
            }
        }
    }

    fn finish<S>(&mut self, link: &S) -> io::Result<()>
    where
        S: AsFd,
        for<'a> &'a S: Read + Write,
    {
        let code = self.status.map_or(125, shell_code);
        wire::put(&mut self.out, Kind::Exit, &code.to_le_bytes());
        ioctl_fionbio(link, false)?;
        (&mut &*link).write_all(&std::mem::take(&mut self.out))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.status.is_none() {
            // The caller has gone. Nobody else can have taken the group's id: we have not waited.
            let _ = kill_process_group(self.group, Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

fn shell_code(status: ExitStatus) -> u32 {
    match (status.code(), status.signal()) {
        (Some(code), _) => code as u32,
        (None, signal) => 128 + signal.unwrap_or(0) as u32,
    }
}

fn window((rows, columns): (u16, u16)) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}
