//! How facts are written: text that redis-cli shows, and that scripts take apart with one pattern.

use redis::RedisResult;
use roomcast_types::{
    ClientId, Incarnation, LogPolicy, Membership, NodeId, OnLogFailure, RoomCard, RoomId, RoomState,
    SessionId, StoreTime, UserId,
};
use serde::{Deserialize, Serialize};

use super::fault::unreadable;
use crate::presence::{IndexedSession, Load, NodeRef, SessionEntry};

/// `STAMP CLIENT INCARNATION NODE`; only the last may hold a space.
pub(super) fn write_entry(entry: &SessionEntry) -> String {
    let SessionEntry { node, client_id, stamp, .. } = entry;
    format!("{} {client_id} {} {}", stamp.as_millis(), node.incarnation, node.node_id)
}

pub(super) fn read_entry(session: &[u8], text: &str) -> RedisResult<SessionEntry> {
    let parse = || {
        let mut parts = text.splitn(4, ' ');
        Some(SessionEntry {
            session_id: SessionId::from_bytes(session)?,
            stamp: StoreTime::from_millis(parts.next()?.parse().ok()?),
            client_id: ClientId::new(parts.next()?).ok()?,
            node: NodeRef {
                incarnation: Incarnation::try_from(parts.next()?.to_owned()).ok()?,
                node_id: NodeId::new(parts.next()?).ok()?,
            },
        })
    };
    parse().ok_or_else(|| unreadable("not the entry of a session", text))
}

/// Session ids, 16 bytes each.
pub(super) fn read_ids(packed: &[u8]) -> RedisResult<Vec<SessionId>> {
    let ids: Option<Vec<SessionId>> = packed.chunks(16).map(SessionId::from_bytes).collect();
    ids.ok_or_else(|| unreadable("not a list of session ids", format!("{} bytes", packed.len())))
}

pub(super) fn read_user(id: String) -> RedisResult<UserId> {
    UserId::new(&id).map_err(|_| unreadable("not a user id", id))
}

/// Since when a user is absent from a room, and when its seat is to be released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Absence {
    pub since: StoreTime,
    pub due: Option<StoreTime>,
}

impl Absence {
    /// `SINCE` or `SINCE DUE`.
    pub(super) fn write(self) -> String {
        match self.due {
            Some(due) => format!("{} {}", self.since.as_millis(), due.as_millis()),
            None => self.since.as_millis().to_string(),
        }
    }

    pub(super) fn read(text: &str) -> RedisResult<Self> {
        let time = |part: &str| part.parse().ok().map(StoreTime::from_millis);
        let parse = || match text.split_once(' ') {
            Some((since, due)) => Some(Self { since: time(since)?, due: Some(time(due)?) }),
            None => Some(Self { since: time(text)?, due: None }),
        };
        parse().ok_or_else(|| unreadable("not an absence", text))
    }
}

#[derive(Serialize, Deserialize)]
struct CardFields {
    state: RoomState,
    membership: Membership,
    max_users: u32,
    #[serde(default)]
    log: LogPolicy,
    #[serde(default)]
    on_log_failure: OnLogFailure,
}

/// Without id and version, which have their own places.
pub(super) fn write_card(card: &RoomCard) -> String {
    let RoomCard { state, membership, max_users, log, on_log_failure, .. } = *card;
    let fields = CardFields { state, membership, max_users, log, on_log_failure };
    serde_json::to_string(&fields).expect("numbers and words are JSON")
}

pub(super) fn read_card(room: &RoomId, version: u64, text: &str) -> RedisResult<RoomCard> {
    let fields: Result<CardFields, _> = serde_json::from_str(text);
    let CardFields { state, membership, max_users, log, on_log_failure } =
        fields.map_err(|_| unreadable("not a card", text))?;
    Ok(RoomCard { room_id: room.clone(), version, state, membership, max_users, log, on_log_failure })
}

#[derive(Serialize, Deserialize)]
struct IndexedFields {
    stamp: i64,
    client: ClientId,
    user: UserId,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rooms: Vec<RoomId>,
}

/// Without the session's id and its node, which name the place.
pub(super) fn write_indexed(session: &IndexedSession) -> String {
    let IndexedSession { entry, user_id, user_name, rooms } = session.clone();
    let (stamp, client) = (entry.stamp.as_millis(), entry.client_id);
    let fields = IndexedFields { stamp, client, user: user_id, name: user_name, rooms };
    serde_json::to_string(&fields).expect("numbers and texts are JSON")
}

pub(super) fn read_indexed(node: &NodeRef, session: &[u8], text: &str) -> RedisResult<IndexedSession> {
    let wrong = || unreadable("not an indexed session", text);
    let session_id = SessionId::from_bytes(session).ok_or_else(wrong)?;
    let fields: IndexedFields = serde_json::from_str(text).map_err(|_| wrong())?;
    let stamp = StoreTime::from_millis(fields.stamp);
    let entry = SessionEntry { session_id, node: node.clone(), client_id: fields.client, stamp };
    Ok(IndexedSession { entry, user_id: fields.user, user_name: fields.name, rooms: fields.rooms })
}

/// `SESSIONS SESSIONS_MAX ROOMS`
pub(super) fn write_load(load: Load) -> String {
    format!("{} {} {}", load.sessions, load.sessions_max, load.rooms)
}

pub(super) fn read_load(text: &str) -> RedisResult<Load> {
    let parse = || {
        let mut numbers = text.split(' ').map(|part| part.parse().ok());
        let mut next = || numbers.next().flatten();
        Some(Load { sessions: next()?, sessions_max: next()?, rooms: next()? })
    };
    parse().ok_or_else(|| unreadable("not a node's load", text))
}

/// `NODE\0INCARNATION`: ids hold no control characters.
pub(super) fn write_node(node: &NodeRef) -> String {
    format!("{}\0{}", node.node_id, node.incarnation)
}

pub(super) fn read_node(text: &str) -> RedisResult<NodeRef> {
    let parse = || {
        let (id, incarnation) = text.split_once('\0')?;
        let incarnation = Incarnation::try_from(incarnation.to_owned()).ok()?;
        Some(NodeRef { node_id: NodeId::new(id).ok()?, incarnation })
    };
    parse().ok_or_else(|| unreadable("not a node", text))
}
