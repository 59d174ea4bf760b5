//! Shows why messages did or did not arrive: what every part says, and one sentence at the end.

mod show;

use roomcast_client::{Error, Pusher};
use roomcast_proto::pubsub::{ExplainRoomRequest, ExplainUserRequest};

use crate::{
    args::{Explain, Servers},
    failure::Failure,
    output::Output,
};

/// About a user or a room.
pub async fn explain(servers: &Servers, about: Explain, output: &mut Output) -> Result<(), Failure> {
    let pusher = pusher(servers)?;
    let Explain { user, room, message, last } = about;
    let room_id = room.map(String::from).unwrap_or_default();
    let explanation = match user {
        Some(user) => {
            let request = ExplainUserRequest { user_id: user.into(), message_id: message, room_id, last };
            pusher.explain_user(request).await
        }
        None => pusher.explain_room(ExplainRoomRequest { room_id, message_id: message, last }).await,
    };
    output.show(&explanation.map_err(refused)?, show::explanation)
}

/// About a message.
pub async fn trace(servers: &Servers, message_id: &str, output: &mut Output) -> Result<(), Failure> {
    let explanation = pusher(servers)?.trace_message(message_id).await.map_err(refused)?;
    output.show(&explanation, show::trace)
}

fn pusher(servers: &Servers) -> Result<Pusher, Failure> {
    let pusher = Pusher::new(&servers.push_manager).map_err(refused)?;
    Ok(pusher.deadline(servers.timeout).attempts_per_address(1))
}

fn refused(error: Error) -> Failure {
    Failure::of("push-manager", "--push-manager", error)
}
