//! The choice of a node for a new client: at random, weighted by free places.

use roomcast_registry::Registration;

/// A node that may be chosen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub(crate) registration: &'a Registration,
    /// Sessions that still fit; `None` when nobody knows.
    pub(crate) free: Option<u64>,
    /// Nothing speaks for its having died.
    pub(crate) is_sure: bool,
}

/// What one node counts for at most: sums stay far from overflow, whatever nodes say.
const FREE_MAX: u64 = u32::MAX as u64;

/// Free places of a node that nobody knows of: as many as the others have on average, and one at least, so that it is
/// neither flooded nor left out.
fn typical(candidates: &[Candidate<'_>]) -> u64 {
    let (mut sum, mut count) = (0, 0);
    for free in candidates.iter().filter_map(|candidate| candidate.free) {
        sum += free.min(FREE_MAX);
        count += 1;
    }
    (sum / count.max(1)).max(1)
}

/// Picks one; `roll` draws a number below the one it is given. `None` when nobody has a place. Random rather than the
/// emptiest: many that ask at once would all be sent to the same node. One that is not sure to live comes after all
/// that are.
pub(crate) fn pick<'a>(
    candidates: &[Candidate<'a>],
    mut roll: impl FnMut(u64) -> u64,
) -> Option<&'a Registration> {
    let (sure, unsure): (Vec<_>, Vec<_>) = candidates.iter().partition(|candidate| candidate.is_sure);
    weighted(&sure, &mut roll).or_else(|| weighted(&unsure, &mut roll))
}

fn weighted<'a>(candidates: &[Candidate<'a>], roll: &mut impl FnMut(u64) -> u64) -> Option<&'a Registration> {
    let typical = typical(candidates);
    let weight = |candidate: &Candidate<'_>| candidate.free.map_or(typical, |free| free.min(FREE_MAX));
    let total: u64 = candidates.iter().map(weight).sum();
    if total == 0 {
        return None;
    }
    let mut left = roll(total);
    for candidate in candidates {
        let weight = weight(candidate);
        if left < weight {
            return Some(candidate.registration);
        }
        left -= weight;
    }
    None
}

#[cfg(test)]
mod tests {
    use roomcast_registry::{Role, State};
    use roomcast_types::{Incarnation, ServiceId};

    use super::*;

    fn node(id: &str) -> Registration {
        Registration {
            role: Role::ConnectNode,
            id: ServiceId::new(id).unwrap(),
            grpc_address: String::new(),
            url: String::new(),
            incarnation: Incarnation::random(),
            state: State::Ready,
        }
    }

    #[test]
    fn each_node_is_chosen_as_often_as_it_has_free_places() {
        let (a, b, full) = (node("a"), node("b"), node("full"));
        let candidates = [(&a, 3), (&full, 0), (&b, 7)].map(|(registration, free)| Candidate {
            registration,
            free: Some(free),
            is_sure: true,
        });
        let chosen: Vec<&str> =
            (0..10).filter_map(|at| pick(&candidates, |_| at)).map(|found| found.id.as_str()).collect();
        assert_eq!(chosen.iter().filter(|id| **id == "a").count(), 3);
        assert_eq!(chosen.iter().filter(|id| **id == "b").count(), 7);
    }

    #[test]
    fn a_node_that_nobody_knows_of_counts_as_the_others_do() {
        let (a, b, unknown) = (node("a"), node("b"), node("unknown"));
        let shares = |free: [Option<u64>; 3]| {
            let candidates = [(&a, free[0]), (&b, free[1]), (&unknown, free[2])]
                .map(|(registration, free)| Candidate { registration, free, is_sure: true });
            let mut total = 0;
            pick(&candidates, |sum| {
                total = sum;
                0
            });
            let chosen = (0..total).filter_map(|at| pick(&candidates, |_| at));
            chosen.filter(|found| found.id.as_str() == "unknown").count() as u64 * 100 / total
        };
        assert_eq!(shares([Some(2), Some(4), None]), 33);
        assert_eq!(shares([None, None, None]), 33);
        assert_eq!(shares([Some(0), Some(0), None]), 100, "it may have a place");
        let huge = [(&a, Some(u64::MAX)), (&b, Some(u64::MAX)), (&unknown, None)];
        let huge = huge.map(|(registration, free)| Candidate { registration, free, is_sure: true });
        assert!(pick(&huge, |total| total - 1).is_some());
    }

    #[test]
    fn a_node_that_may_have_died_is_chosen_when_no_other_has_a_place() {
        let (a, silent) = (node("a"), node("silent"));
        let chosen = |free_of_a| {
            let candidates = [
                Candidate { registration: &silent, free: Some(9), is_sure: false },
                Candidate { registration: &a, free: Some(free_of_a), is_sure: true },
            ];
            pick(&candidates, |_| 0).map(|found| found.id.as_str().to_owned())
        };
        assert_eq!(chosen(1).as_deref(), Some("a"));
        assert_eq!(chosen(0).as_deref(), Some("silent"));
    }

    #[test]
    fn nobody_is_chosen_when_all_are_full() {
        let full = node("full");
        assert!(pick(&[Candidate { registration: &full, free: Some(0), is_sure: true }], |_| 0).is_none());
        assert!(pick(&[], |_| 0).is_none());
    }
}
