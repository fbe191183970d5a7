// SPDX-License-Identifier: GPL-2.0
//! `tunnel-mgr list`: gathers what there is to know of every tunnel.

use anyhow::Result;
use idts_core::policy::Key;

use super::Manager;
use crate::cli::List;
use crate::model::state_name;
use crate::output::{self, Row};
use crate::{say, store, sweep};

pub fn run(manager: &mut Manager<'_>, args: &List) -> Result<()> {
    if args.sweep {
        sweep::run(manager);
    }
    let rows = rows(manager)?;
    if args.json {
        say::result(&(output::json(&rows)? + "\n"))?;
    } else {
        say::result(&output::table(&rows))?;
    }
    Ok(())
}

fn rows(manager: &mut Manager<'_>) -> Result<Vec<Row>> {
    let settings = manager.settings();
    let mut rows = Vec::new();
    for tunnel in sweep::tunnels(manager.store, manager.domain)? {
        let ends = tunnel.ends(manager.store)?;
        let held = settings.held(manager.store, Some(tunnel.front))?;
        let value = |key: Key| {
            let held = held.iter().find(|held| held.key == key);
            held.map(|held| held.value.clone()).unwrap_or_default()
        };
        rows.push(Row {
            domid: tunnel.front,
            name: store::name_of(manager.store, tunnel.front).into(),
            front: state_name(ends.front),
            back: state_name(ends.back),
            leftover: sweep::leftover(manager.store, tunnel)?,
            counters: manager.kernel.counters(tunnel),
            alias: Some(value(Key::Alias)).filter(|alias| !alias.is_empty()),
            connect: value(Key::Connect),
            publish: value(Key::Publish),
            subscribe: value(Key::Subscribe),
        });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::tests::{manager, Ground};
    use crate::model::Tunnel;

    #[test]
    fn shows_whole_tunnels_and_leftovers_and_removes_only_if_told() {
        let mut ground = Ground::new(&[3, 4]);
        for front in [3, 4] {
            Tunnel { front, back: 0 }.create(&mut ground.store).unwrap();
        }
        ground.store.unset("/local/domain/4");
        let found = rows(&mut manager(&mut ground)).unwrap();
        let short: Vec<_> = found
            .iter()
            .map(|row| {
                (
                    row.domid,
                    row.name.text(),
                    row.front.as_str(),
                    row.leftover.is_some(),
                )
            })
            .collect();
        assert_eq!(
            short,
            [
                (3, Some("u3"), "Initialising", false),
                (4, None, "gone", true)
            ]
        );
        run(
            &mut manager(&mut ground),
            &List {
                json: true,
                sweep: true,
            },
        )
        .unwrap();
        assert_eq!(rows(&mut manager(&mut ground)).unwrap().len(), 1);
    }
}
