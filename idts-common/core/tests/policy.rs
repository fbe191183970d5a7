// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What dom0 may say, what it means, and that nothing else is obeyed.
//!
//! Seed and number of cases: see common/mod.rs.

#![cfg(not(loom))]

#[path = "spec/table.rs"]
mod table;

use idts_core::policy::{
    affected, is_name, may_connect, may_join, number, revokes_connect, revokes_join,
    scheduler_policy, scheduler_rate, Affected, DomainSettings, Key, Target, NAME_MAX, RULES_MAX,
    TEXT_MAX,
};
use idts_core::sched::{Params, Policy};
use proptest::prelude::*;

/// A change is obeyed by those whom it is about: what tunnel-mgr keeps there for
/// itself, for each domain that ends, is about nobody.
#[test]
fn a_change_is_about_those_whom_it_can_concern() {
    for (path, whom) in [
        ("", Affected::All),
        ("/domain", Affected::All),
        ("/default", Affected::All),
        ("/default/connect", Affected::All),
        ("/scheduler", Affected::All),
        ("/scheduler/policy", Affected::All),
        ("/domain/3", Affected::One(3)),
        ("/domain/32751/weight", Affected::One(32751)),
        ("/domain/3/limit-peer", Affected::One(3)),
        ("/domain/3/uuid", Affected::None),
        ("/domain/3/name", Affected::None),
        ("/domain/3/detached", Affected::None),
        ("/domain/3/by-file", Affected::None),
        ("/domain/3/file", Affected::None),
        ("/domain/3/file/connect", Affected::None),
        ("/domain/65536/weight", Affected::None),
        ("/domain/x", Affected::None),
        ("/away", Affected::None),
        ("/away/0000-idts/domain/3/weight", Affected::None),
        ("/default/idts/away", Affected::None),
        ("/domains/3/weight", Affected::None),
    ] {
        for home in ["idts", "/local/domain/0/idts", "/local/domain/7/idts"] {
            let path = format!("{home}{path}");
            assert_eq!(affected(path.as_bytes()), whom, "{path}");
        }
    }
    // Of what is no path below the folder nothing is known.
    for path in ["", "/local/domain/0/backend", "idtsx/domain/3"] {
        assert_eq!(affected(path.as_bytes()), Affected::All, "{path}");
    }
}

const HOME: Target<'_> = Target {
    domain: 0,
    is_backend: true,
    alias: None,
    port: 80,
};

fn guest(domain: u16, alias: Option<&str>, port: u32) -> Target<'_> {
    Target {
        domain,
        is_backend: false,
        alias: alias.map(str::as_bytes),
        port,
    }
}

fn connects(value: &str, target: Target<'_>) -> bool {
    may_connect(Some(value.as_bytes()), target)
}

#[test]
fn defaults() {
    assert!(may_connect(None, HOME));
    assert!(!may_connect(None, guest(1, None, 80)));
    assert!(!may_join(None, b"news"));
    let mut numbers = DomainSettings::DEFAULT;
    for key in Key::LIST {
        assert_eq!(Key::from_name(key.name()), Some(key));
        let text = key.default_text().as_bytes();
        assert!(key.accepts(text) || key == Key::Alias, "{key:?}");
        let has_number = key.range().is_some();
        assert_eq!(numbers.set(key, None), has_number);
        assert_eq!(numbers.set(key, Some(text)), has_number);
        assert_eq!(key.number(text), key.range().map(|r| r.2));
    }
    assert_eq!(numbers, DomainSettings::DEFAULT);
    assert_eq!(Key::from_name("wait"), None);
}

#[test]
fn grammar_tells_the_ranges() {
    for key in Key::LIST {
        if let Some((min, max, _)) = key.range() {
            let text = key.grammar();
            let numbers: Vec<u64> = text
                .split([' ', ','])
                .filter_map(|w| w.parse().ok())
                .collect();
            assert_eq!(numbers, [min, max], "{text}");
            assert!(key.accepts(min.to_string().as_bytes()));
            assert!(key.accepts(max.to_string().as_bytes()));
            assert!(!key.accepts((max + 1).to_string().as_bytes()));
            let below = min.checked_sub(1).map(|n| n.to_string());
            assert!(!key.accepts(below.unwrap_or("-1".into()).as_bytes()));
        }
    }
}

