// SPDX-License-Identifier: GPL-2.0
//! Counts calls of the kernel's functions for grants, event channels and xenstore, by ftrace.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

const TRACING: &str = "/sys/kernel/debug/tracing";
/// All of grants; making and unmaking event channels; what every xenstore request of the kernel or
/// of a program goes through.
const FILTER: &str = "gnttab_* xenbus_map_ring* xenbus_unmap_ring* bind_*evtchn* unbind_from_irq* \
    xenbus_alloc_evtchn xenbus_free_evtchn xs_talkv xenbus_dev_request_and_reply";

/// What programs with mappings of their own call, such as the testbed's agent in dom0; xenbus maps
/// and unmaps otherwise.
const OF_PROGRAMS: [&str; 2] = ["gnttab_map_refs", "gnttab_unmap_refs"];

/// Calls by function.
pub type Calls = BTreeMap<String, u64>;

/// Counting, or not.
pub struct Trace(bool);

impl Trace {
    /// Starts from nothing, if wanted.
    pub fn start(wanted: bool) -> Result<Self> {
        if wanted {
            set("current_tracer", "nop")?;
            set("set_ftrace_filter", FILTER)?;
            set("trace", "")?;
            set("current_tracer", "function")?;
            set("tracing_on", "1")?;
        }
        Ok(Self(wanted))
    }

    /// Ends it, and tells what was called.
    pub fn stop(self) -> Result<Calls> {
        let mut calls = Calls::new();
        if !self.0 {
            return Ok(calls);
        }
        set("tracing_on", "0")?;
        let text = fs::read_to_string(Path::new(TRACING).join("trace"))?;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            // `task-1 [000] d..1. 12.345678: function <-caller`
            let function = line.split_once(": ").map_or(line, |(_, rest)| rest);
            let function = function.split_whitespace().next().unwrap_or(line);
            if OF_PROGRAMS.iter().any(|name| function.starts_with(name)) {
                continue;
            }
            *calls.entry(function.into()).or_default() += 1;
        }
        set("current_tracer", "nop")?;
        set("set_ftrace_filter", "")?;
        set("tracing_on", "1")?;
        Ok(calls)
    }
}

fn set(file: &str, value: &str) -> Result<()> {
    fs::write(Path::new(TRACING).join(file), value).with_context(|| format!("ftrace: {file}"))
}
