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
    Dead(Cause),
}

/// Decides. `is_lease_trusted` is [`is_lease_trusted`] of all nodes.
pub(super) fn judge(signs: &Signs, is_lease_trusted: bool) -> Verdict {
    match (signs.probe, signs.lease) {
        (Probe::Same, _) => Verdict::Alive,
        (Probe::OtherLife, _) => Verdict::Dead(Cause::OtherLife),
        (Probe::Refused, _) => Verdict::Dead(Cause::Refused),
        (Probe::None | Probe::NoAnswer, Lease::Held) => Verdict::Alive,
        // The registry names another life, so it works: its own troubles do not explain this lease away.
        (_, Lease::OtherLife) if signs.silent_for >= SILENCE => Verdict::Dead(Cause::Silent),
        (_, Lease::Gone) if is_lease_trusted && signs.silent_for >= SILENCE => Verdict::Dead(Cause::Silent),
        _ => Verdict::Alive,
    }
}

/// Whether a lost lease says anything: not when half of the nodes, and at least two, lost theirs, nor when the list
/// is old. Then it is rather the registry that is in trouble.
pub(super) fn is_lease_trusted(nodes: usize, gone: usize, list_age: Option<Duration>) -> bool {
    let vanished_at_once = gone >= 2 && gone * 2 >= nodes;
    !vanished_at_once && list_age.is_some_and(|age| age <= LIST_AGE_MAX)
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
            for is_trusted in [true, false] {
                let refused = judge(&signs(lease, Probe::Refused, 0), is_trusted);
                assert_eq!(refused, Verdict::Dead(Cause::Refused));
                let other = judge(&signs(lease, Probe::OtherLife, 0), is_trusted);
                assert_eq!(other, Verdict::Dead(Cause::OtherLife));
            }
        }
    }

    #[test]
    fn who_answers_is_alive_without_any_lease() {
        assert_eq!(judge(&signs(Lease::Gone, Probe::Same, 0), true), Verdict::Alive);
    }

    #[test]
    fn a_frozen_node_dies_when_its_lease_is_gone_and_ten_seconds_passed() {
        assert_eq!(judge(&signs(Lease::Held, Probe::NoAnswer, 3600), true), Verdict::Alive);
        assert_eq!(judge(&signs(Lease::Gone, Probe::NoAnswer, 9), true), Verdict::Alive);
        assert_eq!(judge(&signs(Lease::Gone, Probe::NoAnswer, 10), true), Verdict::Dead(Cause::Silent));
    }

    #[test]
    fn a_lost_lease_alone_kills_nobody_while_half_of_the_nodes_lost_theirs() {
        let recent = Some(Duration::from_secs(1));
        assert!(is_lease_trusted(1, 1, recent), "a single node may die");
        assert!(!is_lease_trusted(2, 2, recent));
        assert!(!is_lease_trusted(4, 2, recent));
        assert!(is_lease_trusted(5, 2, recent));
        assert!(!is_lease_trusted(5, 1, Some(Duration::from_secs(11))), "the list is old");
        assert!(!is_lease_trusted(5, 1, None));
        assert_eq!(judge(&signs(Lease::Gone, Probe::NoAnswer, 60), false), Verdict::Alive);
        assert_eq!(judge(&signs(Lease::OtherLife, Probe::NoAnswer, 60), false), Verdict::Dead(Cause::Silent));
    }
}
