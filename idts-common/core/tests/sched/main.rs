// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The scheduler in a simulated host, in virtual time, and against a model.
//!
//! Shares, caps, waits and order of every policy; then any order of calls.
//! Seed and number of cases: see common/mod.rs.

#![cfg(not(loom))]

mod api;
mod model;
mod sim;

use idts_core::sched::{Params, Policy, BUDGET_MIN, PRIORITY_MAX, QUANTUM};
use sim::{assert_shares, jain, Load, Sim, MILLI, SECOND};

/// Bytes a second of one worker: slow, so that few picks make a long time.
const SPEED: u64 = 400_000_000;

fn weight(weight: u32) -> Params {
    Params {
        weight,
        ..Params::DEFAULT
    }
}

fn rate(rate: u64) -> Params {
    Params {
        rate,
        ..Params::DEFAULT
    }
}

#[test]
fn sixteen_equal_flows_are_served_equally() {
    for policy in Policy::ALL {
        for workers in [1, 3] {
            let mut sim = Sim::new(workers, SPEED);
            sim.sched.set_policy(policy);
            for _ in 0..16 {
                sim.add(Load::Endless, Params::DEFAULT);
            }
            let index = jain(&sim.run(SECOND));
            assert!(index >= 0.99, "{policy:?}, {workers} workers: {index}");
        }
    }
}

/// Runs with weights 1:2:4, then changed to 4:2:1 while all have work.
fn shares(sim: &mut Sim, loads: [Load; 3], tolerance: f64) {
    let flows: Vec<_> = loads.into_iter().map(|l| sim.add(l, weight(1))).collect();
    for weights in [[1, 2, 4], [4, 2, 1]] {
        for (flow, w) in flows.iter().zip(weights) {
            sim.set(*flow, weight(w));
        }
        // So long that a turn more or less does not count.
        let rate = sim.sched.total_rate();
        let rate = if rate == 0 { sim.speed } else { rate };
        let served = sim.run(200_000_000 * (SECOND / 1_000_000) / (rate / 1_000_000));
        assert_shares(&served, &weights, tolerance);
    }
}

#[test]
fn weights_hold_and_hold_again_when_changed() {
    shares(&mut Sim::new(1, SPEED), [Load::Endless; 3], 0.05);
    // Pieces that are larger than a quantum, and than what is left of a turn.
    let pieces = [3_000_000, 70_000, 9_000].map(Load::Pieces);
    shares(&mut Sim::new(1, 10 * SPEED), pieces, 0.05);
}

#[test]
fn weights_hold_under_a_total_cap() {
    for workers in [1, 2, 4] {
        let mut sim = Sim::new(workers, SPEED);
        sim.sched.set_total_rate(50_000_000, sim.now);
        shares(&mut sim, [Load::Endless; 3], 0.05);
    }
}

#[test]
fn weights_hold_for_programs_that_claim() {
    for bytes in [4096, 65536, 1 << 20] {
        for total in [2_000_000, 20_000_000] {
            let mut sim = Sim::new(1, SPEED);
            sim.sched.set_total_rate(total, sim.now);
            let gap = 20_000;
            shares(&mut sim, [Load::Program { bytes, gap }; 3], 0.05);
        }
    }
}

#[test]
fn workers_and_programs_share_by_weight_too() {
    let mut sim = Sim::new(2, SPEED);
    sim.sched.set_total_rate(50_000_000, sim.now);
    let program = Load::Program {
        bytes: 100_000,
        gap: 5_000,
    };
    shares(&mut sim, [program, Load::Endless, program], 0.05);
}

#[test]
fn counters_show_that_every_flow_was_backlogged() {
    let mut sim = Sim::new(1, SPEED);
    sim.sched.set_total_rate(10_000_000, sim.now);
    for load in [
        Load::Endless,
        Load::Program {
            bytes: 65536,
            gap: 20_000,
        },
    ] {
        let flow = sim.add(load, Params::DEFAULT);
        let start = sim.now;
        sim.run(SECOND);
        let busy = sim.stats(flow).backlogged as f64 / (sim.now - start) as f64;
        assert!(busy > 0.95, "{load:?}: {busy}");
    }
    assert_eq!(sim.stats(0).backlogs, 1);
}

