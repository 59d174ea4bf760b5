//! What a close code means for the next connection.

/// No close frame: the connection was lost.
pub const LOST: u16 = 1006;
/// The session did not read fast enough.
pub const TOO_SLOW: u16 = 4002;
/// Nothing came back after a ping.
pub const NO_PONG: u16 = 4003;
/// Another session took the slot.
pub const TAKEN_OVER: u16 = 4500;

/// Whether a client may connect again after a close with this code.
///
/// | codes | again |
/// |---|---|
/// | 1001 1005 1006 1011 1012 1013 | yes |
/// | 4000-4499 | yes |
/// | 1000 1002 1003 1007 1008 1009, 4500-4999, all others | no |
pub fn is_reconnectable(code: u16) -> bool {
    matches!(code, 1001 | 1005 | 1006 | 1011..=1013 | 4000..=4499)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_closes_that_time_can_heal_are_retried() {
        for code in [1001, 1005, 1006, 1011, 1012, 1013, 4000, 4001, 4002, 4003, 4499] {
            assert!(is_reconnectable(code), "{code}");
        }
        for code in [1000, 1002, 1003, 1007, 1008, 1009, 4500, 4501, 4502, 4503, 4999, 3000, 5000] {
            assert!(!is_reconnectable(code), "{code}");
        }
    }
}
