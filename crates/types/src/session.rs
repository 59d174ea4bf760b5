//! Who a session is: its random id, the incarnation of its process, and the policy for slots.

use std::fmt;

use serde::{Deserialize, Serialize};

/// 128 random bits that name one live connection; never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// A fresh id from the system's random source.
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the system's random source answers");
        Self(bytes)
    }

    /// From the 16 bytes of the wire; `None` when the length differs.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(bytes.try_into().ok()?))
    }

    /// From 32 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 32 || !text.is_ascii() {
            return None;
        }
        Some(Self(u128::from_str_radix(text, 16).ok()?.to_be_bytes()))
    }

    /// The bytes of the wire.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Which of the node's 64 report slices this session belongs to.
    pub fn slice(&self) -> usize {
        usize::from(self.0[0] % 64)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// 64 random bits that name one life of a process; compared for equality only; never 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Incarnation(u64);

impl Incarnation {
    /// A fresh one from the system's random source.
    pub fn random() -> Self {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("the system's random source answers");
        Self(u64::from_be_bytes(bytes).max(1))
    }

    /// From the number of the wire; `None` for 0, which means "none".
    pub fn from_u64(bits: u64) -> Option<Self> {
        (bits != 0).then_some(Self(bits))
    }

    /// The number of the wire.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Incarnation> for String {
    fn from(incarnation: Incarnation) -> String {
        incarnation.to_string()
    }
}

impl TryFrom<String> for Incarnation {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        u64::from_str_radix(&text, 16)
            .ok()
            .and_then(Self::from_u64)
            .ok_or_else(|| format!("incarnation {text:?} is not 16 hexadecimal digits above zero"))
    }
}

/// What a slot is: which sessions of a user exclude each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionPolicy {
    /// A slot is (user, client_id): a user may have several sessions.
    #[default]
    Multi,
    /// A slot is the user: a later session closes the earlier one.
    Single,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_ids_read_back_as_the_same_ids() {
        let session = SessionId::random();
        assert_eq!(SessionId::from_hex(&session.to_string()), Some(session));
        assert_eq!(SessionId::from_bytes(session.as_bytes()), Some(session));
        assert_eq!(SessionId::from_hex("zz"), None);
        let incarnation = Incarnation::random();
        assert_eq!(Incarnation::try_from(incarnation.to_string()), Ok(incarnation));
        assert!(Incarnation::try_from("0".to_owned()).is_err());
    }
}
