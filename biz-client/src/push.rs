//! Pushes, and shows what happened to them.

use roomcast_client::{Content, Error, PushOptions, PushReply, Pusher, Receipt};
use roomcast_types::UserId;

use crate::{
    args::{Action, Flags, How, PushTarget, Servers},
    degraded::Degraded,
    failure::Failure,
    output::{Output, list, pairs, yes},
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
    let reply = push(&pusher, target).await?.map_err(refused)?;
    output.show(&reply, describe)
}

async fn push(pusher: &Pusher, target: PushTarget) -> Result<Result<PushReply, Error>, Failure> {
    Ok(match target {
        PushTarget::Room { room, message, how } => {
            let (content, options) = content(&how, &message)?;
            pusher.push_to_room(room.as_str(), content, &options).await
        }
        PushTarget::User { user, message, how } => {
            let (content, options) = content(&how, &message)?;
            pusher.push_to_user(user.as_str(), content, &options).await
        }
        PushTarget::Users { users, message, how } => {
            let (content, options) = content(&how, &message)?;
            pusher.push_to_users(&users, content, &options).await
        }
        PushTarget::Broadcast { message, how } => {
            let (content, options) = content(&how, &message)?;
            pusher.broadcast(content, &options).await
        }
    })
}

fn content(how: &How, message: &str) -> Result<(Content, PushOptions), Failure> {
    let exclude_user_ids = how.exclude.iter().map(UserId::to_string).collect();
    Ok((how.content(message)?, PushOptions { exclude_user_ids, ..PushOptions::default() }))
}

fn describe(reply: &PushReply) -> String {
    let receipt = reply.receipt.clone().unwrap_or_default();
    let mut text = pairs([
        ("accepted", reply.message_id.clone()),
        ("targets", receipt.targets.to_string()),
        ("outcomes", outcomes(&receipt)),
        ("pending", receipt.pending.to_string()),
        ("nodes", nodes(&receipt)),
        ("complete", complete(&receipt)),
        ("logged", if reply.logged { yes(true) } else { String::new() }),
        Degraded(&reply.degraded).line(),
    ]);
    if !receipt.users.is_empty() {
        text.push_str(&users(&receipt));
    }
    text
}

fn outcomes(receipt: &Receipt) -> String {
    let outcomes = receipt.outcomes.iter().map(|(outcome, count)| format!("{outcome} {count}"));
    let outcomes = outcomes.collect::<Vec<_>>().join(", ");
    if outcomes.is_empty() { "none".to_owned() } else { outcomes }
}

fn nodes(receipt: &Receipt) -> String {
    let nodes = receipt.nodes.unwrap_or_default();
    format!("{} addressed, {} unreachable, {} blind", nodes.addressed, nodes.unreachable, nodes.blind)
}

fn complete(receipt: &Receipt) -> String {
    if receipt.complete {
        return yes(true);
    }
    format!("no: {} was not reached in time; what is pending is still on its way", receipt.level)
}

fn users(receipt: &Receipt) -> String {
    let rows = receipt.users.iter().map(|user| {
        let sessions =
            user.sessions.iter().map(|session| format!("{} on {}", session.outcome, session.node_id));
        [user.user_id.clone(), user.outcome.clone(), sessions.collect::<Vec<_>>().join(", ")]
    });
    list(["user", "outcome", "sessions"], rows)
}
