// SPDX-License-Identifier: GPL-2.0
//! Where a testbed is kept: the images it boots, its state, and the locks.
//!
//! Both locks are held by the emulator itself, through files that it inherits. So they last exactly
//! as long as it does, however it ends.

use std::env;
use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use rustix::fs::{flock, FlockOperation};
use rustix::io::{fcntl_setfd, FdFlags};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::tell::Tell;

/// What the entry script hands over.
#[derive(Clone, Debug)]
pub struct Images {
    /// Xen, unpacked.
    pub xen: PathBuf,
    /// The kernel of all domains.
    pub kernel: PathBuf,
    /// dom0's file system.
    pub dom0: PathBuf,
    /// Agent, modules and programs, laid over the file systems of all domains.
    pub dist: PathBuf,
}

impl Images {
    /// As the environment names them.
    pub fn from_env() -> Result<Images> {
        let get = |name: &str| {
            let path = env::var_os(name).with_context(|| {
                format!("{name} is not set: start the testbed by scripts/testbed up")
            })?;
            let path = PathBuf::from(path);
            anyhow::ensure!(
                path.is_file(),
                "{name}: there is no file {}",
                path.display()
            );
            Ok(path)
        };
        Ok(Images {
            xen: get("IDTS_XEN")?,
            kernel: get("IDTS_VMLINUZ")?,
            dom0: get("IDTS_DOM0_CPIO")?,
            dist: get("IDTS_DIST_CPIO")?,
        })
    }
}

/// What is known of a running testbed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// Process of the emulator.
    pub pid: i32,
    /// When that process started, as the kernel counts; with the id it names one process for good.
    pub start_time: u64,
    /// TCP port on this host that leads to dom0's agent.
    pub port: u16,
    /// Secret of that port.
    pub token: String,
    /// What was asked for.
    pub config: Config,
}

/// The file that says of a folder that it is a testbed's; scripts/lib/state.sh knows it too.
const MARK: &str = ".idts-testbed";

/// The folder of one testbed.
#[derive(Clone, Debug)]
pub struct Place {
    dir: PathBuf,
    cache: PathBuf,
}

impl Place {
    /// As the environment names it: `IDTS_STATE`, else `target/testbed` below the current folder.
    pub fn from_env() -> Place {
        let dir = env::var_os("IDTS_STATE").map_or("target/testbed".into(), PathBuf::from);
        let cache = env::var_os("IDTS_CACHE").map_or_else(default_cache, PathBuf::from);
        Place {
            dir: std::path::absolute(&dir).unwrap_or(dir),
            cache,
        }
    }

    /// A file of this testbed.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// What Xen and dom0 said on the serial line.
    pub fn serial_log(&self) -> PathBuf {
        self.file("serial.log")
    }

    /// The socket of the emulator's monitor, where instructions are counted.
    pub fn monitor(&self) -> PathBuf {
        self.file("monitor")
    }

    /// Makes the folder, for this user only: it holds the token. One that is there is changed in
    /// nothing, and taken only if it bears our mark, or is empty and not for others to write.
    pub fn create(&self) -> Result<()> {
        let dir = self.dir.display();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .with_context(|| format!("cannot make {dir}"))?;
        let mark = self.file(MARK);
        if mark.exists() {
            return Ok(());
        }
        let is_shared = fs::metadata(&self.dir)?.permissions().mode() & 0o022 != 0;
        ensure!(
            !is_shared && fs::read_dir(&self.dir)?.next().is_none(),
            "IDTS_STATE: {dir} is not a testbed's folder, and not an empty one of this user alone"
        );
        File::create_new(&mark).with_context(|| format!("cannot write {}", mark.display()))?;
        Ok(())
    }

    /// The lock of this testbed, to be inherited; `None` when an emulator holds it.
    pub fn lock(&self) -> Result<Option<File>> {
        try_lock(&self.file("lock"))
    }

    /// Whether an emulator runs for this testbed.
    pub fn is_running(&self) -> Result<bool> {
        Ok(self.dir.is_dir() && self.lock()?.is_none())
    }

