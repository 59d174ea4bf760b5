//! Methods on users: their seats, where they are, and sending them away.

use std::sync::Arc;

use roomcast_proto::pubsub::{
    GetUserNodeRequest, JoinRoomReply, JoinRoomRequest, KickUserReply, KickUserRequest, LeaveRoomReply,
    LeaveRoomRequest, UserNode,
};
use roomcast_store::presence::SessionEntry;
use roomcast_types::{Fault, RoomId, SessionId, UserId};

use super::fields;
use crate::{
    admission,
    controller::Controller,
    error::{fault, retry_after},
    kick::{self, Kicked, Order},
    metrics::Missing,
    seats,
};

pub(super) async fn join(
    controller: Arc<Controller>,
    request: JoinRoomRequest,
) -> Result<JoinRoomReply, Fault> {
    let room = fields::room(&request.room_id)?;
    let who = fields::seat(&request.user_id, request.user_name)?;
    let joined = admission::take_seat(&controller, &room, who).await?;
    let missing = (!joined.is_present).then_some(Missing::Presence);
    Ok(JoinRoomReply {
        card: Some((&joined.card).into()),
        members: joined.members,
        degraded: controller.does_without(missing),
    })
}

pub(super) async fn leave(
    controller: Arc<Controller>,
    request: LeaveRoomRequest,
) -> Result<LeaveRoomReply, Fault> {
    let room = fields::room(&request.room_id)?;
    let user = fields::user(&request.user_id)?;
    let evicted = seats::take_away(&controller, &room, &user).await?;
    if !evicted.held_seat && evicted.sessions.is_empty() {
        // Not having a seat is fine, not being a room is not.
        controller.row(&room).await?;
    }
    kick::in_background(&controller, Order::evict(room), evicted.sessions);
    Ok(LeaveRoomReply { left: evicted.held_seat })
}

pub(super) async fn node(
    controller: Arc<Controller>,
    request: GetUserNodeRequest,
) -> Result<UserNode, Fault> {
    let user = fields::user(&request.user_id)?;
    let (entries, missing) = sessions(&controller, &user, None).await?;
    let sessions: Vec<_> =
        entries.iter().map(|entry| fields::session_info(&controller, entry, &user)).collect();
    let newest = sessions.first().cloned().unwrap_or_default();
    Ok(UserNode {
        user_id: user.to_string(),
        online: !sessions.is_empty(),
        node_id: newest.node_id,
        node_address: newest.node_address,
        sessions,
        degraded: controller.does_without(missing),
    })
}

pub(super) async fn kick(
    controller: Arc<Controller>,
    request: KickUserRequest,
) -> Result<KickUserReply, Fault> {
    let user = fields::user(&request.user_id)?;
    let session = fields::session(&request.session_id)?;
    let room = if request.room_id.is_empty() { None } else { Some(fields::room(&request.room_id)?) };
    let (sessions, missing) = match (&room, session) {
        (None, wanted) => sessions(&controller, &user, wanted).await?,
        (Some(room), None) => (seats::take_away(&controller, room, &user).await?.sessions, None),
        (Some(room), Some(wanted)) => leave_with(&controller, room, &user, wanted).await?,
    };
    let Kicked { sessions, unreachable } = kick::now(&controller, &Order::kick(room), sessions).await;
    Ok(KickUserReply {
        sessions,
        unreachable_node_ids: unreachable.iter().map(ToString::to_string).collect(),
        degraded: controller.does_without(missing),
    })
}

/// Sessions of a user, newest first: all of them, or the one that is wanted. Without presence those on nodes that report
/// here; when there are none, nobody can say that there are none elsewhere.
async fn sessions(
    controller: &Controller,
    user: &UserId,
    wanted: Option<SessionId>,
) -> Result<(Vec<SessionEntry>, Option<Missing>), Fault> {
    let is_wanted = |entry: &SessionEntry| wanted.is_none_or(|wanted| entry.session_id == wanted);
    match controller.promptly(controller.presence.sessions(user)).await {
        Ok(mut sessions) => {
            sessions.retain(is_wanted);
            Ok((sessions, None))
        }
        Err(error) if error.is_retryable() => {
            let held = controller.streams.sessions_of(user).into_iter().map(|session| session.entry);
            let held: Vec<SessionEntry> = held.filter(is_wanted).collect();
            if held.is_empty() {
                let message = format!(
                    "the shared memory does not answer, and no node that reports to this controller holds {user}; try again"
                );
                return Err(Fault::unavailable(message, retry_after()));
            }
            Ok((held, Some(Missing::Presence)))
        }
        Err(error) => Err(fault(&error)),
    }
}

/// One session leaves a room; the seat goes with the user's last one.
async fn leave_with(
    controller: &Controller,
    room: &RoomId,
    user: &UserId,
    session: SessionId,
) -> Result<(Vec<SessionEntry>, Option<Missing>), Fault> {
    let (sessions, missing) = sessions(controller, user, Some(session)).await?;
    if !sessions.is_empty() {
        seats::leave(controller, room, user, session).await.map_err(|error| fault(&error))?;
    }
    Ok((sessions, missing))
}
