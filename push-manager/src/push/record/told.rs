//! What a node said of a message, as it is kept.

use roomcast_proto::pubsub::{Outcome, SessionOutcome, session_outcome::Kind};
use roomcast_types::SessionId;

/// What a node said became of its targets, as long as a receipt is kept.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs, reason = "each is the count of the outcome of its name")]
pub struct Told {
    pub written: u64,
    pub acked: u64,
    pub pending: u64,
    pub filtered: u64,
    pub expired: u64,
    pub superseded: u64,
    pub dropped_slow: u64,
    pub closed: u64,
    /// For pushes to users: by session.
    pub sessions: Box<[SessionTold]>,
    /// Of the node: in front of the shards' walks, and in them.
    pub wait_us: u32,
    pub walk_us: u32,
}

/// One session of a user.
#[derive(Debug, Clone, Copy)]
pub struct SessionTold {
    /// Place of the user in the leg.
    pub user: u32,
    /// Which.
    pub session_id: SessionId,
    /// What became of it.
    pub kind: Kind,
}

impl Told {
    /// All of them.
    pub fn targets(&self) -> u64 {
        let Self { written, acked, pending, filtered, expired, superseded, dropped_slow, closed, .. } = self;
        written + acked + pending + filtered + expired + superseded + dropped_slow + closed
    }
}

impl From<Outcome> for Told {
    /// Sessions without an id of theirs are left out.
    fn from(outcome: Outcome) -> Self {
        let session = |session: &SessionOutcome| {
            let session_id = SessionId::from_bytes(&session.session_id)?;
            Some(SessionTold { user: session.user, session_id, kind: session.kind() })
        };
        Self {
            written: outcome.written,
            acked: outcome.acked,
            pending: outcome.pending,
            filtered: outcome.filtered,
            expired: outcome.expired,
            superseded: outcome.superseded,
            dropped_slow: outcome.dropped_slow,
            closed: outcome.closed,
            sessions: outcome.sessions.iter().filter_map(session).collect(),
            wait_us: outcome.wait_us,
            walk_us: outcome.walk_us,
        }
    }
}
