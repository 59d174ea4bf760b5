//! Frames of clients, read from protobuf.

use prost::Message;
use roomcast_proto::client::{self, client_frame::Frame};
use roomcast_types::{Epoch, Fault, MessageId, RoomId};

use crate::{
    log::returning::Since,
    wire::client::{
        BadFrame, ClientFrame, INTEGER_END, ITEMS_MAX, MESSAGE_IDS_MAX, check_count, integer_takes,
    },
};

/// Reads one binary message.
pub fn parse(bytes: &[u8]) -> Result<ClientFrame, BadFrame> {
    let client::ClientFrame { id, frame } = client::ClientFrame::decode(bytes).map_err(|error| {
        BadFrame::malformed(None, format!("the frame is not protobuf of the protocol: {error}"))
    })?;
    let id = id.map(|id| integer("id", id)).transpose().map_err(|fault| BadFrame::field(None, fault))?;
    let takes = "the frame is of no known type; it takes join, leave, ack, received, ping or publish";
    let frame = frame.ok_or_else(|| BadFrame::malformed(id, takes))?;
    read(id, frame).map_err(|fault| BadFrame::field(id, fault))
}

fn read(id: Option<u64>, frame: Frame) -> Result<ClientFrame, Fault> {
    Ok(match frame {
        Frame::Join(join) => {
            let room = RoomId::new(join.room_id)?;
            ClientFrame::Join { id, room, since: join.since.map(position).transpose()? }
        }
        Frame::Leave(leave) => ClientFrame::Leave { id, room: RoomId::new(leave.room_id)? },
        Frame::Ack(ack) => {
            check_count("message_ids", ack.message_ids.len(), MESSAGE_IDS_MAX)?;
            let read = |(index, id): (usize, &Vec<u8>)| message_id(|| format!("message_ids[{index}]"), id);
            let message_ids = ack.message_ids.iter().enumerate().map(read).collect::<Result<_, _>>()?;
            ClientFrame::Ack { message_ids }
        }
        Frame::Received(received) => {
            check_count("items", received.items.len(), ITEMS_MAX)?;
            let items = received.items.iter().enumerate().map(arrival).collect::<Result<_, _>>()?;
            ClientFrame::Received { items }
        }
        Frame::Ping(client::Ping {}) => ClientFrame::Ping { id },
        Frame::Publish(publish) => ClientFrame::Publish { id, room: RoomId::new(publish.room_id).ok() },
    })
}

fn integer(field: &'static str, number: u64) -> Result<u64, Fault> {
    if number < INTEGER_END { Ok(number) } else { Err(integer_takes(field)) }
}

/// Epoch 0 is one that nobody knows any more.
fn position(since: client::Since) -> Result<Since, Fault> {
    Ok(Since { epoch: Epoch::from_u64(since.epoch), offset: integer("since.offset", since.offset)? })
}

fn message_id(field: impl Fn() -> String, id: &[u8]) -> Result<Option<MessageId>, Fault> {
    let wrong = || Fault::bad_request(format!("{} has {} bytes; it takes 16", field(), id.len()));
    MessageId::from_bytes(id).map(Some).ok_or_else(wrong)
}

