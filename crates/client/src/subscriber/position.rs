//! Positions in logs and the memory of recent messages: decides what is new, what is a repeat, and what may be missing.
//!
//! A *stream* is what one session brings of one log: in order, and with a `gap` for each hole. It begins with a `joined`
//! or `welcome`:
//!
//! | the stream before | `since` was sent | the answer | continuity | position |
//! |---|---|---|---|---|
//! | of another session, or none | yes | recovered, epoch of `since` | recovered | the own one stays |
//! | of another session | yes or no | behind the own position, which moved on meanwhile | unbroken | the own one stays |
//! | of another session, or none | yes | anything else | lost | as given |
//! | none | no | anything | first | as given |
//! | of another session that is open | no | no position | unbroken | - |
//! | of another session | no | anything else | unknown | as given |
//! | of this session | no | the own epoch, or no position | unbroken | the own one stays |
//! | of this session | no | another epoch, or the first position | lost | as given |
//!
//! "As given" leaves the own position where the answer has none.
//!
//! A move has two sessions open. The new stream is whole from its `since` on, so the old one is listened to as long as it
//! fits: what either brings late is behind the position that the other has reached, and a hole of either's own ends the
//! old one's part.

use std::collections::{HashMap, HashSet, VecDeque};

use serde::{Deserialize, Serialize};

/// Messages remembered by id.
const REMEMBERED_MAX: usize = 1_000;
/// Epochs remembered that a log left: as many as may change during one move, and some.
const PAST_MAX: usize = 8;

/// A place in the log of a room or a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Names one life of the log.
    pub epoch: String,
    /// Grows by one with each message of that life.
    pub offset: u64,
}

impl Position {
    fn same_epoch(&self, other: &Option<Self>) -> bool {
        other.as_ref().is_some_and(|other| other.epoch == self.epoch)
    }
}

/// Which log: a room's, or the user's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Log {
    Room(String),
    Own,
}

/// What became of the messages between a former session and this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continuity {
    /// There was no former session.
    First,
    /// Nothing is missing: this session began before the former one ended.
    Unbroken,
    /// Nothing is missing: what was missed follows.
    Recovered,
    /// Messages may be missing: the log no longer has them. An [`Event::Gap`](super::Event::Gap) follows.
    Lost,
    /// Messages may be missing: no log was there to recover them from. An [`Event::Gap`](super::Event::Gap) follows.
    Unknown,
}

/// What brought the messages of a log before a stream begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Former {
    /// Nothing.
    None,
    /// The same session: nothing begins.
    Same,
    /// A session that is still open.
    Open,
    /// A session that has ended.
    Broken,
}

/// How a stream begins.
#[derive(Debug, Default)]
pub struct Start {
    pub session: u64,
    /// The session that a move left behind, while it is open.
    pub retiring: Option<u64>,
    /// The position that was asked for.
    pub since: Option<Position>,
    /// As the answer says.
    pub given: Option<Position>,
    pub is_recovered: bool,
}

/// Messages after one position, and up to another, may be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hole {
    pub from: Option<Position>,
    pub to: Option<Position>,
}

/// What a message is to the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It has not had it.
    New,
    /// It had it.
    Repeat,
    /// It had it long ago, or was told that it may be missing. Too late in either case.
    Behind,
    /// The session has no part in this log: the room was left, or not yet joined there.
    Foreign,
}

/// Where this client stands in one log.
#[derive(Debug, Default)]
struct Place {
    at: Option<Position>,
    /// Where it stood in epochs that it left, each with a `Hole`: a session that lags may still bring them.
    past: VecDeque<Position>,
    /// The session whose stream began last.
    session: Option<u64>,
    /// The one before, as long as its stream fits.
    former: Option<u64>,
    /// The stream may begin before the own position: another session, or its log, was ahead of this session's node.
    lags: bool,
}

impl Place {
    fn former(&self, start: &Start) -> Former {
        match self.session {
            None => Former::None,
            Some(session) if session == start.session => Former::Same,
            Some(session) if Some(session) == start.retiring => Former::Open,
            Some(_) => Former::Broken,
        }
    }

    fn go_to(&mut self, to: Option<Position>) {
        let Some(to) = to else { return };
        self.past.retain(|past| past.epoch != to.epoch);
        if let Some(left) = self.at.take().filter(|at| at.epoch != to.epoch) {
            self.past.push_back(left);
            if self.past.len() > PAST_MAX {
                self.past.pop_front();
            }
        }
        self.at = Some(to);
    }

    /// Whether this session is in another epoch, and not only behind another session; or tells its first position, before
    /// which something may be missing.
    fn is_elsewhere(&self, given: &Position) -> bool {
        match &self.at {
            Some(at) => at.epoch != given.epoch && !(self.lags && self.is_past(given)),
            None => true,
        }
    }

    /// Where a `gap` of this session goes: not back to what another has passed.
    fn ahead(&self, to: Position) -> Position {
        let passed = self.past.iter().find(|past| self.lags && past.epoch == to.epoch);
        Position { offset: passed.map_or(to.offset, |past| past.offset.max(to.offset)), ..to }
    }

