// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Quotas of users against a map, its limits one by one, and the shares of askers.

use std::collections::BTreeMap;

use idts_core::quota::{
    percent_of, Limits, QuotaError, Quotas, Requester, Scope, User, UNANSWERED_MAX,
};
use idts_core::usage::{ChargeError, Limit, Usage, UsageTable};
use proptest::prelude::*;

const LIMITS: Limits = Limits {
    user_memory: 100,
    user_endpoints: 3,
    loopback_memory: 250,
};

fn user(uid: u32) -> User {
    User {
        uid,
        is_exempt: false,
    }
}

fn root() -> User {
    User {
        uid: 0,
        is_exempt: true,
    }
}

fn quotas(places: usize) -> Quotas<Vec<Usage>> {
    Quotas::new(LIMITS, vec![Usage::default(); places])
}

#[test]
fn a_user_has_so_many_endpoints_and_no_more() {
    let mut quotas = quotas(4);
    for _ in 0..3 {
        assert_eq!(quotas.charge_endpoint(user(7)), Ok(()));
    }
    assert_eq!(
        quotas.charge_endpoint(user(7)),
        Err(QuotaError::UserEndpoints)
    );
    assert_eq!(quotas.charge_endpoint(user(8)), Ok(()), "another goes on");
    quotas.uncharge_endpoint(7);
    assert_eq!(
        quotas.charge_endpoint(user(7)),
        Ok(()),
        "one that was given back"
    );
    for _ in 0..100 {
        assert_eq!(quotas.charge_endpoint(root()), Ok(()));
    }
}

#[test]
fn a_user_has_so_many_bytes_and_no_more() {
    let mut quotas = quotas(4);
    assert_eq!(quotas.charge_rings(user(7), Scope::Peer, 100), Ok(()));
    assert_eq!(
        quotas.charge_rings(user(7), Scope::Peer, 1),
        Err(QuotaError::UserMemory)
    );
    assert_eq!(
        quotas.charge_rings(user(7), Scope::Loopback, 1),
        Err(QuotaError::UserMemory)
    );
    assert_eq!(quotas.loopback_bytes(), 0, "what was refused is nowhere");
    assert_eq!(quotas.charge_rings(user(8), Scope::Peer, 100), Ok(()));
    quotas.uncharge_rings(7, Scope::Peer, 100);
    assert_eq!(quotas.charge_rings(user(7), Scope::Loopback, 100), Ok(()));
    assert_eq!(quotas.loopback_bytes(), 100);
}

#[test]
fn the_tunnel_with_itself_is_bounded_for_the_free_too() {
    let mut quotas = quotas(4);
    assert_eq!(quotas.charge_rings(root(), Scope::Loopback, 250), Ok(()));
    assert_eq!(
        quotas.charge_rings(root(), Scope::Loopback, 1),
        Err(QuotaError::LoopbackMemory)
    );
    assert_eq!(
        quotas.charge_rings(user(7), Scope::Loopback, 1),
        Err(QuotaError::LoopbackMemory)
    );
    assert_eq!(quotas.charge_rings(root(), Scope::Peer, u32::MAX), Ok(()));
    assert_eq!(quotas.loopback_bytes(), 250);
    quotas.uncharge_rings(0, Scope::Loopback, 250);
    assert_eq!(quotas.charge_rings(user(7), Scope::Loopback, 1), Ok(()));
}

#[test]
fn places_are_made_by_the_caller() {
    let mut quotas = quotas(0);
    assert!(!quotas.users().has_free_entry());
    assert_eq!(quotas.charge_endpoint(user(7)), Err(QuotaError::NoEntry));
    assert_eq!(
        quotas.charge_rings(user(7), Scope::Loopback, 1),
        Err(QuotaError::NoEntry)
    );
    assert_eq!(quotas.loopback_bytes(), 0);
    quotas.users().entries_mut().push(Usage::default());
    assert_eq!(quotas.charge_endpoint(user(7)), Ok(()));
    assert_eq!(quotas.charge_endpoint(user(8)), Err(QuotaError::NoEntry));
    quotas.uncharge_endpoint(7);
    assert_eq!(
        quotas.charge_endpoint(user(8)),
        Ok(()),
        "whoever has nothing has no place"
    );
}

#[test]
fn what_nobody_has_is_not_given_back() {
    let mut quotas = quotas(1);
    quotas.uncharge_endpoint(7);
    quotas.uncharge_rings(7, Scope::Peer, 5);
    quotas.uncharge_rings(7, Scope::Loopback, 5);
    assert_eq!(quotas.loopback_bytes(), 0);
    assert_eq!(quotas.users().iter().count(), 0);
}

