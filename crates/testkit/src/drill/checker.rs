//! Judges a run: what every session saw against what the publishers were told.
//!
//! A message that was accepted with a place in its room's log has to reach every session that joined before it, unless
//! the application of that session was told, by `gap` or `recovered: false`, that it may be missing. Nothing else excuses
//! it: not the end of a node, and no word in a receipt. A message without a place is owed to those who were there from
//! its sending on; a receipt that counts somebody as not reached excuses it as well.

mod coverage;
mod order;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
};

use self::{coverage::Coverage, order::Order};
use super::history::{Accepted, Answer, At, Event, History, Push, Run, Saw};

/// Around a loss of the connection nothing that is not logged is owed: a message that the kernel took may be lost with
/// it, and a loss is noticed late.
const AWAY_BEFORE_MS: u32 = 1_000;
/// As above; longer than the client takes to notice that nothing comes any more.
const AWAY_AFTER_MS: u32 = 40_000;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A logged message did not arrive, and nobody was told.
    LostUnflagged,
    /// A logged message did not arrive; its session was told, but nothing had taken the log away.
    LostFlagged,
    /// A message without a place in a log did not arrive at somebody who was there.
    LostUnlogged,
    /// Messages in another order than their log's, or than their push-manager accepted them.
    OutOfOrder,
    /// The application got a message twice.
    Repeated,
    /// Somebody outside a room got its message, or somebody got one from before the join.
    NotEntitled,
    /// A message that the platform refused was delivered.
    RefusedButDelivered,
    /// One place in a log for two messages, or two for one.
    PlaceTwice,
    /// A receipt that does not add up.
    Receipt,
    /// A push that was not answered, or refused, in spite of retries.
    NotAccepted,
    /// A node that was told to stop cut sessions.
    Drained,
    /// A session that was not there at the end.
    NotBack,
    /// Who is where, as the platform knows it, is not the truth.
    Map,
    /// Seats, counters and lists disagree.
    Seats,
    /// Sockets, tasks or queues that did not go back to what they were.
    Leak,
    /// The ledger does not balance.
    Ledger,
    /// A panic, or an ERROR that nobody expected.
    Log,
    /// Something took longer than promised.
    TooLate,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defect {
    /// What kind.
    pub kind: Kind,
    /// Who, what, when.
    pub what: String,
}

impl Defect {
    /// Of a kind.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into() }
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.what)
    }
}

/// What a run may do that is wrong elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rules {
    /// The memory of idempotency keys was taken away: a push that was tried again may be two messages.
    pub keys_may_be_lost: bool,
    /// Pushes may end without being accepted: there was nobody to take them.
    pub pushes_may_fail: bool,
    /// Logs were taken away: what they held may be missing, where it is flagged.
    pub logs_may_be_lost: bool,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Judgement {
    /// Everything that is wrong.
    pub defects: Vec<Defect>,
    /// Logged messages that sessions did not get, and were told so.
    pub missing: usize,
}

/// Judges a run.
pub fn check(run: &Run, rules: Rules) -> Judgement {
    let owed = Owed::of(run);
    let mut judgement = Judgement { defects: pushes(run, rules), missing: 0 };
    for session in &run.sessions {
        let (coverage, seen) = check_session(session, run, rules, &mut judgement.defects);
        check_owed(session, &owed, rules, &coverage, &seen, &mut judgement);
    }
    judgement
}

/// Accepted messages by room.
struct Owed<'a> {
    rooms: HashMap<u32, Vec<(&'a Push, &'a Accepted)>>,
}

impl<'a> Owed<'a> {
    fn of(run: &'a Run) -> Self {
        let mut rooms: HashMap<u32, Vec<_>> = HashMap::new();
        for push in &run.pushes {
            if let Answer::Accepted(accepted) = &push.answer {
                rooms.entry(push.room).or_default().push((push, accepted));
            }
        }
        Self { rooms }
    }
}

fn pushes(run: &Run, rules: Rules) -> Vec<Defect> {
    let mut defects = Vec::new();
    let mut places: HashMap<(u32, At), u64> = HashMap::new();
    for push in &run.pushes {
        let number = push.number;
        match &push.answer {
            Answer::Accepted(accepted) => {
                let Accepted { id, targets, pending, written, lost, .. } = *accepted;
                if targets != pending + written + lost {
                    let what =
                        format!("push {number}: {targets} targets, but {pending} + {written} + {lost}");
                    defects.push(Defect::new(Kind::Receipt, what));
                }
                let place = accepted.position.map(|at| (push.room, at));
                let is_taken = place.is_some_and(|place| *places.entry(place).or_insert(id) != id);
                // A log that went back in time gives places again until somebody notices.
                if is_taken && !rules.logs_may_be_lost {
                    let what =
                        format!("push {number}: {:?} of room {} is another's", accepted.position, push.room);
                    defects.push(Defect::new(Kind::PlaceTwice, what));
                }
            }
            Answer::Refused(why) | Answer::Unknown(why) if !rules.pushes_may_fail => {
                let what = format!("push {number} after {} attempts: {why}", push.attempts);
                defects.push(Defect::new(Kind::NotAccepted, what));
            }
            Answer::Refused(_) | Answer::Unknown(_) => {}
        }
    }
    defects
}