    /// Whether everything up to there came, or is known to be missing.
    fn is_past(&self, position: &Position) -> bool {
        match &self.at {
            Some(at) if at.epoch == position.epoch => position.offset <= at.offset,
            _ => self.past.iter().any(|past| past.epoch == position.epoch),
        }
    }

    /// Whether another session has brought, or told of, everything up to `given` since the position `since` was asked for.
    /// Without that a log that is behind `since` is one that went back.
    fn has_passed(&self, given: &Option<Position>, since: &Option<Position>) -> bool {
        self.at != *since && given.as_ref().is_some_and(|given| self.is_past(given))
    }
}

/// What a client knows of the logs it follows.
#[derive(Debug, Default)]
pub struct Positions {
    places: HashMap<Log, Place>,
    remembered: HashSet<String>,
    oldest_first: VecDeque<String>,
}

impl Positions {
    /// Where this client stands in a log; `None` when the log gave no position yet.
    pub fn get(&self, log: &Log) -> Option<&Position> {
        self.places.get(log)?.at.as_ref()
    }

    /// Starts from a position that an earlier life of the application reached.
    pub fn restore(&mut self, log: Log, position: Position) {
        self.places.entry(log).or_default().at = Some(position);
    }

    /// The room was left: its log is not followed any more.
    pub fn forget(&mut self, log: &Log) {
        self.places.remove(log);
    }

    /// Takes a `joined` or `welcome`. A hole is to be told.
    pub fn begin(&mut self, log: Log, start: Start) -> (Continuity, Option<Hole>) {
        let place = self.places.entry(log).or_default();
        let former = place.former(&start);
        let Start { session, since, given, is_recovered, .. } = start;
        let from = place.at.clone();
        let continuity = match (&since, former) {
            (_, Former::Same) => {
                let is_hole = given.as_ref().is_some_and(|given| place.is_elsewhere(given));
                if is_hole { Continuity::Lost } else { Continuity::Unbroken }
            }
            (Some(since), _) if is_recovered && (given.is_none() || since.same_epoch(&given)) => {
                Continuity::Recovered
            }
            _ if place.has_passed(&given, &since) => Continuity::Unbroken,
            (Some(_), _) => Continuity::Lost,
            (None, Former::None) => Continuity::First,
            (None, Former::Open) if given.is_none() => Continuity::Unbroken,
            (None, Former::Open | Former::Broken) => Continuity::Unknown,
        };
        if former != Former::Same {
            place.former = place.session.replace(session);
            place.lags = true;
        }
        match continuity {
            // What follows begins at `since`. Another session may have brought more meanwhile.
            Continuity::Recovered => place.at = from.clone().or(since),
            Continuity::Unbroken => {}
            Continuity::First | Continuity::Lost | Continuity::Unknown => {
                place.former = None;
                place.lags &= given.is_none();
                place.go_to(given.clone());
            }
        }
        let is_hole = matches!(continuity, Continuity::Lost | Continuity::Unknown);
        (continuity, is_hole.then_some(Hole { from, to: given }))
    }

    /// Takes a `gap`: messages up to `to` may be missing. `None` when they are not: the other session of a move brought
    /// them, or will.
    pub fn gap(&mut self, log: &Log, session: u64, to: Option<Position>) -> Option<Hole> {
        let place = self.places.get_mut(log)?;
        if place.session != Some(session) {
            let was_former = place.former.take_if(|former| *former == session).is_some();
            // A new stream without a position is whole from nowhere on: what the old one still had is not filled.
            return (was_former && place.at.is_none()).then_some(Hole { from: None, to });
        }
        let is_here = to.as_ref().is_some_and(|to| to.same_epoch(&place.at) && place.is_past(to));
        if place.lags && is_here {
            return None;
        }
        place.former = None;
        let (from, to) = (place.at.clone(), to.map(|to| place.ahead(to)));
        place.go_to(to.clone());
        Some(Hole { from, to })
    }

    /// Takes a message of a log, or of none; moves the position.
    pub fn accept(
        &mut self,
        log: Option<&Log>,
        session: u64,
        position: Option<&Position>,
        message_id: &str,
    ) -> Verdict {
        if let Some(log) = log {
            let brings = |place: &&mut Place| [place.session, place.former].contains(&Some(session));
            let Some(place) = self.places.get_mut(log).filter(brings) else { return Verdict::Foreign };
            if let Some(position) = position {
                if place.is_past(position) {
                    let is_known = self.remembered.contains(message_id);
                    return if is_known { Verdict::Repeat } else { Verdict::Behind };
                }
                if let Some(at) = place.at.as_mut().filter(|at| at.epoch == position.epoch) {
                    at.offset = position.offset;
                }
            }
        }
        if self.remember(message_id) { Verdict::New } else { Verdict::Repeat }
    }

    fn remember(&mut self, message_id: &str) -> bool {
        if !self.remembered.insert(message_id.to_owned()) {
            return false;
        }
        self.oldest_first.push_back(message_id.to_owned());
        if self.oldest_first.len() > REMEMBERED_MAX
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.remembered.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
