//! Frames of clients, read from JSON.

use roomcast_types::{Epoch, Fault, MessageId, RoomId};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    log::returning::Since,
    wire::client::{
        BadFrame, ClientFrame, EPOCH_BYTES_MAX, INTEGER_END, ITEMS_MAX, MESSAGE_IDS_MAX, check_count,
        integer_takes,
    },
};

/// Longest message id, in bytes; ours have 26.
const MESSAGE_ID_BYTES_MAX: usize = 64;
/// The fields that any frame may have; others are ignored, null counts as absent.
#[derive(Deserialize)]
struct Fields {
    r#type: Option<Value>,
    id: Option<Value>,
    room_id: Option<Value>,
    since: Option<Value>,
    message_ids: Option<Value>,
    items: Option<Value>,
}

/// Reads one text frame.
pub fn parse(text: &str) -> Result<ClientFrame, BadFrame> {
    // serde would also take an array for a struct.
    if !text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{') {
        return Err(BadFrame::malformed(None, "a frame is a JSON object"));
    }
    let fields: Fields = serde_json::from_str(text).map_err(|error| {
        BadFrame::malformed(None, format!("the frame is not JSON of the protocol: {error}"))
    })?;
    let id = match &fields.id {
        None => None,
        Some(id) => Some(integer("id", id).map_err(|fault| BadFrame::field(None, fault))?),
    };
    let kind = match &fields.r#type {
        Some(Value::String(kind)) => kind.as_str(),
        Some(_) => return Err(BadFrame::malformed(id, "type is not a string")),
        None => return Err(BadFrame::malformed(id, "type is missing")),
    };
    let field = |fault| BadFrame::field(id, fault);
    match kind {
        "join" => {
            let room = room(fields.room_id.as_ref()).map_err(field)?;
            let since = fields.since.as_ref().map(position).transpose().map_err(field)?;
            Ok(ClientFrame::Join { id, room, since })
        }
        "leave" => Ok(ClientFrame::Leave { id, room: room(fields.room_id.as_ref()).map_err(field)? }),
        "ack" => message_ids(fields.message_ids.as_ref())
            .map(|message_ids| ClientFrame::Ack { message_ids })
            .map_err(field),
        "received" => {
            items(fields.items.as_ref()).map(|items| ClientFrame::Received { items }).map_err(field)
        }
        "ping" => Ok(ClientFrame::Ping { id }),
        "publish" => Ok(ClientFrame::Publish { id, room: room(fields.room_id.as_ref()).ok() }),
        _ => Err(BadFrame::malformed(
            id,
            "type is unknown; it takes join, leave, ack, received, ping or publish",
        )),
    }
}

fn integer(field: &'static str, value: &Value) -> Result<u64, Fault> {
    value.as_u64().filter(|number| *number < INTEGER_END).ok_or_else(|| integer_takes(field))
}

fn room(value: Option<&Value>) -> Result<RoomId, Fault> {
    match value {
        Some(Value::String(room)) => Ok(RoomId::new(room)?),
        Some(_) => Err(Fault::bad_request("room_id is not a string")),
        None => Err(Fault::bad_request("room_id is missing")),
    }
}

fn position(value: &Value) -> Result<Since, Fault> {
    let epoch = value.get("epoch").and_then(Value::as_str);
    let epoch = epoch.filter(|epoch| (1..=EPOCH_BYTES_MAX).contains(&epoch.len())).ok_or_else(|| {
        Fault::bad_request(format!("since.epoch is not a string of 1 to {EPOCH_BYTES_MAX} bytes"))
    })?;
    let offset = integer("since.offset", value.get("offset").unwrap_or(&Value::Null))?;
    Ok(Since { epoch: Epoch::parse(epoch), offset })
}

fn message_ids(value: Option<&Value>) -> Result<Vec<Option<MessageId>>, Fault> {
    let Some(Value::Array(ids)) = value else {
        return Err(Fault::bad_request("message_ids is not a list"));
    };
    check_count("message_ids", ids.len(), MESSAGE_IDS_MAX)?;
    let read = |(index, id): (usize, &Value)| message_id(|| format!("message_ids[{index}]"), Some(id));
    ids.iter().enumerate().map(read).collect()
}

fn message_id(field: impl Fn() -> String, value: Option<&Value>) -> Result<Option<MessageId>, Fault> {
    let id = value.and_then(Value::as_str).filter(|id| (1..=MESSAGE_ID_BYTES_MAX).contains(&id.len()));
    id.map(MessageId::parse).ok_or_else(|| {
        Fault::bad_request(format!("{} is not a string of 1 to {MESSAGE_ID_BYTES_MAX} bytes", field()))
    })
}

