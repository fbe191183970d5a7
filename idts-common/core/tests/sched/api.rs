// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Single calls: who may be picked, what claims get, what leaving ends.

use idts_core::sched::{
    Claim, FlowId, Params, Pick, Policy, Scheduler, FLOWS, GRACE, PICK_COST, QUANTUM, RATE_MAX,
};

fn sched() -> Box<Scheduler> {
    Box::new(Scheduler::new())
}

fn join(s: &mut Scheduler) -> FlowId {
    s.add_flow(Params::DEFAULT, 0).unwrap()
}

fn run(flow: FlowId) -> Pick {
    Pick::Run {
        flow,
        budget: QUANTUM,
    }
}

#[test]
fn zeroed_memory_is_a_new_scheduler() {
    use zerocopy::FromZeros;
    let zeroed: Box<Scheduler> = Box::new(Scheduler::new_zeroed());
    assert_eq!(format!("{zeroed:?}"), format!("{:?}", sched()));
}

#[test]
fn a_flow_is_picked_once_and_again_when_woken_meanwhile() {
    let mut s = sched();
    let flow = join(&mut s);
    assert_eq!(s.next(0), Pick::Idle);
    assert!(s.wake(flow, 0));
    assert!(!s.wake(flow, 0), "no need to kick twice");
    assert_eq!(s.next(1), run(flow));
    assert_eq!(s.next(1), Pick::Idle);
    assert!(!s.wake(flow, 2), "its worker looks again");
    s.done(flow, 10, false, 3);
    assert!(matches!(s.next(3), Pick::Run { .. }));
    s.done(flow, 10, false, 3);
    assert_eq!(s.next(3), Pick::Idle);
    // Done twice, or without being served, is nothing.
    s.done(flow, 10, true, 3);
    assert_eq!(
        (s.next(3), s.stats(flow, 3).unwrap().served),
        (Pick::Idle, 20)
    );
    assert_eq!((s.totals().served, s.totals().picks), (20, 2));
}

#[test]
fn time_is_counted() {
    let mut s = sched();
    let flow = join(&mut s);
    s.wake(flow, 100);
    assert_eq!(s.stats(flow, 150).unwrap().waited, 50);
    let _ = s.next(160);
    s.done(flow, 1, true, 200);
    let _ = s.next(230);
    s.done(flow, 1, false, 240);
    let stats = s.stats(flow, 1000).unwrap();
    assert_eq!((stats.waited, stats.longest_wait), (90, 60));
    assert_eq!((stats.backlogged, stats.backlogs, stats.picks), (140, 1, 2));
    let shown = stats.named().map(|(_, value)| value);
    assert_eq!(shown, [2, 2, 0, 90, 60, 1, 140]);
}

#[test]
fn who_left_is_not_picked() {
    let mut s = sched();
    let (a, b) = (join(&mut s), join(&mut s));
    s.wake(a, 0);
    s.wake(b, 0);
    s.remove_flow(a);
    assert_eq!(s.next(0), run(b));
    // Left while served: the slot is not free before the worker is done.
    s.remove_flow(b);
    assert_eq!(s.stats(b, 0), None);
    let others: Vec<_> = (1..FLOWS).map(|_| join(&mut s)).collect();
    assert!(s.add_flow(Params::DEFAULT, 0).is_none());
    s.done(b, 5, true, 0);
    let last = join(&mut s);
    assert!(!others.contains(&last) && last != b && last != a);
    // Old names are worth nothing.
    assert!(!s.wake(a, 0) && !s.wake(b, 0));
    s.set(b, Params::DEFAULT, 0);
    s.remove_flow(b);
    s.done(b, 5, true, 0);
    s.refund(b, 1);
    assert_eq!(s.claim(b, 1, 0), Claim::Gone);
    assert_eq!(s.next(0), Pick::Idle);
    assert!(s.wake(last, 0));
}

#[test]
fn claims_are_free_without_a_cap() {
    let mut s = sched();
    let flow = join(&mut s);
    assert!(!s.is_capped(flow));
    assert_eq!(s.claim(flow, 1, 0), Claim::Free);
    s.set_total_rate(1, 0);
    assert!(s.is_capped(flow));
    s.set_total_rate(0, 0);
    let capped = Params {
        rate: u64::MAX,
        ..Params::DEFAULT
    };
    s.set(flow, capped, 0);
    assert!(s.is_capped(flow));
    s.set_total_rate(u64::MAX, 0);
    assert_eq!(s.total_rate(), RATE_MAX);
}

