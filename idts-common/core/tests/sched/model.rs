// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Any order of calls against a model that knows who waits: no flow is lost,
//! none is picked that does not wait, and nobody waits while something could be
//! served.

use idts_core::sched::{Claim, FlowId, Params, Pick, Policy, Scheduler};
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Join(Params),
    Leave(usize),
    Wake(usize),
    Next,
    Done { which: usize, used: u32, more: bool },
    Claim(usize, u32),
    MayClaim(usize),
    Refund(usize, u32),
    Charge(usize, u32),
    Set(usize, Params),
    Policy(usize),
    Total(u64),
    Later(u64),
}

fn rate() -> impl Strategy<Value = u64> {
    prop_oneof![4 => Just(0), 1 => Just(u64::MAX), 2 => 1..1_000_000_000u64, 1 => any::<u64>()]
}

fn params() -> impl Strategy<Value = Params> {
    (any::<u32>(), any::<u8>(), rate()).prop_map(|(weight, priority, rate)| Params {
        weight: weight % 2048,
        priority: priority % 10,
        rate,
    })
}

fn used() -> impl Strategy<Value = u32> {
    prop_oneof![0..100_000u32, any::<u32>()]
}

fn op() -> impl Strategy<Value = Op> {
    let which = 0..12usize;
    prop_oneof![
        2 => params().prop_map(Op::Join),
        1 => which.clone().prop_map(Op::Leave),
        6 => which.clone().prop_map(Op::Wake),
        8 => Just(Op::Next),
        8 => (which.clone(), used(), any::<bool>())
            .prop_map(|(which, used, more)| Op::Done { which, used, more }),
        3 => (which.clone(), used()).prop_map(|(n, want)| Op::Claim(n, want)),
        2 => which.clone().prop_map(Op::MayClaim),
        1 => (which.clone(), used()).prop_map(|(n, unused)| Op::Refund(n, unused)),
        1 => (which.clone(), used()).prop_map(|(n, extra)| Op::Charge(n, extra)),
        2 => (which, params()).prop_map(|(n, p)| Op::Set(n, p)),
        1 => (0..4usize).prop_map(Op::Policy),
        1 => rate().prop_map(Op::Total),
        3 => prop_oneof![0..100_000_000u64, any::<u64>()].prop_map(Op::Later),
    ]
}

/// What the model knows of a flow.
#[derive(Clone, Copy, Debug)]
struct Known {
    id: FlowId,
    member: bool,
    running: bool,
    work: bool,
    direct: bool,
}

impl Known {
    fn waits(&self) -> bool {
        self.member && !self.running && (self.work || self.direct)
    }
}

struct World {
    sched: Box<Scheduler>,
    known: Vec<Known>,
    now: u64,
}

impl World {
    fn apply(&mut self, op: Op) {
        let now = self.now;
        match op {
            Op::Join(params) => {
                let id = self.sched.add_flow(params, now).unwrap();
                assert!(self.known.iter().all(|k| k.id != id));
                self.known.push(Known {
                    id,
                    member: true,
                    running: false,
                    work: false,
                    direct: false,
                });
            }
            Op::Policy(n) => self.sched.set_policy(Policy::ALL[n]),
            Op::Total(rate) => self.sched.set_total_rate(rate, now),
            Op::Later(time) => self.now = now.saturating_add(time % (1 << 50)),
            Op::Next => drop(self.next()),
            Op::Leave(n)
            | Op::Wake(n)
            | Op::Done { which: n, .. }
            | Op::Claim(n, _)
            | Op::MayClaim(n)
            | Op::Refund(n, _)
            | Op::Charge(n, _)
            | Op::Set(n, _) => {
                let count = self.known.len();
                if count > 0 {
                    self.apply_to(n % count, op);
                }
            }
        }
        let waiting = self.known.iter().filter(|k| k.waits()).count();
        assert_eq!(self.sched.waiting(), waiting);
    }

