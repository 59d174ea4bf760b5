//! Statements as text: one exchange with the server takes as many as there are. Values in them are numbers and
//! hexadecimal strings, so nothing in a value can end it.

use std::fmt;

/// Values with commas in between.
#[derive(Debug, Default)]
pub(super) struct Rows(String);

impl Rows {
    pub(super) fn push(&mut self, row: &str) {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(row);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Bytes as a literal; before one of characters stands `_utf8mb4`.
pub(super) struct Hex<'a>(pub(super) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = String::with_capacity(self.0.len() * 2 + 3);
        text.push_str("x'");
        for byte in self.0 {
            text.push(DIGITS[usize::from(byte >> 4)].into());
            text.push(DIGITS[usize::from(byte & 15)].into());
        }
        text.push('\'');
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_digits() {
        assert_eq!(Hex(b"").to_string(), "x''");
        assert_eq!(Hex(b"a'\\\xff\0").to_string(), "x'61275cff00'");
    }
}
