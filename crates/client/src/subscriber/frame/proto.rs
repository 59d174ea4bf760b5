//! The same frames in protobuf, as they stand on the wire under `pubsub.proto.v1`.

use bytes::Bytes;
use prost::Message;
use roomcast_proto::client::{
    self, client_frame, content, content::Data, left, notice, push::Target, server_frame::Frame,
};
use roomcast_types::{Epoch, MessageId};

use super::{
    ClientFrame, ContentFrame, ErrorFrame, GapFrame, JoinedFrame, LeftFrame, NoticeFrame, PongFrame,
    PushFrame, ServerFrame, WelcomeFrame,
};
use crate::subscriber::position::Position;

/// Writes what a client says.
pub fn encode(frame: &ClientFrame) -> Vec<u8> {
    let (id, frame) = match frame {
        ClientFrame::Join { id, room_id, since } => {
            let join = client::Join { room_id: room_id.clone(), since: since.as_ref().map(since_of) };
            (Some(*id), client_frame::Frame::Join(join))
        }
        ClientFrame::Leave { id, room_id } => {
            (Some(*id), client_frame::Frame::Leave(client::Leave { room_id: room_id.clone() }))
        }
        ClientFrame::Ack { message_ids } => {
            let bytes = |id: &String| MessageId::parse(id).map(|id| id.to_bytes().to_vec());
            let message_ids = message_ids.iter().filter_map(bytes).collect();
            (None, client_frame::Frame::Ack(client::Ack { message_ids }))
        }
        ClientFrame::Ping { id } => (Some(*id), client_frame::Frame::Ping(client::Ping {})),
    };
    client::ClientFrame { id, frame: Some(frame) }.encode_to_vec()
}

/// An epoch that no node wrote is one that nobody knows.
fn since_of(position: &Position) -> client::Since {
    let epoch = Epoch::parse(&position.epoch).map_or(0, Epoch::as_u64);
    client::Since { epoch, offset: position.offset }
}

/// Reads what a node says; an error says how it breaks the protocol.
pub fn decode(bytes: Bytes) -> Result<ServerFrame, String> {
    let client::ServerFrame { id, frame } =
        client::ServerFrame::decode(bytes).map_err(|error| error.to_string())?;
    Ok(match frame {
        None => ServerFrame::Unknown,
        Some(Frame::Welcome(frame)) => {
            let (epoch, offset) = position(frame.epoch, frame.offset);
            ServerFrame::Welcome(WelcomeFrame {
                session_id: frame.session_id,
                node_id: frame.node_id,
                user_id: frame.user_id,
                client_id: frame.client_id,
                ping_interval_ms: frame.ping_interval_ms,
                epoch,
                offset,
                recovered: frame.recovered,
            })
        }
        Some(Frame::Joined(frame)) => {
            let (epoch, offset) = position(frame.epoch, frame.offset);
            let (room_id, members) = (frame.room_id, frame.members);
            let (recovered, read_offset) = (frame.recovered, frame.read_offset);
            ServerFrame::Joined(JoinedFrame { id, room_id, members, epoch, offset, recovered, read_offset })
        }
        Some(Frame::Left(frame)) => {
            let reason = word(frame.reason, left::Reason::as_str_name);
            ServerFrame::Left(LeftFrame { id, room_id: frame.room_id, reason })
        }
        Some(Frame::Push(frame)) => ServerFrame::Push(Box::new(push(frame)?)),
        Some(Frame::Gap(frame)) => {
            let (epoch, offset) = position(frame.epoch, frame.offset);
            ServerFrame::Gap(GapFrame { room_id: named(frame.room_id), epoch, offset })
        }
        Some(Frame::Notice(frame)) => ServerFrame::Notice(NoticeFrame {
            reason: word(frame.reason, notice::Reason::as_str_name),
            reconnect_after_ms: Some(frame.reconnect_after_ms),
        }),
        Some(Frame::Error(frame)) => ServerFrame::Error(ErrorFrame {
            id,
            room_id: named(frame.room_id),
            code: frame.code,
            message: frame.message,
            retry_after_ms: (frame.retry_after_ms > 0).then_some(frame.retry_after_ms),
        }),
        Some(Frame::Pong(client::Pong {})) => ServerFrame::Pong(PongFrame { id }),
    })
}

