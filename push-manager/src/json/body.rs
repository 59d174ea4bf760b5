//! Bodies of pushes: read within their limit, every mistake named with its field. What they say stays where it was read,
//! unless it is escaped.

use std::{borrow::Cow, fmt, marker::PhantomData, time::Duration};

use axum::{
    body::{Body, to_bytes},
    http::{HeaderMap, header},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use roomcast_proto::pubsub::{
    Content, PushOptions, content,
    push_options::{Offline, Wait},
};
use roomcast_types::{Code, Fault};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use tokio::time::timeout;

/// A body that takes longer is no push any more.
const READ: Duration = Duration::from_secs(10);

/// Body of a push.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PushBody<'a> {
    #[serde(borrow)]
    pub content: Object<ContentBody<'a>>,
    pub options: Option<Object<OptionsBody>>,
}

/// Body of a push to several users.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsersBody<'a> {
    pub user_ids: Vec<String>,
    #[serde(borrow)]
    pub content: Object<ContentBody<'a>>,
    pub options: Option<Object<OptionsBody>>,
}

/// Takes an object where serde would also take a list of the fields.
#[derive(Debug)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct FromMap<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for FromMap<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        from.deserialize_map(FromMap(PhantomData))
    }
}

/// A string, in the body where it has no escapes.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Text<'_> {
    /// As bytes; those of `body` where it lies in there.
    fn into_bytes(self, body: &Bytes) -> Bytes {
        match self.0 {
            Cow::Borrowed(text) => body.slice_ref(text.as_bytes()),
            Cow::Owned(text) => text.into(),
        }
    }
}

/// What is said.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContentBody<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Text<'a>>,
    #[serde(borrow)]
    data: Option<Text<'a>>,
    #[serde(borrow)]
    data_base64: Option<Text<'a>>,
    #[serde(default)]
    timestamp: i64,
}

/// How it is said.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptionsBody {
    #[serde(default)]
    exclude_user_ids: Vec<String>,
    wait: Option<String>,
    wait_ms: Option<u32>,
    #[serde(default)]
    ack: bool,
    class: Option<String>,
    #[serde(default)]
    key: String,
    ttl_ms: Option<u32>,
    #[serde(default)]
    idempotency_key: String,
    log: Option<bool>,
    offline: Option<String>,
}

impl ContentBody<'_> {
    /// As it is on the wire. `body` is what this was parsed from.
    pub fn into_content(self, body: &Bytes) -> Result<Content, Fault> {
        let kind = match self.kind.as_ref().map(|kind| &*kind.0) {
            None => content::Type::Text,
            Some(word) => content::Type::from_str_name(word).ok_or_else(|| {
                Fault::bad_request(format!(
                    "content.type {word:?} is unknown; it takes TEXT, AUDIO, TRANSLATION, SYSTEM or STATE"
                ))
            })?,
        };
        let (data, binary) = match (self.data, self.data_base64) {
            (Some(text), None) => (text.into_bytes(body), false),
            (None, Some(text)) => {
                let bytes = STANDARD.decode(&*text.0).map_err(|error| {
                    Fault::bad_request(format!("content.data_base64 is no base64: {error}"))
                })?;
                (Bytes::from(bytes), true)
            }
            _ => {
                let message = "content takes exactly one of data (text) and data_base64";
                return Err(Fault::bad_request(message));
            }
        };
        Ok(Content { r#type: kind.into(), data, timestamp: self.timestamp, binary })
    }
}

impl TryFrom<Object<OptionsBody>> for PushOptions {
    type Error = Fault;

    fn try_from(Object(options): Object<OptionsBody>) -> Result<Self, Fault> {
        let wait =
            word("options.wait", options.wait, Wait::from_str_name, "ACCEPTED, WRITTEN, SETTLED or ACKED")?;
        let classes = "ORDERED, EXPIRING, LATEST or CRITICAL";
        let class = word("options.class", options.class, content::Class::from_str_name, classes)?;
        let offline = word("options.offline", options.offline, Offline::from_str_name, "DROP or STORE")?;
        Ok(Self {
            exclude_user_ids: options.exclude_user_ids,
            wait: wait.unwrap_or_default().into(),
            wait_ms: options.wait_ms,
            ack: options.ack,
            class: class.unwrap_or_default().into(),
            key: options.key,
            ttl_ms: options.ttl_ms,
            idempotency_key: options.idempotency_key,
            log: options.log,
            offline: offline.unwrap_or_default().into(),
        })
    }
}

fn word<T>(
    field: &str,
    word: Option<String>,
    read: impl Fn(&str) -> Option<T>,
    takes: &str,
) -> Result<Option<T>, Fault> {
    let Some(word) = word else { return Ok(None) };
    let unknown = || Fault::bad_request(format!("{field} {word:?} is unknown; it takes {takes}"));
    read(&word).map(Some).ok_or_else(unknown)
}

/// Reads a body. Any content type will do.
pub async fn read(headers: &HeaderMap, body: Body, bytes_max: usize) -> Result<Bytes, Fault> {
    let too_large = || {
        let message = format!("the body has more than {bytes_max} bytes (limits.body_bytes_max)");
        Fault::new(Code::TooLarge, message)
    };
    let announced =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > bytes_max) {
        return Err(too_large());
    }
    match timeout(READ, to_bytes(body, bytes_max)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        // The only error of reading that is not the connection's own.
        Ok(Err(error)) if is_limit(&error) => Err(too_large()),
        Ok(Err(error)) => Err(Fault::bad_request(format!("cannot read the body: {error}"))),
        Err(_) => Err(Fault::bad_request(format!("the body did not arrive within {READ:?}"))),
    }
}

