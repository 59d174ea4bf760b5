//! What a run came to, for people.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::{
    checker::{Defect, Kind, count},
    history::{Answer, History, Push, Saw},
    stage::Fault,
};

/// Defects of one kind that are told.
const TOLD_MAX: usize = 5;

/// How sessions came back from one fault, and when pushes noticed it.
#[derive(Debug, Clone, PartialEq)]
pub struct Aftermath {
    /// What was done.
    pub fault: Fault,
    /// Sessions that lost their connection before the next fault.
    pub lost: usize,
    /// From the loss to the room, in milliseconds; the median and the 99th of 100.
    pub back_ms: Option<(u32, u32)>,
    /// From the fault to the first receipt that says that something is amiss, in milliseconds.
    pub noticed_ms: Option<u32>,
}

/// What a run came to.
#[derive(Debug)]
pub struct Report {
    /// Of all that was left to chance.
    pub seed: u64,
    /// How long, from the first push to the last.
    pub time: Duration,
    /// What was done, and what followed.
    pub faults: Vec<Aftermath>,
    /// How many sessions there were.
    pub sessions: usize,
    /// How many pushes were made, accepted, logged and tried more than once.
    pub pushes: [usize; 4],
    /// Messages that applications got, and repeats that clients dropped.
    pub messages: [usize; 2],
    /// Times that applications were told that messages may be missing.
    pub flags: usize,
    /// How long the map took to be the truth.
    pub map: Duration,
    /// Why connections could not be made.
    pub failures: BTreeMap<String, u64>,
    /// Everything that is wrong.
    pub defects: Vec<Defect>,
}

impl Report {
    /// Whether everything held.
    pub fn is_good(&self) -> bool {
        self.defects.is_empty()
    }

    /// Whether anything is wrong of these kinds.
    pub fn has(&self, kinds: &[Kind]) -> bool {
        self.defects.iter().any(|defect| kinds.contains(&defect.kind))
    }
}

/// What followed each fault, up to the next.
pub fn aftermath(faults: &[Fault], sessions: &[History], pushes: &[Push]) -> Vec<Aftermath> {
    let ends = faults.iter().skip(1).map(|fault| fault.ms).chain([u32::MAX]);
    let windows = faults.iter().zip(ends);
    windows
        .map(|(fault, end)| {
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
            times.sort_unstable();
            let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
            let back_ms = (!times.is_empty()).then(|| (at(0.5), at(0.99)));
            let amiss =
                pushes.iter().filter(|push| push.sent_ms >= fault.ms && push.sent_ms < end && is_amiss(push));
            let noticed_ms = amiss.map(|push| push.answered_ms - fault.ms).min();
            Aftermath { fault: fault.clone(), lost, back_ms, noticed_ms }
        })
        .collect()
}

fn is_amiss(push: &Push) -> bool {
    match &push.answer {
        Answer::Accepted(accepted) => accepted.lost > 0 || accepted.is_doubtful || !accepted.is_complete,
        _ => true,
    }
}

/// The sums of a run.
pub fn sums(sessions: &[History], pushes: &[Push]) -> ([usize; 4], [usize; 2], usize) {
    let accepted = pushes.iter().filter_map(|push| match &push.answer {
        Answer::Accepted(accepted) => Some(accepted),
        _ => None,
    });
    let logged = accepted.clone().filter(|accepted| accepted.position.is_some()).count();
    let again = pushes.iter().filter(|push| push.attempts > 1).count();
    let seen = |is: fn(&Saw) -> bool| {
        sessions.iter().flat_map(|session| &session.events).filter(|event| is(&event.saw)).count()
    };
    let messages = seen(|saw| matches!(saw, Saw::Message { .. }));
    let repeats = sessions.iter().map(|session| session.repeats as usize).sum();
    let flags = seen(|saw| matches!(saw, Saw::Gap { .. } | Saw::Joined { recovered: Some(false), .. }));
    ([pushes.len(), accepted.count(), logged, again], [messages, repeats], flags)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "   at s     lost   back p50   back p99    noticed  fault")?;
        let ms = |ms: Option<u32>| ms.map_or("-".to_owned(), |ms| format!("{ms} ms"));
        for Aftermath { fault, lost, back_ms, noticed_ms } in &self.faults {
            let (p50, p99) = (ms(back_ms.map(|both| both.0)), ms(back_ms.map(|both| both.1)));
            let at = f64::from(fault.ms) / 1_000.0;
            writeln!(f, "{at:>7.2} {lost:>8} {p50:>10} {p99:>10} {:>10}  {}", ms(*noticed_ms), fault.what)?;
        }
        let ([made, accepted, logged, again], [messages, repeats]) = (self.pushes, self.messages);
        writeln!(
            f,
            "pushes    {made} made, {accepted} accepted, {logged} logged, {again} tried more than once"
        )?;
        writeln!(
            f,
            "messages  {messages} at {} sessions, {repeats} repeats dropped by clients",
            self.sessions
        )?;
        writeln!(f, "flags     {} times an application was told that messages may be missing", self.flags)?;
        writeln!(f, "map       the truth again after {:.2} s of quiet", self.map.as_secs_f64())?;
        for (why, times) in self.failures.iter().take(TOLD_MAX) {
            writeln!(f, "refused   {times} times: {why}")?;
        }
        let seconds = self.time.as_secs_f64();
        if self.is_good() {
            return writeln!(
                f,
                "seed {}: all checks hold after {seconds:.0} s and {} faults",
                self.seed,
                self.faults.len()
            );
        }
        for (kind, times) in count(&self.defects) {
            writeln!(f, "WRONG     {kind:?}, {times} times")?;
            for defect in self.defects.iter().filter(|defect| defect.kind == kind).take(TOLD_MAX) {
                writeln!(f, "          {}", defect.what)?;
            }
        }
        writeln!(f, "seed {}: {} checks failed after {seconds:.0} s", self.seed, self.defects.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::history::Event;

    #[test]
    fn losses_are_counted_with_the_fault_before_them() {
        let fault = |ms, what: &str| Fault { ms, what: what.to_owned() };
        let event = |ms, saw| Event { ms, saw };
        let joined = Saw::Joined { position: None, recovered: None };
        let events =
            [(100, joined), (1_010, Saw::Lost), (1_310, joined), (2_500, Saw::Lost), (2_600, joined)];
        let session = |events: &[(u32, Saw)]| History {
            events: events.iter().map(|(ms, saw)| event(*ms, *saw)).collect(),
            ..History::default()
        };
        let sessions = [session(&events), session(&events[..2])];
        let found = aftermath(&[fault(1_000, "a"), fault(2_000, "b")], &sessions, &[]);
        let told: Vec<_> = found.iter().map(|after| (after.lost, after.back_ms)).collect();
        assert_eq!(told, [(2, Some((300, 300))), (1, Some((100, 100)))]);
    }
}
