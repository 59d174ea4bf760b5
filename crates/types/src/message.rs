//! Message ids: ULIDs whose middle 32 bits name the push-manager that accepted the message.

use std::fmt;

use ulid::Ulid;

use crate::session::Incarnation;

/// A ULID: 48 bits of milliseconds, 32 bits of the instance's incarnation (its low half), 48 bits of a counter that
/// starts at random. Sortable by time; unique per instance, as the counter does not repeat within a millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(Ulid);

impl MessageId {
    /// Composes an id; `counter` uses its low 48 bits.
    pub fn new(unix_ms: u64, instance: Incarnation, counter: u64) -> Self {
        let time = u128::from(unix_ms & 0xffff_ffff_ffff) << 80;
        let instance = u128::from(instance.as_u64() as u32) << 48;
        Self(Ulid(time | instance | u128::from(counter & 0xffff_ffff_ffff)))
    }

    /// The low half of the incarnation of the push-manager that made this id.
    pub fn instance(&self) -> u32 {
        (self.0.0 >> 48) as u32
    }

    /// Milliseconds since 1970 when it was made.
    pub fn unix_ms(&self) -> u64 {
        (self.0.0 >> 80) as u64
    }

    /// The 16 bytes of the lanes.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_bytes()
    }

    /// From the 16 bytes of the lanes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(Ulid::from_bytes(bytes)))
    }

    /// From the 26 characters of the wire.
    pub fn parse(text: &str) -> Option<Self> {
        Ulid::from_string(text).ok().map(Self)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_its_instance_and_sorts_by_time() {
        let instance = Incarnation::random();
        let (a, b) = (MessageId::new(1_000, instance, u64::MAX), MessageId::new(1_001, instance, 0));
        assert!(a.to_string() < b.to_string());
        assert_eq!(a.instance(), instance.as_u64() as u32);
        assert_eq!(b.unix_ms(), 1_001);
        assert_eq!(MessageId::parse(&a.to_string()), Some(a));
        assert_eq!((MessageId::from_bytes(&a.to_bytes()), MessageId::from_bytes(&[0; 15])), (Some(a), None));
    }
}
