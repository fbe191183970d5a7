// SPDX-License-Identifier: GPL-2.0
//! A host whose xenstored is the real one of Xen's packages, on a stub of Xen (`stub.c`), with a
//! dom0 and without guests.
//!
//! The environment names the folder with Xen's packages: `IDTS_TREE`, which scripts/test knows.

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use rustix::mount::{mount, MountFlags};

use crate::dom0::Dom0;

/// Whatever takes longer hangs.
pub const HUNG: Duration = Duration::from_secs(300);
/// How often is looked whether something has happened.
pub const LOOK: Duration = Duration::from_millis(5);

/// Where xenstored listens.
pub const SOCKET: &str = "/run/xenstored/socket";

/// A host, which ends with this.
pub struct Bed {
    xenstored: Child,
    /// Its toolstack.
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
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/stub.c");
    // Beside the test program.
    let to = std::env::current_exe()?.with_extension("stub.so");
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