#[test]
fn numbers_are_taken_or_left() {
    let mut numbers = DomainSettings::DEFAULT;
    for (key, text) in [
        (Key::Weight, "7"),
        (Key::Priority, "5"),
        (Key::Rate, "1000"),
        (Key::Channels, "9"),
        (Key::Memory, "200000"),
        (Key::Peer, "50"),
    ] {
        assert!(numbers.set(key, Some(text.as_bytes())));
        for bad in ["", "x", "99999999999999", "-1", " 5", "5 "] {
            assert!(!numbers.set(key, Some(bad.as_bytes())), "{key:?} {bad}");
        }
    }
    let params = Params {
        weight: 7,
        priority: 5,
        rate: 1000,
    };
    let (channels, memory, peer) = (9, 200_000, 50);
    let expected = DomainSettings {
        params,
        channels,
        memory,
        peer,
    };
    assert_eq!(numbers, expected);
    assert!(numbers.set(Key::Weight, None));
    assert_eq!(numbers.params.weight, 1);
}

#[test]
fn scheduler_values() {
    for policy in Policy::ALL {
        assert_eq!(scheduler_policy(policy.name().as_bytes()), Some(policy));
    }
    for text in ["", "DRR", "drr ", "cfs"] {
        assert_eq!(scheduler_policy(text.as_bytes()), None);
    }
    assert_eq!(scheduler_rate(b"0"), Some(0));
    assert_eq!(scheduler_rate(b"10M"), None);
}

#[test]
fn names() {
    let longest = "a".repeat(NAME_MAX);
    for name in ["a", "web-1", "dom01", "alle", &longest] {
        assert!(is_name(name.as_bytes()), "{name}");
        assert!(Key::Alias.accepts(name.as_bytes()), "{name}");
    }
    let too_long = "a".repeat(NAME_MAX + 1);
    for name in [
        "", "1a", "-a", "A", "a_b", "a.b", "a b", "all", "none", "dom0", "ä", "a*", &too_long,
    ] {
        assert!(!is_name(name.as_bytes()), "{name}");
        assert!(!Key::Alias.accepts(name.as_bytes()), "{name}");
    }
}

#[test]
fn connect_rules() {
    let web = |port| guest(7, Some("web"), port);
    for value in [
        "all",
        "web:*",
        "7:80",
        "3:1,web:80-90",
        "web:1-80",
        "dom0,7:*",
    ] {
        assert!(connects(value, web(80)), "{value}");
    }
    for value in [
        "none",
        "dom0",
        "web:81",
        "web:81-90",
        "webb:*",
        "we:*",
        "8:*",
        "3:80",
        "dom0:80",
    ] {
        assert!(!connects(value, web(80)), "{value}");
    }
    assert!(connects("dom0:80", HOME) && !connects("dom0:81", HOME));
    // By its id, like any other; and the word is about the backend's own domain,
    // not about a number.
    assert!(connects("0:80", HOME));
    assert!(!connects("dom0", guest(0, None, 80)));
    assert!(!connects("web:*", guest(8, None, 80)));
    assert!(connects("web:4294967295", web(u32::MAX)));
}

#[test]
fn malformed_rules_allow_nothing() {
    for value in [
        "",
        ",",
        "web",
        "web:",
        ":80",
        "7",
        "web:0",
        "web:90-80",
        "web:80-",
        "web:-80",
        "web:80-90-99",
        "web:4294967296",
        "65536:*",
        "web:*,",
        ",web:*",
        "web:*,all",
        "all,web:*",
        "none,web:*",
        "all:*",
        "none:*",
        "Web:*",
        "web:* ",
        " web:*",
        "web:**",
        "web:80:90",
    ] {
        assert!(!Key::Connect.accepts(value.as_bytes()), "{value}");
        assert!(!connects(value, guest(7, Some("web"), 80)), "{value}");
    }
}