/// A flow with little work waits for one quantum of each other flow at most,
/// and those that flood are no more to it than those that don't.
#[test]
fn a_flood_costs_others_one_quantum() {
    for policy in [Policy::Drr, Policy::Rr, Policy::Prio] {
        for floods in 1..8u64 {
            let mut sim = Sim::new(1, SPEED);
            sim.sched.set_policy(policy);
            let period = 7_777_777;
            let quiet = sim.add(
                Load::Now {
                    bytes: 1000,
                    period,
                },
                Params::DEFAULT,
            );
            for _ in 0..floods {
                sim.add(Load::Endless, Params::DEFAULT);
            }
            sim.run(SECOND);
            let quantum = u64::from(QUANTUM) * SECOND / SPEED + 1_000;
            let wait = sim.stats(quiet).longest_wait;
            assert!(wait <= floods * quantum, "{policy:?}, {floods}: {wait}");
        }
    }
}

/// As above, with floods that come in bursts, of any size, and by empty wakes.
#[test]
fn rough_floods_cost_no_more() {
    let speed = 10 * SPEED;
    let mut sim = Sim::new(1, speed);
    let quiet = sim.add(
        Load::Now {
            bytes: 1,
            period: 1_234_567,
        },
        Params::DEFAULT,
    );
    let bursts = [(3 * QUANTUM / 2, 120_000), (5_000, 2_000), (1 << 20, MILLI)];
    for (bytes, period) in bursts {
        sim.add(Load::Now { bytes, period }, Params::DEFAULT);
    }
    sim.add(Load::Empty, Params::DEFAULT);
    sim.run(SECOND / 4);
    let quantum = u64::from(QUANTUM + BUDGET_MIN) * SECOND / speed;
    // An empty pick costs overhead instead of bytes: a turn has 128 of them.
    let limit = 3 * (quantum + 10_000) + 128 * 400;
    let wait = sim.stats(quiet).longest_wait;
    assert!(wait <= limit, "{wait} > {limit}");
}

#[test]
fn caps_hold() {
    for cap in [1_000, 100_000, 7_777_777, 300_000_000] {
        for load in [
            Load::Endless,
            Load::Program {
                bytes: 300_000,
                gap: 100,
            },
        ] {
            let mut sim = Sim::new(2, SPEED);
            let capped = sim.add(load, rate(cap));
            // Another flow stays as it is.
            let other = sim.add(Load::Endless, Params::DEFAULT);
            // Long enough that a quantum is less than two in a hundred.
            let time = if cap < 1_000_000 { 50 } else { 4 };
            let served = sim.run(time * SECOND);
            let share = served[capped] as f64 / (cap * time) as f64;
            assert!((0.98..=1.02).contains(&share), "{cap}, {load:?}: {share}");
            assert!(served[other] as f64 > 0.9 * (SPEED * time) as f64);
            assert!(sim.stats(capped).throttled > 0 && sim.stats(other).throttled == 0);
        }
    }
}

#[test]
fn the_total_cap_holds_also_when_changed() {
    for workers in [1, 4] {
        let mut sim = Sim::new(workers, SPEED);
        for flow in 0..8 {
            sim.add(Load::Endless, rate(if flow < 4 { 1_000_000 } else { 0 }));
        }
        for cap in [2_000_000, 350_000_000, 20_000_000] {
            sim.sched.set_total_rate(cap, sim.now);
            let sum: u64 = sim.run(4 * SECOND).iter().sum();
            let share = sum as f64 / (4 * cap) as f64;
            assert!((0.98..=1.02).contains(&share), "{cap}: {share}");
        }
        assert!(sim.sched.totals().throttled > 0);
        sim.sched.set_total_rate(0, sim.now);
        let sum: u64 = sim.run(SECOND).iter().sum();
        assert!(sum as f64 > 0.9 * SPEED as f64);
    }
}

