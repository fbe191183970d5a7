// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command `idts` in a dom0 with the real xenstored, on unix sockets in place of the driver:
//! whom a name means there. The environment names Xen's packages, see `tests/host`.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use anyhow::{ensure, Result};
use idts_host::bed::{finish, until, Bed, SOCKET};
use idts_host::guest::Guest;

/// In place of the driver.
const SOCKETS: &str = "/run/idts";

fn main() -> std::process::ExitCode {
    idts_host::apart::main(&[
        ("names::a_name_is_looked_up", a_name_is_looked_up),
        (
            "names::the_administrators_word_counts_first",
            the_administrators_word_counts_first,
        ),
        (
            "names::two_of_one_name_are_neither",
            two_of_one_name_are_neither,
        ),
        ("names::no_name_harms_another", no_name_harms_another),
        (
            "names::who_is_late_is_waited_for",
            who_is_late_is_waited_for,
        ),
        ("names::a_thousand", a_thousand),
    ])
}

fn host() -> Result<Bed> {
    let bed = Bed::new()?;
    fs::create_dir(SOCKETS)?;
    Ok(bed)
}

/// The command in a domain; no blanks in any argument.
fn idts(domain: u16, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_idts"));
    command
        .args(line.split(' '))
        .env("IDTS_SOCKETS", SOCKETS)
        .env("IDTS_DOMAIN", domain.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs it in dom0 to its end, which is this; gives its complaint.
fn ends(line: &str, code: i32) -> Result<String> {
    let Output { status, stderr, .. } = finish(idts(0, line).spawn()?, line)?;
    let said = String::from_utf8(stderr)?;
    ensure!(status.code() == Some(code), "`{line}`: {status}: {said}");
    Ok(said)
}

/// One who listens; ended by this.
struct Listens {
    child: Child,
    socket: String,
}

impl Listens {
    fn start(domain: u16, line: &str, port: u16) -> Result<Self> {
        let listens = Self {
            child: idts(domain, line).spawn()?,
            socket: format!("{SOCKETS}/{domain}-{port}-0"),
        };
        until("it listens", || {
            Ok(Path::new(&listens.socket).exists().then_some(()))
        })?;
        Ok(listens)
    }

    fn echo(domain: u16) -> Result<Self> {
        Self::start(domain, "echo 7", 7)
    }
}

impl Drop for Listens {
    fn drop(&mut self) {
        // It may have ended, and its socket with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.socket);
    }
}

/// An alias as dom0's administrator gives it: xenstore and driver know it.
fn alias(bed: &mut Bed, id: u16, alias: &str) -> Result<()> {
    alias_alone(id, alias)?;
    bed.dom0
        .write(&format!("/local/domain/0/idts/domain/{id}/alias"), alias)
}

/// By its name or id; who is let in, too.
fn a_name_is_looked_up() -> Result<()> {
    let mut bed = host()?;
    for (id, name) in [(5, "web-5"), (6, "a:b.c_d+e"), (7, "u7")] {
        bed.dom0.domain(id, name)?;
    }
    for (id, name) in [(5, "web-5"), (5, "5"), (6, "a:b.c_d+e"), (0, "Domain-0")] {
        let _echo = Listens::echo(id)?;
        ends(&format!("ping {name}:7 -c 1"), 0)?;
    }
    let said = ends("ping absent:7", 1)?;
    ensure!(said.contains("no domain is called `absent`"), "{said}");
    // Of its beginning, or another case, it is not the name.
    for name in ["web", "web-55", "WEB-5"] {
        ends(&format!("ping {name}:7 -c 1"), 1)?;
    }
    let _echo = Listens::start(0, "echo 7 --from web-5", 7)?;
    let from = |domain| finish(idts(domain, "ping 0:7 -c 1").spawn()?, "ping");
    ensure!(!from(7)?.status.success() && from(5)?.status.success());
    // Of a name that is not there, nobody is let in.
    for verb in ["recv 9 in", "echo 9", "cat -l 9"] {
        let said = ends(&format!("{verb} --from absent"), 1)?;
        ensure!(said.contains("no domain is called `absent`"), "{said}");
    }
    Ok(())
}

/// A name is its giver's choice: that of an alias, and `dom0`, mean nobody else.
fn the_administrators_word_counts_first() -> Result<()> {
    let mut bed = host()?;
    for (id, name) in [(5, "u5"), (6, "web"), (7, "dom0"), (8, "5"), (9, "3")] {
        bed.dom0.domain(id, name)?;
    }
    alias(&mut bed, 5, "web")?;
    for (id, name) in [(5, "web"), (0, "dom0"), (5, "5")] {
        let _echo = Listens::echo(id)?;
        ends(&format!("ping {name}:7 -c 1"), 0)?;
    }
    // Domain 3 is not there, and 9, which is called so, is not meant.
    let _echo = Listens::echo(9)?;
    ends("ping 3:7 -c 1", 1)?;
    for (line, port, out, inside) in [
        ("echo 8 --from web", 8, 6, 5),
        ("echo 9 --from dom0", 9, 7, 0),
        ("echo 10 --from 5", 10, 8, 5),
    ] {
        let _echo = Listens::start(0, line, port)?;
        for (domain, code) in [(out, 1), (inside, 0)] {
            let ping = format!("ping 0:{port} -c 1");
            let status = finish(idts(domain, &ping).spawn()?, &ping)?.status;
            ensure!(status.code() == Some(code), "`{line}`, {domain}: {status}");
        }
    }
    Ok(())
}

/// As during a migration within the host, or by a toolstack that allows it.
fn two_of_one_name_are_neither() -> Result<()> {
    let mut bed = host()?;
    for id in [5, 6] {
        bed.dom0.domain(id, "twin")?;
    }
    bed.dom0.domain(7, "other")?;
    let _echo = Listens::echo(5)?;
    for line in [
        "ping twin:7 -c 1",
        "ping twin:7 --wait 60",
        "cat -l 9 --from twin",
    ] {
        let said = ends(line, 1)?;
        let which = "two domains are called `twin`: 5 and 6";
        ensure!(said.contains(which), "`{line}`: {said}");
    }
    ends("ping 5:7 -c 1", 0)?;
    // An alias that two have is that of neither.
    for id in [6, 7] {
        bed.dom0
            .write(&format!("/local/domain/0/idts/domain/{id}/alias"), "db")?;
    }
    let said = ends("echo 9 --from db", 1)?;
    ensure!(said.contains("no domain is called `db`"), "{said}");
    bed.dom0.destroy(6);
    ends("ping twin:7 -c 1", 0).map(drop)
}

/// Names as a toolstack may give them, nodes of a guest that are no text or many: others are
/// found all the same.
fn no_name_harms_another() -> Result<()> {
    let mut bed = host()?;
    let long = "n".repeat(2000);
    let names: [&[u8]; 8] = [
        b"u9\n",
        b"u9\0",
        b"\x1b[2J",
        b"\xff\xfe",
        b"",
        b"../../u9",
        long.as_bytes(),
        "naïve".as_bytes(),
    ];
    for (id, name) in (10..).zip(names) {
        bed.dom0.domain(id, name)?;
    }
    bed.dom0.domain(9, "u9")?;
    // What is in the folder and no domain's.
    bed.dom0.write("/local/domain/x", "")?;
    bed.dom0
        .write("/local/domain/0/idts/domain/x/alias", "u9")?;
    bed.dom0
        .write("/local/domain/0/idts/domain/11/alias", b"\xff\xfe")?;
    let mut guest = Guest::open(10)?;
    for at in 0..500 {
        guest.write(&format!("data/{at}"), b"\xff")?;
    }
    let _echo = Listens::echo(9)?;
    ends("ping u9:7 -c 1", 0)?;
    drop(Listens::start(0, "echo 8 --from u9", 8)?);
    let absent = "m".repeat(2000);
    for name in [
        "u9\n",
        "\x1b[2J",
        "",
        "../../u9",
        "naïve",
        "-x",
        absent.as_str(),
    ] {
        for line in [format!("ping {name}:7"), format!("echo 9 --from={name}")] {
            let said = finish(idts(0, &line).spawn()?, &line)?;
            let code = if name == absent { 1 } else { 2 };
            ensure!(
                said.status.code() == Some(code),
                "{line:?}: {}",
                said.status
            );
            ensure!(!said.stderr.contains(&0x1b), "{line:?}: {said:?}");
        }
    }
    Ok(())
}

/// The domain, or xenstored, is not there yet.
fn who_is_late_is_waited_for() -> Result<()> {
    let mut bed = host()?;
    let ping = idts(0, "ping late:7 -c 1 --wait 600").spawn()?;
    bed.dom0.domain(5, "late")?;
    let _echo = Listens::echo(5)?;
    let output = finish(ping, "ping")?;
    ensure!(output.status.success(), "{output:?}");
    fs::rename(SOCKET, "/run/xenstored/away")?;
    let said = ends("ping late:7 -c 1", 1)?;
    ensure!(said.contains("cannot look the domain `late` up"), "{said}");
    // Who is known without it is reached.
    alias_alone(5, "web")?;
    ends("ping web:7 -c 1", 0)?;
    ends("ping 5:7 -c 1", 0).map(drop)
}

/// As the driver alone knows it.
fn alias_alone(id: u16, alias: &str) -> Result<()> {
    Ok(fs::write(
        format!("{SOCKETS}/alias.{alias}"),
        id.to_string(),
    )?)
}

/// More than one answer of xenstored has room for.
fn a_thousand() -> Result<()> {
    let mut bed = host()?;
    for id in 10_000..11_000 {
        let name = format!("/local/domain/{id}/name");
        bed.dom0.write(&name, format!("g{id}"))?;
    }
    let _echo = Listens::echo(10_999)?;
    ends("ping g10999:7 -c 1", 0).map(drop)
}
