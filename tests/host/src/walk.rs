// SPDX-License-Identifier: GPL-2.0
//! Walks the table with a program.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{ensure, Context, Result};
use rustix::process::{kill_process, Pid, Signal};

use crate::bed::until;
use crate::outputs::{self, Kind, Other};
use crate::table::{why_not, Column, Ends, Peer, Prints, Row, COLUMNS};

/// A program, as its tests run it.
pub trait Program: Sync {
    /// What is there while a command runs: folders, a host, peers.
    type Scene;

    /// Its name, which is its process's, too.
    const NAME: &'static str;

    /// What a command of it finds.
    fn scene(&self, row: &Row) -> Result<Self::Scene>;

    /// The program with these arguments, in the scene.
    fn command(&self, scene: &Self::Scene, args: &str) -> Command;

    /// The input of a command that gets some.
    fn input(&self, scene: &Self::Scene) -> Result<Stdio>;

    /// Starts what the command needs at its other end.
    fn start_peer(&self, scene: &mut Self::Scene, peer: Peer) -> Result<()>;

    /// Takes away from the scene, or from the command, what a column is without; gives the words
    /// that are in the complaint of who needs it.
    fn take_away(
        &self,
        scene: &mut Self::Scene,
        command: &mut Command,
        column: Column,
    ) -> Result<&'static str>;

    /// What came of it besides.
    fn check(&self, scene: Self::Scene, row: &Row, column: Column, ended: &Ended) -> Result<()>;
}

/// How a command ended, and what came out of it where somebody read that.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// From standard output.
    pub stdout: Option<Vec<u8>>,
    /// From standard error.
    pub stderr: Option<String>,
}

/// Walks all cells of these rows, `threads` at a time.
pub fn walk<P: Program>(program: &P, rows: &[Row], threads: usize) -> Result<()> {
    has_all_verbs(program, rows)?;
    let cells: Vec<_> = rows
        .iter()
        .flat_map(|row| COLUMNS.map(|column| (row, column)))
        .filter(|(row, column)| why_not(row, *column).is_none())
        .collect();
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        while let Some((row, column)) = cells.get(next.fetch_add(1, Ordering::Relaxed)) {
            try_one(program, row, *column)
                .with_context(|| format!("{} {} with {column:?}", P::NAME, row.args))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
    })
}

/// Every verb that its help names has a row.
fn has_all_verbs<P: Program>(program: &P, rows: &[Row]) -> Result<()> {
    let help = rows.iter().find(|row| row.args == "--help");
    let help = help.context("no row asks for help")?;
    let scene = program.scene(help)?;
    let output = program.command(&scene, help.args).output()?;
    let text = String::from_utf8(output.stdout)?;
    let verbs = text.split("Commands:\n").nth(1).context("no verbs")?;
    let verbs = verbs.lines().take_while(|line| !line.is_empty());
    let verbs = verbs.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let mut count = 0;
    for verb in verbs.filter_map(|line| line.split_whitespace().next()) {
        let known = verb == "help" || rows.iter().any(|row| row.verb() == verb);
        ensure!(known, "no row has the verb {verb}");
        count += 1;
    }
    ensure!(count > 5, "{count} verbs in {text}");
    Ok(())
}

fn try_one<P: Program>(program: &P, row: &Row, column: Column) -> Result<()> {
    let mut scene = program.scene(row)?;
    let is_without = matches!(
        column,
        Column::Driverless | Column::Storeless | Column::Forbidden
    );
    // Who waits for a peer waits for a driver, too.
    let args = match is_without {
        true => row.args.replace(" --wait 60", ""),
        false => row.args.into(),
    };
    let mut command = program.command(&scene, &args);
    // Who waits for nobody waits for its output; the others may have an account to give first.
    let stalled = match row.ends {
        Ends::Itself => [Kind::Stalled, Kind::Read],
        _ => [Kind::Read, Kind::Read],
    };
    let (kinds, before) = match column {
        Column::Outputs(kinds) => (kinds, closing(kinds)),
        Column::Signal(_) => (stalled, ":".into()),
        Column::Ignored(signal) => {
            let name = if signal == Signal::HUP { "HUP" } else { "INT" };
            (stalled, format!("trap '' {name}"))
        }
        _ => ([Kind::Read; 2], ":".into()),
    };
    let mut complaint = None;
    if is_without {
        let words = program.take_away(&mut scene, &mut command, column)?;
        complaint = row.needs(column).then_some(words);
    }
    let is_signal = matches!(column, Column::Signal(_) | Column::Ignored(_));
    if is_signal && row.ends == Ends::Signalled {
        program.start_peer(&mut scene, row.peer)?;
    }
    let mut command = shell(&before, &command);
    command.stdin(match row.input {
        true => program.input(&scene)?,
        false => Stdio::null(),
    });
    let running = Running::start(command, kinds)?;
    match column {
        Column::Outputs(_) => program.start_peer(&mut scene, row.peer)?,
        Column::Signal(signal) => running.signal(P::NAME, &[signal])?,
        // Of two that wait the first is taken first, so the second ends it only if the first
        // did not.
        Column::Ignored(signal) => running.signal(P::NAME, &[signal, Signal::TERM])?,
        _ => {}
    }
    let insists = match column {
        Column::Signal(signal) => Some(signal),
        Column::Ignored(_) => Some(Signal::TERM),
        _ => None,
    };
    // Where the account that the first one asks for cannot be written, the next one ends it.
    let insists = insists.filter(|_| kinds[0] == Kind::Stalled);
    let ended = running.end(insists)?;
    judge(row, column, complaint, &ended).with_context(|| format!("{ended:?}"))?;
    program.check(scene, row, column, &ended)
}