fn items(value: Option<&Value>) -> Result<Vec<(Option<MessageId>, u64)>, Fault> {
    let Some(Value::Array(items)) = value else {
        return Err(Fault::bad_request("items is not a list"));
    };
    check_count("items", items.len(), ITEMS_MAX)?;
    let read = |(index, item): (usize, &Value)| {
        let id = message_id(|| format!("items[{index}].message_id"), item.get("message_id"))?;
        let at = item.get("at_ms").and_then(Value::as_u64).filter(|at| *at < INTEGER_END);
        let at = at.ok_or_else(|| integer_takes(format!("items[{index}].at_ms")))?;
        Ok((id, at))
    };
    items.iter().enumerate().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(text: &str) -> (Option<u64>, String, bool) {
        let bad = parse(text).unwrap_err();
        (bad.id, bad.fault.message, bad.is_malformed)
    }

    #[test]
    fn frames_of_the_protocol_are_read_and_unknown_fields_ignored() {
        let room = RoomId::new("räum").unwrap();
        assert_eq!(
            parse(r#" {"type":"join","id":9007199254740991,"room_id":"r\u00e4um","later":{"x":[1]}}"#),
            Ok(ClientFrame::Join { id: Some((1 << 53) - 1), room: room.clone(), since: None })
        );
        assert_eq!(
            parse(r#"{"type":"join","room_id":"räum","since":{"epoch":"e","offset":7}}"#),
            Ok(ClientFrame::Join {
                id: None,
                room: room.clone(),
                since: Some(Since { epoch: None, offset: 7 })
            })
        );
        assert_eq!(
            parse(r#"{"type":"leave","id":null,"room_id":"räum"}"#),
            Ok(ClientFrame::Leave { id: None, room })
        );
        let known = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
        let acked = parse(&format!(r#"{{"type":"ack","message_ids":["a","{known}"]}}"#));
        assert_eq!(acked, Ok(ClientFrame::Ack { message_ids: vec![None, MessageId::parse(known)] }));
        let received =
            format!(r#"{{"type":"received","items":[{{"message_id":"{known}","at_ms":7,"x":1}}]}}"#);
        let items = vec![(MessageId::parse(known), 7)];
        assert_eq!(parse(&received), Ok(ClientFrame::Received { items }));
        assert_eq!(parse(r#"{"type":"received","items":[]}"#), Ok(ClientFrame::Received { items: vec![] }));
        assert_eq!(parse(r#"{"type":"ping","id":3}"#), Ok(ClientFrame::Ping { id: Some(3) }));
        assert_eq!(
            parse(r#"{"type":"publish","id":4,"content":{}}"#),
            Ok(ClientFrame::Publish { id: Some(4), room: None })
        );
    }

    #[test]
    fn what_is_no_frame_of_the_protocol_is_malformed() {
        for text in
            ["", "nonsense", "[]", r#"["join"]"#, "7", "{}", r#"{"type":7}"#, r#"{"type":"jump"}"#, "{"]
        {
            assert!(bad(text).2, "{text}");
        }
        assert_eq!(bad(r#"{"type":"jump","id":5}"#).0, Some(5));
    }

    #[test]
    fn a_bad_field_is_named_with_its_limit_and_keeps_the_id() {
        for (text, id, words) in [
            (r#"{"type":"ping","id":9007199254740992}"#, None, "id is not an integer from 0 to below 2^53"),
            (r#"{"type":"ping","id":-1}"#, None, "id is not"),
            (r#"{"type":"ping","id":1.5}"#, None, "id is not"),
            (r#"{"type":"join","id":1}"#, Some(1), "room_id is missing"),
            (r#"{"type":"join","id":1,"room_id":7}"#, Some(1), "room_id is not a string"),
            (r#"{"type":"leave","id":1,"room_id":""}"#, Some(1), "room_id is empty; it takes 1 to 128 bytes"),
            (r#"{"type":"join","id":1,"room_id":"r","since":{"epoch":"e"}}"#, Some(1), "since.offset"),
            (r#"{"type":"join","id":1,"room_id":"r","since":7}"#, Some(1), "since.epoch"),
            (r#"{"type":"ack","id":1}"#, Some(1), "message_ids is not a list"),
            (r#"{"type":"ack","id":1,"message_ids":["a",7]}"#, Some(1), "message_ids[1]"),
            (r#"{"type":"received","id":1}"#, Some(1), "items is not a list"),
            (r#"{"type":"received","items":[7]}"#, None, "items[0].message_id is not a string of 1 to 64"),
            (r#"{"type":"received","items":[{"message_id":"a"}]}"#, None, "items[0].at_ms is not an integer"),
            (r#"{"type":"received","items":[{"message_id":"a","at_ms":-1}]}"#, None, "items[0].at_ms"),
        ] {
            let (found, message, is_malformed) = bad(text);
            assert!(message.contains(words), "{text}: {message}");
            assert_eq!((found, is_malformed), (id, false), "{text}");
        }
        let many = format!(r#"{{"type":"ack","message_ids":[{}"a"]}}"#, r#""a","#.repeat(256));
        assert!(bad(&many).1.contains("257 entries; at most 256"));
        let many = format!(r#"{{"type":"received","items":[{}7]}}"#, "7,".repeat(64));
        assert!(bad(&many).1.contains("items has 65 entries; at most 64"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,64}") {
            let _ = parse(&text);
        }

        #[test]
        fn any_valid_room_id_survives_json(room in "[^\\p{Cc}]{1,32}") {
            let text = serde_json::json!({"type": "leave", "room_id": room}).to_string();
            let expected = RoomId::new(&room).unwrap();
            proptest::prop_assert_eq!(parse(&text), Ok(ClientFrame::Leave { id: None, room: expected }));
        }
    }
}
