// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The registry of peers.

use idts_core::registry::Registry;

fn registry(peers: &[u16]) -> Registry<Vec<Option<(u16, u16)>>> {
    let mut registry = Registry::new(Vec::new());
    for peer in peers {
        registry.places().push(None);
        assert_eq!(registry.add(*peer, peer + 1000), Ok(()));
    }
    registry
}

#[test]
fn the_default_peer_of_a_guest_may_have_any_id() {
    let mut registry = registry(&[5]);
    assert_eq!(registry.default_peer(), Some(&1005));
    assert_eq!(registry.get(5), Some(&1005));
    assert_eq!(registry.get(0), None);
    assert_eq!(registry.remove(|entry| *entry == 1005), Some(1005));
    assert_eq!(registry.default_peer(), None);
}

#[test]
fn a_walk_survives_removals_and_arrivals() {
    let mut registry = registry(&[7, 3, 9]);
    let mut seen = Vec::new();
    let mut last = None;
    while let Some(entry) = registry.after(last).copied() {
        seen.push(entry);
        last = Some(entry - 1000);
        if entry == 1003 {
            // One that was seen goes, one that was not comes before and one after.
            registry.remove(|entry| *entry == 1003);
            assert_eq!(registry.add(1, 1001), Ok(()));
        }
    }
    assert_eq!(seen, [1003, 1007, 1009]);
}

#[test]
fn without_a_place_the_entry_comes_back() {
    let mut registry = registry(&[1]);
    assert!(!registry.has_place());
    assert_eq!(registry.add(2, 1002), Err(1002));
    registry.remove(|entry| *entry == 1001);
    assert!(registry.has_place());
    assert_eq!(registry.add(2, 1002), Ok(()));
    assert_eq!(registry.entries().collect::<Vec<_>>(), [&1002]);
}
