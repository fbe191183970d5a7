// SPDX-License-Identifier: GPL-2.0
//! Files into a domain and out of it. A file appears whole or not at all.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{ensure, Context, Result};

use crate::place::private_file;
use crate::running::{spec, Testbed};
use crate::session::{own, Streams};

/// What of a file's mode crosses: not that it runs as another user or group, nor is sticky.
const PLAIN: u32 = 0o777;

/// Takes standard input into file $1, or into that folder under name $2, with mode $3 and size $4.
const RECEIVE: &str = r#"to=$1
case $to in */) to=$to$2 ;; *) [ ! -d "$to" ] || to=$to/$2 ;; esac
part=$to.part.$$
cat >"$part" && [ "$(stat -c %s "$part")" = "$4" ] && chmod "$3" "$part" && mv -f "$part" "$to" ||
{ rm -f "$part"; exit 1; }"#;

impl Testbed {
    /// Copies a file of this machine into a domain; `to` may be a folder.
    pub fn push(&self, from: &Path, domain: &str, to: &str) -> Result<()> {
        let context = || from.display().to_string();
        let file = File::open(from).with_context(context)?;
        let about = file.metadata().with_context(context)?;
        ensure!(about.is_file(), "{}: not a file", from.display());
        let name = from.file_name().unwrap_or_default().to_string_lossy();
        let mode = format!("{:o}", about.permissions().mode() & PLAIN);
        let size = about.len().to_string();
        let argv = ["sh", "-c", RECEIVE, "push", to, &name, &mode, &size];
        let spec = spec(argv.map(String::from).to_vec())?;
        let error = File::options().write(true).open("/dev/null")?;
        let (said, stderr) = std::io::pipe()?;
        let streams = Streams {
            stdin: Some(file.into()),
            stdout: error.into(),
            stderr: stderr.into(),
        };
        let child = self.spawn_with(domain, &spec, streams)?;
        let said = std::io::read_to_string(said)?;
        let code = child.wait()?;
        ensure!(
            code == 0,
            "cannot write {to} in {domain}: {}",
            said.trim_end()
        );
        Ok(())
    }

    /// Writes a file in a domain.
    pub fn write(&self, domain: &str, to: &str, content: &[u8]) -> Result<()> {
        let size = content.len().to_string();
        let argv = ["sh", "-c", RECEIVE, "push", to, "file", "644", &size];
        self.exec_with(domain, &argv, content)?
            .check(&format!("writing {to} in {domain}"))?;
        Ok(())
    }

    /// Copies a file of a domain to this machine; `to` may be a folder.
    pub fn pull(&self, domain: &str, from: &str, to: &Path) -> Result<()> {
        let name = Path::new(from)
            .file_name()
            .with_context(|| format!("{from}: not a file"))?;
        let to = if to.is_dir() {
            to.join(name)
        } else {
            to.to_path_buf()
        };
        let mut part = to.clone().into_os_string();
        part.push(format!(".part.{}", std::process::id()));
        let part = Path::new(&part);
        let done = self.pull_into(domain, from, private_file(part)?);
        let done = done.and_then(|()| Ok(fs::rename(part, &to)?));
        done.inspect_err(|_| drop(fs::remove_file(part)))
    }

    fn pull_into(&self, domain: &str, from: &str, file: File) -> Result<()> {
        // The mode comes first, on standard error: it is small, and the content is binary.
        let script = r#"mode=$(stat -Lc %a "$0") && echo "mode $mode" >&2 && exec cat "$0""#;
        let spec = spec(["sh", "-c", script, from].map(String::from).to_vec())?;
        let (said, stderr) = std::io::pipe()?;
        let streams = Streams {
            stdin: None,
            stdout: own(&file)?,
            stderr: stderr.into(),
        };
        let child = self.spawn_with(domain, &spec, streams)?;
        let said = std::io::read_to_string(said)?;
        let code = child.wait()?;
        ensure!(
            code == 0,
            "cannot read {from} in {domain}: {}",
            said.trim_end()
        );
        file.set_permissions(fs::Permissions::from_mode(mode(&said)))?;
        Ok(())
    }
}

/// The mode that a domain says a file has. A program that it sends runs as nobody but its caller.
fn mode(said: &str) -> u32 {
    let mode = said.lines().find_map(|line| line.strip_prefix("mode "));
    let mode = mode.and_then(|mode| u32::from_str_radix(mode.trim(), 8).ok());
    mode.map_or(0o644, |mode| mode & PLAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_domain_makes_a_setuid_program() {
        assert_eq!(mode("mode 6755\n"), 0o755);
        assert_eq!(mode("mode 1777\n"), 0o777);
        assert_eq!(mode("mode 37777777777\n"), 0o777);
        assert_eq!((mode("mode x\n"), mode("")), (0o644, 0o644));
    }
}
