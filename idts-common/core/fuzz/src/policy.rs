// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Values of dom0's keys: what is malformed is refused and allows nothing.

use super::input::Input;
use idts_core::policy::{
    is_name, may_connect, may_join, scheduler_policy, scheduler_rate, DomainSettings, Key, Target,
};

/// Splits the rest into a value, an alias and a group at zero bytes.
fn texts<'a>(input: &Input<'a>) -> [&'a [u8]; 3] {
    let mut parts = input.rest().splitn(3, |byte| *byte == 0);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

/// Reads a target, then a value for every key, an alias and a group.
pub fn fuzz_one(data: &[u8]) {
    let input = Input::new(data);
    let (domain, port, is_backend) = (
        input.count() as u16,
        input.count(),
        input.byte().is_multiple_of(2),
    );
    let [value, alias, group] = texts(&input);
    let target = Target {
        domain,
        is_backend,
        alias: is_name(alias).then_some(alias),
        port,
    };
    if !Key::Connect.accepts(value) || value == b"none" {
        assert!(!may_connect(Some(value), target));
    }
    if !Key::Publish.accepts(value) || !is_name(group) || value == b"none" {
        assert!(!may_join(Some(value), group));
    }
    for key in Key::LIST {
        let mut numbers = DomainSettings::DEFAULT;
        let taken = numbers.set(key, Some(value));
        assert_eq!(taken, key.number(value).is_some());
        assert!(taken || numbers == DomainSettings::DEFAULT);
        assert!(!taken || key.accepts(value));
    }
    if let Some(policy) = scheduler_policy(value) {
        assert_eq!(policy.name().as_bytes(), value);
    }
    let _ = scheduler_rate(value);
}