#[test]
fn an_asker_has_its_share_of_a_region_and_so_many_questions() {
    let most = Limit {
        count: UNANSWERED_MAX,
        bytes: percent_of(17 << 20, 75),
    };
    let mut asks = UsageTable::new(vec![Usage::default(); 3]);
    let (one, other) = (Requester::Domain(1).key(), Requester::User(1).key());
    assert_ne!(one, other, "a domain is no user");
    assert_eq!(asks.charge(one, 1, 8 << 20, most), Ok(()));
    assert_eq!(asks.charge(one, 1, 8 << 20, most), Err(ChargeError::Bytes));
    assert_eq!(asks.charge(one, 1, 4 << 20, most), Ok(()));
    assert_eq!(asks.charge(other, 1, 8 << 20, most), Ok(()), "another's");
    for _ in 0..UNANSWERED_MAX - 2 {
        assert_eq!(asks.charge(one, 1, 0, most), Ok(()));
    }
    assert_eq!(asks.charge(one, 1, 0, most), Err(ChargeError::Count));
    asks.uncharge(one, 1, 0);
    assert_eq!(asks.charge(one, 1, 0, most), Ok(()), "one was answered");
    asks.uncharge(one, 0, 8 << 20);
    assert_eq!(asks.charge(one, 0, 8 << 20, most), Ok(()), "one was closed");
}

#[test]
fn a_share_is_a_percentage() {
    assert_eq!(percent_of(1000, 75), 750);
    assert_eq!(percent_of(1000, 100), 1000);
    assert_eq!(percent_of(99, 1), 0);
    assert_eq!(percent_of(u64::MAX, 100), u64::MAX / 100);
}

#[derive(Clone, Debug)]
enum Deed {
    Open,
    Close,
    Take(Scope, u32),
    Give(usize),
}

fn deed() -> impl Strategy<Value = Deed> {
    let place = prop_oneof![Just(Scope::Loopback), Just(Scope::Peer)];
    prop_oneof![
        Just(Deed::Open),
        Just(Deed::Close),
        (place, 0..60u32).prop_map(|(place, bytes)| Deed::Take(place, bytes)),
        any::<usize>().prop_map(Deed::Give),
    ]
}

#[derive(Default)]
struct Model {
    endpoints: u32,
    rings: Vec<(Scope, u32)>,
}

impl Model {
    fn bytes(&self) -> u64 {
        self.rings.iter().map(|(_, bytes)| u64::from(*bytes)).sum()
    }

    fn home(&self) -> u64 {
        let home = self
            .rings
            .iter()
            .filter(|(place, _)| *place == Scope::Loopback);
        home.map(|(_, bytes)| u64::from(*bytes)).sum()
    }
}

proptest! {
    /// Whatever users do, the quotas have what a map of lists has, and nobody is
    /// over a limit or refused below it.
    #[test]
    fn agrees_with_a_map(deeds in prop::collection::vec((0..6u32, deed()), 0..200)) {
        let mut quotas = quotas(0);
        let mut model: BTreeMap<u32, Model> = BTreeMap::new();
        for (uid, deed) in deeds {
            if !quotas.users().has_free_entry() {
                quotas.users().entries_mut().push(Usage::default());
            }
            // User 0 is free of a user's limits.
            let user = User { uid, is_exempt: uid == 0 };
            let home: u64 = model.values().map(Model::home).sum();
            let his = model.entry(uid).or_default();
            match deed {
                Deed::Open => {
                    let fits = uid == 0 || his.endpoints < LIMITS.user_endpoints;
                    prop_assert_eq!(quotas.charge_endpoint(user), fits.then_some(()).ok_or(QuotaError::UserEndpoints));
                    his.endpoints += u32::from(fits);
                }
                Deed::Close => {
                    if his.endpoints > 0 {
                        his.endpoints -= 1;
                        quotas.uncharge_endpoint(uid);
                    }
                }
                Deed::Take(place, bytes) => {
                    let whole = home + u64::from(bytes);
                    let sum = his.bytes() + u64::from(bytes);
                    let wanted = if place == Scope::Loopback && whole > LIMITS.loopback_memory {
                        Err(QuotaError::LoopbackMemory)
                    } else if uid != 0 && sum > LIMITS.user_memory {
                        Err(QuotaError::UserMemory)
                    } else {
                        Ok(())
                    };
                    prop_assert_eq!(quotas.charge_rings(user, place, bytes), wanted);
                    if wanted.is_ok() {
                        his.rings.push((place, bytes));
                    }
                }
                Deed::Give(which) => {
                    if !his.rings.is_empty() {
                        let (place, bytes) = his.rings.remove(which % his.rings.len());
                        quotas.uncharge_rings(uid, place, bytes);
                    }
                }
            }
            let found: Vec<_> = quotas.users().iter().map(|(u, a)| (u, a.count, a.bytes)).collect();
            let wanted: Vec<_> = model
                .iter()
                .map(|(u, m)| (u64::from(*u), m.endpoints, m.bytes()))
                .filter(|(_, endpoints, bytes)| *endpoints > 0 || *bytes > 0)
                .collect();
            prop_assert_eq!(found, wanted);
            prop_assert_eq!(quotas.loopback_bytes(), model.values().map(Model::home).sum::<u64>());
        }
    }
}
