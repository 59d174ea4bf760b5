//! What a run came to, for people.

mod aftermath;
mod drains;

use std::{collections::BTreeMap, fmt, time::Duration};

pub use self::{
    aftermath::{Aftermath, aftermath, late},
    drains::{Drain, cut, drains, slow},
};
use super::{
    checker::{Defect, Kind, count},
    history::{Answer, History, Push, Run, Saw},
};

/// Defects of one kind that are told.
const TOLD_MAX: usize = 5;

/// What a run came to.
#[derive(Debug, Default)]
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
    /// Logged messages that sessions did not get, and were told so.
    pub missing: usize,
    /// Nodes that stopped in order.
    pub drains: Vec<Drain>,
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

    /// Counts what was pushed and what came.
    pub fn add_sums(&mut self, run: &Run) {
        let Run { sessions, pushes } = run;
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
        self.sessions = sessions.len();
        self.pushes = [pushes.len(), accepted.count(), logged, again];
        self.messages = [messages, repeats];
        self.flags = seen(|saw| matches!(saw, Saw::Gap { .. } | Saw::Joined { recovered: Some(false), .. }));
    }

    /// Whether anything is wrong of these kinds.
    pub fn has(&self, kinds: &[Kind]) -> bool {
        self.defects.iter().any(|defect| kinds.contains(&defect.kind))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "   at s     lost   back p50   back p99    noticed     others p99  fault")?;
        let ms = |ms: Option<u32>| ms.map_or("-".to_owned(), |ms| format!("{ms} ms"));
        for Aftermath { fault, lost, back_ms, noticed_ms, others_ms } in &self.faults {
            let (p50, p99) = (ms(back_ms.map(|both| both.0)), ms(back_ms.map(|both| both.1)));
            let (at, noticed) = (f64::from(fault.ms) / 1_000.0, ms(*noticed_ms));
            let others = others_ms.map_or("-".to_owned(), |(calm, now)| format!("{calm} > {now} ms"));
            writeln!(
                f,
                "{at:>7.2} {lost:>8} {p50:>10} {p99:>10} {noticed:>10} {others:>14}  {}",
                fault.what
            )?;
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
        let (flags, missing) = (self.flags, self.missing);
        writeln!(
            f,
            "flags     {flags} times an application was told that messages may be missing; {missing} are"
        )?;
        let (stopped, cut, gap) = drains::sum(&self.drains);
        if stopped > 0 {
            writeln!(
                f,
                "drains    {stopped} nodes stopped and cut {cut} sessions; gap p99 {gap} ms at most"
            )?;
        }
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
