//! Durations and sizes as people write them.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// A number of bytes, written `512B`, `64KiB`, `1MiB` or `2GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteCount(pub u64);

impl ByteCount {
    /// As a length in memory.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, size) =
            SIZES.into_iter().find(|(_, size)| self.0.is_multiple_of(*size)).unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / size)
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let (number, size) = SIZES.iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?, size)))?;
    number.trim().parse::<u64>().ok()?.checked_mul(*size)
}

impl<'de> Deserialize<'de> for ByteCount {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = scalar(from)?;
        parse_size(&text)
            .map(Self)
            .ok_or_else(|| D::Error::custom(format!("{text:?} is not a size; write 512B, 64KiB or 1MiB")))
    }
}

impl serde::Serialize for ByteCount {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

const TIMES: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

fn parse_duration(text: &str) -> Option<Duration> {
    // "ms" ends with "s" and comes first.
    let (number, millis) =
        TIMES.iter().find_map(|(unit, millis)| Some((text.strip_suffix(unit)?, millis)))?;
    Some(Duration::from_millis(number.trim().parse::<u64>().ok()?.checked_mul(*millis)?))
}

/// A scalar of a layer: a string, or a number written without a unit (which the caller then refuses by name).
fn scalar<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    match serde_json::Value::deserialize(from)? {
        serde_json::Value::String(text) => Ok(text),
        other => Ok(other.to_string()),
    }
}

pub mod duration {
    //! `#[serde(with)]` for durations.
    use super::*;

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = scalar(from)?;
        parse_duration(&text).ok_or_else(|| {
            D::Error::custom(format!("{text:?} is not a duration; write 250ms, 5s, 10m, 2h or 7d"))
        })
    }

    pub fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        let millis = value.as_millis() as u64;
        let (unit, size) = TIMES
            .into_iter()
            .rev()
            .find(|(_, size)| millis >= *size && millis.is_multiple_of(*size))
            .unwrap_or(("ms", 1));
        to.collect_str(&format_args!("{}{unit}", millis / size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_read_as_people_write_them() {
        assert_eq!(parse_size("64KiB"), Some(65_536));
        assert_eq!(parse_size("12B"), Some(12));
        assert_eq!(parse_size("12"), None);
        assert_eq!(parse_size("99999999999GiB"), None);
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("10m"), Some(Duration::from_secs(600)));
        assert_eq!(parse_duration("7d"), parse_duration("168h"));
        assert_eq!(parse_duration("5"), None);
        assert_eq!(parse_duration("-5s"), None);
        assert_eq!(ByteCount(65_536).to_string(), "64KiB");
        assert_eq!(ByteCount(1_000).to_string(), "1000B");
    }
}