fn is_limit(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|cause| cause.to_string() == "length limit exceeded")
}

/// Parses a body.
pub fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Fault> {
    // The way to a mistake costs more than the parsing: it is looked for where there is one.
    if let Ok(Object(parsed)) = serde_json::from_slice(bytes) {
        return Ok(parsed);
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let Object(parsed) = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let place = if path == "." { String::new() } else { format!("{path}: ") };
        Fault::bad_request(format!("{place}{}", error.inner()))
    })?;
    json.end().map_err(|error| Fault::bad_request(format!("after the object: {error}")))?;
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(body: &str) -> String {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let read = |parsed: PushBody<'_>| {
            parsed.options.map(PushOptions::try_from).transpose()?;
            parsed.content.0.into_content(&body)
        };
        parse::<PushBody<'_>>(&body).and_then(read).unwrap_err().to_string()
    }

    #[test]
    fn a_mistake_is_named_with_its_field() {
        for (body, expected) in [
            ("", "EOF"),
            ("[]", "expected an object"),
            (r#"{"content":["TEXT","x",null,1]}"#, "content: invalid type: sequence, expected an object"),
            ("{}", "missing field `content`"),
            (r#"{"content":{"data":"x"},"to":1}"#, "unknown field `to`"),
            (r#"{"content":{"data":"x","body":1}}"#, "content.body: unknown field `body`"),
            (r#"{"content":{"data":"x"},"options":{"logs":true}}"#, "options.logs: unknown field `logs`"),
            (r#"{"content":{"data":"x"},"options":{"log":1}}"#, "options.log: "),
            (
                r#"{"content":{"data":"x"},"options":{"offline":"KEEP"}}"#,
                r#"options.offline "KEEP" is unknown"#,
            ),
            (r#"{"content":{"data":"x"},"options":{"wait":"LATER"}}"#, r#"options.wait "LATER" is unknown"#),
            (r#"{"content":{"data":"x"},"options":{"class":"NEW"}}"#, r#"options.class "NEW" is unknown"#),
            (r#"{"content":{"data":"x"},"options":{"wait_ms":-1}}"#, "options.wait_ms: "),
            (
                r#"{"content":{"data":"x"},"options":{"exclude_user_ids":[1]}}"#,
                "options.exclude_user_ids[0]: ",
            ),
            (r#"{"content":{"data":"x","timestamp":"now"}}"#, "content.timestamp: "),
            (r#"{"content":{"type":"VIDEO","data":"x"}}"#, r#"content.type "VIDEO" is unknown"#),
            (r#"{"content":{}}"#, "exactly one of data"),
            (r#"{"content":{"data":"x","data_base64":"eA=="}}"#, "exactly one of data"),
            (r#"{"content":{"data_base64":"%"}}"#, "content.data_base64 is no base64"),
            (r#"{"content":{"data":"x"}} {}"#, "after the object"),
        ] {
            let line = mistake(body);
            assert!(line.starts_with("BAD_REQUEST: ") && line.contains(expected), "{body}: {line}");
        }
    }

    #[test]
    fn text_and_bytes_keep_what_they_are() {
        let content = |body: &'static str| {
            let body = Bytes::from_static(body.as_bytes());
            let content = parse::<PushBody<'_>>(&body).unwrap().content.0.into_content(&body).unwrap();
            (content.data.as_ptr(), content, body.as_ptr_range())
        };
        let (place, plain, body) = content(r#"{"content":{"data":"hé","timestamp":7}}"#);
        assert_eq!((&plain.data[..], plain.timestamp), ("hé".as_bytes(), 7));
        assert!(body.contains(&place), "it is not copied");
        let (_, text, _) = content(r#"{"content":{"data":"h\u00e9","timestamp":7}}"#);
        assert_eq!((&text.data[..], text.binary, text.timestamp), ("hé".as_bytes(), false, 7));
        let (_, bytes, _) = content(r#"{"content":{"type":"AUDIO","data_base64":"AP8="}}"#);
        assert_eq!(
            (&bytes.data[..], bytes.binary, bytes.r#type()),
            (&[0, 255][..], true, content::Type::Audio)
        );
    }
}