#[test]
fn group_rules() {
    let joins = |value: &str, group: &str| may_join(Some(value.as_bytes()), group.as_bytes());
    for value in ["all", "news", "a,news", "ne*", "news*", "x*,n*"] {
        assert!(joins(value, "news"), "{value}");
    }
    for value in ["none", "new", "newsy", "newsy*", "a,b"] {
        assert!(Key::Publish.accepts(value.as_bytes()), "{value}");
        assert!(!joins(value, "news"), "{value}");
    }
    for value in [
        "", "*", "n**", "n*s", "*s", "news,", "News", "all,news", "dom0",
    ] {
        assert!(!Key::Subscribe.accepts(value.as_bytes()), "{value}");
        assert!(!joins(value, "news"), "{value}");
    }
    // Names that no group can have.
    for group in ["", "all", "NEWS", "a_b", "no*"] {
        assert!(!joins("all", group) && !joins("n*", group), "{group}");
    }
    assert!(joins("al*", "alpha") && joins("all*", "allow"));
}

#[test]
fn what_is_taken_away_ends() {
    let ends = |value: &str, target| revokes_connect(Some(value.as_bytes()), target);
    let web = guest(7, Some("web"), 80);
    for value in ["none", "dom0", "web:81", "8:*", "other:*"] {
        assert!(ends(value, web), "{value}");
    }
    for value in ["all", "web:*", "7:80", "dom0,web:80"] {
        assert!(!ends(value, web), "{value}");
    }
    // Without a key dom0's ports are what is left.
    assert!(revokes_connect(None, web) && !revokes_connect(None, HOME));
    assert!(ends("none", HOME) && ends("web:*", HOME) && ends("dom0:80", guest(0, None, 80)));
    // Nobody means a rule for the target when it is called otherwise.
    assert!(ends("web:*", guest(7, Some("www"), 80)) && ends("web:*", guest(7, None, 80)));
    let joined = |value: &str| !revokes_join(Some(value.as_bytes()), b"news");
    assert!(joined("all") && joined("a,n*") && joined("news"));
    assert!(!joined("none") && !joined("new") && revokes_join(None, b"news"));
}

#[test]
fn what_is_malformed_ends_nothing() {
    let web = guest(7, Some("web"), 80);
    for value in ["", "none,", "web", "none,dom0", "Web:*"] {
        assert!(!revokes_connect(Some(value.as_bytes()), web), "{value}");
        assert!(!revokes_connect(Some(value.as_bytes()), HOME), "{value}");
    }
    for value in ["", "none,", "none,a", "*"] {
        assert!(!revokes_join(Some(value.as_bytes()), b"news"), "{value}");
    }
    // A target's alias: a rule may have been about it, on that port.
    let garbled = guest(7, Some("Web!"), 80);
    let ends = |value: &str| revokes_connect(Some(value.as_bytes()), garbled);
    assert!(!ends("web:*") && !ends("8:1,www:80-90") && !ends("7:80"));
    assert!(ends("none") && ends("dom0") && ends("web:81") && ends("8:80"));
}

#[test]
fn there_are_so_many_rules_and_no_more() {
    let longest = format!("{}:4294967295-4294967295", "a".repeat(NAME_MAX));
    let most = vec![longest.as_str(); RULES_MAX].join(",");
    assert_eq!(most.len() + 1, TEXT_MAX);
    assert!(Key::Connect.accepts(most.as_bytes()));
    let more = vec!["a:1"; RULES_MAX + 1].join(",");
    assert!(!Key::Connect.accepts(more.as_bytes()));
    assert!(!Key::Publish.accepts(vec!["a"; RULES_MAX + 1].join(",").as_bytes()));
}

/// A rule and whether it lets (7, "web", 80) be reached, judged apart.
fn rule() -> impl Strategy<Value = (String, bool)> {
    let who = prop_oneof![
        Just(("web".to_string(), true)),
        Just(("dom0".to_string(), false)),
        (0..20u16).prop_map(|id| (id.to_string(), id == 7)),
        "[a-z][a-z0-9-]{0,9}"
            .prop_filter("reserved", |n| is_name(n.as_bytes()))
            .prop_map(|n| (n.clone(), n == "web")),
    ];
    let ports = prop_oneof![
        Just(("*".to_string(), true)),
        (1..200u32).prop_map(|p| (p.to_string(), p == 80)),
        (1..100u32, 0..100u32)
            .prop_map(|(a, n)| (format!("{a}-{}", a + n), a <= 80 && 80 <= a + n)),
    ];
    (who, ports).prop_map(|((who, a), (ports, b))| (format!("{who}:{ports}"), a && b))
}

