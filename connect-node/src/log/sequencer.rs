//! Puts the messages of one log into their order: what goes on at once, what waits for those before it, what is a repeat.
//!
//! Pure: no time, no waiting. The caller passes on what a call put out, in that order, and reads what is missing.
//!
//! | a message comes | and so |
//! |---|---|
//! | before the position is known | it waits |
//! | the next offset | passed on, and with it what waited for it |
//! | a higher offset | it waits for what is missing |
//! | an offset that was passed on, the same id | a repeat |
//! | an offset that was passed on, another id | the store went back in time: passed on without a place, and told |
//! | an offset from before what is remembered | passed on without a place: clients know it by its id, or not at all |
//! | another epoch, never seen | a gap is told, then it counts as above from offset 0 of that epoch |
//! | an epoch that is over | a repeat if its id is remembered, else passed on without a place |
//! | what is missing cannot be had | a gap is told, then what waits is passed on |

use std::collections::{BTreeMap, VecDeque};

use roomcast_types::{Epoch, MessageId, Position};

/// Messages that wait at most; with one more, what is missing is given up.
pub const HELD_MAX: usize = 1_024;
/// Epochs that are over and remembered.
const PAST_EPOCHS: usize = 4;

/// What to do, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<T> {
    /// Pass it on: with its place, or as one that has none.
    Pass(Option<Position>, T),
    /// Tell members that messages up to here may be missing.
    Gap(Position),
    /// It was passed on before.
    Repeat(T),
    /// The log's store went back: it gives offsets of this epoch a second time.
    Conflict(Epoch),
}

/// See the module. `T` is a message, or what stands for one.
#[derive(Debug)]
pub struct Sequencer<T> {
    position: Option<Position>,
    /// Of the current epoch (or, without a position, of the first that came), by offset; all above the position.
    held: BTreeMap<u64, (MessageId, T)>,
    held_epoch: Option<Epoch>,
    /// The log is known to reach up to here.
    reaches: u64,
    /// Messages passed on, oldest first, of all epochs; an offset of 0 stands for one without a place.
    passed: VecDeque<(u64, MessageId)>,
    passed_max: usize,
    past: VecDeque<Epoch>,
    is_positioned: bool,
}

impl<T> Sequencer<T> {
    /// Waits for its position; remembers so many messages.
    pub fn new(passed_max: usize) -> Self {
        Self {
            position: None,
            held: BTreeMap::new(),
            held_epoch: None,
            reaches: 0,
            passed: VecDeque::new(),
            passed_max,
            past: VecDeque::new(),
            is_positioned: false,
        }
    }

    /// Everything up to here was passed on or is missing for good.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Whether [`Self::begin`] was called.
    pub fn has_begun(&self) -> bool {
        self.is_positioned
    }

    /// The position that the log has now, before anybody was promised anything; `None`: it cannot be had.
    pub fn begin(&mut self, position: Option<Position>, out: &mut Vec<Step<T>>) {
        if std::mem::replace(&mut self.is_positioned, true) {
            return;
        }
        self.position = position;
        let held = std::mem::take(&mut self.held);
        let Some(epoch) = self.held_epoch.take() else { return };
        for (offset, (id, item)) in held {
            self.arrive(Position { epoch, offset }, id, item, out);
        }
    }

    /// A message with a place came.
    pub fn arrive(&mut self, at: Position, id: MessageId, item: T, out: &mut Vec<Step<T>>) {
        if !self.is_positioned {
            return self.wait_for_begin(at, id, item, out);
        }
        let position = match self.position {
            Some(position) if position.epoch == at.epoch => position,
            Some(_) if self.past.contains(&at.epoch) => return self.out_of_place(0, id, item, out),
            Some(_) => self.change_epoch(at.epoch, 0, out),
            // Nobody was told a position: what came before this one is nobody's loss, but that has to be said.
            None => self.change_epoch(at.epoch, at.offset.saturating_sub(1), out),
        };
        if at.offset <= position.offset {
            return self.out_of_place(at.offset, id, item, out);
        }
        if at.offset == position.offset + 1 {
            self.pass(at.offset, id, item, out);
            return self.pass_held(out);
        }
        self.held.entry(at.offset).or_insert((id, item));
        if self.held.len() > HELD_MAX {
            self.give_up(out);
        }
    }

    /// Messages to read: those after this position up to this offset. `None`: nothing is missing.
    pub fn missing(&self) -> Option<(Position, u64)> {
        let position = self.position?;
        let before_held = self.held.first_key_value().map_or(0, |(offset, _)| offset - 1);
        let up_to = before_held.max(if self.held.is_empty() { self.reaches } else { 0 });
        (up_to > position.offset).then_some((position, up_to))
    }

