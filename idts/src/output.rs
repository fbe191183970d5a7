// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a command says on its standard outputs, whatever they are: full, closed,
//! without a reader, or such that do not block. Nothing here panics, as `println!`
//! does; what goes to standard output is an error when it cannot be written, and
//! what goes to standard error is lost then.

use std::fmt::{self, Display};
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitCode;

use rustix::event::{poll, PollFd, PollFlags};
use rustix::io::Errno;

/// Where a command writes, without a buffer and without a descriptor of its own. Where it
/// does not block (somebody may have set O_NONBLOCK on the file that it shares with us), a
/// write waits here.
#[derive(Debug)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Another file.
    File(File),
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Stdout => rustix::stdio::stdout(),
            Self::Stderr => rustix::stdio::stderr(),
            Self::File(file) => file.as_fd(),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::io::write(&self, bytes) {
                Err(Errno::AGAIN) => wait(self.as_fd())?,
                result => return Ok(result?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits until something can be written, or never will be.
fn wait(fd: BorrowedFd<'_>) -> io::Result<()> {
    match poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Standard output could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write standard output")]
pub struct Unwritten {
    #[source]
    cause: io::Error,
    /// Something is lost that nobody can ask for again.
    is_loss: bool,
}

impl Unwritten {
    /// A report could not be written: whoever wants it asks again.
    pub fn of_report(cause: io::Error) -> Self {
        let is_loss = false;
        Self { cause, is_loss }
    }

    /// What came from a peer could not be written, or the account of a transfer.
    pub fn of_data(cause: io::Error) -> Self {
        let is_loss = true;
        Self { cause, is_loss }
    }

    /// True when its reader has gone, who wants to hear no more.
    fn is_unread(&self) -> bool {
        self.cause.kind() == io::ErrorKind::BrokenPipe
    }
}

/// Prints a line of a report on standard output.
///
/// # Errors
/// When it cannot be written.
pub fn print(line: impl Display) -> Result<(), Unwritten> {
    write(format_args!("{line}\n"))
}

/// Prints the account of a transfer, a line, on standard output.
///
/// # Errors
/// When it cannot be written.
pub fn print_account(line: impl Display) -> Result<(), Unwritten> {
    print(line).map_err(|unwritten| Unwritten::of_data(unwritten.cause))
}

/// Prints a report as it is on standard output.
///
/// # Errors
/// When it cannot be written.
pub fn write(text: fmt::Arguments<'_>) -> Result<(), Unwritten> {
    // In one piece: others may write to the same file.
    let written = Output::Stdout.write_all(text.to_string().as_bytes());
    written.map_err(Unwritten::of_report)
}

/// Says a line on standard error, if that can be.
pub fn say(line: impl Display) {
    // In one piece; and there is nobody to tell that nobody was told.
    let _ = Output::Stderr.write_all(format!("{line}\n").as_bytes());
}

/// An error and its causes on one line, without those that stand there already.
pub fn causes(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line = line + ": " + &cause;
        }
    }
    line
}

/// The arguments, or what the program ends with instead: with 0 after the help and the
/// version, 1 if they could not be printed, 2 after a wrong usage.
///
/// # Errors
/// See above.
pub fn parse<T: clap::Parser>(program: &str) -> Result<T, ExitCode> {
    let error = match T::try_parse() {
        Ok(parsed) => return Ok(parsed),
        Err(error) => error,
    };
    if error.use_stderr() {
        // Nobody can be told that nobody was told.
        let _ = error.print();
        return Err(ExitCode::from(2));
    }
    let printed = if io::stdout().is_terminal() {
        error.print().map_err(Unwritten::of_report)
    } else {
        write(format_args!("{}", error.render()))
    };
    Err(end(program, printed.map_err(anyhow::Error::from)))
}

/// The exit code of a command that ended so; an error is said on standard error. Not so
/// that of a reader of standard output who has gone: that is none where he lost a report.
pub fn end(program: &str, result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    match error.downcast_ref::<Unwritten>() {
        Some(unwritten) if unwritten.is_unread() => match unwritten.is_loss {
            true => ExitCode::FAILURE,
            false => ExitCode::SUCCESS,
        },
        _ => {
            say(format_args!("{program}: {}", causes(&error)));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use rustix::io::ioctl_fionbio;
    use std::io::Read;
    use std::os::fd::OwnedFd;

    #[test]
    fn a_pipe_that_does_not_block_is_waited_for() {
        let (mut reader, writer) = io::pipe().unwrap();
        ioctl_fionbio(&writer, true).unwrap();
        let mut output = Output::File(File::from(OwnedFd::from(writer)));
        let bytes: Vec<u8> = (0..1 << 20).map(|at: u32| (at >> 3) as u8).collect();
        let sent = bytes.clone();
        let writing = std::thread::spawn(move || output.write_all(&sent).unwrap());
        let mut got = Vec::new();
        reader.read_to_end(&mut got).unwrap();
        writing.join().unwrap();
        assert!(got == bytes);
    }

    #[test]
    fn no_cause_is_said_twice() {
        let refused = crate::Error::Connect {
            peer: crate::Address::new(3, 7).into(),
            cause: Errno::NOSPC.into(),
        };
        let error = anyhow::Error::from(refused).context("sending");
        let line = causes(&error);
        assert!(line.starts_with("sending: cannot connect to 3:7: no room"));
        assert_eq!(line.matches("os error 28").count(), 1, "{line}");
    }

    #[test]
    fn only_a_reader_who_has_gone_is_not_talked_to() {
        let of = |errno: Errno| Unwritten::of_report(errno.into());
        assert!(of(Errno::PIPE).is_unread());
        assert!(!of(Errno::NOSPC).is_unread());
        let wrapped = Err::<(), _>(of(Errno::PIPE))
            .context("about it")
            .unwrap_err();
        assert!(wrapped.downcast_ref::<Unwritten>().is_some());
    }
}
