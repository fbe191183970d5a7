// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! A host in virtual time: workers that copy at a given speed, flows with work
//! for them, and programs that claim before they copy.

use idts_core::sched::{Claim, FlowId, FlowStats, Params, Pick, Scheduler};

pub const SECOND: u64 = 1_000_000_000;
pub const MILLI: u64 = 1_000_000;
/// What a pick costs a worker, besides copying.
const OVERHEAD: u64 = 300;

/// What a flow wants.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// Always has work.
    Endless,
    /// Has this much work left.
    Bytes(u64),
    /// Always has work, in pieces that cannot be split.
    Pieces(u32),
    /// Gets `bytes` of work every `period`.
    Now { bytes: u32, period: u64 },
    /// A program that reads `bytes`, and again after `gap`.
    Program { bytes: u32, gap: u64 },
    /// Is woken again whenever it was found empty.
    Empty,
}

#[derive(Debug)]
struct Sim1 {
    id: FlowId,
    load: Load,
    pending: u64,
    /// When the load acts next by itself: a program reads, work comes.
    acts_at: u64,
}

#[derive(Clone, Copy, Debug)]
struct Service {
    flow: usize,
    used: u32,
    ends: u64,
}

pub struct Sim {
    pub sched: Box<Scheduler>,
    pub now: u64,
    /// Bytes a second that a worker copies.
    pub speed: u64,
    flows: Vec<Sim1>,
    workers: Vec<Option<Service>>,
    /// Flows in the order in which workers got them, while recorded.
    pub picked: Option<Vec<usize>>,
}

impl Sim {
    pub fn new(workers: usize, speed: u64) -> Self {
        Self {
            sched: Box::new(Scheduler::new()),
            now: 5 * SECOND,
            speed,
            flows: Vec::new(),
            workers: vec![None; workers],
            picked: None,
        }
    }

    pub fn add(&mut self, load: Load, params: Params) -> usize {
        let id = self.sched.add_flow(params, self.now).unwrap();
        let pending = match load {
            Load::Endless | Load::Pieces(_) => u64::MAX,
            Load::Bytes(n) => n,
            _ => 0,
        };
        if pending > 0 || matches!(load, Load::Empty) {
            assert!(self.sched.wake(id, self.now));
        }
        let acts_at = match load {
            Load::Now { .. } | Load::Program { .. } => self.now,
            _ => u64::MAX,
        };
        self.flows.push(Sim1 {
            id,
            load,
            pending,
            acts_at,
        });
        self.flows.len() - 1
    }

    pub fn id(&self, flow: usize) -> FlowId {
        self.flows[flow].id
    }

    pub fn set(&mut self, flow: usize, params: Params) {
        self.sched.set(self.flows[flow].id, params, self.now);
    }

    pub fn stats(&self, flow: usize) -> FlowStats {
        self.sched.stats(self.flows[flow].id, self.now).unwrap()
    }

    pub fn served(&self) -> Vec<u64> {
        (0..self.flows.len())
            .map(|f| self.stats(f).served)
            .collect()
    }

    /// Bytes that each flow is served in the next `time`.
    pub fn run(&mut self, time: u64) -> Vec<u64> {
        let before = self.served();
        let end = self.now + time;
        while self.now < end {
            self.act();
            let timer = self.dispatch();
            let next = self.next_event().min(timer).min(end);
            assert!(next >= self.now, "time stands still");
            self.now = next.max(self.now + 1);
        }
        self.served()
            .iter()
            .zip(before)
            .map(|(a, b)| a - b)
            .collect()
    }

    fn next_event(&self) -> u64 {
        let ends = self.workers.iter().flatten().map(|s| s.ends);
        let acts = self.flows.iter().map(|f| f.acts_at);
        ends.chain(acts).min().unwrap_or(u64::MAX)
    }

