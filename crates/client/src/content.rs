//! What a push carries.

use bytes::Bytes;
use roomcast_proto::pubsub;
pub use roomcast_proto::pubsub::content::Type as ContentType;
use roomcast_types::unix_millis;

/// The content of a push, opaque to Roomcast. At most 64 KiB unless the server is configured otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    content_type: ContentType,
    data: Bytes,
    timestamp: i64,
    is_binary: bool,
}

impl Content {
    /// Text: clients get it as a string.
    pub fn text(content_type: ContentType, text: impl Into<String>) -> Self {
        Self::new(content_type, text.into().into(), false)
    }

    /// Bytes: clients get them as base64, whether or not they happen to be UTF-8.
    pub fn binary(content_type: ContentType, data: impl Into<Bytes>) -> Self {
        Self::new(content_type, data.into(), true)
    }

    fn new(content_type: ContentType, data: Bytes, is_binary: bool) -> Self {
        Self { content_type, data, timestamp: unix_millis(), is_binary }
    }

    /// The publisher's own time, milliseconds since 1970, instead of the time this value was made.
    pub fn timestamp(mut self, millis: i64) -> Self {
        self.timestamp = millis;
        self
    }
}

impl From<Content> for pubsub::Content {
    fn from(content: Content) -> Self {
        Self {
            r#type: content.content_type.into(),
            data: content.data,
            timestamp: content.timestamp,
            binary: content.is_binary,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_carries_the_present_time_unless_told() {
        let before = unix_millis();
        let wire = pubsub::Content::from(Content::text(ContentType::Text, "hi"));
        assert!((before..=unix_millis()).contains(&wire.timestamp));
        let wire = pubsub::Content::from(Content::binary(ContentType::Audio, vec![0xff]).timestamp(7));
        assert_eq!((wire.timestamp, wire.binary, &wire.data[..]), (7, true, &[0xff][..]));
    }
}
