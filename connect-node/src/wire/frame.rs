//! A WebSocket frame around its payload, which is written behind room for the header.

use bytes::Bytes;

/// A WebSocket ping without payload, as a server sends it.
pub const PING: &[u8] = &[0x89, 0x00];

/// FIN and opcode "text".
pub(super) const TEXT: u8 = 0x81;
/// FIN and opcode "binary".
pub(super) const BINARY: u8 = 0x82;
/// Longest header of a frame without mask: two bytes and a 64-bit length.
pub(super) const HEADROOM: usize = 10;

/// Makes an unmasked, unfragmented frame of that kind. The payload begins at [`HEADROOM`].
pub(super) fn finish(mut bytes: Vec<u8>, kind: u8) -> Bytes {
    let start = write_header(&mut bytes, kind);
    Bytes::from(bytes).slice(start..)
}

/// Writes the header so that it ends where the payload begins; gives its first byte's place. RFC 6455, 5.2.
fn write_header(bytes: &mut [u8], kind: u8) -> usize {
    let length = bytes.len() - HEADROOM;
    let header = &mut bytes[..HEADROOM];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 126 => {
            header[8..].copy_from_slice(&[kind, short]);
            8
        }
        (_, Ok(medium)) => {
            header[6..8].copy_from_slice(&[kind, 126]);
            header[8..].copy_from_slice(&medium.to_be_bytes());
            6
        }
        _ => {
            header[..2].copy_from_slice(&[kind, 127]);
            header[2..].copy_from_slice(&(length as u64).to_be_bytes());
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_states_the_kind_and_the_length_in_the_shortest_form() {
        for (length, start, header) in [
            (0, 8, &[TEXT, 0][..]),
            (125, 8, &[TEXT, 125]),
            (126, 6, &[TEXT, 126, 0, 126]),
            (65_535, 6, &[TEXT, 126, 0xff, 0xff]),
            (65_536, 0, &[TEXT, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            for kind in [TEXT, BINARY] {
                let mut bytes = vec![0; HEADROOM + length];
                assert_eq!(write_header(&mut bytes, kind), start, "{length}");
                assert_eq!((bytes[start], &bytes[start + 1..HEADROOM]), (kind, &header[1..]), "{length}");
            }
        }
    }
}
