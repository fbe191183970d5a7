// SPDX-License-Identifier: GPL-2.0
//! The emulator's process: its command line, its start, its identity, its end.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{bail, Context, Result};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::process::{kill_process, pidfd_open, pidfd_send_signal, Pid, PidfdFlags, Signal};

use crate::config::Config;
use crate::place::{inherit, Images, Place, State};
use crate::wire::DOM0_PORT;

const PROGRAM: &str = "qemu-system-x86_64";
/// How long a told emulator may take to end before it is killed.
const END: Duration = Duration::from_secs(10);

/// Starts the emulator. It inherits `locks` and outlives us.
pub fn start(
    place: &Place,
    images: &Images,
    config: &Config,
    token: &str,
    locks: &[File],
) -> Result<State> {
    for lock in locks {
        inherit(lock)?;
    }
    let port = free_port()?;
    let log = File::create(place.file("emulator.log"))?;
    let _ = fs::remove_file(place.serial_log());
    let child = Command::new(PROGRAM)
        .args(arguments(place, images, config, port)?)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // Apart from our terminal: Ctrl-C ends us, and we decide what becomes of it.
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {PROGRAM}"))?;
    let pid = child.id() as i32;
    let start_time = start_time(pid).context("the emulator ended at once")?;
    Ok(State {
        pid,
        start_time,
        port,
        token: token.into(),
        config: config.clone(),
    })
}

fn arguments(place: &Place, images: &Images, config: &Config, port: u16) -> Result<Vec<String>> {
    let name = |path: &Path| -> Result<String> {
        let text = path.to_str().context("a path is not UTF-8")?;
        // The emulator takes a comma as the end of a value.
        Ok(text.replace(',', ",,"))
    };
    let mut args = Vec::new();
    let mut add = |option: &str, value: String| {
        args.push(option.to_string());
        args.push(value);
    };
    if config.icount {
        add("-accel", "tcg".into());
        add("-icount", "shift=0,sleep=off,align=off".into());
        // For the profile, which has the emulator say what it executes.
        let monitor = name(&place.monitor())?;
        add("-qmp", format!("unix:{monitor},server=on,wait=off"));
    } else {
        add("-accel", "tcg,thread=multi".into());
    }
    add("-cpu", config.cpu_model().into());
    add("-smp", config.machine_cpus().to_string());
    add("-m", format!("{}M", config.machine_memory()));
    add("-display", "none".into());
    add("-monitor", "none".into());
    add("-serial", format!("file:{}", name(&place.serial_log())?));
    let forward = format!("hostfwd=tcp:127.0.0.1:{port}-:{DOM0_PORT}");
    add(
        "-netdev",
        format!("user,id=host,restrict=on,ipv6=off,{forward}"),
    );
    // Under Xen only the DMA interface yields addresses that the device can use.
    add(
        "-device",
        "virtio-net-pci,netdev=host,disable-legacy=on,iommu_platform=on,romfile=".into(),
    );
    let (kernel, initrd) = (name(&images.kernel)?, name(&place.file("initrd.cpio"))?);
    if config.plain {
        add("-kernel", kernel);
        add("-append", "console=ttyS0 net.ifnames=0".into());
        add("-initrd", initrd);
    } else {
        add("-kernel", images.xen.display().to_string());
        add("-append", config.xen_options());
        add(
            "-initrd",
            format!("{kernel} console=hvc0 net.ifnames=0,{initrd}"),
        );
    }
    args.push("-no-reboot".into());
    args.push("-nodefaults".into());
    Ok(args)
}

/// A port that was free just now.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// Whether the emulator of `state` still runs.
pub fn is_running(state: &State) -> bool {
    start_time(state.pid) == Some(state.start_time)
}

/// Whether it runs and was started by this very process.
pub fn is_child(state: &State) -> bool {
    let parent = stat_fields(state.pid).and_then(|fields| fields.get(1)?.parse().ok());
    is_running(state) && parent == Some(std::process::id())
}

/// When the process started; `None` when there is none, or only its remains. A first thread that
/// has ended is not the process: the others may still hold memory, files and locks.
fn start_time(pid: i32) -> Option<u64> {
    let fields = stat_fields(pid)?;
    let threads: u32 = fields.get(17)?.parse().ok()?;
    if threads <= 1 && matches!(fields.first()?.as_str(), "Z" | "X") {
        return None;
    }
    fields.get(19)?.parse().ok()
}

/// What the kernel tells of a process, from the third field, its state, on.
fn stat_fields(pid: i32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in brackets, which may hold anything.
    Some(
        stat.rsplit_once(')')?
            .1
            .split_whitespace()
            .map(String::from)
            .collect(),
    )
}

/// Ends the emulator and returns when it has ended.
pub fn stop(state: &State) -> Result<()> {
    let Some(pid) = Pid::from_raw(state.pid) else {
        bail!("state.json is damaged");
    };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else {
        return Ok(());
    };
    // The handle keeps the id from being given to another process: check once we have it.
    if !is_running(state) {
        return Ok(());
    }
    for signal in [Signal::TERM, Signal::KILL] {
        if pidfd_send_signal(&handle, signal).is_err() {
            kill_process(pid, signal)?;
        }
        let mut fds = [PollFd::new(&handle, PollFlags::IN)];
        let limit = Timespec {
            tv_sec: END.as_secs() as i64,
            tv_nsec: 0,
        };
        if poll(&mut fds, Some(&limit))? > 0 {
            return Ok(());
        }
    }
    bail!("process {} does not end", state.pid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::Child;
    use std::thread;

    /// A process whose first thread ends while another one goes on.
    const HEADLESS: &str = "\
import ctypes, os, threading, time
threading.Thread(target=time.sleep, args=(600,)).start()
os.write(1, b'ready\\n')
ctypes.CDLL(None).pthread_exit(None)
";

    struct Killed(Child);

    impl Drop for Killed {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_process_has_ended_when_all_of_it_has() {
        let mut command = Command::new("python3");
        command.args(["-c", HEADLESS]).stdout(Stdio::piped());
        let mut child = Killed(command.stderr(Stdio::null()).spawn().unwrap());
        let pid = child.0.id() as i32;
        let mut ready = String::new();
        let mut output = BufReader::new(child.0.stdout.take().unwrap());
        output.read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        while stat_fields(pid).unwrap()[0] != "Z" {
            thread::sleep(Duration::from_millis(1));
        }
        let state = State {
            pid,
            start_time: start_time(pid).expect("it is taken for gone"),
            port: 0,
            token: String::new(),
            config: Config::default(),
        };
        assert!(is_running(&state));
        stop(&state).unwrap();
        assert!(!is_running(&state));
        // Its pipe has no other end any more.
        assert_eq!(output.read_line(&mut ready).unwrap(), 0);
    }
}
