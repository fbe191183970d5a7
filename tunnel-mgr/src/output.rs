// SPDX-License-Identifier: GPL-2.0
//! The forms of `tunnel-mgr list`: a table for people, JSON for machines.

use std::fmt;

use anyhow::Result;
use serde::Serialize;

use crate::kernel::Counters;
use crate::text::{escape, Name};

/// A domain's name, exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Named {
    /// Null when the domain has none, or is gone; or has one that is no text.
    name: Option<String>,
    /// The bytes of one that is no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    name_bytes: Option<Vec<u8>>,
}

impl Named {
    #[cfg(test)]
    pub fn text(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

impl From<Option<Name>> for Named {
    fn from(name: Option<Name>) -> Self {
        let Some(Name(bytes)) = name else {
            return Self::default();
        };
        match String::from_utf8(bytes) {
            Ok(text) => Self {
                name: Some(text),
                name_bytes: None,
            },
            Err(error) => Self {
                name: None,
                name_bytes: Some(error.into_bytes()),
            },
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.name.as_ref().map(String::as_bytes);
        match text.or(self.name_bytes.as_deref()) {
            Some(bytes) => f.pad(&escape(bytes)),
            None => f.pad("-"),
        }
    }
}

/// One tunnel.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub domid: u16,
    #[serde(flatten)]
    pub name: Named,
    pub front: String,
    pub back: String,
    /// Why it can never work again; null when it may.
    pub leftover: Option<&'static str>,
    /// Null where the driver shows none.
    pub counters: Option<Counters>,
    /// Null when it has none.
    pub alias: Option<String>,
    pub connect: String,
    pub publish: String,
    pub subscribe: String,
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
        ["ALIAS", "CONNECT", "PUBLISH", "SUBSCRIBE"].map(String::from),
        None,
    );
    for row in rows {
        let name = row.name.to_string();
        text += &line(
            [
                row.domid.to_string(),
                name,
                row.front.clone(),
                row.back.clone(),
            ],
            COLUMNS.map(|(_, name)| counter(row, name)),
            [
                row.alias.as_deref().unwrap_or("-"),
                &row.connect,
                &row.publish,
                &row.subscribe,
            ]
            .map(|text| escape(text.as_bytes())),
            row.leftover,
        );
    }
    text
}

fn line(
    left: [String; 4],
    right: [String; 3],
    rights: [String; 4],
    leftover: Option<&str>,
) -> String {
    let [domid, name, front, back] = left;
    let [tx, rx, channels] = right;
    let [alias, connect, publish, subscribe] = rights;
    let remark = leftover
        .map(|reason| format!("  leftover: {reason}"))
        .unwrap_or_default();
    format!(
        "{domid:>5}  {name:<16} {front:<13} {back:<13} {tx:>14} {rx:>14} {channels:>8}  \
         {alias:<12} {connect:<12} {publish:<9} {subscribe:<9}{remark}\n"
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
                name: Some(Name(b"u1".to_vec())).into(),
                front: "Connected".into(),
                back: "Connected".into(),
                leftover: None,
                counters: Some([("tx_bytes".to_string(), 12)].into()),
                alias: Some("web".into()),
                connect: "dom0".into(),
                publish: "none".into(),
                subscribe: "none".into(),
            },
            Row {
                domid: 4,
                name: Named::default(),
                front: "gone".into(),
                back: "Closed".into(),
                leftover: Some("the domain is gone"),
                counters: None,
                alias: None,
                connect: "dom0".into(),
                publish: "none".into(),
                subscribe: "none".into(),
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