/// What came, in its order.
fn check_session(session: &History, run: &Run, rules: Rules, defects: &mut Vec<Defect>) -> (Coverage, Seen) {
    let (mut coverage, mut order, mut seen) = (Coverage::default(), Order::default(), Seen::default());
    let mut tell = |kind, what: String| defects.push(Defect::new(kind, format!("{}: {what}", session.user)));
    for Event { ms, saw } in &session.events {
        match *saw {
            Saw::Joined { position, recovered } => coverage.joined(*ms, position, recovered),
            Saw::Gap { position } => coverage.flagged(*ms, position),
            Saw::Foreign => tell(Kind::NotEntitled, format!("at {ms} ms a message of another room")),
            Saw::Lost | Saw::Ended { .. } => {}
            Saw::Message { number, id, position } => {
                let Some(push) = run.pushes.get(number as usize) else {
                    tell(Kind::NotEntitled, format!("at {ms} ms message {number}, which nobody sent"));
                    continue;
                };
                if push.room != session.room {
                    tell(Kind::NotEntitled, format!("message {number} of room {}", push.room));
                }
                if matches!(push.answer, Answer::Refused(_)) && push.attempts == 1 {
                    tell(Kind::RefusedButDelivered, format!("message {number}"));
                }
                if seen.repeats(number, id, push, rules) {
                    tell(Kind::Repeated, format!("message {number} at {ms} ms"));
                }
                if coverage.is_from_before(position) {
                    tell(Kind::NotEntitled, format!("message {number} from before the join"));
                }
                if let Some(why) = order.next(push, position) {
                    tell(Kind::OutOfOrder, format!("message {number} at {ms} ms: {why}"));
                }
                coverage.message(position);
            }
        }
    }
    if let Some(why) = absent(session) {
        tell(Kind::NotBack, why);
    }
    (coverage, seen)
}

/// What did not come.
fn check_owed(
    session: &History,
    owed: &Owed<'_>,
    rules: Rules,
    coverage: &Coverage,
    seen: &Seen,
    judgement: &mut Judgement,
) {
    let Judgement { defects, missing } = judgement;
    let mut tell = |kind, what: String| defects.push(Defect::new(kind, format!("{}: {what}", session.user)));
    for (push, accepted) in owed.rooms.get(&session.room).into_iter().flatten() {
        if seen.numbers.contains_key(&push.number) {
            continue;
        }
        let told = |at: &dyn std::fmt::Debug| {
            format!("message {} ({at:?}), accepted at {} ms", push.number, push.answered_ms)
        };
        match accepted.position {
            Some(at) if !coverage.owes(at, push.sent_ms) => {}
            Some(at) if !coverage.is_flagged(at, push.sent_ms) => tell(Kind::LostUnflagged, told(&at)),
            Some(at) => {
                *missing += 1;
                if !rules.logs_may_be_lost {
                    tell(Kind::LostFlagged, told(&at));
                }
            }
            None => {
                let is_owed = coverage.has_joined_by(push.sent_ms) && is_owed(push, accepted);
                if is_owed && was_there(session, push) {
                    tell(Kind::LostUnlogged, told(&"not logged"));
                }
            }
        }
    }
}

/// Messages that an application has.
#[derive(Default)]
struct Seen {
    numbers: HashMap<u32, u64>,
    ids: HashSet<u64>,
}

impl Seen {
    fn repeats(&mut self, number: u32, id: u64, push: &Push, rules: Rules) -> bool {
        let is_new_id = self.ids.insert(id);
        let had_number = self.numbers.insert(number, id).is_some();
        // Tried again without an answer in between, and the key was forgotten: that is two messages.
        let may_be_two = push.attempts > 1 && rules.keys_may_be_lost;
        !is_new_id || (had_number && !may_be_two)
    }
}

/// Why a session is not there at its end.
fn absent(session: &History) -> Option<String> {
    let states = session.events.iter().rev();
    let mut states =
        states.filter(|event| !matches!(event.saw, Saw::Message { .. } | Saw::Gap { .. } | Saw::Foreign));
    match states.next() {
        None => Some("it never joined".to_owned()),
        Some(Event { saw: Saw::Joined { .. }, .. }) => None,
        Some(Event { saw: Saw::Ended { code }, ms }) => Some(format!("it ended with {code} at {ms} ms")),
        Some(Event { ms, .. }) => Some(format!("it lost its connection at {ms} ms and did not come back")),
    }
}

/// Whether the receipt leaves no doubt that everybody got it.
fn is_owed(push: &Push, accepted: &Accepted) -> bool {
    push.attempts == 1 && accepted.is_complete && accepted.lost == 0 && !accepted.is_doubtful
}

/// Whether the connection stood all the time around a push.
fn was_there(session: &History, push: &Push) -> bool {
    let around = push.sent_ms.saturating_sub(AWAY_BEFORE_MS)..=push.answered_ms.saturating_add(AWAY_AFTER_MS);
    let breaks = session.events.iter().filter(|event| matches!(event.saw, Saw::Lost | Saw::Ended { .. }));
    let last_before = session.events.iter().rev().find(|event| {
        event.ms <= push.sent_ms && matches!(event.saw, Saw::Lost | Saw::Joined { .. } | Saw::Ended { .. })
    });
    let is_joined = last_before.is_some_and(|event| matches!(event.saw, Saw::Joined { .. }));
    is_joined && !breaks.clone().any(|event| around.contains(&event.ms))
}

/// How many of each kind.
pub fn count(defects: &[Defect]) -> BTreeMap<Kind, usize> {
    defects.iter().fold(BTreeMap::new(), |mut counts, defect| {
        *counts.entry(defect.kind).or_default() += 1;
        counts
    })
}