proptest! {
    #[test]
    fn any_rules_mean_what_each_means(rules in prop::collection::vec(rule(), 1..=RULES_MAX)) {
        let value = rules.iter().map(|r| r.0.as_str()).collect::<Vec<_>>().join(",");
        prop_assert!(Key::Connect.accepts(value.as_bytes()), "{value}");
        let expected = rules.iter().any(|r| r.1);
        prop_assert_eq!(connects(&value, guest(7, Some("web"), 80)), expected);
    }

    /// Any bytes at all: no panic, and what is not accepted allows nothing.
    #[test]
    fn anything_is_judged(
        text in prop_oneof!["[a-z0-9:,*-]{0,40}", ".{0,40}"],
        more in prop::collection::vec(any::<u8>(), 0..60),
        port in any::<u32>(),
    ) {
        for bytes in [text.as_bytes(), &more] {
            for key in Key::LIST {
                let _ = key.accepts(bytes);
            }
            let target = Target { domain: port as u16, is_backend: true, alias: Some(bytes), port };
            if !Key::Connect.accepts(bytes) {
                prop_assert!(!may_connect(Some(bytes), target));
            }
            if !Key::Publish.accepts(bytes) {
                prop_assert!(!may_join(Some(bytes), b"news"));
            }
            let _ = may_join(Some(b"all"), bytes);
        }
    }

    #[test]
    fn numbers_are_those_of_the_library(value in any::<u64>(), min in any::<u64>(), max in any::<u64>()) {
        let expected = (min..=max).contains(&value).then_some(value);
        prop_assert_eq!(number(value.to_string().as_bytes(), min, max), expected);
    }
}

/// PROTOCOL.md's tables about keys.
mod document {
    use super::table::{number, table, DOC};
    use idts_core::policy::{self, Key};
    use idts_core::sched::{self, Policy};
    use std::collections::BTreeSet;

    const KEYS: &str = "### 3.1 What dom0 says about domains";
    const ORDER: &str = "### 3.2 The order in which domains are served";

    #[test]
    fn keys() {
        let rows = table(KEYS, "key");
        assert_eq!(rows.len(), Key::LIST.len());
        for (row, key) in rows.iter().zip(Key::LIST) {
            assert_eq!(
                row[..3],
                [key.name(), key.grammar(), key.default_text()],
                "{key:?}"
            );
        }
        let rows = table(KEYS, "scheduler key");
        let names: Vec<_> = rows.iter().map(|r| r[0]).collect();
        assert_eq!(names, [policy::SCHEDULER_POLICY, policy::SCHEDULER_RATE]);
        let policies: BTreeSet<_> = rows[0][1].split(", ").collect();
        assert_eq!(policies, Policy::ALL.map(Policy::name).into());
        assert_eq!(rows[0][2], Policy::default().name());
        assert_eq!(rows[1][1], Key::Rate.grammar());
    }

    #[test]
    fn paths_and_limits() {
        assert_eq!(policy::DOMAINS, format!("{}/domain", policy::DIR));
        assert_eq!(policy::DEFAULT, format!("{}/default", policy::DIR));
        assert_eq!(policy::SCHEDULER, format!("{}/scheduler", policy::DIR));
        let path = format!("`/local/domain/B/{}`", policy::DIR);
        let rules = format!("list    = 1 to {} rules", policy::RULES_MAX);
        let name = format!("then up to {} of a-z 0-9 -", policy::NAME_MAX - 1);
        for text in [path, rules, name] {
            assert!(DOC.contains(&text), "{text}");
        }
    }

    #[test]
    fn scheduler() {
        let rows = table(ORDER, "policy");
        let policies: BTreeSet<_> = rows.iter().map(|r| r[0]).collect();
        assert_eq!(policies, Policy::ALL.map(Policy::name).into());
        let numbers: Vec<_> = table(ORDER, "name")
            .iter()
            .map(|r| (r[0], number(r[1])))
            .collect();
        let code = [
            ("FLOWS", sched::FLOWS as u32),
            ("QUANTUM", sched::QUANTUM),
            ("FIFO_TURN", sched::FIFO_TURN),
            ("PICK_COST", sched::PICK_COST),
            ("BUDGET_MIN", sched::BUDGET_MIN),
            ("GRACE", sched::GRACE as u32),
        ];
        assert_eq!(numbers, code);
    }
}
