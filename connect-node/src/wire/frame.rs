//! One text frame under construction: JSON written behind room for the WebSocket header.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;

/// A WebSocket ping without payload, as a server sends it.
pub const PING: &[u8] = &[0x89, 0x00];

/// FIN and opcode "text".
const TEXT: u8 = 0x81;
/// Longest header of a frame without mask: two bytes and a 64-bit length.
const HEADROOM: usize = 10;

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
        let start = write_header(&mut self.bytes);
        Bytes::from(self.bytes).slice(start..)
    }
}

/// Writes the header so that it ends where the payload begins; gives its first byte's place. RFC 6455, 5.2.
fn write_header(bytes: &mut [u8]) -> usize {
    let length = bytes.len() - HEADROOM;
    let header = &mut bytes[..HEADROOM];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 126 => {
            header[8..].copy_from_slice(&[TEXT, short]);
            8
        }
        (_, Ok(medium)) => {
            header[6..8].copy_from_slice(&[TEXT, 126]);
            header[8..].copy_from_slice(&medium.to_be_bytes());
            6
        }
        _ => {
            header[..2].copy_from_slice(&[TEXT, 127]);
            header[2..].copy_from_slice(&(length as u64).to_be_bytes());
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_states_the_length_in_the_shortest_form() {
        for (length, start, header) in [
            (0, 8, &[TEXT, 0][..]),
            (125, 8, &[TEXT, 125]),
            (126, 6, &[TEXT, 126, 0, 126]),
            (65_535, 6, &[TEXT, 126, 0xff, 0xff]),
            (65_536, 0, &[TEXT, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let mut bytes = vec![0; HEADROOM + length];
            assert_eq!(write_header(&mut bytes), start, "{length}");
            assert_eq!(&bytes[start..HEADROOM], header, "{length}");
        }
    }
}