#[test]
fn a_claim_waits_for_tokens_and_is_granted() {
    let mut s = sched();
    let flow = join(&mut s);
    s.set_total_rate(1_000_000, 0);
    assert_eq!(s.claim(flow, 1000, 0), Claim::Queued);
    let Pick::WaitUntil(time) = s.next(0) else {
        panic!("nothing to wait for")
    };
    assert_eq!(s.next(time - 1), Pick::WaitUntil(time));
    assert_eq!(s.next(time), Pick::Grant { flow });
    assert_eq!(s.claim(flow, 1000, time), Claim::Granted(1000));
    // What is left of the grant is there for the next.
    let Claim::Granted(rest) = s.claim(flow, u32::MAX, time) else {
        panic!("nothing left")
    };
    assert_eq!(s.claim(flow, 1, time), Claim::Queued);
    assert_eq!(s.stats(flow, time).unwrap().served, u64::from(rest) + 1000);
    s.refund(flow, rest);
    assert_eq!(s.stats(flow, time).unwrap().served, 1000);
    // Who sleeps is woken when the cap goes.
    s.set_total_rate(0, time);
    assert_eq!(s.next(time), Pick::Grant { flow });
    assert_eq!(s.claim(flow, 1, time), Claim::Free);
}

#[test]
fn what_a_record_was_longer_is_paid_for_later() {
    const RATE: u64 = 1_000_000;
    const RECORD: u32 = 4 << 20;
    let mut s = sched();
    let flow = join(&mut s);
    let params = Params {
        rate: RATE,
        ..Params::DEFAULT
    };
    s.set(flow, params, 0);
    let (mut now, mut moved) = (1_000_000_000, 0u64);
    let start = now;
    while moved < 10 * u64::from(RECORD) {
        match s.claim(flow, RECORD, now) {
            Claim::Granted(bytes) => {
                s.charge(flow, RECORD - bytes, now);
                moved += u64::from(RECORD);
                let stats = s.stats(flow, now).unwrap();
                assert_eq!((stats.served, s.totals().served), (moved, moved));
            }
            Claim::Queued => match s.next(now) {
                Pick::WaitUntil(time) => now = time,
                Pick::Grant { .. } => {}
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
    // All but the first wait until what went before is paid for.
    let paid = (now - start) as f64 / 1e9 * RATE as f64;
    let owed = (moved - u64::from(RECORD)) as f64;
    assert!((owed * 0.97..=owed * 1.01).contains(&paid), "{paid} {owed}");
}

#[test]
fn what_one_flow_owes_under_the_total_cap_all_wait_for() {
    let mut s = sched();
    let (flow, other) = (join(&mut s), join(&mut s));
    s.set_total_rate(1_000_000, 0);
    let now = 1_000_000_000;
    s.charge(flow, 2_000_000, now);
    assert_eq!(s.claim(other, 1, now), Claim::Queued);
    let Pick::WaitUntil(time) = s.next(now) else {
        panic!("nobody waits")
    };
    assert!((2_900_000_000..3_000_000_000).contains(&time), "{time}");
}

#[test]
fn whoever_may_not_claim_is_told_when_he_may() {
    let mut s = sched();
    let flow = join(&mut s);
    assert!(s.may_claim(flow, 0));
    assert_eq!(s.next(0), Pick::Idle);
    s.set_total_rate(1_000_000, 0);
    assert!(!s.may_claim(flow, 0));
    let Pick::WaitUntil(time) = s.next(0) else {
        panic!("nobody is told")
    };
    assert!(!s.may_claim(flow, time - 1));
    assert_eq!(s.next(time), Pick::Grant { flow });
    // However often he asks, it is there until he takes it.
    assert!(s.may_claim(flow, time) && s.may_claim(flow, time));
    assert_eq!(s.next(time), Pick::Idle);
    assert_eq!(s.claim(flow, 1000, time), Claim::Granted(1000));
    // In his turn and alone he need not be told.
    let later = time + 1_000_000_000;
    while s.claim(flow, u32::MAX, time) != Claim::Queued {}
    let Pick::WaitUntil(_) = s.next(time) else {
        panic!("nobody waits")
    };
    assert_eq!(s.next(later), Pick::Grant { flow });
    while s.claim(flow, u32::MAX, later) != Claim::Queued {}
    s.remove_flow(flow);
    assert!(s.may_claim(flow, later));
    assert_eq!(s.next(later), Pick::Idle);
}

#[test]
fn a_claim_that_nobody_contests_is_granted_at_once() {
    let mut s = sched();
    let (flow, other) = (join(&mut s), join(&mut s));
    s.set_total_rate(100_000_000, 0);
    let later = 1_000_000_000;
    assert_eq!(s.claim(flow, 1000, later), Claim::Granted(1000));
    assert_eq!(s.stats(flow, later).unwrap().picks, 1);
    s.wake(other, later);
    assert_eq!(s.claim(flow, 1000, later), Claim::Queued);
}

#[test]
fn a_claim_out_of_turn_waits_behind_who_was_served_since() {
    let mut s = sched();
    let (flow, other) = (join(&mut s), join(&mut s));
    s.set_total_rate(100_000_000, 0);
    let now = 1_000_000_000;
    assert_eq!(s.claim(flow, QUANTUM, now), Claim::Granted(QUANTUM));
    // Alone, it begins a turn after the other at once.
    assert_eq!(s.claim(flow, QUANTUM, now), Claim::Granted(QUANTUM));
    assert_eq!(s.claim(other, QUANTUM, now), Claim::Queued);
    assert_eq!(s.next(now), Pick::Grant { flow: other });
    assert_eq!(s.claim(other, QUANTUM, now), Claim::Granted(QUANTUM));
    assert_eq!(s.claim(flow, QUANTUM, now), Claim::Queued);
}

#[test]
fn a_short_pause_ends_no_backlog() {
    let mut s = sched();
    let flow = join(&mut s);
    s.set_total_rate(10_000_000, 0);
    let mut now = 0;
    let serve = |s: &mut Scheduler, now: &mut u64| {
        while s.claim(flow, u32::MAX, *now) != Claim::Queued {}
        let Pick::WaitUntil(time) = s.next(*now) else {
            panic!("the cap lets more through than it should")
        };
        *now = time;
        assert_eq!(s.next(*now), Pick::Grant { flow });
        assert!(matches!(s.claim(flow, u32::MAX, *now), Claim::Granted(_)));
    };
    serve(&mut s, &mut now);
    now += 1000;
    serve(&mut s, &mut now);
    let stats = s.stats(flow, now).unwrap();
    assert_eq!((stats.backlogs, stats.backlogged), (1, now));
    now += GRACE + 1;
    serve(&mut s, &mut now);
    let stats = s.stats(flow, now).unwrap();
    assert_eq!((stats.backlogs, stats.backlogged), (2, now - GRACE - 1));
}

#[test]
fn workers_and_programs_of_a_flow_take_turns() {
    let mut s = sched();
    let flow = join(&mut s);
    s.set_total_rate(10_000_000, 0);
    s.wake(flow, 0);
    assert_eq!(s.claim(flow, 1, 0), Claim::Queued);
    let mut now = 0;
    for turn in 0..10 {
        let Pick::WaitUntil(time) = s.next(now) else {
            panic!("the cap lets more through than it should")
        };
        now = time;
        let pick = s.next(now);
        match turn % 2 {
            0 => assert_eq!(pick, Pick::Grant { flow }),
            _ => {
                let Pick::Run { budget, .. } = pick else {
                    panic!("{pick:?}")
                };
                s.done(flow, budget, true, now);
            }
        }
        while s.claim(flow, u32::MAX, now) != Claim::Queued {}
    }
}

#[test]
fn empty_work_ends_a_turn_too() {
    let mut s = sched();
    let (storm, quiet) = (join(&mut s), join(&mut s));
    s.wake(storm, 0);
    s.wake(quiet, 0);
    let mut picks = 0;
    while s.next(0) != run(quiet) {
        s.done(storm, 0, true, 0);
        picks += 1;
    }
    assert_eq!(picks, QUANTUM / PICK_COST);
}

/// Serves `flow` for `used` bytes; it wants more.
fn serve(s: &mut Scheduler, flow: FlowId, used: u32) {
    assert_eq!(s.next(0), run(flow));
    s.done(flow, used, true, 0);
}

#[test]
fn who_owes_a_whole_turn_waits_for_the_next() {
    let mut s = sched();
    let (debtor, other) = (join(&mut s), join(&mut s));
    s.wake(debtor, 0);
    s.wake(other, 0);
    serve(&mut s, debtor, 2 * QUANTUM);
    serve(&mut s, other, QUANTUM);
    serve(&mut s, other, QUANTUM);
    serve(&mut s, debtor, QUANTUM);
}

#[test]
fn of_all_in_debt_who_owes_less_is_first() {
    let mut s = sched();
    let (more, less) = (join(&mut s), join(&mut s));
    s.wake(more, 0);
    s.wake(less, 0);
    serve(&mut s, more, 4 * QUANTUM);
    serve(&mut s, less, 3 * QUANTUM);
    serve(&mut s, less, QUANTUM);
    serve(&mut s, more, QUANTUM);
}

#[test]
fn a_cap_waits_for_a_piece_rounded_up() {
    for (rate, wanted) in [(1_000_000, 3_906_000), (7_000_000, 3_906_143)] {
        let mut s = sched();
        let flow = join(&mut s);
        s.set_total_rate(rate, 0);
        s.wake(flow, 0);
        assert_eq!(s.next(0), Pick::WaitUntil(wanted), "{rate}");
    }
}

#[test]
fn a_cap_lets_a_burst_through_and_no_more() {
    let (rate, later) = (100_000_000, 10_000_000_000);
    let mut s = sched();
    let flow = join(&mut s);
    s.set_total_rate(rate, 0);
    let mut burst = 0;
    while let Claim::Granted(n) = s.claim(flow, u32::MAX, later) {
        burst += u64::from(n);
        assert!(burst <= rate / 20, "{burst}");
    }
    assert!(burst > rate / 20 - u64::from(QUANTUM), "{burst}");
}

#[test]
fn a_cap_counts_what_was_served() {
    let mut s = sched();
    let flow = join(&mut s);
    s.set_total_rate(1_000_000, 0);
    s.wake(flow, 0);
    let Pick::WaitUntil(time) = s.next(0) else {
        panic!("nothing to wait for")
    };
    let Pick::Run { budget, .. } = s.next(time) else {
        panic!("it has work")
    };
    assert_eq!(budget, 3906);
    s.done(flow, 0, true, time);
    // Nothing was served: as much is there as before. Then twice that.
    assert_eq!(s.next(time), Pick::Run { flow, budget });
    s.done(flow, 2 * budget, true, time);
    assert_eq!(s.next(time), Pick::WaitUntil(3 * time));
}

#[test]
fn a_cap_counts_what_was_claimed_and_kept() {
    let (rate, now) = (1_000_000, 1_000_000_000);
    let mut s = sched();
    let flow = join(&mut s);
    s.set_total_rate(rate, 0);
    let take_all = |s: &mut Scheduler| {
        let mut all = 0;
        while let Claim::Granted(n) = s.claim(flow, 4000, now) {
            all += n;
            assert!(u64::from(all) < rate);
        }
        all
    };
    let all = take_all(&mut s);
    assert!(all > 60_000, "{all}");
    s.refund(flow, all);
    s.remove_flow(flow);
    let flow = join(&mut s);
    assert_eq!(s.claim(flow, 4000, now), Claim::Granted(4000));
}

#[test]
fn a_new_cap_takes_effect_on_who_waits() {
    let mut s = sched();
    let flow = join(&mut s);
    s.wake(flow, 0);
    let slow = Params {
        rate: 1,
        ..Params::DEFAULT
    };
    s.set(flow, slow, 0);
    assert!(matches!(s.next(0), Pick::WaitUntil(_)));
    s.set(flow, Params::DEFAULT, 0);
    assert_eq!(s.next(0), run(flow));
}

#[test]
fn policies_have_names() {
    let names = Policy::ALL.map(Policy::name);
    assert_eq!(names, ["drr", "fifo", "rr", "prio"]);
    assert_eq!(sched().policy(), Policy::Drr);
}
