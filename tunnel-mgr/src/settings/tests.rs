// SPDX-License-Identifier: GPL-2.0
//! Tests of settings.rs and away.rs on a made-up xenstore.

use super::away::AWAY_MAX;
use super::*;
use crate::fake::Fake;
use idts_xenstore::Tree;

const HOME: Settings = Settings { home: 0 };

fn host() -> Fake {
    Fake::with_domains(&[(0, "Domain-0"), (3, "u3"), (4, "u4")])
}

fn weight(value: &str) -> [(Key, Option<String>); 1] {
    [(Key::Weight, Some(value.into()))]
}

#[test]
fn only_the_home_can_read() {
    let mut store = host();
    store
        .set_permissions("/local/domain/0", &["n0".into(), "r3".into()])
        .unwrap();
    HOME.write(&mut store, 3, &weight("2")).unwrap();
    for path in [
        "",
        "/domain",
        "/domain/3",
        "/domain/3/weight",
        "/domain/3/uuid",
    ] {
        let path = format!("/local/domain/0/idts{path}");
        assert_eq!(store.permissions(&path), "n0", "{path}");
    }
    let value = store.value("/local/domain/0/idts/domain/3/weight");
    assert_eq!(value, Some("2"));
}

#[test]
fn what_is_taken_away_leaves_nothing() {
    let mut store = host();
    HOME.write(&mut store, 3, &weight("2")).unwrap();
    HOME.write(&mut store, 3, &[(Key::Weight, None)]).unwrap();
    assert_eq!(store.value("/local/domain/0/idts/domain/3"), None);
}

#[test]
fn an_alias_is_that_of_one_domain() {
    let mut store = host();
    let alias = [(Key::Alias, Some("web".to_string()))];
    HOME.write(&mut store, 3, &alias).unwrap();
    HOME.write(&mut store, 3, &alias).unwrap();
    let error = HOME.write(&mut store, 4, &alias).unwrap_err().to_string();
    assert!(error.contains("domain 3 has the alias"), "{error}");
}

/// What a look at all that is set does.
fn sweep(store: &mut Fake) -> usize {
    let ids = HOME.ids(store).unwrap();
    ids.into_iter()
        .map(|id| HOME.sweep(store, id).unwrap().unwrap_or(0))
        .sum()
}

fn held(store: &mut Fake, id: u16, key: Key) -> (String, Giver) {
    let held = HOME.held(store, Some(id)).unwrap();
    let held = held.into_iter().find(|held| held.key == key).unwrap();
    (held.value, held.by)
}

#[test]
fn a_restored_domain_gets_its_own_back() {
    let mut store = host();
    HOME.write(&mut store, 3, &weight("7")).unwrap();
    HOME.write(&mut store, 4, &weight("9")).unwrap();
    store.unset("/local/domain/3");
    sweep(&mut store);
    assert_eq!(store.value("/local/domain/0/idts/domain/3"), None);
    let lost = HOME.lost(&mut store).unwrap();
    assert_eq!(lost, [(b"u3".to_vec(), "uuid-of-u3".to_string())]);
    for (id, vm) in [(5, "/vm/another"), (6, "/vm/uuid-of-u3")] {
        store.set(&format!("/local/domain/{id}/name"), "u3");
        store.set(&format!("/local/domain/{id}/vm"), vm);
        HOME.own(&mut store, id).unwrap();
    }
    let weight = |store: &mut Fake, id| held(store, id, Key::Weight);
    assert_eq!(weight(&mut store, 5), ("1".into(), Giver::BuiltIn));
    assert_eq!(weight(&mut store, 6), ("7".into(), Giver::Set));
    assert_eq!(weight(&mut store, 4), ("9".into(), Giver::Set));
    let away = store.list("/local/domain/0/idts/away").unwrap();
    assert!(away.is_empty(), "{away:?}");
}

#[test]
fn a_new_domain_of_an_old_id_inherits_nothing() {
    for old in [Some("/vm/old"), None] {
        let mut store = host();
        match old {
            Some(vm) => store.set("/local/domain/3/vm", vm),
            // As Xen makes one by itself, at its start.
            None => store.unset("/local/domain/3/vm"),
        }
        HOME.write(&mut store, 3, &weight("7")).unwrap();
        HOME.mark(&mut store, 3, Detached::ByHand).unwrap();
        assert_eq!(sweep(&mut store), 0);
        assert_eq!(held(&mut store, 3, Key::Weight).0, "7");
        store.set("/local/domain/3/vm", "/vm/new");
        assert_eq!(HOME.detached(&mut store, 3).unwrap(), None);
        // Whoever comes first: a sweep, or somebody who sets something.
        let mut other = host();
        std::mem::swap(&mut other, &mut store);
        if old.is_some() {
            sweep(&mut other);
        } else {
            HOME.own(&mut other, 3).unwrap();
        }
        assert_eq!(
            held(&mut other, 3, Key::Weight),
            ("1".into(), Giver::BuiltIn)
        );
    }
}

