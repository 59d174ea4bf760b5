//! Which slices a node is asked for: in random order, and only as many at a time as hold about 500 sessions.

use std::{collections::HashMap, time::Duration};

use rand::seq::SliceRandom;
use roomcast_store::presence::SLICES;
use tokio::time::Instant;

/// Sessions that are asked for at a time, about. After a store was lost every node sends everything: this keeps what
/// has to be written at once small.
const SESSIONS_AT_A_TIME: u64 = 500;
/// A slice that did not come in this time is asked for again when it still differs.
const PATIENCE: Duration = Duration::from_secs(4);

/// What one node was asked for and what comes next.
#[derive(Debug, Default)]
pub(crate) struct Asking {
    next: Vec<usize>,
    asked: HashMap<usize, Instant>,
}

impl Asking {
    /// These slices differ now. What was asked for and is still awaited is not asked for twice.
    pub(crate) fn differ(&mut self, mut slices: Vec<usize>) {
        self.asked.retain(|_, since| since.elapsed() < PATIENCE);
        slices.retain(|slice| !self.asked.contains_key(slice));
        slices.shuffle(&mut rand::rng());
        self.next = slices;
    }

    /// A slice came and was applied.
    pub(crate) fn came(&mut self, slice: usize) {
        self.asked.remove(&slice);
        self.next.retain(|other| *other != slice);
    }

    /// What to ask for now, of a node with so many sessions.
    pub(crate) fn ask(&mut self, sessions: u64) -> Vec<u32> {
        let a_slice = (sessions / SLICES as u64).max(1);
        let at_a_time = (SESSIONS_AT_A_TIME / a_slice).clamp(1, SLICES as u64) as usize;
        let mut wanted = Vec::new();
        while self.asked.len() < at_a_time
            && let Some(slice) = self.next.pop()
        {
            self.asked.insert(slice, Instant::now());
            wanted.push(slice as u32);
        }
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_full_node_is_asked_for_a_few_slices_until_they_came() {
        let mut asking = Asking::default();
        asking.differ((0..SLICES).collect());
        let first = asking.ask(15_000);
        assert_eq!(first.len(), 2);
        assert_eq!(asking.ask(15_000), [0; 0]);
        asking.came(first[0] as usize);
        assert_eq!(asking.ask(15_000).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_node_sends_everything_at_once() {
        let mut asking = Asking::default();
        asking.differ((0..SLICES).collect());
        let mut all = asking.ask(100);
        all.sort_unstable();
        assert_eq!(all, (0..SLICES as u32).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slice_that_did_not_come_is_asked_for_again() {
        let mut asking = Asking::default();
        asking.differ(vec![9]);
        assert_eq!(asking.ask(0), [9]);
        asking.differ(vec![9]);
        assert_eq!(asking.ask(0), [0; 0]);
        tokio::time::advance(PATIENCE).await;
        asking.differ(vec![9]);
        assert_eq!(asking.ask(0), [9]);
    }
}
