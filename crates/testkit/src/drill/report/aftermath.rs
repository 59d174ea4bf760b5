//! What followed each fault: who was lost and when back, when pushes noticed, and whether the others did.

use super::{Answer, Defect, History, Kind, Push, Saw};
use crate::drill::stage::Fault;

/// Until a process that is killed has gone.
const TAKES_EFFECT_MS: u32 = 10;
/// Before a fault, as the measure for what comes during it.
const CALM_MS: u32 = 3_000;
/// With up to this share of the sessions lost, they are back within these times.
const SOME: f64 = 0.4;
const SOME_BACK_MS: (u32, u32) = (900, 3_000);
/// With more of them.
const ALL_BACK_MS: u32 = 10_000;
/// By how much deliveries of others may be later: this share, and this time.
const LATER: f64 = 1.1;
const LATER_MS: f64 = 50.0;

/// What followed one fault, up to the next.
#[derive(Debug, Clone, PartialEq)]
pub struct Aftermath {
    /// What was done.
    pub fault: Fault,
    /// Connections that sessions lost.
    pub lost: usize,
    /// From the loss to the room, in milliseconds; the median and the 99th of 100.
    pub back_ms: Option<(u32, u32)>,
    /// From the fault to the first receipt of a push that did not wait for the node: it says that something is amiss, or no
    /// longer counts the node. In milliseconds.
    pub noticed_ms: Option<u32>,
    /// From the push to the application, on nodes that the fault does not concern: the 99th of 100 deliveries, before the
    /// fault and while it stood.
    pub others_ms: Option<(u32, u32)>,
}

/// What followed each fault. Nodes are named in the order of their indexes.
pub fn aftermath(
    faults: &[Fault],
    sessions: &[History],
    pushes: &[Push],
    nodes: &[String],
) -> Vec<Aftermath> {
    let ends = faults.iter().skip(1).map(|fault| fault.ms).chain([u32::MAX]);
    faults.iter().zip(ends).map(|(fault, end)| after(fault, end, sessions, pushes, nodes)).collect()
}

fn after(fault: &Fault, end: u32, sessions: &[History], pushes: &[Push], nodes: &[String]) -> Aftermath {
    let window = fault.ms..end;
    let mut back: Vec<Option<u32>> = Vec::new();
    for session in sessions {
        let losses = session.events.iter().enumerate().filter(|(_, event)| event.saw == Saw::Lost);
        for (index, loss) in losses.filter(|(_, loss)| window.contains(&loss.ms)) {
            let rest = &session.events[index..];
            let joined = rest.iter().find(|event| matches!(event.saw, Saw::Joined { .. }));
            back.push(joined.map(|joined| joined.ms - loss.ms));
        }
    }
    let lost = back.len();
    let mut times: Vec<_> = back.into_iter().flatten().collect();
    let back_ms = quantile(&mut times, 0.5).zip(quantile(&mut times, 0.99));
    // Every room has members everywhere: who does not know of the fault waits for the answer of the node.
    let aware = pushes.iter().filter(|push| window.contains(&push.sent_ms.saturating_sub(TAKES_EFFECT_MS)));
    let aware = aware.filter(|push| is_amiss(push) || is_complete(push));
    let noticed_ms = aware.map(|push| push.answered_ms - fault.ms).min();
    let victim = fault.victim.as_ref().and_then(|victim| nodes.iter().position(|node| node == victim));
    let others_ms = victim.zip(fault.until_ms).and_then(|(victim, until_ms)| {
        let p99 = |from, to| {
            let mut times = latencies(sessions, pushes, victim as u32, from, to);
            quantile(&mut times, 0.99)
        };
        p99(fault.ms.saturating_sub(CALM_MS), fault.ms).zip(p99(fault.ms, until_ms))
    });
    Aftermath { fault: fault.clone(), lost, back_ms, noticed_ms, others_ms }
}

/// What took longer than promised.
pub fn late(faults: &[Aftermath], sessions: usize) -> Vec<Defect> {
    let mut defects = Vec::new();
    for Aftermath { fault, lost, back_ms, noticed_ms, others_ms } in faults {
        let mut tell =
            |what: String| defects.push(Defect::new(Kind::TooLate, format!("{}: {what}", fault.what)));
        let bounds =
            if *lost as f64 > sessions as f64 * SOME { (ALL_BACK_MS, ALL_BACK_MS) } else { SOME_BACK_MS };
        if let Some(back) = back_ms
            && (back.0 > bounds.0 || back.1 > bounds.1)
        {
            tell(format!(
                "back after {} and {} ms; {} and {} were promised",
                back.0, back.1, bounds.0, bounds.1
            ));
        }
        if let Some(most) = fault.noticed_within_ms
            && noticed_ms.is_none_or(|noticed| noticed > most)
        {
            tell(format!("noticed after {noticed_ms:?} ms; {most} were promised"));
        }
        if let Some((calm, now)) = others_ms
            && f64::from(*now) > f64::from(*calm) * LATER + LATER_MS
        {
            tell(format!("deliveries on other nodes within {now} ms, {calm} before"));
        }
    }
    defects
}

