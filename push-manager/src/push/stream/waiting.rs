//! The pushes of one stream that are on the lanes and wait for their answers.

use rustc_hash::FxHashMap;
use tokio::time::Instant;

use crate::push::Started;

/// See the module. Its caller bounds how many.
#[derive(Default)]
pub struct Waiting<'a> {
    /// By number.
    pushes: FxHashMap<u64, One<'a>>,
    numbers: u64,
    /// No push is due earlier.
    due: Option<Instant>,
}

struct One<'a> {
    request: u64,
    until: Instant,
    started: Started<'a>,
}

impl<'a> Waiting<'a> {
    /// How many.
    pub fn len(&self) -> usize {
        self.pushes.len()
    }

    /// The number that the next push has.
    pub fn next_number(&self) -> u64 {
        self.numbers
    }

    /// The push of the next number waits, at most until then.
    pub fn add(&mut self, request: u64, until: Instant, started: Started<'a>) {
        self.pushes.insert(self.numbers, One { request, until, started });
        self.numbers += 1;
        self.due = Some(self.due.map_or(until, |due| due.min(until)));
    }

    /// Takes out a push with the number of its request, if it still waits.
    pub fn remove(&mut self, number: u64) -> Option<(u64, Started<'a>)> {
        self.pushes.remove(&number).map(|one| (one.request, one.started))
    }

    /// When to call [`Self::take_due`]; `None` when nothing waits.
    pub fn due(&self) -> Option<Instant> {
        self.due.filter(|_| !self.pushes.is_empty())
    }

    /// Takes out those whose time has run out.
    pub fn take_due(&mut self, now: Instant) -> Vec<(u64, Started<'a>)> {
        let due = self.pushes.extract_if(|_, one| one.until <= now);
        let due = due.map(|(_, one)| (one.request, one.started)).collect();
        self.due = self.pushes.values().map(|one| one.until).min();
        due
    }

    /// Takes out all.
    pub fn take_all(&mut self) -> Vec<(u64, Started<'a>)> {
        self.pushes.drain().map(|(_, one)| (one.request, one.started)).collect()
    }
}
