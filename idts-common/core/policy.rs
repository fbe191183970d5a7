// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What dom0 says about a domain: names, values and meaning of the keys that
//! tunnel-mgr writes into xenstore and the backend obeys.
//!
//! Values are read and judged here, by both; reading, writing and watching are
//! left to others. Texts are judged where they lie, nothing is copied. What is
//! malformed allows nothing. PROTOCOL.md section 3.1.

use super::sched::{self, Params};
use super::wire;
pub use super::wire::NAME_MAX;

/// Everything below is in this directory of the backend's own domain, which no
/// other domain can read.
pub const DIR: &str = "idts";
/// A directory for each domain that something is said about, by its id.
pub const DOMAINS: &str = "idts/domain";
/// What holds for a key that a domain's directory lacks; no alias.
pub const DEFAULT: &str = "idts/default";
/// What is said about all domains together.
pub const SCHEDULER: &str = "idts/scheduler";
/// In [`SCHEDULER`]: the name of a [`sched::Policy`].
pub const SCHEDULER_POLICY: &str = "policy";
/// In [`SCHEDULER`]: bytes a second of all domains together, 0 for no cap.
pub const SCHEDULER_RATE: &str = "rate";

/// Most rules of one value.
pub const RULES_MAX: usize = 16;
/// Longest value: of rules with a name, two ports and what divides them.
pub const TEXT_MAX: usize = RULES_MAX * (NAME_MAX + ":4294967295-4294967295,".len());
/// Fewest bytes that a data region can be limited to.
pub const MEMORY_MIN: u64 = (wire::FIRST_WINDOWS * wire::WINDOW) as u64;
/// Most bytes of a data region.
pub const MEMORY_MAX: u64 = wire::SEGMENTS as u64 * wire::RING_MAX as u64;
/// Bytes of a data region, at most, without a limit of its own: 16 MiB of rings,
/// and 1 MiB for lines.
pub const MEMORY_DEFAULT: u64 = 17 << 20;
/// Percent of a data region, at most, that one other domain asked for.
pub const PEER_DEFAULT: u32 = 75;
/// Most channels of a tunnel.
pub const CHANNELS_MAX: u64 = wire::CHANNELS as u64 - 1;

/// Words that are no names.
const RESERVED: [&[u8]; 3] = [ALL, NONE, HOME];
const ALL: &[u8] = b"all";
const NONE: &[u8] = b"none";
/// The backend's own domain, whichever that is.
const HOME: &[u8] = wire::HOME;

/// A key in a domain's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Its share under `drr`.
    Weight,
    /// Its rank under `prio`.
    Priority,
    /// Its cap, in bytes a second.
    Rate,
    /// How many channels it may have open.
    Channels,
    /// How many bytes its data region may have.
    Memory,
    /// How many percent of that one other domain may ask for.
    Peer,
    /// The name under which other domains may connect to it.
    Alias,
    /// Where its programs may connect to.
    Connect,
    /// The groups that its programs may publish.
    Publish,
    /// The groups that its programs may subscribe to.
    Subscribe,
}

impl Key {
    /// Every key.
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

    /// Its name in xenstore and on the command line.
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

    /// The key of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::LIST.into_iter().find(|key| key.name() == name)
    }

    /// What its value looks like, for people.
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

    /// Lowest and highest value and the one that holds without the key, if the
    /// value is a number.
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

    /// What holds without the key, as a text; none for the alias.
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

    /// Whether the text is a value of this key.
    pub fn accepts(self, text: &[u8]) -> bool {
        match self {
            Self::Alias => is_name(text),
            Self::Connect => Targets(text).are_valid(),
            Self::Publish | Self::Subscribe => Groups(text).are_valid(),
            _ => self.number(text).is_some(),
        }
    }

    /// The number that the text means, if this key takes one and it is in range.
    pub fn number(self, text: &[u8]) -> Option<u64> {
        let (min, max, _) = self.range()?;
        number(text, min, max)
    }
}

