// SPDX-License-Identifier: GPL-2.0
//! What the instructions of a round trip and of a transfer go to: by domain and by function, as the
//! emulator's plugin counted them (tests/profile/count.c). Each domain has a CPU of its own, so the
//! CPU tells the domain; the address tells user, kernel and Xen.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{ensure, Context, Result};

use crate::bed::{top, Bed};
use crate::cases::MODES;
use crate::system::System;

/// What is profiled: as the load takes it, and the number of operations in it.
const CASES: [(&str, u64); 3] = [
    ("rtt:1:300", 300),
    ("send:65536:256", 256),
    ("recv:65536:256", 256),
];
const RING: u32 = 1 << 20;
/// Functions that are shown of each domain.
const SHOWN: usize = 45;

/// Functions of a kernel, by address.
type Symbols = BTreeMap<u64, String>;

/// Where scripts/profile has the plugin write.
fn counts_file() -> PathBuf {
    top().join("target/bench/counts")
}

/// Profiles IDTS in all its modes and prints what came of it.
pub fn profile(bed: &Bed) -> Result<()> {
    let system = System::Idts { ring: RING };
    let cases = CASES.map(|(case, _)| case.to_string());
    for mode in MODES {
        bed.load_modules(mode.poll_us)?;
        let symbols = [symbols(bed, "dom0")?, symbols(bed, "u1")?];
        // The plugin opens it anew for each of its reports.
        let _ = fs::remove_file(counts_file());
        bed.run(&system, "dom0", "u1", &cases)?;
        let counts = fs::read_to_string(counts_file()).context("the plugin wrote nothing")?;
        bed.unload_modules()?;
        let reports: Vec<_> = counts.split("mark\n").skip(1).collect();
        ensure!(reports.len() == CASES.len(), "{} reports", reports.len());
        for ((case, n), report) in CASES.iter().zip(reports) {
            println!("== {} {case}: instructions of one", mode.name);
            print(report, *n, &symbols);
        }
    }
    Ok(())
}

fn symbols(bed: &Bed, domain: &str) -> Result<Symbols> {
    let text = bed.tb.sh(domain, "cat /proc/kallsyms")?.stdout_text();
    Ok(text.lines().filter_map(symbol).collect())
}

/// `ADDRESS TYPE NAME [MODULE]`
fn symbol(line: &str) -> Option<(u64, String)> {
    let mut words = line.split_whitespace();
    let address = u64::from_str_radix(words.next()?, 16).ok()?;
    let kind = words.next()?;
    let name = words.next()?;
    matches!(kind, "t" | "T" | "w" | "W").then(|| (address, name.to_string()))
}

/// The function that an address belongs to.
fn function(address: u64, symbols: &Symbols) -> String {
    match address {
        0..0x8000_0000_0000 => "user".into(),
        // Where Xen itself lies (Xen's asm/config.h).
        0xffff_8000_0000_0000..0xffff_8800_0000_0000 => "xen".into(),
        _ => symbols
            .range(..=address)
            .next_back()
            .map_or("unknown".into(), |(_, name)| name.clone()),
    }
}

fn print(report: &str, n: u64, symbols: &[Symbols; 2]) {
    let mut functions: [BTreeMap<String, u64>; 2] = Default::default();
    for line in report.lines() {
        let Some((cpu, address, count)) = parse(line) else {
            continue;
        };
        let cpu = cpu.min(1);
        let name = function(address, &symbols[cpu]);
        *functions[cpu].entry(name).or_default() += count;
    }
    for (domain, functions) in ["dom0", "guest"].iter().zip(functions) {
        let total: u64 = functions.values().sum();
        println!("-- {domain}: {:.0}", per(total, n));
        let mut sorted: Vec<_> = functions.into_iter().collect();
        sorted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        for (name, count) in sorted.into_iter().take(SHOWN) {
            println!("{:>9.1} {}", per(count, n), readable(&name));
        }
    }
}

fn per(count: u64, n: u64) -> f64 {
    count as f64 / n as f64
}

fn parse(line: &str) -> Option<(usize, u64, u64)> {
    let mut words = line.split_whitespace();
    let cpu = words.next()?.parse().ok()?;
    let address = u64::from_str_radix(words.next()?, 16).ok()?;
    Some((cpu, address, words.next()?.parse().ok()?))
}

/// The path in a mangled Rust name, without its hashes; other names as they are.
fn readable(name: &str) -> String {
    if !name.starts_with("_R") {
        return name.into();
    }
    let mut parts = Vec::new();
    let mut rest = name;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        rest = &rest[at..];
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let length: usize = rest[..digits].parse().unwrap_or(0);
        let start = digits + usize::from(rest[digits..].starts_with('_'));
        match rest.get(start..start + length) {
            Some(part)
                if length > 1
                    && part.starts_with(|c: char| {
                        c.is_ascii_lowercase() || c == '_' || c.is_ascii_uppercase()
                    }) =>
            {
                parts.push(part);
                rest = &rest[start + length..];
            }
            _ => rest = &rest[digits..],
        }
    }
    parts.join("::")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_functions() {
        let line = "ffffffff81000000 T startup";
        let symbols: Symbols = symbol(line).into_iter().collect();
        assert_eq!(function(0xffff_ffff_8100_0010, &symbols), "startup");
        assert_eq!(function(0x40_1000, &symbols), "user");
        assert_eq!(function(0xffff_82d0_4020_0000, &symbols), "xen");
        assert_eq!(symbol("ffffffff81000000 D data"), None);
    }

    #[test]
    fn rust_names_are_readable() {
        let name = "_RNvMNtCs1a_11idts_kernel7channelNtB2_7Channel8try_read";
        assert_eq!(readable(name), "idts_kernel::channel::Channel::try_read");
        assert_eq!(readable("mutex_lock"), "mutex_lock");
    }
}
