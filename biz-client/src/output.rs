//! Shows answers: as tables for people, as JSON for programs.

use std::io::{self, Write};

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::{args::Format, failure::Failure};

/// Standard output in the chosen format.
pub struct Output {
    format: Format,
}

impl Output {
    pub fn new(format: Format) -> Self {
        Self { format }
    }

    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Shows a reply: the whole of it as JSON, or what `describe` makes of it.
    pub fn show<T: Serialize>(
        &mut self,
        reply: &T,
        describe: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Json => {
                let text = serde_json::to_string_pretty(reply).map_err(|error| no_json(&error))?;
                self.line(&text)
            }
            Format::Table => self.line(describe(reply).trim_end()),
        }
    }

    /// Shows a reply as JSON on one line.
    pub fn compact<T: Serialize>(&mut self, reply: &T) -> Result<(), Failure> {
        let text = serde_json::to_string(reply).map_err(|error| no_json(&error))?;
        self.line(&text)
    }

    /// Writes a line now.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        let mut to = io::stdout().lock();
        writeln!(to, "{text}").and_then(|()| to.flush()).map_err(|_| Failure::Unread)
    }
}

fn no_json(error: &serde_json::Error) -> Failure {
    Failure::Refused(format!("the reply cannot be written as JSON: {error}"))
}

/// Names and values, one pair a line; pairs without a value are left out.
pub fn pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let pairs: Vec<_> = pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    pairs.iter().map(|(name, value)| format!("{name:width$}  {}\n", printable(value))).collect()
}

/// A list with a header; says `none` when it is empty.
pub fn list<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(header);
    table.add_rows(rows.into_iter().map(|row| row.map(|cell| printable(&cell))));
    if table.is_empty() {
        return "none\n".to_owned();
    }
    format!("{}\n", table.trim_fmt())
}

/// Text without control characters: what others wrote must not steer this terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// `yes` or `no`.
pub fn yes(is_so: bool) -> String {
    if is_so { "yes" } else { "no" }.to_owned()
}

/// Milliseconds since 1970 as a date and time in UTC. The calendar is Hinnant's `civil_from_days`, which counts years
/// from March, so that the leap day is the last.
pub fn utc(millis: i64) -> String {
    let seconds = millis.div_euclid(1_000);
    let (days, time) = (seconds.div_euclid(86_400) + 719_468, seconds.rem_euclid(86_400));
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (time / 3_600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_767_225_599_999), "2025-12-31 23:59:59 UTC");
    }

    #[test]
    fn names_of_others_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\nc"), "a\u{fffd}[2Jb\u{fffd}c");
        assert!(!list(["name"], [["\u{1b}]0;x\u{7}".to_owned()]]).contains('\u{1b}'));
    }

    #[test]
    fn empty_lists_and_values_are_said_shortly() {
        assert_eq!(list(["a"], []), "none\n");
        assert_eq!(
            pairs([("room", "r".into()), ("epoch", String::new()), ("members", "3".into())]),
            "room     r\nmembers  3\n"
        );
    }
}
