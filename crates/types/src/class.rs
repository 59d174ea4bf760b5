//! How a message is treated in front of a reader that does not keep up.

/// What may happen to a message that has to wait for its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Class {
    /// Never missing in an open session: a session that cannot take it is closed as slow.
    #[default]
    Ordered,
    /// Dropped when its time to live is over, or when there is no room for it.
    Expiring,
    /// Replaces a waiting one of the same target and key; dropped when there is no room for it.
    Latest,
    /// As [`Class::Ordered`].
    Critical,
}

impl Class {
    /// The word of the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ordered => "ORDERED",
            Self::Expiring => "EXPIRING",
            Self::Latest => "LATEST",
            Self::Critical => "CRITICAL",
        }
    }

    /// Whether an open session may miss it.
    pub fn may_be_dropped(self) -> bool {
        matches!(self, Self::Expiring | Self::Latest)
    }
}
