// SPDX-License-Identifier: GPL-2.0
//! The forms of `tunnel-mgr list`: a table for people, JSON for machines.

use anyhow::Result;
use serde::Serialize;

use crate::kernel::Counters;

/// One tunnel.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub domid: u16,
    /// Null when the domain has none, or is gone.
    pub name: Option<String>,
    pub front: String,
    pub back: String,
    /// Why it can never work again; null when it may.
    pub leftover: Option<&'static str>,
    /// Null where the driver shows none.
    pub counters: Option<Counters>,
}

/// The counters that have a column: its title, their name.
const COLUMNS: [(&str, &str); 3] = [
    ("TX-BYTES", "tx_bytes"),
    ("RX-BYTES", "rx_bytes"),
    ("CHANNELS", "channels"),
];

pub fn json(rows: &[Row]) -> Result<String> {
    Ok(serde_json::to_string(rows)?)
}

pub fn table(rows: &[Row]) -> String {
    let mut text = line(
        ["DOMID", "NAME", "FRONT", "BACK"].map(String::from),
        COLUMNS.map(|(title, _)| title.to_string()),
        None,
    );
    for row in rows {
        let name = row.name.clone().unwrap_or_else(|| "-".into());
        text += &line(
            [
                row.domid.to_string(),
                name,
                row.front.clone(),
                row.back.clone(),
            ],
            COLUMNS.map(|(_, name)| counter(row, name)),
            row.leftover,
        );
    }
    text
}

fn line(left: [String; 4], right: [String; 3], leftover: Option<&str>) -> String {
    let [domid, name, front, back] = left;
    let [tx, rx, channels] = right;
    let remark = leftover
        .map(|reason| format!("  leftover: {reason}"))
        .unwrap_or_default();
    format!(
        "{domid:>5}  {name:<16} {front:<13} {back:<13} {tx:>14} {rx:>14} {channels:>8}{remark}\n"
    )
}

fn counter(row: &Row, name: &str) -> String {
    let value = row
        .counters
        .as_ref()
        .and_then(|counters| counters.get(name));
    value.map_or_else(|| "-".into(), u64::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> [Row; 2] {
        [
            Row {
                domid: 3,
                name: Some("u1".into()),
                front: "Connected".into(),
                back: "Connected".into(),
                leftover: None,
                counters: Some([("tx_bytes".to_string(), 12)].into()),
            },
            Row {
                domid: 4,
                name: None,
                front: "gone".into(),
                back: "Closed".into(),
                leftover: Some("the domain is gone"),
                counters: None,
            },
        ]
    }

    #[test]
    fn the_table_lines_up() {
        let table = table(&rows());
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0].len(), lines[1].len());
        assert!(lines[1].contains("u1"));
        assert!(lines[2].ends_with("leftover: the domain is gone"));
    }

    #[test]
    fn json_has_null_for_what_is_absent() {
        let parsed: serde_json::Value = serde_json::from_str(&json(&rows()).unwrap()).unwrap();
        assert_eq!(parsed[0]["counters"]["tx_bytes"], 12);
        assert!(parsed[1]["name"].is_null() && parsed[1]["counters"].is_null());
        assert_eq!(parsed[1]["leftover"], "the domain is gone");
    }
}
