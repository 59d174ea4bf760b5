//! Questions about users, and the end of their sessions.

use roomcast_proto::pubsub::{GetUserNodeRequest, KickUserRequest, SessionInfo, UserNode};

use crate::{
    args::{Servers, UserQuestion},
    degraded::Degraded,
    failure::Failure,
    output::{Output, list, pairs, yes},
    room::{controller, refused},
};

/// Asks and shows the answer.
pub async fn run(servers: &Servers, question: UserQuestion, output: &mut Output) -> Result<(), Failure> {
    let controller = controller(servers)?;
    match question {
        UserQuestion::Show { user } => {
            let request = GetUserNodeRequest { user_id: user.into() };
            let reply = controller.get_user_node(request).await.map_err(refused)?;
            output.show(&reply, describe)
        }
        UserQuestion::Kick { user, room, session } => {
            let room_id = room.map(String::from).unwrap_or_default();
            let request = KickUserRequest { user_id: user.into(), room_id, session_id: session };
            let reply = controller.kick_user(request).await.map_err(refused)?;
            let unreachable = reply.unreachable_node_ids.join(", ");
            output.show(&reply, |reply| {
                pairs([
                    ("kicked sessions", reply.sessions.to_string()),
                    ("unreachable nodes", unreachable.clone()),
                    Degraded(&reply.degraded).line(),
                ])
            })?;
            if unreachable.is_empty() {
                return Ok(());
            }
            Err(Failure::Refused(format!(
                "sessions on {unreachable} may still be there: no answer from there"
            )))
        }
    }
}

fn describe(user: &UserNode) -> String {
    let head = pairs([
        ("user", user.user_id.clone()),
        ("online", yes(user.online)),
        ("node", user.node_id.clone()),
        ("address", user.node_address.clone()),
        Degraded(&user.degraded).line(),
    ]);
    if user.sessions.is_empty() {
        return head;
    }
    format!("{head}{}", sessions(&user.sessions))
}

fn sessions(sessions: &[SessionInfo]) -> String {
    let rows = sessions
        .iter()
        .map(|session| [session.session_id.clone(), session.client_id.clone(), session.node_id.clone()]);
    list(["session", "client", "node"], rows)
}
