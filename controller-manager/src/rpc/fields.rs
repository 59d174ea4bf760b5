//! Fields of requests, checked; what is wrong is named with its limit.

use roomcast_proto::pubsub::SessionInfo;
use roomcast_store::{presence::SessionEntry, rooms::SeatRequest};
use roomcast_types::{Fault, RoomId, SessionId, UserId, card::MAX_USERS_BOUNDS, id::check_user_name};

use crate::controller::Controller;

/// A room id.
pub(super) fn room(text: &str) -> Result<RoomId, Fault> {
    Ok(RoomId::new(text)?)
}

/// A user id.
pub(super) fn user(text: &str) -> Result<UserId, Fault> {
    Ok(UserId::new(text)?)
}

/// A user with its name.
pub(super) fn seat(user_id: &str, user_name: String) -> Result<SeatRequest, Fault> {
    check_user_name(&user_name)?;
    Ok(SeatRequest { user_id: user(user_id)?, user_name })
}

/// A session id; `None` when the field is empty.
pub(super) fn session(text: &str) -> Result<Option<SessionId>, Fault> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = SessionId::from_hex(text).map(Some);
    parsed.ok_or_else(|| Fault::bad_request("session_id is not 32 hexadecimal digits"))
}

/// A limit of seats.
pub(super) fn max_users(number: u32) -> Result<u32, Fault> {
    if MAX_USERS_BOUNDS.contains(&number) {
        return Ok(number);
    }
    let (low, high) = (MAX_USERS_BOUNDS.start(), MAX_USERS_BOUNDS.end());
    Err(Fault::bad_request(format!("max_users is {number}; it takes {low} to {high}")))
}

/// A session as callers see it.
pub(super) fn session_info(controller: &Controller, entry: &SessionEntry, user: &UserId) -> SessionInfo {
    let registration = controller.registered(entry.node.node_id.as_str());
    let own = registration.filter(|found| found.incarnation == entry.node.incarnation);
    SessionInfo {
        session_id: entry.session_id.to_string(),
        client_id: entry.client_id.to_string(),
        node_id: entry.node.node_id.to_string(),
        node_address: own.map(|own| own.grpc_address).unwrap_or_default(),
        stamp_ms: entry.stamp.as_millis(),
        user_id: user.to_string(),
        user_name: String::new(),
        room_ids: Vec::new(),
    }
}
