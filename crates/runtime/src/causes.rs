//! An error with everything behind it, on one line.

use std::{error::Error, fmt};

/// Shows an error and its causes, apart by colons. A cause whose text stands in the line already is left out.
pub struct Causes<'a>(pub &'a dyn Error);

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = self.0.to_string();
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !line.contains(&text) {
                line = format!("{line}: {text}");
            }
            cause = error.source();
        }
        // Drivers like to break lines; a log event and a program's last word have one.
        for (index, part) in line.lines().map(str::trim).filter(|part| !part.is_empty()).enumerate() {
            write!(f, "{}{part}", if index == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Layer(&'static str, #[source] Option<Box<Layer>>);

    #[test]
    fn causes_share_one_line_and_are_told_once() {
        let inner = Layer("connection\nrefused", None);
        let middle = Layer("cannot open it", Some(Box::new(inner)));
        let outer = Layer("rooms: cannot open it", Some(Box::new(middle)));
        assert_eq!(Causes(&outer).to_string(), "rooms: cannot open it: connection refused");
    }
}