    /// What is due now: ends of services, loads that act.
    fn act(&mut self) {
        for worker in 0..self.workers.len() {
            if let Some(service) = self.workers[worker].filter(|s| s.ends <= self.now) {
                self.workers[worker] = None;
                self.finish(service);
            }
        }
        for flow in 0..self.flows.len() {
            if self.flows[flow].acts_at <= self.now {
                self.act_flow(flow);
            }
        }
    }

    fn finish(&mut self, service: Service) {
        let flow = &mut self.flows[service.flow];
        if flow.pending != u64::MAX {
            flow.pending -= u64::from(service.used);
        }
        let more = flow.pending > 0;
        self.sched.done(flow.id, service.used, more, self.now);
        if matches!(flow.load, Load::Empty) {
            self.sched.wake(flow.id, self.now);
        }
    }

    fn act_flow(&mut self, index: usize) {
        let flow = &mut self.flows[index];
        match flow.load {
            Load::Now { bytes, period } => {
                flow.pending += u64::from(bytes);
                flow.acts_at = self.now + period;
                self.sched.wake(flow.id, self.now);
            }
            Load::Program { bytes, gap } => match self.sched.claim(flow.id, bytes, self.now) {
                Claim::Queued => flow.acts_at = u64::MAX,
                Claim::Granted(n) => {
                    flow.acts_at = self.now + gap + u64::from(n) * SECOND / self.speed;
                }
                other => panic!("{other:?}"),
            },
            _ => flow.acts_at = u64::MAX,
        }
    }

    /// Gives work to idle workers; says when to look again.
    fn dispatch(&mut self) -> u64 {
        for worker in 0..self.workers.len() {
            while self.workers[worker].is_none() {
                match self.sched.next(self.now) {
                    Pick::Idle => return u64::MAX,
                    Pick::WaitUntil(time) => {
                        assert!(time > self.now && time != u64::MAX);
                        return time;
                    }
                    Pick::Grant { flow } => self.wake_program(flow),
                    Pick::Run { flow, budget } => {
                        self.workers[worker] = Some(self.serve(flow, budget));
                    }
                }
            }
        }
        u64::MAX
    }

    fn index(&self, id: FlowId) -> usize {
        self.flows.iter().position(|f| f.id == id).unwrap()
    }

    fn wake_program(&mut self, id: FlowId) {
        let flow = self.index(id);
        assert!(matches!(self.flows[flow].load, Load::Program { .. }));
        self.flows[flow].acts_at = self.now;
        self.act_flow(flow);
    }

    fn serve(&mut self, id: FlowId, budget: u32) -> Service {
        let flow = self.index(id);
        assert!(budget > 0);
        assert!(self.workers.iter().flatten().all(|s| s.flow != flow));
        if let Some(picked) = &mut self.picked {
            picked.push(flow);
        }
        let used = match self.flows[flow].load {
            Load::Pieces(n) => n,
            _ => self.flows[flow].pending.min(budget.into()) as u32,
        };
        let ends = self.now + OVERHEAD + u64::from(used) * SECOND / self.speed;
        Service { flow, used, ends }
    }
}

/// Jain's index of fairness: 1 when all are equal.
pub fn jain(values: &[u64]) -> f64 {
    let sum: f64 = values.iter().map(|v| *v as f64).sum();
    let squares: f64 = values.iter().map(|v| (*v as f64).powi(2)).sum();
    sum * sum / (values.len() as f64 * squares)
}

/// Asserts shares as `weights` say, each within `tolerance` of its own.
pub fn assert_shares(served: &[u64], weights: &[u32], tolerance: f64) {
    let sum: f64 = served.iter().map(|v| *v as f64).sum();
    let weight: f64 = weights.iter().map(|w| f64::from(*w)).sum();
    for (bytes, w) in served.iter().zip(weights) {
        let ratio = *bytes as f64 / sum / (f64::from(*w) / weight);
        assert!(
            (ratio - 1.0).abs() <= tolerance,
            "{served:?} is not {weights:?}: {ratio}"
        );
    }
}
