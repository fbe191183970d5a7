// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The book of users against a map, its limits one by one, and the shares of askers.

use std::collections::BTreeMap;

use idts_core::book::{share, Asker, Book, Full, Limits, Place, User, UNANSWERED_MAX};
use idts_core::ledger::{self, Account, Ledger, Most};
use proptest::prelude::*;

const LIMITS: Limits = Limits {
    user_memory: 100,
    user_endpoints: 3,
    home_memory: 250,
};

fn user(uid: u32) -> User {
    User {
        uid,
        is_free: false,
    }
}

fn root() -> User {
    User {
        uid: 0,
        is_free: true,
    }
}

fn book(places: usize) -> Book<Vec<Account>> {
    Book::new(LIMITS, vec![Account::default(); places])
}

#[test]
fn a_user_has_so_many_endpoints_and_no_more() {
    let mut book = book(4);
    for _ in 0..3 {
        assert_eq!(book.open(user(7)), Ok(()));
    }
    assert_eq!(book.open(user(7)), Err(Full::UserEndpoints));
    assert_eq!(book.open(user(8)), Ok(()), "another goes on");
    book.close(7);
    assert_eq!(book.open(user(7)), Ok(()), "one that was given back");
    for _ in 0..100 {
        assert_eq!(book.open(root()), Ok(()));
    }
}

#[test]
fn a_user_has_so_many_bytes_and_no_more() {
    let mut book = book(4);
    assert_eq!(book.take(user(7), Place::Region, 100), Ok(()));
    assert_eq!(book.take(user(7), Place::Region, 1), Err(Full::UserMemory));
    assert_eq!(book.take(user(7), Place::Home, 1), Err(Full::UserMemory));
    assert_eq!(book.home(), 0, "what was refused is nowhere");
    assert_eq!(book.take(user(8), Place::Region, 100), Ok(()));
    book.give(7, Place::Region, 100);
    assert_eq!(book.take(user(7), Place::Home, 100), Ok(()));
    assert_eq!(book.home(), 100);
}

#[test]
fn the_tunnel_with_itself_is_bounded_for_the_free_too() {
    let mut book = book(4);
    assert_eq!(book.take(root(), Place::Home, 250), Ok(()));
    assert_eq!(book.take(root(), Place::Home, 1), Err(Full::HomeMemory));
    assert_eq!(book.take(user(7), Place::Home, 1), Err(Full::HomeMemory));
    assert_eq!(book.take(root(), Place::Region, u32::MAX), Ok(()));
    assert_eq!(book.home(), 250);
    book.give(0, Place::Home, 250);
    assert_eq!(book.take(user(7), Place::Home, 1), Ok(()));
}

#[test]
fn places_are_made_by_the_caller() {
    let mut book = book(0);
    assert!(!book.users().has_place());
    assert_eq!(book.open(user(7)), Err(Full::Places));
    assert_eq!(book.take(user(7), Place::Home, 1), Err(Full::Places));
    assert_eq!(book.home(), 0);
    book.users().places().push(Account::default());
    assert_eq!(book.open(user(7)), Ok(()));
    assert_eq!(book.open(user(8)), Err(Full::Places));
    book.close(7);
    assert_eq!(
        book.open(user(8)),
        Ok(()),
        "whoever has nothing has no place"
    );
}

#[test]
fn what_nobody_has_is_not_given_back() {
    let mut book = book(1);
    book.close(7);
    book.give(7, Place::Region, 5);
    book.give(7, Place::Home, 5);
    assert_eq!(book.home(), 0);
    assert_eq!(book.users().accounts().count(), 0);
}

