// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Policy of dom0 for each domain: names, values and meaning of the keys that tunnel-mgr writes
//! into xenstore and the backend applies.
//!
//! Both parse and evaluate values here; reading, writing and watching xenstore is theirs. Texts
//! are evaluated in place, without copies. A malformed value allows nothing. PROTOCOL.md section
//! 3.1.

use super::sched::{self, Params};
use super::wire;
pub use super::wire::NAME_MAX;

/// Directory of all policy, in the backend's own domain. No other domain can read it.
pub const DIR: &str = "idts";
/// Directory with a directory for each domain with settings, by domain id.
pub const DOMAINS: &str = "idts/domain";
/// Directory of the settings of domains that lack their own. It has no alias.
pub const DEFAULT: &str = "idts/default";
/// Directory of the settings of all domains together.
pub const SCHEDULER: &str = "idts/scheduler";
/// Key in [`SCHEDULER`]: the name of a [`sched::Policy`].
pub const SCHEDULER_POLICY: &str = "policy";
/// Key in [`SCHEDULER`]: bytes a second of all domains together; 0: no cap.
pub const SCHEDULER_RATE: &str = "rate";

/// Largest number of rules of one value.
pub const RULES_MAX: usize = 16;
/// Largest length of a value: rules with a name, two ports and their separators.
pub const TEXT_MAX: usize = RULES_MAX * (NAME_MAX + ":4294967295-4294967295,".len());
/// Smallest limit of a data region, in bytes.
const MEMORY_MIN: u64 = (wire::FIRST_WINDOWS * wire::WINDOW) as u64;
/// Largest limit of a data region, in bytes.
const MEMORY_MAX: u64 = wire::SEGMENTS as u64 * wire::RING_MAX as u64;
/// Default limit of a data region, in bytes: 16 MiB of rings, and 1 MiB for lines.
const MEMORY_DEFAULT: u64 = 17 << 20;
/// Default limit of what one other domain may request of a data region, in percent.
const PEER_DEFAULT: u32 = 75;
/// Largest number of channels of a tunnel.
const CHANNELS_MAX: u64 = wire::CHANNELS as u64 - 1;

/// Words with a meaning of their own, which cannot be names.
const RESERVED: [&[u8]; 3] = [ALL, NONE, BACKEND];
const ALL: &[u8] = b"all";
const NONE: &[u8] = b"none";
const BACKEND: &[u8] = wire::BACKEND_NAME;

/// A key in a domain's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Weight under the scheduler `drr`.
    Weight,
    /// Priority under the scheduler `prio`.
    Priority,
    /// Cap in bytes a second.
    Rate,
    /// Largest number of open channels.
    Channels,
    /// Largest size of the data region, in bytes.
    Memory,
    /// Largest part of the data region that one other domain may request, in percent.
    Peer,
    /// Alias by which other domains can connect to the domain.
    Alias,
    /// ConnectRules that its programs may connect to.
    Connect,
    /// GroupRules that its programs may publish to.
    Publish,
    /// GroupRules that its programs may subscribe to.
    Subscribe,
}

impl Key {
    /// All keys.
    pub const LIST: [Self; 10] = [
        Self::Weight,
        Self::Priority,
        Self::Rate,
        Self::Channels,
        Self::Memory,
        Self::Peer,
        Self::Alias,
        Self::Connect,
        Self::Publish,
        Self::Subscribe,
    ];

