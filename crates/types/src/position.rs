//! A place in a log: which life of the log, and how far.

use std::{fmt, num::NonZeroU64};

/// Bytes of an epoch's text at most, as far as a client's word for it is looked at.
pub const EPOCH_BYTES: usize = 16;

/// One life of a log: 64 random bits, never 0, compared for equality only. It changes when the log was lost or went
/// back in time, and then no position of the old life says anything about the new one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(NonZeroU64);

impl Epoch {
    /// A fresh one from the system's random source.
    pub fn random() -> Self {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("the system's random source answers");
        Self(NonZeroU64::new(u64::from_be_bytes(bytes)).unwrap_or(NonZeroU64::MIN))
    }

    /// From the number of the lanes; `None` for 0, which means "none".
    pub fn from_u64(bits: u64) -> Option<Self> {
        NonZeroU64::new(bits).map(Self)
    }

    /// The number of the lanes.
    pub fn as_u64(self) -> u64 {
        self.0.get()
    }

    /// From 16 lowercase hexadecimal digits, as they stand on the client's wire.
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = text.len() == EPOCH_BYTES
            && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        is_hex.then(|| u64::from_str_radix(text, 16).ok()).flatten().and_then(Self::from_u64)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A place in a log: everything up to `offset` of this epoch lies before it. Offsets count from 1; 0 is the begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// Which life of the log.
    pub epoch: Epoch,
    /// How far.
    pub offset: u64,
}

impl Position {
    /// From the two numbers of the lanes; `None` when the epoch is 0.
    pub fn from_wire(epoch: u64, offset: u64) -> Option<Self> {
        Epoch::from_u64(epoch).map(|epoch| Self { epoch, offset })
    }

    /// The two numbers of the lanes; zeros for no position.
    pub fn to_wire(position: Option<Self>) -> (u64, u64) {
        position.map_or((0, 0), |position| (position.epoch.as_u64(), position.offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_reads_as_it_is_written_and_nothing_else_does() {
        let epoch = Epoch::random();
        assert_eq!(Epoch::parse(&epoch.to_string()), Some(epoch));
        assert_eq!(Epoch::from_u64(7).unwrap().to_string(), "0000000000000007");
        for text in ["", "7", "0000000000000000", "000000000000000G", "+00000000000000a", "000000000000000A"]
        {
            assert_eq!(Epoch::parse(text), None, "{text}");
        }
    }

    #[test]
    fn no_position_is_two_zeros_on_the_lanes() {
        let position = Position { epoch: Epoch::random(), offset: 41 };
        let (epoch, offset) = Position::to_wire(Some(position));
        assert_eq!(Position::from_wire(epoch, offset), Some(position));
        assert_eq!(Position::to_wire(None), (0, 0));
        assert_eq!(Position::from_wire(0, 9), None);
    }
}
