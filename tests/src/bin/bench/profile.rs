// SPDX-License-Identifier: GPL-2.0
//! What the instructions of a round trip, of a transfer, of a message and of a connection go to: by domain and by function, as the
//! emulator tells them one by one. Each domain has a CPU of its own, so the CPU tells the domain;
//! the address tells programs, kernel and Xen.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{ensure, Context, Result};

use crate::bed::Bed;
use crate::cases::MODES;
use crate::figure::Case;
use crate::system::System;

/// What is profiled: the case of the bench that it belongs to, what the load runs, and the file
/// operation of ours in the domain whose calls are counted.
const CASES: [(Case, &str, usize, &str); 6] = [
    (Case::Rtt, "rtt:1:1000000", 0, "write_iter"),
    (Case::Rtt, "trip:1:1000000", 0, "ioctl"),
    (Case::Bulk, "send:65536:1000000", 0, "write_iter"),
    (Case::Bulk, "recv:65536:1000000", 1, "write_iter"),
    (Case::Messages, "send:64:100000000", 0, "write_iter"),
    (Case::Setup, "1000000", 0, "open"),
];
const RING: u32 = 1 << 20;
/// Bytes of a trace: some hundred thousand instructions.
const TRACE: u64 = 60 << 20;
/// Functions that are shown of each domain.
const SHOWN: usize = 45;
/// How long a case runs before it is looked at: it has long found its pace.
const BEFORE: Duration = Duration::from_secs(3);

/// Functions of a kernel and of Xen, by address.
type Symbols = BTreeMap<u64, String>;

/// Profiles IDTS in all its modes and prints what came of it.
pub fn profile(bed: &Bed, wants: impl Fn(Case) -> bool) -> Result<()> {
    let trace = bed.tb.place().file("trace");
    let xen = xen_symbols(bed)?;
    for mode in MODES {
        bed.load_modules(&mode)?;
        let mut symbols = [symbols(bed, "dom0")?, symbols(bed, "u1")?];
        symbols.iter_mut().for_each(|all| all.extend(xen.clone()));
        for (kind, case, domain, counted) in CASES {
            if !wants(kind) {
                continue;
            }
            let system = System::Idts { ring: RING };
            let name = system.name().to_string();
            let is_setup = kind == Case::Setup;
            let service = if is_setup { "greet" } else { "serve" };
            let service = bed.serve(service, &system, "u1", "dom0")?;
            let run = ["run", &name, &service.to, "1", case];
            let setup = ["setup", &name, &service.to, case];
            let caller = bed.spawn("dom0", if is_setup { &setup } else { &run })?;
            thread::sleep(BEFORE);
            let traced = bed.tb.monitor()?.trace(&trace, TRACE);
            drop((caller, service));
            traced?;
            let counts = Counts::read(&trace, &symbols, (domain, counted))?;
            println!("== {} {kind} {case}: instructions of one", mode.name);
            counts.print();
        }
        bed.unload_modules()?;
    }
    let _ = fs::remove_file(trace);
    Ok(())
}

fn symbols(bed: &Bed, domain: &str) -> Result<Symbols> {
    let text = bed.tb.sh(domain, "cat /proc/kallsyms")?.stdout_text();
    Ok(text.lines().filter_map(symbol).collect())
}

/// Xen tells its own to dom0's kernel; no domain has code at its addresses.
fn xen_symbols(bed: &Bed) -> Result<Symbols> {
    let text = bed.tb.sh("dom0", "cat /proc/xen/xensyms")?.stdout_text();
    Ok(text.lines().filter_map(xen_symbol).collect())
}

/// As [`symbol`], named as Xen's.
fn xen_symbol(line: &str) -> Option<(u64, String)> {
    symbol(line).map(|(address, name)| (address, format!("Xen: {name}")))
}

/// `ADDRESS TYPE NAME [MODULE]`
fn symbol(line: &str) -> Option<(u64, String)> {
    let mut words = line.split_whitespace();
    let address = u64::from_str_radix(words.next()?, 16).ok()?;
    let kind = words.next()?;
    let name = words.next()?;
    // The padding before a function has a name of its own.
    let is_code = matches!(kind, "t" | "T" | "w" | "W") && !name.starts_with("__pfx_");
    is_code.then(|| (address, name.to_string()))
}

/// The function that an address belongs to.
fn function(address: u64, symbols: &Symbols) -> &str {
    match address {
        0..0x8000_0000_0000 => "programs",
        _ => symbols
            .range(..=address)
            .next_back()
            .map_or("unknown", |(_, name)| name),
    }
}

