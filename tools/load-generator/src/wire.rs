//! The least of RFC 6455 that a client needs to read at full speed: no copy of what arrives whole.

/// The opening request. The key is constant: nothing between here and loopback caches.
pub fn request(host: &str, target: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// Kinds of frames (RFC 6455, section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    Text,
    Close,
    Ping,
    Other,
}

/// One whole frame of a server.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub opcode: Opcode,
    pub payload: &'a [u8],
}

/// The first frame of `bytes` and its length; `None` when it is not whole yet.
pub fn parse(bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let (header, length) = match second & 0x7f {
        126 => (4, u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
        short => (2, u64::from(short)),
    };
    let end = header + usize::try_from(length).ok()?;
    let opcode = match first & 0x0f {
        1 => Opcode::Text,
        8 => Opcode::Close,
        9 => Opcode::Ping,
        _ => Opcode::Other,
    };
    Some((Frame { opcode, payload: bytes.get(header..end)? }, end))
}

/// The code of a close frame; 1005 when it has none.
pub fn close_code(payload: &[u8]) -> u16 {
    payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code))
}

/// A pong for a ping.
pub fn pong(payload: &[u8]) -> Vec<u8> {
    short(0x8a, payload)
}

/// A text frame; what is over 125 bytes is cut off.
pub fn text(payload: &str) -> Vec<u8> {
    short(0x81, payload.as_bytes())
}

/// Masked with zeros, which the standard allows and which changes nothing.
fn short(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len().min(125);
    let mut frame = vec![first, 0x80 | length as u8, 0, 0, 0, 0];
    frame.extend_from_slice(&payload[..length]);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_length_are_cut_at_their_ends() {
        for length in [0usize, 1, 125, 126, 65_535, 65_536] {
            let mut bytes = match length {
                0..126 => vec![0x81, length as u8],
                126..65_536 => [&[0x81, 126][..], &(length as u16).to_be_bytes()].concat(),
                _ => [&[0x81, 127][..], &(length as u64).to_be_bytes()].concat(),
            };
            bytes.extend(std::iter::repeat_n(b'x', length));
            for cut in [0, 1, bytes.len() - 1] {
                assert_eq!(parse(&bytes[..cut]), None, "{length} cut at {cut}");
            }
            bytes.extend([0x88, 2, 0x0f, 0xa2]);
            let (frame, end) = parse(&bytes).unwrap();
            assert_eq!((frame.opcode, frame.payload.len()), (Opcode::Text, length));
            let (close, _) = parse(&bytes[end..]).unwrap();
            assert_eq!((close.opcode, close_code(close.payload)), (Opcode::Close, 4002));
        }
    }
}
