//! What a node reported, checked and in our own types.

use roomcast_proto::pubsub::{RoomChange, SessionChange, SessionRecord, session_change};
use roomcast_store::{
    presence::{IndexedSession, NodeRef, SLICES, SessionEntry},
    rooms::SeatRequest,
};
use roomcast_types::{ClientId, Fault, RoomId, SessionId, StoreTime, UserId, id::check_user_name};

use crate::metrics::ChangeKind;

/// Rooms that one session may name; a node's own limit is far lower.
const ROOMS_MAX: usize = 10_000;

/// One change, with its place in its slice.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) request: u64,
    pub(crate) slice: usize,
    pub(crate) version: u64,
    pub(crate) what: What,
}

/// What changed.
#[derive(Debug)]
pub(crate) enum What {
    /// A socket opened.
    Opened(IndexedSession),
    /// A session ended.
    Closed(IndexedSession),
    /// A session wants into a room.
    Join(Place),
    /// A session left a room by its own wish.
    Leave(Place),
}

/// One session and one room.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) session: SessionId,
    pub(crate) room: RoomId,
    pub(crate) who: SeatRequest,
}

impl What {
    pub(crate) fn user(&self) -> &UserId {
        match self {
            Self::Opened(session) | Self::Closed(session) => &session.user_id,
            Self::Join(place) | Self::Leave(place) => &place.who.user_id,
        }
    }

    pub(crate) fn kind(&self) -> ChangeKind {
        match self {
            Self::Opened(_) => ChangeKind::Opened,
            Self::Closed(_) => ChangeKind::Closed,
            Self::Join(_) => ChangeKind::Join,
            Self::Leave(_) => ChangeKind::Leave,
        }
    }
}

impl Change {
    /// Reads a change of the wire.
    pub(crate) fn read(change: SessionChange, node: &NodeRef) -> Result<Self, Fault> {
        use session_change::Change as Wire;
        let slice = slice_index(change.slice)?;
        let what = match change.change {
            Some(Wire::Opened(record)) => What::Opened(read_session(record, node)?),
            Some(Wire::Closed(record)) => What::Closed(read_session(record, node)?),
            Some(Wire::Join(room)) => What::Join(read_place(room)?),
            Some(Wire::Leave(room)) => What::Leave(read_place(room)?),
            None => return Err(Fault::bad_request("change is missing")),
        };
        Ok(Self { request: change.request, slice, version: change.slice_version, what })
    }
}

/// Reads the number of a slice.
pub(crate) fn slice_index(number: u32) -> Result<usize, Fault> {
    let index = number as usize;
    if index >= SLICES {
        return Err(Fault::bad_request(format!("slice is {number}; it takes 0 to {}", SLICES - 1)));
    }
    Ok(index)
}

/// Reads a session in full.
pub(crate) fn read_session(record: SessionRecord, node: &NodeRef) -> Result<IndexedSession, Fault> {
    check_user_name(&record.user_name)?;
    if record.room_ids.len() > ROOMS_MAX {
        let count = record.room_ids.len();
        return Err(Fault::bad_request(format!("room_ids has {count} entries; at most {ROOMS_MAX}")));
    }
    let entry = SessionEntry {
        session_id: read_session_id(&record.session_id)?,
        node: node.clone(),
        client_id: ClientId::new(&record.client_id)?,
        stamp: StoreTime::from_millis(record.stamp_ms),
    };
    let rooms: Result<Vec<RoomId>, _> = record.room_ids.iter().map(RoomId::new).collect();
    Ok(IndexedSession {
        entry,
        user_id: UserId::new(&record.user_id)?,
        user_name: record.user_name,
        rooms: rooms?,
    })
}

fn read_place(change: RoomChange) -> Result<Place, Fault> {
    check_user_name(&change.user_name)?;
    Ok(Place {
        session: read_session_id(&change.session_id)?,
        room: RoomId::new(&change.room_id)?,
        who: SeatRequest { user_id: UserId::new(&change.user_id)?, user_name: change.user_name },
    })
}

fn read_session_id(bytes: &[u8]) -> Result<SessionId, Fault> {
    SessionId::from_bytes(bytes)
        .ok_or_else(|| Fault::bad_request(format!("session_id has {} bytes; it takes 16", bytes.len())))
}
