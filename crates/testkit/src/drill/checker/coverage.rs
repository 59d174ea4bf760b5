//! What one session is owed of its room's log, and what it was told that it may have missed.

use super::At;

/// Something that the application was told may be missing.
#[derive(Debug, Clone, Copy)]
enum Flag {
    /// Offsets above the first and up to the second.
    Range { epoch: u64, above: u64, up_to: u64 },
    /// Everything of other epochs that was sent until then, but for what lies below where the session stood in its own.
    Others { but: u64, own: Option<At>, until_ms: u32 },
    /// Everything that was sent until then, above where the session stood.
    Unplaced { own: Option<At>, until_ms: u32 },
}

/// Where a session stands, event by event.
#[derive(Debug, Default)]
pub struct Coverage {
    joined_ms: Option<u32>,
    /// Where the first join put it.
    first: Option<At>,
    own: Option<At>,
    flags: Vec<Flag>,
}

impl Coverage {
    pub fn joined(&mut self, ms: u32, position: Option<At>, recovered: Option<bool>) {
        if self.joined_ms.is_none() {
            (self.joined_ms, self.first, self.own) = (Some(ms), position, position);
        } else if recovered == Some(false) {
            self.flagged(ms, position);
        } else if position.is_some() {
            // No flag: what is skipped by it is still owed.
            self.own = position;
        }
    }

    pub fn flagged(&mut self, ms: u32, position: Option<At>) {
        let own = self.own;
        let Some(at) = position else {
            self.flags.push(Flag::Unplaced { own, until_ms: ms });
            return;
        };
        let above = own.filter(|own| own.epoch == at.epoch).map_or(0, |own| own.offset);
        self.flags.push(Flag::Range { epoch: at.epoch, above, up_to: at.offset });
        if own.is_none_or(|own| own.epoch != at.epoch) {
            self.flags.push(Flag::Others { but: at.epoch, own, until_ms: ms });
        }
        self.own = Some(at);
    }

    pub fn message(&mut self, position: Option<At>) {
        let Some(at) = position else { return };
        match &mut self.own {
            // Another epoch without a flag excuses nothing.
            Some(own) if own.epoch == at.epoch => own.offset = own.offset.max(at.offset),
            own => *own = Some(at),
        }
    }

    /// Whether a message lies before the first join.
    pub fn is_from_before(&self, position: Option<At>) -> bool {
        let (Some(first), Some(at)) = (self.first, position) else { return false };
        first.epoch == at.epoch && at.offset <= first.offset
    }

    pub fn has_joined_by(&self, ms: u32) -> bool {
        self.joined_ms.is_some_and(|joined| joined < ms)
    }

    /// Whether the session was to get a message at this place.
    pub fn owes(&self, at: At, sent_ms: u32) -> bool {
        match self.first {
            Some(first) if first.epoch == at.epoch => at.offset > first.offset,
            _ => self.has_joined_by(sent_ms),
        }
    }

    /// Whether it was told that it may have missed it.
    pub fn is_flagged(&self, at: At, sent_ms: u32) -> bool {
        self.flags.iter().any(|flag| flag.covers(at, sent_ms))
    }
}

impl Flag {
    fn covers(&self, at: At, sent_ms: u32) -> bool {
        let is_above =
            |own: Option<At>| own.is_none_or(|own| own.epoch != at.epoch || at.offset > own.offset);
        match *self {
            Self::Range { epoch, above, up_to } => {
                at.epoch == epoch && at.offset > above && at.offset <= up_to
            }
            Self::Others { but, own, until_ms } => at.epoch != but && sent_ms <= until_ms && is_above(own),
            Self::Unplaced { own, until_ms } => sent_ms <= until_ms && is_above(own),
        }
    }
}
