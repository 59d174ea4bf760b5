//! One text frame under construction: a JSON object, member by member.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;

use crate::wire::frame::{self, HEADROOM, TEXT};

/// Builds one JSON object as the payload of an unmasked, unfragmented text frame.
pub(super) struct TextFrame {
    bytes: Vec<u8>,
}

impl TextFrame {
    /// Begins `{"type":"…"`. `payload` is how many bytes the rest takes, roughly.
    pub(super) fn new(kind: &'static str, payload: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEADROOM + 16 + kind.len() + payload);
        bytes.extend_from_slice(&[0; HEADROOM]);
        bytes.push(b'{');
        Self { bytes }.text("type", kind)
    }

    fn key(&mut self, key: &'static str) {
        if self.bytes.last() != Some(&b'{') {
            self.bytes.push(b',');
        }
        self.bytes.push(b'"');
        self.bytes.extend_from_slice(key.as_bytes());
        self.bytes.extend_from_slice(b"\":");
    }

    /// A string member.
    pub(super) fn text(mut self, key: &'static str, value: &str) -> Self {
        self.key(key);
        serde_json::to_writer(&mut self.bytes, value).expect("a string into memory always succeeds");
        self
    }

    /// A string member in base64, with padding.
    pub(super) fn base64(mut self, key: &'static str, value: &[u8]) -> Self {
        self.key(key);
        self.bytes.push(b'"');
        let start = self.bytes.len();
        self.bytes.resize(start + value.len().div_ceil(3) * 4, 0);
        STANDARD.encode_slice(value, &mut self.bytes[start..]).expect("the place was measured for it");
        self.bytes.push(b'"');
        self
    }

    /// A number member.
    pub(super) fn number(mut self, key: &'static str, value: impl itoa::Integer) -> Self {
        self.key(key);
        self.bytes.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        self
    }

    /// A boolean member.
    pub(super) fn flag(mut self, key: &'static str, value: bool) -> Self {
        self.key(key);
        self.bytes.extend_from_slice(if value { b"true" } else { b"false" });
        self
    }

    /// Begins an object member; ended by [`Self::close`].
    pub(super) fn open(mut self, key: &'static str) -> Self {
        self.key(key);
        self.bytes.push(b'{');
        self
    }

    /// Ends what [`Self::open`] began.
    pub(super) fn close(mut self) -> Self {
        self.bytes.push(b'}');
        self
    }

    /// Ends the object and puts the header right in front of it.
    pub(super) fn finish(mut self) -> Bytes {
        self.bytes.push(b'}');
        frame::finish(self.bytes, TEXT)
    }
}
