//! The order of work in one report stream: in order for each user, users side by side, and a slice in full only
//! between the changes of that slice that came before it and those that came after it.

use std::collections::{HashMap, VecDeque};

use roomcast_store::presence::SLICES;
use roomcast_types::UserId;

/// Work that may start now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Job<C, S> {
    /// A change; [`Schedule::change_done`] follows.
    Change(UserId, C),
    /// A slice in full; [`Schedule::slice_done`] follows.
    Slice(usize, S),
}

/// What waits and what runs. Whatever waits, waits for something that arrived earlier, so nothing waits for ever.
#[derive(Debug)]
pub(crate) struct Schedule<C, S> {
    /// Users with a change that runs or waits; the front one runs, or waits for its slice.
    users: HashMap<UserId, Chain<C>>,
    gates: [Gate<S>; SLICES],
    ready: VecDeque<Job<C, S>>,
    waiting: usize,
}

#[derive(Debug)]
struct Chain<C> {
    is_running: bool,
    waiting: VecDeque<Waiting<C>>,
}

#[derive(Debug)]
struct Waiting<C> {
    slice: usize,
    /// Slices in full that arrived before it, since the stream began.
    epoch: u64,
    change: C,
}

#[derive(Debug)]
struct Gate<S> {
    /// Slices in full that are done.
    epoch: u64,
    /// Changes of this epoch that are not done.
    unfinished: usize,
    is_applying: bool,
    /// Slices in full that wait or run, each with the number of changes that arrived after it.
    slices: VecDeque<(Option<S>, usize)>,
    /// Users whose next change waits for a slice in full.
    parked: Vec<UserId>,
}

impl<C, S> Default for Schedule<C, S> {
    fn default() -> Self {
        let gate = |_| Gate {
            epoch: 0,
            unfinished: 0,
            is_applying: false,
            slices: VecDeque::new(),
            parked: Vec::new(),
        };
        Self { users: HashMap::new(), gates: std::array::from_fn(gate), ready: VecDeque::new(), waiting: 0 }
    }
}

impl<C, S> Schedule<C, S> {
    /// What arrived and was not started.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// A change of a session in `slice` arrived.
    pub(crate) fn push_change(&mut self, user: UserId, slice: usize, change: C) {
        let gate = &mut self.gates[slice];
        let epoch = gate.epoch + gate.slices.len() as u64;
        match gate.slices.back_mut() {
            Some((_, after)) => *after += 1,
            None => gate.unfinished += 1,
        }
        self.waiting += 1;
        let chain = self
            .users
            .entry(user.clone())
            .or_insert_with(|| Chain { is_running: false, waiting: VecDeque::new() });
        let is_first = !chain.is_running && chain.waiting.is_empty();
        chain.waiting.push_back(Waiting { slice, epoch, change });
        if is_first {
            self.start_next_of(&user);
        }
    }

    /// A slice in full arrived.
    pub(crate) fn push_slice(&mut self, index: usize, slice: S) {
        self.waiting += 1;
        self.gates[index].slices.push_back((Some(slice), 0));
        self.open_gate(index);
    }

    /// The next work that may start.
    pub(crate) fn next(&mut self) -> Option<Job<C, S>> {
        let job = self.ready.pop_front()?;
        self.waiting -= 1;
        Some(job)
    }

    /// The running change of a user, in `slice`, is done.
    pub(crate) fn change_done(&mut self, user: &UserId, slice: usize) {
        self.gates[slice].unfinished -= 1;
        self.open_gate(slice);
        let Some(chain) = self.users.get_mut(user) else { return };
        chain.is_running = false;
        if chain.waiting.is_empty() {
            self.users.remove(user);
        } else {
            self.start_next_of(user);
        }
    }

    /// The running slice in full is done.
    pub(crate) fn slice_done(&mut self, index: usize) {
        let gate = &mut self.gates[index];
        let Some((_, after)) = gate.slices.pop_front() else { return };
        gate.is_applying = false;
        gate.epoch += 1;
        gate.unfinished = after;
        for user in std::mem::take(&mut gate.parked) {
            self.start_next_of(&user);
        }
        self.open_gate(index);
    }

    fn start_next_of(&mut self, user: &UserId) {
        let Some(chain) = self.users.get_mut(user) else { return };
        let Some(next) = chain.waiting.front() else { return };
        let gate = &mut self.gates[next.slice];
        if next.epoch != gate.epoch {
            gate.parked.push(user.clone());
            return;
        }
        if let Some(next) = chain.waiting.pop_front() {
            chain.is_running = true;
            self.ready.push_back(Job::Change(user.clone(), next.change));
        }
    }

    fn open_gate(&mut self, index: usize) {
        let gate = &mut self.gates[index];
        if gate.unfinished > 0 || gate.is_applying {
            return;
        }
        if let Some((slice, _)) = gate.slices.front_mut()
            && let Some(slice) = slice.take()
        {
            gate.is_applying = true;
            self.ready.push_back(Job::Slice(index, slice));
        }
    }
}

#[cfg(test)]
mod tests;
