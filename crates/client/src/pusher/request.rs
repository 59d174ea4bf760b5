//! The requests of pushes, whichever way they travel.

use roomcast_proto::pubsub::{BroadcastRequest, PushToRoomRequest, PushToUserRequest, PushToUsersRequest};
use roomcast_types::{RoomId, UserId};

use super::PushOptions;
use crate::{content::Content, error::Error};

pub fn to_room(room_id: &str, content: Content, options: &PushOptions) -> Result<PushToRoomRequest, Error> {
    let room_id = RoomId::new(room_id)?.into();
    Ok(PushToRoomRequest { room_id, content: Some(content.into()), options: Some(options.into()) })
}

pub fn to_user(user_id: &str, content: Content, options: &PushOptions) -> Result<PushToUserRequest, Error> {
    let user_id = UserId::new(user_id)?.into();
    Ok(PushToUserRequest { user_id, content: Some(content.into()), options: Some(options.into()) })
}

pub fn to_users<U: AsRef<str>>(
    user_ids: impl IntoIterator<Item = U>,
    content: Content,
    options: &PushOptions,
) -> Result<PushToUsersRequest, Error> {
    let user_ids = user_ids.into_iter().map(|user_id| UserId::new(user_id).map(String::from));
    let user_ids = user_ids.collect::<Result<_, _>>()?;
    Ok(PushToUsersRequest { user_ids, content: Some(content.into()), options: Some(options.into()) })
}

pub fn to_all(content: Content, options: &PushOptions) -> BroadcastRequest {
    BroadcastRequest { content: Some(content.into()), options: Some(options.into()) }
}