/// An idle flow saves up no more than its burst.
#[test]
fn a_burst_is_bounded() {
    let cap = 1_000_000;
    let mut sim = Sim::new(1, SPEED);
    let flow = sim.add(Load::Bytes(1), rate(cap));
    sim.run(60 * SECOND);
    sim.sched.wake(sim.id(flow), sim.now);
    let endless = sim.add(Load::Endless, rate(cap));
    sim.run(60 * SECOND);
    let burst = u64::from(QUANTUM).max(cap / 20);
    assert!(sim.stats(endless).served <= 60 * cap + burst);
    // The same for claims of a program that was away.
    let id = sim.id(flow);
    let mut taken = 0;
    while let idts_core::sched::Claim::Granted(n) = sim.sched.claim(id, u32::MAX, sim.now) {
        taken += u64::from(n);
    }
    assert!(taken <= burst, "{taken}");
}

#[test]
fn changes_of_policy_lose_no_flow() {
    let mut sim = Sim::new(2, SPEED);
    let sizes: Vec<u64> = (0..16).map(|n| 1_000_000 * (n + 1)).collect();
    for (n, bytes) in sizes.iter().enumerate() {
        let params = Params {
            weight: 1 + n as u32,
            priority: n as u8 % (PRIORITY_MAX + 1),
            rate: if n % 3 == 0 { 50_000_000 } else { 0 },
        };
        sim.add(Load::Bytes(*bytes), params);
    }
    for round in 0..400 {
        sim.sched.set_policy(Policy::ALL[round % 4]);
        sim.run(SECOND / 97);
    }
    assert_eq!(sim.served(), sizes);
    assert_eq!(sim.sched.waiting(), 0);
}

#[test]
fn fifo_serves_in_order_of_wake() {
    let mut sim = Sim::new(1, SPEED);
    sim.sched.set_policy(Policy::Fifo);
    for bytes in [300_000, 10, 2_000_000, 70_000] {
        sim.add(Load::Bytes(bytes), weight(100));
    }
    sim.picked = Some(Vec::new());
    sim.run(SECOND / 10);
    let mut order = sim.picked.take().unwrap();
    order.dedup();
    assert_eq!(order, [0, 1, 2, 3]);
}

#[test]
fn fifo_misses_the_weights() {
    for load in [
        Load::Endless,
        Load::Program {
            bytes: 65536,
            gap: 20_000,
        },
    ] {
        let mut sim = Sim::new(1, SPEED);
        sim.sched.set_policy(Policy::Fifo);
        sim.sched.set_total_rate(100_000_000, sim.now);
        for w in [1, 2, 4] {
            sim.add(load, weight(w));
        }
        let served = sim.run(20 * SECOND);
        assert!(jain(&served) > 0.99, "{served:?}");
    }
}

#[test]
fn prio_is_strict_and_fair_among_equals() {
    let mut sim = Sim::new(1, SPEED);
    sim.sched.set_policy(Policy::Prio);
    let level = |priority| Params {
        priority,
        weight: 1 + u32::from(priority),
        ..Params::DEFAULT
    };
    for priority in [2, 5, 5, 0] {
        sim.add(Load::Endless, level(priority));
    }
    let served = sim.run(SECOND);
    assert_eq!((served[0], served[3]), (0, 0));
    assert!(jain(&served[1..3]) > 0.99);
    // With a cap on the first, the rest goes to the next.
    let capped = |priority| Params {
        rate: 1_000_000,
        ..level(priority)
    };
    sim.set(1, capped(5));
    sim.set(2, capped(5));
    let served = sim.run(SECOND);
    assert!(served[0] as f64 > 0.9 * SPEED as f64 && served[3] == 0);
}
