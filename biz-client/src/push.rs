//! Pushes, and shows what happened to them.

use std::time::Duration;

use roomcast_client::{Content, Error, PushOptions, PushReply, Pusher};

use crate::{
    args::{Action, Flags, How, PushTarget, Servers},
    degraded::Degraded,
    failure::Failure,
    output::{Output, yes},
    receipt,
};

/// Pushes what `--action` and its flags describe.
pub async fn by_flags(servers: &Servers, flags: Flags, output: &mut Output) -> Result<(), Failure> {
    let usage = |text: &str| Err(Failure::Usage(format!("{text}; --help tells more")));
    let Flags { action, room, user, message, how } = flags;
    let Some(action) = action else {
        return usage("nothing to do: give --action or a command, for example push room room-001 \"Hello\"");
    };
    let Some(message) = message else { return usage("--action needs --message") };
    let target = match (action, room, user) {
        (Action::PushToRoom, Some(room), None) => PushTarget::Room { room, message, how },
        (Action::PushToRoom, None, _) => return usage("--action push-to-room needs --room"),
        (Action::PushToRoom, Some(_), Some(_)) => return usage("--action push-to-room takes no --user"),
        (Action::PushToUser, None, Some(user)) => PushTarget::User { user, message, how },
        (Action::PushToUser, _, None) => return usage("--action push-to-user needs --user"),
        (Action::PushToUser, Some(_), Some(_)) => return usage("--action push-to-user takes no --room"),
        (Action::Broadcast, None, None) => PushTarget::Broadcast { message, how },
        (Action::Broadcast, _, _) => return usage("--action broadcast takes neither --room nor --user"),
    };
    by_command(servers, target, output).await
}

/// Pushes and shows the receipt.
pub async fn by_command(servers: &Servers, target: PushTarget, output: &mut Output) -> Result<(), Failure> {
    let refused = |error| Failure::of("push-manager", "--push-manager", error);
    let pusher = Pusher::new(&servers.push_manager).map_err(refused)?;
    let pusher = pusher.deadline(servers.timeout).attempts_per_address(1);
    let is_level_wanted = target.how().wait.is_some();
    let reply = push(&pusher, target, servers.timeout).await?.map_err(refused)?;
    output.show(&reply, describe)?;
    let is_complete = reply.receipt.is_none_or(|receipt| receipt.complete);
    if is_level_wanted && !is_complete { Err(Failure::Incomplete) } else { Ok(()) }
}

async fn push(
    pusher: &Pusher,
    target: PushTarget,
    timeout: Duration,
) -> Result<Result<PushReply, Error>, Failure> {
    Ok(match target {
        PushTarget::Room { room, message, how } => {
            let (content, options) = content(&how, &message, timeout)?;
            pusher.push_to_room(room.as_str(), content, &options).await
        }
        PushTarget::User { user, message, how } => {
            let (content, options) = content(&how, &message, timeout)?;
            pusher.push_to_user(user.as_str(), content, &options).await
        }
        PushTarget::Users { users, message, how } => {
            let (content, options) = content(&how, &message, timeout)?;
            pusher.push_to_users(&users, content, &options).await
        }
        PushTarget::Broadcast { message, how } => {
            let (content, options) = content(&how, &message, timeout)?;
            pusher.broadcast(content, &options).await
        }
    })
}

fn content(how: &How, message: &str, timeout: Duration) -> Result<(Content, PushOptions), Failure> {
    Ok((how.content(message)?, how.options(timeout)))
}

fn describe(reply: &PushReply) -> String {
    let receipt = reply.receipt.clone().unwrap_or_default();
    let logged = match reply.logged {
        true => format!("yes, at #{} of epoch {}", reply.offset, reply.epoch),
        false => yes(false),
    };
    let duplicate = if reply.duplicate { "yes, the key was used before: this is that push" } else { "" };
    let head = [
        ("accepted", reply.message_id.clone()),
        ("logged", logged),
        ("duplicate", duplicate.to_owned()),
        Degraded(&reply.degraded).line(),
    ];
    receipt::describe(head, &receipt)
}