#[test]
fn an_asker_has_its_share_of_a_region_and_so_many_questions() {
    let most = Most {
        count: UNANSWERED_MAX,
        bytes: share(17 << 20, 75),
    };
    let mut asks = Ledger::new(vec![Account::default(); 3]);
    let (one, other) = (Asker::Domain(1).key(), Asker::User(1).key());
    assert_ne!(one, other, "a domain is no user");
    assert_eq!(asks.add(one, 1, 8 << 20, most), Ok(()));
    assert_eq!(asks.add(one, 1, 8 << 20, most), Err(ledger::Full::Bytes));
    assert_eq!(asks.add(one, 1, 4 << 20, most), Ok(()));
    assert_eq!(asks.add(other, 1, 8 << 20, most), Ok(()), "another's");
    for _ in 0..UNANSWERED_MAX - 2 {
        assert_eq!(asks.add(one, 1, 0, most), Ok(()));
    }
    assert_eq!(asks.add(one, 1, 0, most), Err(ledger::Full::Count));
    asks.take(one, 1, 0);
    assert_eq!(asks.add(one, 1, 0, most), Ok(()), "one was answered");
    asks.take(one, 0, 8 << 20);
    assert_eq!(asks.add(one, 0, 8 << 20, most), Ok(()), "one was closed");
}

#[test]
fn a_share_is_a_percentage() {
    assert_eq!(share(1000, 75), 750);
    assert_eq!(share(1000, 100), 1000);
    assert_eq!(share(99, 1), 0);
    assert_eq!(share(u64::MAX, 100), u64::MAX / 100);
}

#[derive(Clone, Debug)]
enum Deed {
    Open,
    Close,
    Take(Place, u32),
    Give(usize),
}

fn deed() -> impl Strategy<Value = Deed> {
    let place = prop_oneof![Just(Place::Home), Just(Place::Region)];
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
    rings: Vec<(Place, u32)>,
}

impl Model {
    fn bytes(&self) -> u64 {
        self.rings.iter().map(|(_, bytes)| u64::from(*bytes)).sum()
    }

    fn home(&self) -> u64 {
        let home = self.rings.iter().filter(|(place, _)| *place == Place::Home);
        home.map(|(_, bytes)| u64::from(*bytes)).sum()
    }
}

proptest! {
    /// Whatever users do, the book has what a map of lists has, and nobody is
    /// over a limit or refused below it.
    #[test]
    fn agrees_with_a_map(deeds in prop::collection::vec((0..6u32, deed()), 0..200)) {
        let mut book = book(0);
        let mut model: BTreeMap<u32, Model> = BTreeMap::new();
        for (uid, deed) in deeds {
            if !book.users().has_place() {
                book.users().places().push(Account::default());
            }
            // User 0 is free of a user's limits.
            let user = User { uid, is_free: uid == 0 };
            let home: u64 = model.values().map(Model::home).sum();
            let his = model.entry(uid).or_default();
            match deed {
                Deed::Open => {
                    let fits = uid == 0 || his.endpoints < LIMITS.user_endpoints;
                    prop_assert_eq!(book.open(user), fits.then_some(()).ok_or(Full::UserEndpoints));
                    his.endpoints += u32::from(fits);
                }
                Deed::Close => {
                    if his.endpoints > 0 {
                        his.endpoints -= 1;
                        book.close(uid);
                    }
                }
                Deed::Take(place, bytes) => {
                    let whole = home + u64::from(bytes);
                    let sum = his.bytes() + u64::from(bytes);
                    let wanted = if place == Place::Home && whole > LIMITS.home_memory {
                        Err(Full::HomeMemory)
                    } else if uid != 0 && sum > LIMITS.user_memory {
                        Err(Full::UserMemory)
                    } else {
                        Ok(())
                    };
                    prop_assert_eq!(book.take(user, place, bytes), wanted);
                    if wanted.is_ok() {
                        his.rings.push((place, bytes));
                    }
                }
                Deed::Give(which) => {
                    if !his.rings.is_empty() {
                        let (place, bytes) = his.rings.remove(which % his.rings.len());
                        book.give(uid, place, bytes);
                    }
                }
            }
            let found: Vec<_> = book.users().accounts().map(|(u, a)| (u, a.count, a.bytes)).collect();
            let wanted: Vec<_> = model
                .iter()
                .map(|(u, m)| (u64::from(*u), m.endpoints, m.bytes()))
                .filter(|(_, endpoints, bytes)| *endpoints > 0 || *bytes > 0)
                .collect();
            prop_assert_eq!(found, wanted);
            prop_assert_eq!(book.home(), model.values().map(Model::home).sum::<u64>());
        }
    }
}