/// The keys with numbers, as the backend obeys them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// For the scheduler.
    pub params: Params,
    /// Open channels, at most.
    pub channels: u32,
    /// Bytes of the data region, at most.
    pub memory: u64,
    /// Percent of these bytes that one other domain may ask for.
    pub peer: u32,
}

impl Numbers {
    /// What holds without any key.
    pub const DEFAULT: Self = Self {
        params: Params::DEFAULT,
        channels: CHANNELS_MAX as u32,
        memory: MEMORY_DEFAULT,
        peer: PEER_DEFAULT,
    };

    /// Takes the value of a key, or, with none, what holds without it. False,
    /// and without effect, if it is malformed or the key has no number.
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

impl Default for Numbers {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The total cap that the value of [`SCHEDULER_RATE`] means.
pub fn scheduler_rate(text: &[u8]) -> Option<u64> {
    Key::Rate.number(text)
}

/// The policy that the value of [`SCHEDULER_POLICY`] means.
pub fn scheduler_policy(text: &[u8]) -> Option<sched::Policy> {
    let mut all = sched::Policy::ALL.into_iter();
    all.find(|policy| policy.name().as_bytes() == text)
}

/// Whom a change below [`DIR`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Everybody.
    All,
    /// One domain.
    One(u16),
    /// Nobody: the toolstack keeps something there for itself.
    Nobody,
}

/// Whom a change is about, by the path of the node, relative or absolute. What is no
/// path below [`DIR`] may be about everybody.
pub fn about(path: &[u8]) -> About {
    let mut nodes = path.split(|byte| *byte == b'/');
    if !nodes.any(|node| node == DIR.as_bytes()) {
        return About::All;
    }
    let below = [nodes.next(), nodes.next(), nodes.next(), nodes.next()];
    match below {
        [None, ..] | [Some(b"domain"), None, ..] => About::All,
        [Some(b"default" | b"scheduler"), _, None, _] => About::All,
        [Some(b"domain"), Some(id), key, None] if key.is_none_or(is_key) => {
            let id = number(id, 0, u16::MAX.into()).and_then(|id| id.try_into().ok());
            id.map_or(About::Nobody, About::One)
        }
        _ => About::Nobody,
    }
}

fn is_key(name: &[u8]) -> bool {
    Key::LIST
        .into_iter()
        .any(|key| key.name().as_bytes() == name)
}

/// Reads a decimal number: digits only, no sign, no blank, within `min` and
/// `max`.
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

/// Whether the text can name a domain or a group: a lower-case letter, then
/// letters, digits and hyphens; and none of `all`, `none`, `dom0`.
pub fn is_name(text: &[u8]) -> bool {
    wire::is_name(text) && !RESERVED.contains(&text)
}

/// The parts between commas.
fn parts(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b',')
}

/// Whether there are few enough rules and each is one.
fn is_list(text: &[u8], is_rule: impl Fn(&[u8]) -> bool) -> bool {
    text.len() <= TEXT_MAX && parts(text).count() <= RULES_MAX && parts(text).all(is_rule)
}

/// Whom a program wants to connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The domain's id.
    pub domain: u16,
    /// It is the backend's own domain.
    pub is_home: bool,
    /// What [`Key::Alias`] calls it.
    pub alias: Option<&'a [u8]>,
    /// The port.
    pub port: u32,
}

/// Whether a domain may connect to the target, by the value of its
/// [`Key::Connect`].
pub fn may_connect(value: Option<&[u8]>, target: Target<'_>) -> bool {
    let text = value.unwrap_or(Key::Connect.default_text().as_bytes());
    Targets(text).hold(target)
}

/// Whether a domain may publish, or subscribe to, the group, by the value of its
/// [`Key::Publish`] or [`Key::Subscribe`].
pub fn may_join(value: Option<&[u8]>, group: &[u8]) -> bool {
    let text = value.unwrap_or(Key::Subscribe.default_text().as_bytes());
    Groups(text).hold(group)
}

