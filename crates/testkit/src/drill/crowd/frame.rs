//! The frames that a lean session reads and writes.

use serde::Deserialize;

use crate::drill::history::At;

/// All fields of all frames that matter here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Frame {
    #[serde(rename = "type")]
    pub kind: String,
    pub id: Option<u64>,
    pub session_id: String,
    pub node_id: String,
    pub ping_interval_ms: u64,
    pub room_id: Option<String>,
    pub message_id: String,
    epoch: Option<String>,
    offset: Option<u64>,
    pub recovered: Option<bool>,
    content: Content,
    pub code: String,
    pub retry_after_ms: Option<u64>,
    pub reason: String,
    pub reconnect_after_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Content {
    data: String,
}

impl Frame {
    /// The position that it names, when it names one whole.
    pub fn position(&self) -> Option<At> {
        let epoch = u64::from_str_radix(self.epoch.as_deref()?, 16).ok()?;
        Some(At { epoch, offset: self.offset? })
    }

    /// The publisher's number; see [`data`].
    pub fn number(&self) -> Option<u32> {
        number(&self.content.data)
    }
}

/// What a publisher writes into message number `number`, and at least so many bytes.
pub fn data(number: u32, bytes: usize) -> String {
    format!("{:.<bytes$}", format!("#{number} "))
}

/// The number of a message.
pub fn number(data: &str) -> Option<u32> {
    data.strip_prefix('#')?.split(' ').next()?.parse().ok()
}

/// Asks to be in a room.
pub fn join(room_id: &str, since: Option<At>) -> String {
    let since =
        since.map(|At { epoch, offset }| format!(r#","since":{{"epoch":"{epoch:016x}","offset":{offset}}}"#));
    format!(r#"{{"type":"join","id":1,"room_id":"{room_id}"{}}}"#, since.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_positions_are_read_as_they_are_written() {
        assert_eq!(number(&data(42, 64)), Some(42));
        assert_eq!(data(42, 64).len(), 64);
        let at = At { epoch: 10, offset: 7 };
        let join: serde_json::Value = serde_json::from_str(&join("r", Some(at))).unwrap();
        let since = format!(
            r#"{{"type":"joined","epoch":{},"offset":{}}}"#,
            join["since"]["epoch"], join["since"]["offset"]
        );
        let frame: Frame = serde_json::from_str(&since).unwrap();
        assert_eq!(frame.position(), Some(at));
        assert_eq!(Frame::default().position(), None);
    }
}
