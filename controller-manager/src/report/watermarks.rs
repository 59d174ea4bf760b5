//! How far each slice of a node is applied without a hole: what may be written as its version.

use std::collections::VecDeque;

use roomcast_store::presence::SLICES;

/// One slice: what arrived and is not settled, in order of arrival.
#[derive(Debug, Default)]
struct Mark {
    waiting: VecDeque<Step>,
    /// The version of what arrived last.
    seen: u64,
    /// Something up to here was missed or failed: only the slice in full mends it.
    is_broken: bool,
}

#[derive(Debug)]
struct Step {
    version: u64,
    /// The slice in full: nothing before it matters any more.
    is_full: bool,
    /// A change in between never arrived here.
    follows_gap: bool,
    outcome: Option<bool>,
}

/// The slices of one report stream.
#[derive(Debug)]
pub(crate) struct Watermarks([Mark; SLICES]);

impl Watermarks {
    /// Starts from the versions that the store holds; `None` when it could not be asked: nothing is taken for granted.
    pub(crate) fn new(stored: Option<[u64; SLICES]>) -> Self {
        Self(std::array::from_fn(|slice| Mark {
            seen: stored.map_or(0, |stored| stored[slice]),
            is_broken: stored.is_none(),
            ..Mark::default()
        }))
    }

    /// A change arrived.
    pub(crate) fn change_arrived(&mut self, slice: usize, version: u64) {
        let mark = &mut self.0[slice];
        let follows_gap = version != mark.seen + 1;
        mark.seen = mark.seen.max(version);
        mark.waiting.push_back(Step { version, is_full: false, follows_gap, outcome: None });
    }

    /// The slice in full arrived.
    pub(crate) fn slice_arrived(&mut self, slice: usize, version: u64) {
        let mark = &mut self.0[slice];
        mark.seen = version;
        mark.waiting.push_back(Step { version, is_full: true, follows_gap: false, outcome: None });
    }

    /// A change or the slice in full was applied, or not. The version that may be written now, if it grew.
    pub(crate) fn settled(
        &mut self,
        slice: usize,
        version: u64,
        is_full: bool,
        is_applied: bool,
    ) -> Option<u64> {
        let mark = &mut self.0[slice];
        let step = mark
            .waiting
            .iter_mut()
            .find(|step| step.version == version && step.is_full == is_full && step.outcome.is_none())?;
        step.outcome = Some(is_applied);
        let mut reached = None;
        while let Some(step) = mark.waiting.front()
            && let Some(is_applied) = step.outcome
        {
            if step.is_full {
                mark.is_broken = !is_applied;
            } else if !is_applied || step.follows_gap {
                mark.is_broken = true;
            }
            if !mark.is_broken {
                reached = Some(step.version);
            }
            mark.waiting.pop_front();
        }
        reached
    }

    /// The store lost its content: nothing that was written counts.
    pub(crate) fn break_all(&mut self) {
        for mark in &mut self.0 {
            mark.is_broken = true;
        }
    }

    /// Slices that the node has to send in full: it is at `node`, the store at `stored`. Those with something under
    /// way, or that moved on since, wait for the next comparison.
    pub(crate) fn differing(&self, node: &[u64], stored: &[u64; SLICES]) -> Vec<usize> {
        let differs = |slice: &usize| {
            let (mark, at) = (&self.0[*slice], node.get(*slice).copied().unwrap_or_default());
            mark.waiting.is_empty() && mark.seen <= at && (mark.is_broken || stored[*slice] != at)
        };
        (0..SLICES).filter(differs).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fresh() -> Watermarks {
        Watermarks::new(Some([0; SLICES]))
    }

    #[test]
    fn a_version_is_reached_when_all_before_it_are_applied() {
        let mut marks = fresh();
        for version in 1..=3 {
            marks.change_arrived(5, version);
        }
        assert_eq!(marks.settled(5, 2, false, true), None);
        assert_eq!(marks.settled(5, 1, false, true), Some(2));
        assert_eq!(marks.settled(5, 3, false, true), Some(3));
    }

    #[test]
    fn a_failed_change_holds_the_version_until_the_slice_comes_in_full() {
        let mut marks = fresh();
        marks.change_arrived(0, 1);
        marks.change_arrived(0, 2);
        assert_eq!(marks.settled(0, 1, false, false), None);
        assert_eq!(marks.settled(0, 2, false, true), None);
        let mut node = [0; SLICES];
        node[0] = 2;
        assert_eq!(marks.differing(&node, &[0; SLICES]), [0]);
        marks.slice_arrived(0, 2);
        assert_eq!(marks.settled(0, 2, true, true), Some(2));
        assert_eq!(marks.differing(&node, &node), [0; 0]);
    }

    #[test]
    fn changes_lost_with_an_earlier_stream_are_noticed() {
        let mut marks = Watermarks::new(Some([7; SLICES]));
        marks.change_arrived(3, 10);
        assert_eq!(marks.settled(3, 10, false, true), None);
        let mut node = [7; SLICES];
        node[3] = 10;
        assert_eq!(marks.differing(&node, &[7; SLICES]), [3]);
    }

    #[test]
    fn a_store_that_was_emptied_is_filled_again_although_versions_match() {
        let mut marks = fresh();
        assert_eq!(marks.differing(&[0; SLICES], &[0; SLICES]).len(), 0);
        marks.break_all();
        assert_eq!(marks.differing(&[0; SLICES], &[0; SLICES]).len(), SLICES);
    }

    proptest! {
        #[test]
        fn no_version_is_written_above_a_failure(outcomes in proptest::collection::vec(any::<bool>(), 1..40), seed in any::<u64>()) {
            let mut marks = fresh();
            for version in 1..=outcomes.len() as u64 {
                marks.change_arrived(0, version);
            }
            let mut order: Vec<usize> = (0..outcomes.len()).collect();
            let mut state = seed | 1;
            for at in (1..order.len()).rev() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                order.swap(at, (state >> 33) as usize % (at + 1));
            }
            let mut reached = 0;
            for at in order {
                if let Some(version) = marks.settled(0, at as u64 + 1, false, outcomes[at]) {
                    prop_assert!(version > reached);
                    reached = version;
                }
            }
            let applied = outcomes.iter().take_while(|applied| **applied).count() as u64;
            prop_assert_eq!(reached, applied);
        }
    }
}