/// Whether a value of [`Key::Connect`] ends a connection to the target that
/// stands. What nobody can have meant, in it or as the target's alias, does not.
pub fn ends_connect(value: Option<&[u8]>, target: Target<'_>) -> bool {
    let targets = Targets(value.unwrap_or(Key::Connect.default_text().as_bytes()));
    let garbled = target.alias.is_some_and(|alias| !is_name(alias));
    targets.are_valid() && !targets.hold(target) && !(garbled && targets.hold_some_alias(target))
}

/// Whether a value of [`Key::Publish`] or [`Key::Subscribe`] ends a membership
/// in the group.
pub fn ends_join(value: Option<&[u8]>, group: &[u8]) -> bool {
    let groups = Groups(value.unwrap_or(Key::Subscribe.default_text().as_bytes()));
    groups.are_valid() && !groups.hold(group)
}

/// A value of [`Key::Connect`].
struct Targets<'a>(&'a [u8]);

impl Targets<'_> {
    fn are_valid(&self) -> bool {
        self.0 == ALL || self.0 == NONE || is_list(self.0, |rule| TargetRule::read(rule).is_some())
    }

    fn hold(&self, target: Target<'_>) -> bool {
        if !self.are_valid() {
            return false;
        }
        let mut rules = parts(self.0).filter_map(TargetRule::read);
        self.0 == ALL || rules.any(|rule| rule.holds(target))
    }

    /// Whether a rule holds, should the target have the alias that it names.
    fn hold_some_alias(&self, target: Target<'_>) -> bool {
        let holds = |rule: TargetRule<'_>| match rule.who {
            Who::Alias(name) => rule.holds(Target {
                alias: Some(name),
                ..target
            }),
            _ => false,
        };
        parts(self.0).filter_map(TargetRule::read).any(holds)
    }
}

/// A domain as a rule names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who<'a> {
    Home,
    Id(u16),
    Alias(&'a [u8]),
}

/// One rule of [`Key::Connect`]: a domain, and its first and last port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TargetRule<'a> {
    who: Who<'a>,
    first: u32,
    last: u32,
}

impl<'a> TargetRule<'a> {
    fn read(text: &'a [u8]) -> Option<Self> {
        let mut halves = text.splitn(2, |byte| *byte == b':');
        let who = halves.next()?;
        let (first, last) = match halves.next() {
            Some(ports) => ports_of(ports)?,
            // All of dom0's, by the word alone; of others only if said so.
            None => (who == HOME).then_some((1, u32::MAX))?,
        };
        let who = if who == HOME {
            Who::Home
        } else if is_name(who) {
            Who::Alias(who)
        } else {
            Who::Id(number(who, 0, u16::MAX.into())?.try_into().ok()?)
        };
        Some(Self { who, first, last })
    }

    fn holds(&self, target: Target<'_>) -> bool {
        let who = match self.who {
            Who::Home => target.is_home,
            Who::Id(id) => target.domain == id,
            Who::Alias(name) => target.alias == Some(name),
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
struct Groups<'a>(&'a [u8]);

impl Groups<'_> {
    fn are_valid(&self) -> bool {
        let is_rule = |rule: &[u8]| match rule.strip_suffix(b"*") {
            Some(prefix) => wire::is_name(prefix),
            None => is_name(rule),
        };
        self.0 == ALL || self.0 == NONE || is_list(self.0, is_rule)
    }

    fn hold(&self, group: &[u8]) -> bool {
        let fits = |rule: &[u8]| match rule.strip_suffix(b"*") {
            Some(prefix) => group.starts_with(prefix),
            None => group == rule,
        };
        is_name(group) && self.are_valid() && (self.0 == ALL || parts(self.0).any(fits))
    }
}