fn push(frame: client::Push) -> Result<PushFrame, String> {
    let message_id = MessageId::from_bytes(&frame.message_id)
        .ok_or_else(|| format!("message_id has {} bytes; it takes 16", frame.message_id.len()))?;
    let target = match Target::try_from(frame.target) {
        Ok(Target::Room) => "room",
        Ok(Target::User) => "user",
        Ok(Target::All) => "all",
        Err(_) => return Err(format!("target {} is unknown", frame.target)),
    };
    let (epoch, offset) = position(frame.epoch, frame.offset);
    let content = frame.content.unwrap_or_default();
    let (data, binary) = match content.data {
        Some(Data::Text(text)) => (Some(text), None),
        Some(Data::Binary(bytes)) => (None, Some(bytes)),
        None => (None, None),
    };
    Ok(PushFrame {
        target: target.to_owned(),
        message_id: message_id.to_string(),
        room_id: named(frame.room_id),
        epoch,
        offset,
        content: ContentFrame {
            content_type: word(content.r#type, content::Type::as_str_name),
            data,
            data_base64: None,
            binary,
            timestamp: content.timestamp,
        },
        timestamp_ms: frame.timestamp_ms,
        ack: frame.ack,
        traceparent: named(frame.traceparent),
    })
}

/// The word of a number; of one that a later version brought, the number.
fn word<T: TryFrom<i32>>(number: i32, word: impl FnOnce(&T) -> &'static str) -> String {
    T::try_from(number).map_or_else(|_| number.to_string(), |known| word(&known).to_owned())
}

fn named(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn position(epoch: u64, offset: u64) -> (Option<String>, Option<u64>) {
    match Epoch::from_u64(epoch) {
        Some(epoch) => (Some(epoch.to_string()), Some(offset)),
        None => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE_ID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

    fn said(frame: &ClientFrame) -> client::ClientFrame {
        client::ClientFrame::decode(&encode(frame)[..]).unwrap()
    }

    fn read(id: Option<u64>, frame: Frame) -> Result<ServerFrame, String> {
        decode(client::ServerFrame { id, frame: Some(frame) }.encode_to_vec().into())
    }

    fn a_push() -> client::Push {
        client::Push {
            message_id: MessageId::parse(MESSAGE_ID).unwrap().to_bytes().to_vec(),
            room_id: "r".into(),
            content: Some(client::Content {
                r#type: content::Type::Audio.into(),
                data: Some(Data::Binary(vec![0xff].into())),
                timestamp: 1,
            }),
            timestamp_ms: 2,
            ack: true,
            ..client::Push::default()
        }
    }

    #[test]
    fn a_join_names_its_position_in_numbers() {
        let at = |epoch: &str| Some(Position { epoch: epoch.into(), offset: 41 });
        let join = |since| ClientFrame::Join { id: 1, room_id: "r".into(), since };
        for (since, expected) in [
            (None, None),
            (at("00000000000000ab"), Some(client::Since { epoch: 0xab, offset: 41 })),
            (at("of another kind"), Some(client::Since { epoch: 0, offset: 41 })),
        ] {
            let join = said(&join(since));
            let frame = client_frame::Frame::Join(client::Join { room_id: "r".into(), since: expected });
            assert_eq!((join.id, join.frame), (Some(1), Some(frame)));
        }
    }

    #[test]
    fn an_acknowledgement_has_the_bytes_of_its_messages() {
        let ack = said(&ClientFrame::Ack { message_ids: vec![MESSAGE_ID.into()] });
        let message_ids = vec![MessageId::parse(MESSAGE_ID).unwrap().to_bytes().to_vec()];
        assert_eq!((ack.id, ack.frame), (None, Some(client_frame::Frame::Ack(client::Ack { message_ids }))));
    }

    #[test]
    fn a_push_reads_as_in_json() {
        let logged = client::Push { epoch: 0xab, offset: 42, ..a_push() };
        let Ok(ServerFrame::Push(push)) = read(None, Frame::Push(logged)) else { panic!() };
        let text = format!(
            r#"{{"type":"push","target":"room","message_id":"{MESSAGE_ID}","room_id":"r","epoch":"00000000000000ab",
            "offset":42,"content":{{"type":"AUDIO","timestamp":1}},"timestamp_ms":2,"ack":true}}"#
        );
        let Ok(ServerFrame::Push(mut json)) = serde_json::from_str(&text) else { panic!() };
        json.content.binary = Some(Bytes::from_static(&[0xff]));
        assert_eq!(push, json);
        let Ok(ServerFrame::Push(push)) = read(None, Frame::Push(a_push())) else { panic!() };
        assert_eq!((push.epoch, push.offset, push.traceparent), (None, None, None));
    }

    #[test]
    fn a_push_that_breaks_the_protocol_says_how() {
        let short = client::Push { message_id: vec![1; 3], ..a_push() };
        assert_eq!(read(None, Frame::Push(short)).unwrap_err(), "message_id has 3 bytes; it takes 16");
        let strange = client::Push { target: 7, ..a_push() };
        assert_eq!(read(None, Frame::Push(strange)).unwrap_err(), "target 7 is unknown");
        assert!(decode(Bytes::from_static(&[0x0a, 0x7f])).is_err());
    }

    #[test]
    fn what_a_later_version_adds_is_ignored_or_shown_as_a_number() {
        // Field 15, and field 100.
        assert_eq!(decode(Bytes::from_static(&[0x7a, 0x00])), Ok(ServerFrame::Unknown));
        assert_eq!(decode(Bytes::from_static(&[0xa0, 0x06, 0x01])), Ok(ServerFrame::Unknown));
        let left = client::Left { room_id: "r".into(), reason: 9 };
        let Ok(ServerFrame::Left(left)) = read(Some(3), Frame::Left(left)) else { panic!() };
        assert_eq!((left.id, left.reason.as_str()), (Some(3), "9"));
    }
}
