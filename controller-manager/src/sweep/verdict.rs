//! Whether a node is dead: a decision on signs, without any call.

use std::time::Duration;

/// A node without a lease that gave no sign of life for this long is dead.
const SILENCE: Duration = Duration::from_secs(10);
/// A list of registrations older than this proves nobody's absence.
const LIST_AGE_MAX: Duration = Duration::from_secs(10);

/// What the registry says of one life of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lease {
    /// It is registered.
    Held,
    /// Another life of the node is registered.
    OtherLife,
    /// The node is not registered.
    Gone,
}

/// What the node's address said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    /// It was not asked: nothing speaks against it, or nobody knows where it was.
    None,
    /// This life answered.
    Same,
    /// Another life answered.
    OtherLife,
    /// The connection was refused.
    Refused,
    /// Nothing came back.
    NoAnswer,
}

/// Everything the decision rests on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signs {
    pub(super) lease: Lease,
    pub(super) probe: Probe,
    /// Since its last report here or its last answer to a probe.
    pub(super) silent_for: Duration,
}

/// Why a node is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// It refuses connections.
    Refused,
    /// Another life of it answers.
    OtherLife,
    /// Its lease is gone and it is silent.
    Silent,
}

impl Cause {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "it refuses connections",
            Self::OtherLife => "another life of it answers",
            Self::Silent => "its lease is gone and it is silent",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Alive,
    /// Silent and without a lease, at a time when so many lost theirs that this says nothing.
    Spared,
    Dead(Cause),
}

/// What the leases of all nodes together say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leases {
    /// A lost one is a sign.
    Trusted,
    /// The list is old, or was never made: nobody's absence from it says anything.
    ListOld,
    /// Half of the nodes, and at least two, lost theirs: then it is rather the registry that is in trouble.
    ManyGone,
}

impl Leases {
    pub(super) fn of(nodes: usize, gone: usize, list_age: Option<Duration>) -> Self {
        match list_age {
            Some(age) if age <= LIST_AGE_MAX && gone >= 2 && gone * 2 >= nodes => Self::ManyGone,
            Some(age) if age <= LIST_AGE_MAX => Self::Trusted,
            _ => Self::ListOld,
        }
    }
}

/// Decides.
pub(super) fn judge(signs: &Signs, leases: Leases) -> Verdict {
    match (signs.probe, signs.lease) {
        (Probe::Same, _) => Verdict::Alive,
        (Probe::OtherLife, _) => Verdict::Dead(Cause::OtherLife),
        (Probe::Refused, _) => Verdict::Dead(Cause::Refused),
        (Probe::None | Probe::NoAnswer, Lease::Held) => Verdict::Alive,
        _ if signs.silent_for < SILENCE => Verdict::Alive,
        // The registry names another life, so it works: its own troubles do not explain this lease away.
        (_, Lease::OtherLife) => Verdict::Dead(Cause::Silent),
        (_, Lease::Gone) => match leases {
            Leases::Trusted => Verdict::Dead(Cause::Silent),
            Leases::ListOld => Verdict::Alive,
            Leases::ManyGone => Verdict::Spared,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signs(lease: Lease, probe: Probe, silent_secs: u64) -> Signs {
        Signs { lease, probe, silent_for: Duration::from_secs(silent_secs) }
    }

    #[test]
    fn who_refuses_or_answers_as_another_is_dead_whatever_its_lease() {
        for lease in [Lease::Held, Lease::Gone, Lease::OtherLife] {
            for leases in [Leases::Trusted, Leases::ListOld, Leases::ManyGone] {
                let refused = judge(&signs(lease, Probe::Refused, 0), leases);
                assert_eq!(refused, Verdict::Dead(Cause::Refused));
                let other = judge(&signs(lease, Probe::OtherLife, 0), leases);
                assert_eq!(other, Verdict::Dead(Cause::OtherLife));
            }
        }
    }

    #[test]
    fn who_answers_is_alive_without_any_lease() {
        for leases in [Leases::Trusted, Leases::ListOld, Leases::ManyGone] {
            assert_eq!(judge(&signs(Lease::Gone, Probe::Same, 0), leases), Verdict::Alive);
        }
    }

    #[test]
    fn a_frozen_node_dies_when_its_lease_is_gone_and_ten_seconds_passed() {
        let judge = |lease, silent| judge(&signs(lease, Probe::NoAnswer, silent), Leases::Trusted);
        assert_eq!(judge(Lease::Held, 3600), Verdict::Alive);
        assert_eq!(judge(Lease::Gone, 9), Verdict::Alive);
        assert_eq!(judge(Lease::Gone, 10), Verdict::Dead(Cause::Silent));
    }

    #[test]
    fn a_lost_lease_alone_kills_nobody_while_half_of_the_nodes_lost_theirs() {
        let of = |nodes, gone| Leases::of(nodes, gone, Some(Duration::from_secs(1)));
        assert_eq!(of(1, 1), Leases::Trusted, "a single node may die");
        assert_eq!(of(2, 2), Leases::ManyGone);
        assert_eq!(of(4, 2), Leases::ManyGone);
        assert_eq!(of(5, 2), Leases::Trusted);
        let silent = |lease| judge(&signs(lease, Probe::NoAnswer, 60), Leases::ManyGone);
        assert_eq!(silent(Lease::Gone), Verdict::Spared);
        assert_eq!(silent(Lease::OtherLife), Verdict::Dead(Cause::Silent));
    }

    #[test]
    fn nobody_is_spared_who_has_not_been_silent_for_long() {
        let leaving = signs(Lease::Gone, Probe::NoAnswer, 9);
        assert_eq!(judge(&leaving, Leases::ManyGone), Verdict::Alive, "as while a whole cluster stops");
    }

    #[test]
    fn an_old_list_says_nothing() {
        for (nodes, gone) in [(5, 1), (5, 5)] {
            assert_eq!(Leases::of(nodes, gone, Some(Duration::from_secs(11))), Leases::ListOld);
            assert_eq!(Leases::of(nodes, gone, None), Leases::ListOld);
        }
        assert_eq!(judge(&signs(Lease::Gone, Probe::None, 60), Leases::ListOld), Verdict::Alive);
    }
}