    fn apply_to(&mut self, n: usize, op: Op) {
        let known = &mut self.known[n];
        match op {
            Op::Leave(_) => {
                self.sched.remove_flow(known.id);
                known.member = false;
            }
            Op::Wake(_) => {
                let kick = self.sched.wake(known.id, self.now);
                assert_eq!(kick, known.member && !known.running && !known.waits());
                known.work |= known.member;
            }
            Op::Done { used, more, .. } => {
                self.sched.done(known.id, used, more, self.now);
                known.work |= known.running && more;
                known.running = false;
            }
            Op::Claim(_, want) => match self.sched.claim(known.id, want, self.now) {
                Claim::Queued => known.direct = true,
                // What others of the flow sleep on is still theirs.
                Claim::Granted(n) => {
                    assert!(known.member && (1..=want.max(1)).contains(&n));
                }
                Claim::Free => assert!(known.member && !self.sched.is_capped(known.id)),
                Claim::Gone => assert!(!known.member),
            },
            // It says what a claim then gets.
            Op::MayClaim(_) => match self.sched.may_claim(known.id, self.now) {
                true => {
                    let claim = self.sched.claim(known.id, 1, self.now);
                    assert!(claim != Claim::Queued);
                }
                false => {
                    assert!(known.member && self.sched.is_capped(known.id));
                    known.direct = true;
                    let claim = self.sched.claim(known.id, 1, self.now);
                    assert_eq!(claim, Claim::Queued);
                }
            },
            Op::Charge(_, extra) => self.sched.charge(known.id, extra, self.now),
            Op::Refund(_, unused) => self.sched.refund(known.id, unused % 65536),
            Op::Set(_, params) => self.sched.set(known.id, params, self.now),
            _ => {}
        }
    }

    /// Asks for the next pick and judges it; true when something was served.
    fn next(&mut self) -> bool {
        let pick = self.sched.next(self.now);
        let anyone = self.known.iter().any(Known::waits);
        match pick {
            Pick::Idle => assert!(!anyone, "somebody waits"),
            Pick::WaitUntil(time) => {
                assert!(anyone && time > self.now);
                let free = |k: &Known| k.waits() && !self.sched.is_capped(k.id);
                assert!(!self.known.iter().any(free), "not work conserving");
            }
            Pick::Run { flow, budget } => {
                let known = self.find(flow);
                assert!(known.waits() && known.work && budget > 0);
                known.running = true;
                known.work = false;
            }
            Pick::Grant { flow } => {
                let known = self.find(flow);
                assert!(known.waits() && known.direct);
                known.direct = false;
            }
        }
        matches!(pick, Pick::Run { .. } | Pick::Grant { .. })
    }

    fn find(&mut self, id: FlowId) -> &mut Known {
        self.known.iter_mut().find(|k| k.id == id).unwrap()
    }

    /// Every worker finishes, nothing new comes: all that wait are served.
    fn drain(&mut self) {
        for n in 0..self.known.len() {
            self.apply_to(
                n,
                Op::Done {
                    which: n,
                    used: 0,
                    more: false,
                },
            );
            // Debts of years are of no interest here.
            let params = Params::DEFAULT;
            self.apply_to(n, Op::Set(n, params));
        }
        self.sched.set_total_rate(1_000_000, self.now);
        let limit = 4 * self.known.len() + 8;
        let mut steps = 0;
        while self.known.iter().any(Known::waits) {
            if let Pick::WaitUntil(time) = self.sched.next(self.now) {
                self.now = time;
            } else {
                panic!("the total cap starts empty");
            }
            while self.next() {
                for n in 0..self.known.len() {
                    self.apply_to(
                        n,
                        Op::Done {
                            which: n,
                            used: 0,
                            more: false,
                        },
                    );
                }
            }
            steps += 1;
            assert!(steps < limit, "a flow is lost");
        }
        assert_eq!(self.sched.next(self.now), Pick::Idle);
    }
}

proptest! {
    #[test]
    fn nobody_is_lost(ops in vec(op(), 0..300)) {
        let mut world = World { sched: Box::new(Scheduler::new()), known: Vec::new(), now: 0 };
        for op in ops {
            if world.known.iter().filter(|k| k.member || k.running).count() < 200
                || !matches!(op, Op::Join(_))
            {
                world.apply(op);
            }
        }
        world.drain();
    }
}