fn arrival((index, item): (usize, &client::Arrival)) -> Result<(Option<MessageId>, u64), Fault> {
    let id = message_id(|| format!("items[{index}].message_id"), &item.message_id)?;
    if item.at_ms >= INTEGER_END {
        return Err(integer_takes(format!("items[{index}].at_ms")));
    }
    Ok((id, item.at_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(id: Option<u64>, frame: Frame) -> Vec<u8> {
        client::ClientFrame { id, frame: Some(frame) }.encode_to_vec()
    }

    fn read_back(id: Option<u64>, frame: Frame) -> ClientFrame {
        parse(&written(id, frame)).unwrap()
    }

    #[test]
    fn frames_of_the_protocol_are_read() {
        let room = RoomId::new("räum").unwrap();
        let (room_id, since) = (room.to_string(), client::Since { epoch: 0xab, offset: 7 });
        let join = client::Join { room_id: room_id.clone(), since: None };
        assert_eq!(
            read_back(Some((1 << 53) - 1), Frame::Join(join.clone())),
            ClientFrame::Join { id: Some((1 << 53) - 1), room: room.clone(), since: None }
        );
        let join = client::Join { since: Some(since), ..join };
        let since = Some(Since { epoch: Epoch::from_u64(0xab), offset: 7 });
        assert_eq!(
            read_back(None, Frame::Join(join)),
            ClientFrame::Join { id: None, room: room.clone(), since }
        );
        let join =
            client::Join { room_id: room_id.clone(), since: Some(client::Since { epoch: 0, offset: 7 }) };
        let since = Some(Since { epoch: None, offset: 7 });
        assert_eq!(
            read_back(None, Frame::Join(join)),
            ClientFrame::Join { id: None, room: room.clone(), since }
        );
        let leave = client::Leave { room_id: room_id.clone() };
        assert_eq!(read_back(None, Frame::Leave(leave)), ClientFrame::Leave { id: None, room: room.clone() });
        let known = MessageId::parse("01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap();
        let bytes = known.to_bytes().to_vec();
        let ack = client::Ack { message_ids: vec![bytes.clone()] };
        assert_eq!(read_back(None, Frame::Ack(ack)), ClientFrame::Ack { message_ids: vec![Some(known)] });
        let received = client::Received { items: vec![client::Arrival { message_id: bytes, at_ms: 7 }] };
        let items = vec![(Some(known), 7)];
        assert_eq!(read_back(None, Frame::Received(received)), ClientFrame::Received { items });
        assert_eq!(
            read_back(Some(0), Frame::Ping(client::Ping {})),
            ClientFrame::Ping { id: Some(0) },
            "0 is an id, too"
        );
        let publish = client::Publish { room_id, content: None };
        assert_eq!(
            read_back(Some(4), Frame::Publish(publish)),
            ClientFrame::Publish { id: Some(4), room: Some(room) }
        );
    }

    #[test]
    fn what_is_no_frame_of_the_protocol_is_malformed() {
        // Nothing; an id alone; an unknown frame (field 15) with an id; a string that is none; a length beyond the end.
        for (bytes, id) in [
            (&[][..], None),
            (&[0x08, 0x05], Some(5)),
            (&[0x08, 0x05, 0x7a, 0x00], Some(5)),
            (&[0x1a, 0x03, 0x0a, 0x01, 0xff], None),
            (&[0x1a, 0x7f], None),
            (b"{\"type\":\"ping\"}", None),
        ] {
            let bad = parse(bytes).unwrap_err();
            assert_eq!((bad.id, bad.is_malformed), (id, true), "{bytes:?}: {}", bad.fault.message);
        }
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let mut bytes = written(Some(3), Frame::Ping(client::Ping {}));
        bytes.extend([0xf8, 0x07, 0x01]);
        assert_eq!(parse(&bytes), Ok(ClientFrame::Ping { id: Some(3) }));
    }

    #[test]
    fn a_bad_field_is_named_with_its_limit_and_keeps_the_id() {
        let join = |room_id: &str, epoch, offset| {
            Frame::Join(client::Join {
                room_id: room_id.into(),
                since: Some(client::Since { epoch, offset }),
            })
        };
        let ack = |message_ids| Frame::Ack(client::Ack { message_ids });
        let received = |items| Frame::Received(client::Received { items });
        let arrival = |bytes: usize, at_ms| client::Arrival { message_id: vec![1; bytes], at_ms };
        for (id, frame, read, words) in [
            (1 << 53, Frame::Ping(client::Ping {}), None, "id is not an integer from 0 to below 2^53"),
            (1, join("", 1, 1), Some(1), "room_id is empty; it takes 1 to 128 bytes"),
            (1, join("r", 1, 1 << 53), Some(1), "since.offset is not an integer from 0 to below 2^53"),
            (1, ack(vec![vec![1; 16], vec![1; 15]]), Some(1), "message_ids[1] has 15 bytes; it takes 16"),
            (1, ack(vec![vec![1; 16]; 257]), Some(1), "message_ids has 257 entries; at most 256"),
            (1, received(vec![arrival(26, 1)]), Some(1), "items[0].message_id has 26 bytes; it takes 16"),
            (1, received(vec![arrival(16, u64::MAX)]), Some(1), "items[0].at_ms is not an integer"),
            (1, received(vec![arrival(16, 1); 65]), Some(1), "items has 65 entries; at most 64"),
        ] {
            let bad = parse(&written(Some(id), frame)).unwrap_err();
            assert!(bad.fault.message.contains(words), "{}", bad.fault.message);
            assert_eq!((bad.id, bad.is_malformed), (read, false), "{words}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
            let _ = parse(&bytes);
        }
    }
}
