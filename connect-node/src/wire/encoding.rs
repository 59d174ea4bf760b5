//! The forms in which a session's frames are written, and what exists once in each of them.

use std::cell::OnceCell;

/// How a session's frames are written: agreed on at the upgrade, for its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Encoding {
    /// Text messages with JSON.
    #[default]
    Json,
    /// Binary messages with protobuf.
    Proto,
}

impl Encoding {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Json, Self::Proto];

    /// The sub-protocol of this form.
    pub fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "pubsub.json.v1",
            Self::Proto => "pubsub.proto.v1",
        }
    }

    /// The form of this sub-protocol.
    pub fn of_subprotocol(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|encoding| encoding.subprotocol() == name)
    }
}

/// How many sessions read each encoding.
#[derive(Debug, Clone, Copy, Default)]
pub struct Readers([usize; Encoding::ALL.len()]);

impl Readers {
    /// One more of this encoding.
    pub fn add(&mut self, encoding: Encoding) {
        self.0[encoding as usize] += 1;
    }

    /// One less of this encoding.
    pub fn remove(&mut self, encoding: Encoding) {
        self.0[encoding as usize] -= 1;
    }

    /// Encodings that somebody reads.
    pub fn encodings(self) -> impl Iterator<Item = Encoding> {
        Encoding::ALL.into_iter().filter(move |encoding| self.0[*encoding as usize] > 0)
    }
}

/// A value for each encoding, made when it is first asked for.
#[derive(Debug, Clone)]
pub struct PerEncoding<T>([OnceCell<T>; Encoding::ALL.len()]);

impl<T> PerEncoding<T> {
    /// The value for this encoding.
    #[inline]
    pub fn get(&self, encoding: Encoding, make: impl FnOnce() -> T) -> &T {
        self.0[encoding as usize].get_or_init(make)
    }
}

impl<T> Default for PerEncoding<T> {
    fn default() -> Self {
        Self([const { OnceCell::new() }; Encoding::ALL.len()])
    }
}