/// Whether it ended as the table has it.
fn judge(row: &Row, column: Column, complaint: Option<&str>, ended: &Ended) -> Result<()> {
    let code = match column {
        Column::Signal(signal) | Column::Ignored(signal) => {
            let by = match column {
                Column::Signal(_) => signal,
                _ => Signal::TERM,
            };
            ensure!(ended.status.signal() == Some(by.as_raw()), "not by {by:?}");
            return Ok(());
        }
        Column::Outputs([kind, _]) => {
            let lost = row.prints != Prints::Nothing && kind.fails();
            // Who asked for a report, and went away, has had enough.
            i32::from(lost && !(row.prints == Prints::Report && kind == Kind::Unread))
        }
        _ => i32::from(complaint.is_some()),
    };
    ensure!(ended.status.code() == Some(code), "the code is not {code}");
    // A full disk is told of, in one line; who went away on purpose hears nothing.
    let complaint = match column {
        Column::Outputs([Kind::Full, _]) if code == 1 => Some("No space left"),
        _ => complaint,
    };
    if let Some(said) = &ended.stderr {
        let has = |words| said.lines().filter(|line| line.contains(words)).count();
        ensure!(has("panicked") == 0);
        ensure!(complaint.is_none_or(|words| has(words) == 1));
        let about = usize::from(complaint == Some("No space left"));
        ensure!(has("standard output") == about);
    }
    if let Some(printed) = &ended.stdout {
        let some = row.prints != Prints::Nothing && code == 0;
        ensure!(printed.is_empty() != some, "it prints");
    }
    Ok(())
}

/// Has a shell close what is to be closed.
fn closing(kinds: [Kind; 2]) -> String {
    let close = |(at, kind): (usize, &Kind)| match kind {
        Kind::Closed => format!("exec {}>&-; ", at + 1),
        _ => String::new(),
    };
    let close: String = kinds.iter().enumerate().map(close).collect();
    close + ":"
}

/// The command as a shell starts it that has done `before`.
fn shell(before: &str, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{before}; exec \"$0\" \"$@\"")]);
    shell.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        shell.current_dir(folder);
    }
    shell
}

/// A command that runs; killed when it is dropped.
struct Running {
    child: Child,
    others: Option<[Other; 2]>,
}

impl Running {
    fn start(mut command: Command, kinds: [Kind; 2]) -> Result<Self> {
        let [(stdout, out), (stderr, err)] = [outputs::open(kinds[0])?, outputs::open(kinds[1])?];
        command.stdout(stdout).stderr(stderr);
        Ok(Self {
            child: command.spawn()?,
            others: Some([out, err]),
        })
    }

    /// Sends it these once it is the program.
    fn signal(&self, name: &str, signals: &[Signal]) -> Result<()> {
        let comm = format!("/proc/{}/comm", self.child.id());
        let stat = format!("/proc/{}/stat", self.child.id());
        until("the program runs", || {
            let is_it = std::fs::read_to_string(&comm)?.trim() == name;
            let has_ended = std::fs::read_to_string(&stat)?.contains(") Z ");
            ensure!(is_it || !has_ended, "the shell ended");
            Ok(is_it.then_some(()))
        })?;
        let pid = Pid::from_child(&self.child);
        for signal in signals {
            kill_process(pid, *signal)?;
        }
        Ok(())
    }

    /// Waits for its end, which a signal may have to insist on.
    fn end(mut self, insists: Option<Signal>) -> Result<Ended> {
        let others = self.others.take().context("it has ended")?;
        let id = self.child.id();
        let mut looks = 0;
        let status = until("it ends", || {
            // One that does not block is read once it could not be written: it waits by poll.
            if looks > 400 || is_in_poll(id) {
                others.iter().for_each(Other::release);
            }
            looks += 1;
            let ended = self.child.try_wait()?;
            if let (None, Some(signal)) = (ended, insists) {
                kill_process(Pid::from_child(&self.child), signal)?;
            }
            Ok(ended)
        })?;
        let [stdout, stderr] = others.map(Other::all);
        let stderr = stderr?.map(String::from_utf8).transpose()?;
        Ok(Ended {
            status,
            stdout: stdout?,
            stderr,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After its end there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether any thread of it waits for a descriptor.
fn is_in_poll(id: u32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{id}/task"));
    let tasks = tasks.into_iter().flatten().flatten();
    let mut calls = tasks.map(|task| std::fs::read_to_string(task.path().join("syscall")));
    calls.any(|call| call.is_ok_and(|call| call.starts_with("7 ") || call.starts_with("271 ")))
}