    /// Messages that wait.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// All messages of the log between a position and an offset that still matter, in order.
    pub fn fill(
        &mut self,
        after: Position,
        up_to: u64,
        messages: impl IntoIterator<Item = (u64, MessageId, T)>,
        out: &mut Vec<Step<T>>,
    ) {
        let Some(position) = self.position.filter(|position| position.epoch == after.epoch) else { return };
        if after.offset > position.offset || up_to <= position.offset {
            return;
        }
        // What came on a lane meanwhile is the same message, with its lane.
        let later = self.held.split_off(&(up_to + 1));
        let mut wave = std::mem::replace(&mut self.held, later);
        for (offset, id, item) in messages {
            if offset > position.offset && offset <= up_to {
                wave.entry(offset).or_insert((id, item));
            }
        }
        for (offset, (id, item)) in wave {
            self.pass(offset, id, item, out);
        }
        self.position = Some(Position { epoch: after.epoch, offset: up_to });
        self.pass_held(out);
    }

    /// What is missing cannot be had.
    pub fn give_up(&mut self, out: &mut Vec<Step<T>>) {
        if let Some((position, up_to)) = self.missing() {
            self.tell_gap(Position { epoch: position.epoch, offset: up_to }, out);
            self.pass_held(out);
        }
    }

    /// The log's position as its store says, and ours when it was asked. Behind that: a conflict. What was passed on since
    /// then the answer need not know.
    pub fn compare(&mut self, asked: Option<Position>, log: Position, out: &mut Vec<Step<T>>) {
        match self.position {
            Some(position) if position.epoch == log.epoch => {
                if asked.is_some_and(|asked| asked.epoch == log.epoch && log.offset < asked.offset) {
                    out.push(Step::Conflict(log.epoch));
                }
                self.reaches = self.reaches.max(log.offset);
            }
            Some(_) if self.past.contains(&log.epoch) => {}
            Some(_) => {
                self.change_epoch(log.epoch, 0, out);
                self.reaches = log.offset;
            }
            None if self.is_positioned => {
                self.change_epoch(log.epoch, log.offset, out);
            }
            None => {}
        }
    }

    fn wait_for_begin(&mut self, at: Position, id: MessageId, item: T, out: &mut Vec<Step<T>>) {
        if *self.held_epoch.get_or_insert(at.epoch) != at.epoch || self.held.len() >= HELD_MAX {
            // Nobody is here yet to miss it.
            out.push(Step::Pass(None, item));
            return;
        }
        if let Some((_, repeat)) = self.held.insert(at.offset, (id, item)) {
            out.push(Step::Repeat(repeat));
        }
    }

    /// Begins an epoch behind `offset`; what waited for another one goes on without a place.
    fn change_epoch(&mut self, epoch: Epoch, offset: u64, out: &mut Vec<Step<T>>) -> Position {
        if let Some(position) = self.position {
            self.past.push_back(position.epoch);
            if self.past.len() > PAST_EPOCHS {
                self.past.pop_front();
            }
        }
        for (_, (id, item)) in std::mem::take(&mut self.held) {
            self.remember(0, id);
            out.push(Step::Pass(None, item));
        }
        // Offsets of the other epoch say nothing here, the ids do.
        self.passed.iter_mut().for_each(|(offset, _)| *offset = 0);
        self.reaches = 0;
        let position = Position { epoch, offset };
        self.tell_gap(position, out);
        position
    }

    fn tell_gap(&mut self, position: Position, out: &mut Vec<Step<T>>) {
        self.position = Some(position);
        out.push(Step::Gap(position));
    }

    /// A message whose offset has had its turn, or that has none here.
    fn out_of_place(&mut self, offset: u64, id: MessageId, item: T, out: &mut Vec<Step<T>>) {
        if self.passed.iter().any(|(_, passed)| *passed == id) {
            return out.push(Step::Repeat(item));
        }
        let is_taken = offset > 0 && self.passed.iter().any(|(passed, _)| *passed == offset);
        if let Some(position) = self.position.filter(|_| is_taken) {
            out.push(Step::Conflict(position.epoch));
        }
        self.remember(0, id);
        out.push(Step::Pass(None, item));
    }

    fn pass(&mut self, offset: u64, id: MessageId, item: T, out: &mut Vec<Step<T>>) {
        let Some(position) = &mut self.position else { return };
        position.offset = offset;
        let at = *position;
        self.remember(offset, id);
        out.push(Step::Pass(Some(at), item));
    }

    fn pass_held(&mut self, out: &mut Vec<Step<T>>) {
        while let Some(position) = self.position
            && let Some((id, item)) = self.held.remove(&(position.offset + 1))
        {
            self.pass(position.offset + 1, id, item, out);
        }
    }

    fn remember(&mut self, offset: u64, id: MessageId) {
        if self.passed.len() >= self.passed_max {
            self.passed.pop_front();
        }
        self.passed.push_back((offset, id));
    }
}

#[cfg(test)]
#[path = "sequencer_tests.rs"]
mod tests;