    /// The name in xenstore and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Weight => "weight",
            Self::Priority => "prio",
            Self::Rate => "rate",
            Self::Channels => "limit-channels",
            Self::Memory => "limit-memory",
            Self::Peer => "limit-peer",
            Self::Alias => "alias",
            Self::Connect => "connect",
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
        }
    }

    /// The key of a name. `None`: there is none.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::LIST.into_iter().find(|key| key.name() == name)
    }

    /// The grammar of the value, as messages show it.
    pub const fn grammar(self) -> &'static str {
        match self {
            Self::Weight => "number, 1 to 1024",
            Self::Priority => "number, 0 to 7",
            Self::Rate => "number, 0 (no cap) to 1099511627776",
            Self::Channels => "number, 0 to 4095",
            Self::Memory => "number, 131072 to 134217728",
            Self::Peer => "number, 1 to 100",
            Self::Alias => "NAME",
            Self::Connect => "all, none, dom0, or a list of dom0 and DOM:PORTS",
            Self::Publish | Self::Subscribe => "all, none, or a list of NAME and PREFIX*",
        }
    }

    /// Lowest, highest and default value. `None`: the value is not a number.
    pub const fn range(self) -> Option<(u64, u64, u64)> {
        match self {
            Self::Weight => Some((1, sched::WEIGHT_MAX as u64, 1)),
            Self::Priority => Some((0, sched::PRIORITY_MAX as u64, sched::PRIORITY as u64)),
            Self::Rate => Some((0, sched::RATE_MAX, 0)),
            Self::Channels => Some((0, CHANNELS_MAX, CHANNELS_MAX)),
            Self::Memory => Some((MEMORY_MIN, MEMORY_MAX, MEMORY_DEFAULT)),
            Self::Peer => Some((1, 100, PEER_DEFAULT as u64)),
            Self::Alias | Self::Connect | Self::Publish | Self::Subscribe => None,
        }
    }

    /// The default value as text; empty for the alias, which has none.
    pub const fn default_text(self) -> &'static str {
        match self {
            Self::Weight => "1",
            Self::Priority => "3",
            Self::Rate => "0",
            Self::Channels => "4095",
            Self::Memory => "17825792",
            Self::Peer => "75",
            Self::Alias => "",
            Self::Connect => "dom0",
            Self::Publish | Self::Subscribe => "none",
        }
    }

    /// Whether the text is a well-formed value of this key.
    pub fn accepts(self, text: &[u8]) -> bool {
        match self {
            Self::Alias => is_name(text),
            Self::Connect => ConnectRules(text).are_valid(),
            Self::Publish | Self::Subscribe => GroupRules(text).are_valid(),
            _ => self.number(text).is_some(),
        }
    }

    /// Parses the text as the number of this key. `None`: it is malformed or out of range, or the
    /// value is not a number.
    pub fn number(self, text: &[u8]) -> Option<u64> {
        let (min, max, _) = self.range()?;
        number(text, min, max)
    }
}

/// The numeric settings of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DomainSettings {
    /// Parameters of its flow in the scheduler.
    pub params: Params,
    /// Largest number of open channels.
    pub channels: u32,
    /// Largest size of the data region, in bytes.
    pub memory: u64,
    /// Largest part of that size that one other domain may request, in percent.
    pub peer: u32,
}

impl DomainSettings {
    /// The settings without any key.
    pub const DEFAULT: Self = Self {
        params: Params::DEFAULT,
        channels: CHANNELS_MAX as u32,
        memory: MEMORY_DEFAULT,
        peer: PEER_DEFAULT,
    };

    /// Sets the value of a key, or, without a text, its default. False: the text is malformed, or
    /// the key's value is not a number; nothing is changed then.
    pub fn set(&mut self, key: Key, text: Option<&[u8]>) -> bool {
        let Some((_, _, default)) = key.range() else {
            return false;
        };
        let Some(value) = text.map_or(Some(default), |text| key.number(text)) else {
            return false;
        };
        match key {
            Key::Weight => self.params.weight = value as u32,
            Key::Priority => self.params.priority = value as u8,
            Key::Rate => self.params.rate = value,
            Key::Channels => self.channels = value as u32,
            Key::Peer => self.peer = value as u32,
            _ => self.memory = value,
        }
        true
    }
}

impl Default for DomainSettings {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Parses the value of [`SCHEDULER_RATE`].
pub fn scheduler_rate(text: &[u8]) -> Option<u64> {
    Key::Rate.number(text)
}

/// Parses the value of [`SCHEDULER_POLICY`].
pub fn scheduler_policy(text: &[u8]) -> Option<sched::Policy> {
    let mut all = sched::Policy::ALL.into_iter();
    all.find(|policy| policy.name().as_bytes() == text)
}

/// The domains that a change below [`DIR`] affects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affected {
    /// All domains.
    All,
    /// One domain.
    One(u16),
    /// No domain: the node is the toolstack's own.
    None,
}

