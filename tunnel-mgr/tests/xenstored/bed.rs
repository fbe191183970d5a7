// SPDX-License-Identifier: GPL-2.0
//! A xenstored with a dom0, and `tunnel-mgr` in it.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{channel, Receiver};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use rustix::mount::{mount, MountFlags};

use crate::dom0::Dom0;

/// Whatever takes longer hangs.
pub const HUNG: Duration = Duration::from_secs(300);
/// How often is looked whether something has happened.
pub const LOOK: Duration = Duration::from_millis(5);

pub const SOCKET: &str = "/run/xenstored/socket";

/// A host, which ends with this.
pub struct Bed {
    xenstored: Child,
    pub dom0: Dom0,
}

impl Bed {
    /// A host without guests.
    pub fn new() -> Result<Self> {
        for folder in ["/run", "/sys"] {
            mount("tmpfs", folder, "tmpfs", MountFlags::empty(), None)
                .with_context(|| format!("a tmpfs on {folder}"))?;
        }
        fs::create_dir_all("/run/xenstored")?;
        fs::create_dir_all("/run/xen")?;
        fs::write("/run/xen/port", "1")?;
        let mut xenstored = start_xenstored()?;
        let dom0 = until("xenstored listens", || {
            if let Some(status) = xenstored.try_wait()? {
                bail!("xenstored ended: {status}");
            }
            Ok(UnixStream::connect(SOCKET).ok())
        });
        let dom0 = dom0.and_then(Dom0::new);
        match dom0 {
            Ok(dom0) => Ok(Self { xenstored, dom0 }),
            Err(error) => {
                let _ = xenstored.kill();
                Err(error)
            }
        }
    }

    /// What the driver would show, or hold, in /sys.
    pub fn sys(&self, path: &str, text: &str) -> Result<()> {
        let path = Path::new("/sys").join(path);
        fs::create_dir_all(path.parent().context("no folder")?)?;
        Ok(fs::write(path, text)?)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = self.xenstored.kill();
        let _ = self.xenstored.wait();
        for folder in ["/run", "/sys"] {
            let _ = rustix::mount::unmount(folder, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

/// Runs the daemon with its own libraries, for this system has none of Xen's.
fn start_xenstored() -> Result<Child> {
    let tree = std::env::var_os("IDTS_TREE");
    let tree = PathBuf::from(tree.context("IDTS_TREE does not name Xen's packages")?);
    let libraries = tree.join("usr/lib/x86_64-linux-gnu");
    let mut programs = fs::read_dir(tree.join("usr/lib"))
        .with_context(|| format!("{} has no packages", tree.display()))?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin/xenstored")))
        .filter(|path| path.exists());
    let program = programs
        .next()
        .context("Xen's packages have no xenstored")?;
    Command::new(libraries.join("ld-linux-x86-64.so.2"))
        .arg("--library-path")
        .arg(&libraries)
        .arg("--preload")
        .arg(stub()?)
        .arg(program)
        .arg("--no-fork")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run xenstored")
}

/// Builds the stub, once.
fn stub() -> Result<PathBuf> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/xenstored/stub.c");
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join("xen-stub.so");
    let changed = |path: &Path| fs::metadata(path).and_then(|about| about.modified()).ok();
    if changed(&to) < changed(Path::new(source)) {
        let output = Command::new("cc")
            .args(["-O1", "-shared", "-fPIC", "-o"])
            .arg(&to)
            .arg(source)
            .output()
            .context("cannot run cc")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the stub does not build: {said}");
    }
    Ok(to)
}

/// Waits until something holds, or nobody can believe that it will.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + HUNG;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "hung: {what} never holds");
        sleep(LOOK);
    }
}

/// `tunnel-mgr` with these arguments.
pub fn program(args: &[&str]) -> Command {
    let program = std::env::var_os("IDTS_PROGRAM");
    let mut command = Command::new(program.unwrap_or(env!("CARGO_BIN_EXE_tunnel-mgr").into()));
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub fn run(args: &[&str]) -> Result<Output> {
    let child = program(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    finish(child, &args.join(" "))
}

/// What a program says until its end, which comes.
pub fn finish(mut child: Child, what: &str) -> Result<Output> {
    let reader = |pipe: Option<Box<dyn Read + Send>>| {
        spawn(move || {
            let mut text = Vec::new();
            if let Some(mut pipe) = pipe {
                let _ = pipe.read_to_end(&mut text);
            }
            text
        })
    };
    let stdout = reader(child.stdout.take().map(|pipe| Box::new(pipe) as _));
    let stderr = reader(child.stderr.take().map(|pipe| Box::new(pipe) as _));
    let status = until(what, || Ok(child.try_wait()?));
    if status.is_err() {
        let _ = child.kill();
    }
    Ok(Output {
        status: status?,
        stdout: stdout.join().unwrap_or_default(),
        stderr: stderr.join().unwrap_or_default(),
    })
}

/// Runs it, which succeeds; gives what it says.
pub fn done(args: &[&str]) -> Result<String> {
    let output = run(args)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "`{}` ends with {}: {said}",
        args.join(" "),
        output.status
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// Runs it, which fails as it should, with 1; gives its complaint.
pub fn refused(args: &[&str]) -> Result<String> {
    let output = run(args)?;
    let code = output.status.code();
    ensure!(code == Some(1), "`{}` ends with {code:?}", args.join(" "));
    Ok(String::from_utf8(output.stderr)?)
}

/// A `tunnel-mgr watch`, which ends with this.
pub struct Watch {
    child: Child,
    lines: Receiver<String>,
    pub said: Vec<String>,
}

impl Watch {
    /// Starts it with these arguments, and waits until it watches.
    pub fn start(args: &[&str]) -> Result<Self> {
        let by_itself = program(&[&["watch"], args].concat());
        // Whatever whoever runs the tests has ignored.
        let mut command = Command::new("env");
        command.arg("--default-signal=HUP,INT,TERM");
        command
            .arg(by_itself.get_program())
            .args(by_itself.get_args());
        command.stdin(Stdio::null());
        Self::start_by(command)
    }

    /// The same by a command that runs it.
    pub fn start_by(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (sender, lines) = channel();
        let pipes: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|pipe| Box::new(pipe) as _),
            child.stderr.take().map(|pipe| Box::new(pipe) as _),
        ];
        for pipe in pipes.into_iter().flatten() {
            let sender = sender.clone();
            spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        let mut watch = Self {
            child,
            lines,
            said: Vec::new(),
        };
        watch.until_said("watching")?;
        Ok(watch)
    }

    /// All that it has said until now.
    pub fn listen(&mut self) -> &[String] {
        self.said.extend(self.lines.try_iter());
        &self.said
    }

    /// Waits until it says a line with these words in it.
    pub fn until_said(&mut self, words: &str) -> Result<()> {
        let found = until(&format!("watch says `{words}`"), || {
            if let Some(status) = self.child.try_wait()? {
                bail!("watch ended: {status}: {:?}", self.listen());
            }
            Ok(self
                .listen()
                .iter()
                .any(|line| line.contains(words))
                .then_some(()))
        });
        found.with_context(|| format!("it says {:?}", self.said))
    }

    pub fn is_alive(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        Ok(rustix::process::kill_process(pid, signal)?)
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Result<std::process::ExitStatus> {
        until("watch ends", || Ok(self.child.try_wait()?))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