#[test]
fn what_is_put_away_is_bounded_and_the_oldest_goes() {
    let mut store = host();
    let mut dropped = 0;
    for id in 100..100 + AWAY_MAX as u16 + 20 {
        store.set(&format!("/local/domain/{id}/vm"), format!("/vm/uuid-{id}"));
        HOME.write(&mut store, id, &weight("2")).unwrap();
        store.unset(&format!("/local/domain/{id}"));
        dropped += HOME.sweep(&mut store, id).unwrap().unwrap();
    }
    let away = store.list("/local/domain/0/idts/away").unwrap();
    assert_eq!(away.len() + dropped, AWAY_MAX + 20);
    assert_eq!(dropped, AWAY_MAX / 8);
    assert!(!away.contains(&"uuid-100".into()) && away.contains(&"uuid-1143".into()));
}

#[test]
fn what_was_typed_comes_before_the_file_and_the_file_before_the_default() {
    let mut store = host();
    let said = |text: &str| vec![(Key::Connect, text.to_string()), (Key::Rate, "5".into())];
    let connect = |store: &mut Fake| held(store, 3, Key::Connect);
    let typed = |text: Option<&str>| [(Key::Connect, text.map(String::from))];
    assert_eq!(connect(&mut store), ("dom0".into(), Giver::BuiltIn));
    HOME.write_default(&mut store, &typed(Some("none")))
        .unwrap();
    assert_eq!(connect(&mut store), ("none".into(), Giver::Default));
    HOME.apply(&mut store, 3, &said("all")).unwrap();
    assert_eq!(connect(&mut store), ("all".into(), Giver::File));
    HOME.apply(&mut store, 3, &said("4:1")).unwrap();
    assert_eq!(connect(&mut store), ("4:1".into(), Giver::File));
    HOME.write(&mut store, 3, &typed(Some("4:7"))).unwrap();
    HOME.apply(&mut store, 3, &said("4:2")).unwrap();
    assert_eq!(connect(&mut store), ("4:7".into(), Giver::Set));
    assert_eq!(held(&mut store, 3, Key::Rate), ("5".into(), Giver::File));
    HOME.write(&mut store, 3, &typed(None)).unwrap();
    assert_eq!(connect(&mut store), ("4:2".into(), Giver::File));
    HOME.apply(&mut store, 3, &[]).unwrap();
    assert_eq!(connect(&mut store), ("none".into(), Giver::Default));
    assert_eq!(store.value("/local/domain/0/idts/domain/3"), None);
    HOME.write_default(&mut store, &typed(None)).unwrap();
    assert_eq!(store.value("/local/domain/0/idts/default"), None);
}

#[test]
fn a_file_that_says_the_same_changes_nothing() {
    let mut store = host();
    let said = [
        (Key::Connect, "all".to_string()),
        (Key::Alias, "web".into()),
    ];
    HOME.apply(&mut store, 3, &said).unwrap();
    store.loose_writes = 0;
    HOME.apply(&mut store, 3, &said).unwrap();
    assert_eq!(store.loose_writes, 0);
}

#[test]
fn only_what_was_typed_is_put_away() {
    let mut store = host();
    HOME.write(&mut store, 3, &weight("7")).unwrap();
    let said = [(Key::Connect, "all".to_string()), (Key::Weight, "3".into())];
    HOME.apply(&mut store, 3, &said).unwrap();
    HOME.mark(&mut store, 3, Detached::ByHand).unwrap();
    store.unset("/local/domain/3");
    sweep(&mut store);
    store.set("/local/domain/8/vm", "/vm/uuid-of-u3");
    HOME.own(&mut store, 8).unwrap();
    assert_eq!(held(&mut store, 8, Key::Weight), ("7".into(), Giver::Set));
    assert_eq!(
        held(&mut store, 8, Key::Connect),
        ("dom0".into(), Giver::BuiltIn)
    );
    assert_eq!(HOME.detached(&mut store, 8).unwrap(), None);
}
