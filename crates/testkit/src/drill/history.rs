//! What the applications of all sessions saw, and what the publishers were told: the evidence that the checker judges.
//! Times are milliseconds since the begin of the run.

/// A place in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At {
    /// Which life of the log.
    pub epoch: u64,
    /// How far.
    pub offset: u64,
}

/// Something that the application of a session was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saw {
    /// The room is joined, for the first time or again.
    Joined {
        /// As the frame says, if it does.
        position: Option<At>,
        /// `Some(false)` says that messages may be missing.
        recovered: Option<bool>,
    },
    /// A message.
    Message {
        /// The publisher's own number of it.
        number: u32,
        /// Of its message_id.
        id: u64,
        /// Its place in the log, when it has one.
        position: Option<At>,
    },
    /// A message of a room that this session is not in, or of nobody we know.
    Foreign,
    /// Messages up to here may be missing.
    Gap {
        /// Where the log stands, when it is known.
        position: Option<At>,
    },
    /// The connection is lost.
    Lost,
    /// No further connection will be made.
    Ended {
        /// The close code, or what the node answered.
        code: u16,
    },
}

/// One of those, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub ms: u32,
    /// What.
    pub saw: Saw,
}

/// One session from its first connection to the end of the run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// Its user.
    pub user: String,
    /// Number of its room.
    pub room: u32,
    /// In order.
    pub events: Vec<Event>,
    /// Messages that came again and were not handed over.
    pub repeats: u32,
    /// The index of each node that it was connected to, and from when on.
    pub nodes: Vec<(u32, u32)>,
}

/// One push, with all of its attempts.
#[derive(Debug, Clone, PartialEq)]
pub struct Push {
    /// Counts from 0; its place among all pushes of the run.
    pub number: u32,
    /// Number of its room.
    pub room: u32,
    /// When the first attempt was made.
    pub sent_ms: u32,
    /// When it was answered for good, or given up.
    pub answered_ms: u32,
    /// How often it was tried.
    pub attempts: u32,
    /// What came of it.
    pub answer: Answer,
}

/// What a publisher was told at last.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The platform has taken it.
    Accepted(Accepted),
    /// The platform has not taken it, and says why.
    Refused(String),
    /// Nobody knows whether it was taken.
    Unknown(String),
}

/// What an accepted push was answered.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Accepted {
    /// Of its message_id.
    pub id: u64,
    /// Which push-manager answered.
    pub manager: u32,
    /// Its place in the log; `None`: it is not logged.
    pub position: Option<At>,
    /// The receipt's targets.
    pub targets: u64,
    /// The receipt's pending targets.
    pub pending: u64,
    /// Outcomes WRITTEN and ACKED.
    pub written: u64,
    /// All other outcomes: the receipt says that somebody did not get it.
    pub lost: u64,
    /// Whether the receipt names nodes that are unreachable, or were addressed blind.
    pub is_doubtful: bool,
    /// Whether it reached the level asked for.
    pub is_complete: bool,
}

/// A whole run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Run {
    /// All sessions.
    pub sessions: Vec<History>,
    /// All pushes, by number.
    pub pushes: Vec<Push>,
}

/// Names a message or a session in few bytes (FNV-1a).
pub fn digest(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