    /// The lock of all emulators of this user, to be inherited; waits for it, saying so.
    /// `IDTS_EMULATORS` is how many may run at once, 1 without it: figures want the machine
    /// for themselves.
    pub fn emulator_lock(&self, tell: Tell<'_>) -> Result<File> {
        fs::create_dir_all(&self.cache)?;
        let paths = emulator_locks(&self.cache)?;
        let mut told = false;
        loop {
            for path in &paths {
                if let Some(file) = try_lock(path)? {
                    return Ok(file);
                }
            }
            if !told {
                tell("as many emulators as allowed run on this machine; waiting for one to end");
            }
            told = true;
            // Whichever ends first will do, so there is no one lock to wait for.
            thread::sleep(Duration::from_millis(500));
        }
    }

    /// Keeps the state.
    pub fn save(&self, state: &State) -> Result<()> {
        let mut file = private_file(&self.file("state.json"))?;
        file.write_all(&serde_json::to_vec_pretty(state)?)?;
        Ok(())
    }

    /// The state, if it was kept.
    pub fn load(&self) -> Result<Option<State>> {
        match fs::read(self.file("state.json")) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text).context("state.json")?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context("state.json"),
        }
    }

    /// Removes what is of no use once the emulator has ended; logs stay.
    pub fn clear(&self) {
        for name in ["state.json", "initrd.cpio"] {
            // It may not be there.
            let _ = fs::remove_file(self.file(name));
        }
    }
}

/// A new file that only this user can read.
pub fn private_file(path: &Path) -> Result<File> {
    // One that is there might be readable for others.
    let _ = fs::remove_file(path);
    let options = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    options.with_context(|| format!("cannot write {}", path.display()))
}

fn default_cache() -> PathBuf {
    let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || PathBuf::from(env::var_os("HOME").unwrap_or("/root".into())).join(".cache");
    base.unwrap_or_else(home).join("idts-testbed")
}

/// The locks that emulators hold, as many as may run at once.
fn emulator_locks(cache: &Path) -> Result<Vec<PathBuf>> {
    let count = match env::var("IDTS_EMULATORS") {
        Ok(text) => text.parse().ok().filter(|n| *n > 0),
        Err(_) => Some(1u32),
    };
    let count = count.context("IDTS_EMULATORS is not a number from 1")?;
    Ok((0..count)
        .map(|n| cache.join(format!("emulator.{n}.lock")))
        .collect())
}

fn try_lock(path: &Path) -> Result<Option<File>> {
    let file = open_lock(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

fn open_lock(path: &Path) -> Result<File> {
    let options = File::options().create(true).append(true).open(path);
    options.with_context(|| format!("cannot open {}", path.display()))
}

/// Has the next programs that we start hold this file, and with it the lock, open.
pub fn inherit(file: &impl AsFd) -> Result<()> {
    Ok(fcntl_setfd(file, FdFlags::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;

    fn place(dir: &Path) -> Place {
        let (dir, cache) = (dir.to_path_buf(), PathBuf::new());
        Place { dir, cache }
    }

    fn mode(dir: &Path) -> u32 {
        fs::metadata(dir).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_folder_that_is_not_ours_stays_as_it_is() {
        let work = env::temp_dir().join(format!("idts-place-{}", std::process::id()));
        let used = work.join("used");
        fs::create_dir_all(used.join("of others")).unwrap();
        fs::set_permissions(&used, Permissions::from_mode(0o1777)).unwrap();
        assert!(place(&used).create().is_err());
        fs::remove_dir(used.join("of others")).unwrap();
        assert!(place(&used).create().is_err(), "all may write there");
        assert_eq!(mode(&used), 0o1777);
        fs::set_permissions(&used, Permissions::from_mode(0o755)).unwrap();
        place(&used).create().unwrap();
        assert_eq!(mode(&used), 0o755);
        fs::write(used.join("state.json"), "").unwrap();
        place(&used).create().unwrap();
        let new = work.join("new");
        place(&new).create().unwrap();
        assert_eq!(mode(&new), 0o700);
        fs::remove_dir_all(work).unwrap();
    }
}