/// Instructions of both domains, by address.
struct Counts {
    functions: [BTreeMap<String, u64>; 2],
    /// How often the case was run.
    rounds: u64,
}

impl Counts {
    fn read(trace: &Path, symbols: &[Symbols; 2], counted: (usize, &str)) -> Result<Counts> {
        let start = symbols[counted.0]
            .iter()
            .find(|(_, name)| is_operation(name, counted.1))
            .with_context(|| format!("no function is called {}", counted.1))?;
        let mut addresses: [HashMap<u64, u64>; 2] = Default::default();
        for line in BufReader::new(File::open(trace)?).lines() {
            // The last line may be cut.
            if let Some((cpu, address)) = parse(&line?) {
                *addresses[cpu.min(1)].entry(address).or_default() += 1;
            }
        }
        let rounds = addresses[counted.0].get(start.0).copied().unwrap_or(0);
        ensure!(rounds > 0, "{} was never called", counted.1);
        let mut functions: [BTreeMap<String, u64>; 2] = Default::default();
        for (cpu, addresses) in addresses.into_iter().enumerate() {
            for (address, count) in addresses {
                let name = function(address, &symbols[cpu]).to_string();
                *functions[cpu].entry(name).or_default() += count;
            }
        }
        Ok(Counts { functions, rounds })
    }

    fn print(&self) {
        let each = |count: u64| count as f64 / self.rounds as f64;
        for (domain, functions) in ["dom0", "guest"].iter().zip(&self.functions) {
            println!("-- {domain}: {:.0}", each(functions.values().sum()));
            let mut sorted: Vec<_> = functions.iter().collect();
            sorted.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
            for (name, count) in sorted.into_iter().take(SHOWN) {
                println!("{:>9.1} {}", each(*count), readable(name));
            }
        }
    }
}

/// Whether a symbol is that file operation: C calls it by name, that of version 0.1.0 is a method of
/// the module `chardev`.
fn is_operation(symbol: &str, operation: &str) -> bool {
    let method = format!("7chardev{}{operation}", operation.len());
    symbol == format!("idts_{operation}") || symbol.contains(&method)
}

/// CPU and address of a line of the trace.
fn parse(line: &str) -> Option<(usize, u64)> {
    let (cpu, rest) = line.strip_prefix("Trace ")?.split_once(':')?;
    let address = rest.split_once('[')?.1.split('/').nth(1)?;
    Some((cpu.parse().ok()?, u64::from_str_radix(address, 16).ok()?))
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
        // Base-62 numbers have digits too: a name that they would give is none.
        let start = digits + usize::from(rest[digits..].starts_with('_'));
        let name = rest.get(start..start + length).filter(|name| is_name(name));
        rest = match name {
            Some(name) => {
                parts.push(name);
                &rest[start + length..]
            }
            None => &rest[digits..],
        };
    }
    parts.join("::")
}

fn is_name(text: &str) -> bool {
    text.len() > 1
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_functions() {
        let line = "ffffffff81000000 T startup";
        let symbols: Symbols = symbol(line).into_iter().collect();
        assert_eq!(function(0xffff_ffff_8100_0010, &symbols), "startup");
        assert_eq!(function(0x40_1000, &symbols), "programs");
        assert_eq!(function(0xffff_82d0_4020_0000, &symbols), "unknown");
        let mut symbols = symbols;
        symbols.extend(xen_symbol("ffff82d040200000 T do_iret"));
        assert_eq!(function(0xffff_82d0_4020_0010, &symbols), "Xen: do_iret");
        assert_eq!(function(0xffff_ffff_8100_0010, &symbols), "startup");
        assert_eq!(symbol("ffffffff81000000 D data"), None);
        assert_eq!(symbol("ffffffff81000000 t __pfx_startup"), None);
    }

    #[test]
    fn lines_of_a_trace() {
        let line = "Trace 1: 0x7f68283db600 [00000000/ffff82d040342f6a/0051c2b0/ff022201] ";
        assert_eq!(parse(line), Some((1, 0xffff_82d0_4034_2f6a)));
        assert_eq!(parse("Trace 1: 0x7f68"), None);
    }

    #[test]
    fn rust_names_are_readable() {
        let name = "_RNvMNtCs1a_11idts_kernel7channelNtB2_7Channel8try_read";
        assert_eq!(readable(name), "idts_kernel::channel::Channel::try_read");
        assert_eq!(readable("mutex_lock"), "mutex_lock");
    }
}
