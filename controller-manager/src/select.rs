//! The choice of a node for a new client: at random, weighted by free places.

use roomcast_registry::Registration;

/// A node that may be chosen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub(crate) registration: &'a Registration,
    /// Sessions that still fit.
    pub(crate) free: u64,
}

/// Picks one; `roll` draws a number below the one it is given. `None` when nobody has a place. Random rather than the
/// emptiest: many that ask at once would all be sent to the same node.
pub(crate) fn pick<'a>(
    candidates: &[Candidate<'a>],
    roll: impl FnOnce(u64) -> u64,
) -> Option<&'a Registration> {
    let total: u64 = candidates.iter().map(|candidate| candidate.free).sum();
    if total == 0 {
        return None;
    }
    let mut left = roll(total);
    for candidate in candidates {
        if left < candidate.free {
            return Some(candidate.registration);
        }
        left -= candidate.free;
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
        let candidates =
            [(&a, 3), (&full, 0), (&b, 7)].map(|(registration, free)| Candidate { registration, free });
        let chosen: Vec<&str> =
            (0..10).filter_map(|at| pick(&candidates, |_| at)).map(|found| found.id.as_str()).collect();
        assert_eq!(chosen.iter().filter(|id| **id == "a").count(), 3);
        assert_eq!(chosen.iter().filter(|id| **id == "b").count(), 7);
    }

    #[test]
    fn nobody_is_chosen_when_all_are_full() {
        let full = node("full");
        assert!(pick(&[Candidate { registration: &full, free: 0 }], |_| 0).is_none());
        assert!(pick(&[], |_| 0).is_none());
    }
}