/// Of deliveries of pushes that were sent then, at sessions that were connected elsewhere by then.
fn latencies(sessions: &[History], pushes: &[Push], but: u32, from: u32, to: u32) -> Vec<u32> {
    let mut times = Vec::new();
    for session in sessions {
        let first = session.events.partition_point(|event| event.ms < from);
        for event in &session.events[first..] {
            let Saw::Message { number, .. } = event.saw else { continue };
            let Some(push) = pushes.get(number as usize) else { continue };
            if push.sent_ms >= to {
                break;
            }
            let place = |ms| session.nodes.iter().rev().find(|(since, _)| *since <= ms);
            // Who moved meanwhile caught up with it: that is the time of the move.
            let has_moved = place(event.ms) != place(push.sent_ms);
            let node = place(event.ms).map(|(_, node)| *node).filter(|_| !has_moved);
            if push.sent_ms >= from && push.attempts == 1 && node.is_some_and(|node| node != but) {
                times.push(event.ms.saturating_sub(push.sent_ms));
            }
        }
    }
    times
}

fn quantile(times: &mut [u32], share: f64) -> Option<u32> {
    times.sort_unstable();
    times.get((times.len().saturating_sub(1) as f64 * share) as usize).copied()
}

fn is_complete(push: &Push) -> bool {
    matches!(&push.answer, Answer::Accepted(accepted) if accepted.is_complete)
}

fn is_amiss(push: &Push) -> bool {
    match &push.answer {
        Answer::Accepted(accepted) => accepted.lost > 0 || accepted.is_doubtful || !accepted.is_complete,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::history::{Accepted, Event};

    const JOINED: Saw = Saw::Joined { position: None, recovered: None };

    fn fault(ms: u32, what: &str) -> Fault {
        Fault { ms, what: what.to_owned(), victim: None, until_ms: None, noticed_within_ms: None }
    }

    fn session(events: &[(u32, Saw)]) -> History {
        let events = events.iter().map(|(ms, saw)| Event { ms: *ms, saw: *saw });
        History { events: events.collect(), nodes: vec![(0, 0)], ..History::default() }
    }

    #[test]
    fn losses_are_counted_with_the_fault_before_them() {
        let events =
            [(100, JOINED), (1_010, Saw::Lost), (1_310, JOINED), (2_500, Saw::Lost), (2_600, JOINED)];
        let never = [(100, JOINED), (1_010, Saw::Lost)];
        let sessions = [session(&events), session(&never)];
        let found = aftermath(&[fault(1_000, "a"), fault(2_000, "b")], &sessions, &[], &[]);
        let told: Vec<_> = found.iter().map(|after| (after.lost, after.back_ms)).collect();
        assert_eq!(told, [(2, Some((300, 300))), (1, Some((100, 100)))]);
        assert_eq!(late(&found, 10), []);
    }

    #[test]
    fn what_is_noticed_late_or_by_the_wrong_sessions_is_told() {
        let push = |number: u32, accepted: Accepted| Push {
            number,
            room: 0,
            sent_ms: 1_000 * (number + 1),
            answered_ms: 1_000 * (number + 1) + 200,
            attempts: 1,
            answer: Answer::Accepted(accepted),
        };
        let good = Accepted { is_complete: true, ..Accepted::default() };
        let pushes = [push(0, good.clone()), push(1, Accepted { is_doubtful: true, ..good })];
        let got = |number, ms| (ms, Saw::Message { number, id: 0, position: None });
        let other = session(&[(0, JOINED), got(0, 1_010), got(1, 2_100)]);
        let own = History { nodes: vec![(0, 1)], ..session(&[(0, JOINED), got(0, 1_010), got(1, 2_900)]) };
        let nodes = ["other", "victim"].map(str::to_owned);
        let kill = |noticed_within_ms| Fault {
            victim: Some("victim".to_owned()),
            until_ms: Some(3_000),
            noticed_within_ms: Some(noticed_within_ms),
            ..fault(1_990, "kill")
        };
        let sessions = [other, own];
        let found = aftermath(&[kill(300)], &sessions, &pushes, &nodes);
        assert_eq!((found[0].noticed_ms, found[0].others_ms), (Some(210), Some((10, 100))));
        assert_eq!(late(&found, 2).len(), 1, "100 ms instead of 10");
        assert_eq!(
            late(&aftermath(&[kill(100)], &sessions, &pushes, &nodes), 2).len(),
            2,
            "and 210 instead of 100"
        );
    }
}
