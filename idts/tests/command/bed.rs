// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the commands run: a folder of sockets of its own for each test, and children that
//! are ended when a test fails.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Only what hangs takes so long.
pub const HUNG: Duration = Duration::from_secs(120);

pub struct Bed {
    folder: TempDir,
}

impl Bed {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sockets")).unwrap();
        Self { folder }
    }

    /// A path for a file of the test.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn sockets(&self) -> PathBuf {
        self.path("sockets")
    }

    /// Makes a file and gives its path.
    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// The command with its arguments, in the test's folder, without input.
    pub fn idts<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_idts"));
        self.equip(&mut command);
        command.args(args);
        command
    }

    /// The command as a shell starts it that has done `before`.
    pub fn idts_after(&self, before: &str, args: &[String]) -> Command {
        let mut command = Command::new("sh");
        self.equip(&mut command);
        let script = format!("{before}; exec \"$0\" \"$@\"");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_idts")]);
        command.args(args);
        command
    }

    /// In the test's folder, with its sockets, without input.
    pub fn equip(&self, command: &mut Command) {
        command
            .env("IDTS_SOCKETS", self.sockets())
            .env_remove("IDTS_DOMAIN")
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
    }

    /// The arguments in a line; no blanks in any of them.
    pub fn line(&self, line: &str) -> Command {
        self.idts(line.split(' '))
    }

    /// Has `out` sent to port 7, which `recv` has; both end well. The end of `recv`.
    pub fn receive(&self, recv: Run) -> Ended {
        Run::piped(&mut self.line("send out 0:7 --wait 60"))
            .end()
            .with(0);
        recv.end().with(0)
    }

    /// Waits until a listener or a group's subscriber is there.
    pub fn wait_for(&self, socket: &str) {
        let path = self.sockets().join(socket);
        let started = Instant::now();
        while !path.exists() {
            assert!(started.elapsed() < HUNG, "{socket} does not come");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// A command that runs; killed when it is dropped.
pub struct Run {
    child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    what: String,
}

pub struct Ended {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Run {
    /// Starts it; outputs that are pipes are collected.
    pub fn start(command: &mut Command) -> Self {
        let what = format!("{:?}", command.get_args().collect::<Vec<_>>());
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().map(collect);
        let stderr = child.stderr.take().map(collect);
        Self {
            child,
            stdout,
            stderr,
            what,
        }
    }

    /// Starts it with both outputs collected.
    pub fn piped(command: &mut Command) -> Self {
        Self::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()))
    }

    /// The same, with input; it ends at once.
    pub fn fed(command: &mut Command, input: &[u8]) -> Self {
        let mut run = Self::piped(command.stdin(Stdio::piped()));
        let mut stdin = run.child.stdin.take().unwrap();
        let input = input.to_vec();
        // What does not want it all need not.
        thread::spawn(move || stdin.write_all(&input));
        run
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub fn id(&self) -> i32 {
        self.child.id() as i32
    }

    /// Waits until it has this file or folder open.
    pub fn wait_until_it_has(&self, path: &Path) {
        let open = format!("/proc/{}/fd", self.id());
        let is_it = |entry: std::fs::DirEntry| {
            std::fs::read_link(entry.path()).is_ok_and(|target| target == path)
        };
        let started = Instant::now();
        while !std::fs::read_dir(&open).is_ok_and(|all| all.flatten().any(is_it)) {
            assert!(started.elapsed() < HUNG, "it does not open {path:?}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.id()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub fn end(mut self) -> Ended {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < HUNG, "{} hangs", self.what);
            thread::sleep(Duration::from_millis(2));
        };
        let collected = |thread: Option<JoinHandle<Vec<u8>>>| {
            thread.map_or_else(Vec::new, |thread| thread.join().unwrap())
        };
        let (stdout, stderr) = (self.stdout.take(), self.stderr.take());
        Ended {
            status,
            stdout: collected(stdout),
            stderr: String::from_utf8(collected(stderr)).unwrap(),
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // After its end there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Checks the code.
    #[track_caller]
    pub fn with(self, code: i32) -> Self {
        let signal = self.status.signal();
        assert_eq!(
            self.status.code(),
            Some(code),
            "signal {signal:?}, it says: {}",
            self.stderr
        );
        self
    }

    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "it says: {}", self.stderr);
        self
    }
}

/// What comes out of a pipe until its end.
pub fn read_all(from: impl Read + Send + 'static) -> Vec<u8> {
    let reading = collect(from);
    let started = Instant::now();
    while !reading.is_finished() {
        assert!(started.elapsed() < HUNG, "the output has no end");
        thread::sleep(Duration::from_millis(2));
    }
    reading.join().unwrap()
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// Content in which each byte depends on its place.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8)
        .collect()
}

pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