/// The domains that a change of a node affects, by its path, relative or absolute. A path that
/// is not below [`DIR`] is taken to affect all.
pub fn affected(path: &[u8]) -> Affected {
    let mut nodes = path.split(|byte| *byte == b'/');
    if !nodes.any(|node| node == DIR.as_bytes()) {
        return Affected::All;
    }
    let below = [nodes.next(), nodes.next(), nodes.next(), nodes.next()];
    match below {
        [None, ..] | [Some(b"domain"), None, ..] => Affected::All,
        [Some(b"default" | b"scheduler"), _, None, _] => Affected::All,
        [Some(b"domain"), Some(id), key, None] if key.is_none_or(is_key) => {
            let id = number(id, 0, u16::MAX.into()).and_then(|id| id.try_into().ok());
            id.map_or(Affected::None, Affected::One)
        }
        _ => Affected::None,
    }
}

fn is_key(name: &[u8]) -> bool {
    Key::LIST
        .into_iter()
        .any(|key| key.name().as_bytes() == name)
}

/// Parses a decimal number within `min` and `max`: digits only, no sign, no blank. `None`: the text
/// is anything else.
pub fn number(text: &[u8], min: u64, max: u64) -> Option<u64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    let mut value: u64 = 0;
    for digit in text {
        let digit = digit.checked_sub(b'0').filter(|d| *d < 10)?;
        value = value.checked_mul(10)?.checked_add(digit.into())?;
    }
    (min..=max).contains(&value).then_some(value)
}

/// Whether the text can name a domain or a group: it is a [`wire::is_name`], and none of `all`,
/// `none` and `dom0`.
pub fn is_name(text: &[u8]) -> bool {
    wire::is_name(text) && !RESERVED.contains(&text)
}

/// The rules of a value, which commas separate.
fn parts(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b',')
}

/// Whether the text is a list of at most [`RULES_MAX`] rules, all well-formed.
fn is_list(text: &[u8], is_rule: impl Fn(&[u8]) -> bool) -> bool {
    text.len() <= TEXT_MAX && parts(text).count() <= RULES_MAX && parts(text).all(is_rule)
}

/// The target of a connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// Domain id.
    pub domain: u16,
    /// Whether it is the backend's own domain.
    pub is_backend: bool,
    /// Value of its [`Key::Alias`].
    pub alias: Option<&'a [u8]>,
    /// Port.
    pub port: u32,
}

/// Whether a domain may connect to the target, by the value of its [`Key::Connect`]; `None` for the
/// default.
///
/// ```
/// use idts_core::policy::{may_connect, Target};
///
/// let web = Target { domain: 4, is_backend: false, alias: Some(b"web"), port: 80 };
/// assert!(may_connect(Some(b"dom0,web:80-81"), web));
/// assert!(may_connect(Some(b"4:*"), web));
/// assert!(!may_connect(Some(b"web:81"), web));
/// // The default is dom0 alone, and a malformed value allows nothing.
/// assert!(!may_connect(None, web));
/// assert!(!may_connect(Some(b"web"), web));
/// ```
pub fn may_connect(value: Option<&[u8]>, target: Target<'_>) -> bool {
    let text = value.unwrap_or(Key::Connect.default_text().as_bytes());
    ConnectRules(text).allow(target)
}

/// Whether a domain may publish, or subscribe, to the group, by the value of its
/// [`Key::Publish`] or [`Key::Subscribe`]; `None` for the default.
pub fn may_join(value: Option<&[u8]>, group: &[u8]) -> bool {
    let text = value.unwrap_or(Key::Subscribe.default_text().as_bytes());
    GroupRules(text).allow(group)
}

/// Whether a value of [`Key::Connect`] revokes an established connection to the target. A malformed
/// value, or a malformed alias of the target, revokes nothing: it is an operator's mistake, and
/// not worth a connection.
pub fn revokes_connect(value: Option<&[u8]>, target: Target<'_>) -> bool {
    let targets = ConnectRules(value.unwrap_or(Key::Connect.default_text().as_bytes()));
    let garbled = target.alias.is_some_and(|alias| !is_name(alias));
    targets.are_valid() && !targets.allow(target) && !(garbled && targets.allow_some_alias(target))
}

