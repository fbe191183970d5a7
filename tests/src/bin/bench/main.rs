// SPDX-License-Identifier: GPL-2.0
//! The bench: IDTS, TCP over the Xen network and libvchan side by side in one run, each domain on a
//! CPU of its own, counted in instructions. tests/BENCH.md says how it counts and what it leaves
//! out.
//!
//! Reading order: [`figure`] (what comes out), [`system`] (who is measured), [`bed`] (where),
//! [`cases`] (what), [`marks`], [`table`], [`page`] and [`plot`] (how it is told). Apart from them
//! stands [`profile`]: what the instructions go to.
//!
//! Exit codes: 0, 1 the run failed or is invalid, 2 usage.

mod bed;
mod cases;
mod cli;
mod figure;
mod marks;
mod page;
mod plot;
mod profile;
mod system;
mod table;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{bail, ensure, Context, Result};
use clap::Parser;
use testbed::GuestType;

use bed::{Bed, Plan};
use cases::{Run, Unit};
use cli::Cli;
use figure::{differences, median, worse, Case, Figure};

/// Share by which a figure may differ from run to run.
const SAME: f64 = 0.02;

fn main() -> ExitCode {
    match bench(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(cli: &Cli) -> Result<()> {
    if cli.profile {
        let plan = Plan {
            kind: cli.kind.unwrap_or(GuestType::Pv),
            guests: 1,
            counted: true,
            earlier: cli.earlier,
        };
        let bed = machine(cli, &plan)?;
        let all = cli.cases.is_empty();
        let done = profile::profile(&bed, |case| all || cli.cases.contains(&case));
        return end(cli, bed, done);
    }
    let mut run = Run::new(cli.is_quick());
    let before = cli.compare.as_deref().map(read).transpose()?;
    for kind in kinds(cli) {
        for (plan, cases) in cases::machines(cli, kind) {
            let mut bed = machine(cli, &plan)?;
            let before = before.as_deref().unwrap_or_default();
            let done = measure(cli, &plan, cases, before, &mut bed, &mut run);
            end(cli, bed, done)?;
        }
    }
    table::print(&run);
    marks::print(&run.figures);
    cases::check_limit(&run.figures)?;
    match before {
        Some(before) => compare(cli, &run.figures, &before),
        None => Ok(()),
    }
}

/// The figures of an earlier run.
fn read(file: &Path) -> Result<Vec<Figure>> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    serde_json::from_str(&text).with_context(|| file.display().to_string())
}

/// Writes what is measured so far to the files that are asked for.
fn write(cli: &Cli, run: &Run) -> Result<()> {
    if let Some(file) = &cli.json {
        let text = serde_json::to_string_pretty(&run.figures)?;
        fs::write(file, text).with_context(|| file.display().to_string())?;
    }
    if let Some(file) = &cli.html {
        fs::write(file, page::page(run)).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

/// The types of guests that are measured.
fn kinds(cli: &Cli) -> Vec<GuestType> {
    match cli.kind {
        Some(kind) => vec![kind],
        None if cli.is_quick() => vec![GuestType::Pv],
        None => vec![GuestType::Pv, GuestType::Pvh],
    }
}

/// Measures these cases on their machine, mended where it is necessary, or on those that replace it.
fn measure(
    cli: &Cli,
    plan: &Plan,
    cases: &[Case],
    before: &[Figure],
    bed: &mut Bed,
    run: &mut Run,
) -> Result<()> {
    run.note_machine(bed)?;
    for unit in cases::units(cli, plan, run, cases) {
        let kept = run.figures.len();
        let mut tries = 1;
        let once = |bed: &Bed, run: &mut Run| {
            unit.measure(cli, bed, run)?;
            match cli.worse {
                true => settle(cli, &unit, before, bed, run, kept),
                false => Ok(()),
            }
        };
        while let Err(error) = plan.watch(|| once(bed, run)) {
            if tries == plan.tries() {
                return Err(error);
            }
            tries += 1;
            run.figures.truncate(kept);
            run.note(format!(
                "{} {unit}: measured again, for {error:#}",
                plan.kind
            ));
            *bed = plan.mended()?;
        }
        // An hour's figures outlive what ends the run.
        write(cli, run)?;
    }
    Ok(())
}

/// Measures twice more what has made the figures from `kept` on, if one of them seems worse than before;
/// of that one the median counts.
fn settle(
    cli: &Cli,
    unit: &Unit,
    before: &[Figure],
    bed: &Bed,
    run: &mut Run,
    kept: usize,
) -> Result<()> {
    let strays = worse(before, &run.figures[kept..], SAME);
    if strays.is_empty() {
        return Ok(());
    }
    eprintln!("bench: {unit} twice more: {} seem worse", strays.len());
    let mut again = [Run::new(run.quick), Run::new(run.quick)];
    for more in &mut again {
        unit.measure(cli, bed, more)?;
    }
    for (stray, _) in strays {
        let now = |figures: &[Figure]| figures.iter().position(|figure| figure.same_thing(&stray));
        let [second, third] = again.each_ref().map(|more| {
            let at = now(&more.figures)?;
            Some(more.figures[at].value)
        });
        let (at, second, third) = now(&run.figures)
            .zip(second)
            .zip(third)
            .map(|((at, second), third)| (at, second, third))
            .context("what was measured again has other figures")?;
        run.figures[at].value = median([stray.value, second, third]);
    }
    Ok(())
}

/// The machine that an earlier run kept, or a new one.
fn machine(cli: &Cli, plan: &Plan) -> Result<Bed> {
    match plan.find()?.filter(|_| cli.keep) {
        Some(bed) => Ok(bed),
        None => plan.anew(),
    }
}

/// Ends a machine, unless it is to be kept, whatever came of what was `done` on it.
fn end(cli: &Cli, bed: Bed, done: Result<()>) -> Result<()> {
    if cli.keep {
        return done;
    }
    done.and(bed.down())
}

/// Fails if a figure is another one than in an earlier run, or a worse one.
fn compare(cli: &Cli, figures: &[Figure], earlier: &[Figure]) -> Result<()> {
    let same = |figure: &&Figure| earlier.iter().any(|old| old.same_thing(figure));
    let compared = figures.iter().filter(same).count();
    ensure!(compared > 0, "the earlier run has none of these figures");
    let strays = match cli.worse {
        true => worse(earlier, figures, SAME),
        false => differences(earlier, figures, SAME),
    };
    for (now, before) in &strays {
        let Figure {
            case,
            system,
            variant,
            bytes,
            value,
            unit,
            ..
        } = now;
        eprintln!("bench: {case} {system} {variant} {bytes}: {value:.3} {unit}, was {before:.3}");
    }
    let how = if cli.worse { "are worse" } else { "differ" };
    if !strays.is_empty() {
        bail!("{} figures {how} by more than 2 %", strays.len());
    }
    println!("of {compared} figures of the earlier run none {how} by more than 2 %");
    Ok(())
}