/// Whether a value of [`Key::Publish`] or [`Key::Subscribe`] revokes a membership in the group. A
/// malformed value revokes nothing.
pub fn revokes_join(value: Option<&[u8]>, group: &[u8]) -> bool {
    let groups = GroupRules(value.unwrap_or(Key::Subscribe.default_text().as_bytes()));
    groups.are_valid() && !groups.allow(group)
}

/// A value of [`Key::Connect`].
struct ConnectRules<'a>(&'a [u8]);

impl ConnectRules<'_> {
    fn are_valid(&self) -> bool {
        self.0 == ALL || self.0 == NONE || is_list(self.0, |rule| ConnectRule::read(rule).is_some())
    }

    fn allow(&self, target: Target<'_>) -> bool {
        if !self.are_valid() {
            return false;
        }
        let mut rules = parts(self.0).filter_map(ConnectRule::read);
        self.0 == ALL || rules.any(|rule| rule.matches(target))
    }

    /// Whether a rule allows the target if its alias is the one that the rule names.
    fn allow_some_alias(&self, target: Target<'_>) -> bool {
        let matches = |rule: ConnectRule<'_>| match rule.who {
            RuleDomain::Alias(name) => rule.matches(Target {
                alias: Some(name),
                ..target
            }),
            _ => false,
        };
        parts(self.0).filter_map(ConnectRule::read).any(matches)
    }
}

/// The domain that a rule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RuleDomain<'a> {
    Backend,
    Id(u16),
    Alias(&'a [u8]),
}

/// One rule of [`Key::Connect`]: a domain, and its first and last port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ConnectRule<'a> {
    who: RuleDomain<'a>,
    first: u32,
    last: u32,
}

impl<'a> ConnectRule<'a> {
    fn read(text: &'a [u8]) -> Option<Self> {
        let mut halves = text.splitn(2, |byte| *byte == b':');
        let who = halves.next()?;
        let (first, last) = match halves.next() {
            Some(ports) => ports_of(ports)?,
            // `dom0` alone means all its ports; other domains need a port or `*`.
            None => (who == BACKEND).then_some((1, u32::MAX))?,
        };
        let who = if who == BACKEND {
            RuleDomain::Backend
        } else if is_name(who) {
            RuleDomain::Alias(who)
        } else {
            RuleDomain::Id(number(who, 0, u16::MAX.into())?.try_into().ok()?)
        };
        Some(Self { who, first, last })
    }

    fn matches(&self, target: Target<'_>) -> bool {
        let who = match self.who {
            RuleDomain::Backend => target.is_backend,
            RuleDomain::Id(id) => target.domain == id,
            RuleDomain::Alias(name) => target.alias == Some(name),
        };
        who && (self.first..=self.last).contains(&target.port)
    }
}

/// First and last port of `N`, `A-B` or `*`.
fn ports_of(text: &[u8]) -> Option<(u32, u32)> {
    if text == b"*" {
        return Some((1, u32::MAX));
    }
    let port = |text| number(text, 1, u32::MAX.into())?.try_into().ok();
    let mut ends = text.splitn(2, |byte| *byte == b'-');
    let first: u32 = port(ends.next()?)?;
    let last: u32 = ends.next().map_or(Some(first), port)?;
    (first <= last).then_some((first, last))
}

/// A value of [`Key::Publish`] or [`Key::Subscribe`].
struct GroupRules<'a>(&'a [u8]);

impl GroupRules<'_> {
    fn are_valid(&self) -> bool {
        let is_rule = |rule: &[u8]| match rule.strip_suffix(b"*") {
            Some(prefix) => wire::is_name(prefix),
            None => is_name(rule),
        };
        self.0 == ALL || self.0 == NONE || is_list(self.0, is_rule)
    }

    fn allow(&self, group: &[u8]) -> bool {
        let fits = |rule: &[u8]| match rule.strip_suffix(b"*") {
            Some(prefix) => group.starts_with(prefix),
            None => group == rule,
        };
        is_name(group) && self.are_valid() && (self.0 == ALL || parts(self.0).any(fits))
    }
}
