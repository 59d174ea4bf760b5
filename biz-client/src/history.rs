//! Shows what a log keeps.

use base64::{Engine, prelude::BASE64_STANDARD};
use roomcast_client::{GetHistoryReply, HistoryMessage, LogOf, Page, Pusher};
use roomcast_proto::pubsub::Content;
use serde_json::{Value, json};

use crate::{
    args::{History, Servers},
    failure::Failure,
    output::{Output, list, pairs, utc},
};

/// Asks for a page and shows it.
pub async fn run(servers: &Servers, history: History, output: &mut Output) -> Result<(), Failure> {
    let refused = |error| Failure::of("push-manager", "--push-manager", error);
    let pusher = Pusher::new(&servers.push_manager).map_err(refused)?;
    let pusher = pusher.deadline(servers.timeout).attempts_per_address(1);
    let History { room, user, after, before, limit } = history;
    let log = match (room, user) {
        (Some(room), _) => LogOf::Room(room.into()),
        (None, Some(user)) => LogOf::User(user.into()),
        (None, None) => return Err(Failure::Usage("history needs a room or --user".into())),
    };
    let page = match (after, before) {
        (Some(offset), _) => Page::After(offset),
        (None, Some(offset)) => Page::Before(offset),
        (None, None) => Page::Newest,
    };
    let reply = pusher.history(log, page, limit).await.map_err(refused)?;
    output.show(&as_json(&reply), |_| describe(&reply, page))
}

/// As `GET /v1/rooms/{room_id}/messages` says it.
fn as_json(reply: &GetHistoryReply) -> Value {
    let messages: Vec<_> = reply.messages.iter().map(message_as_json).collect();
    json!({"epoch": reply.epoch, "offset": reply.offset, "first": reply.first, "messages": messages,
        "has_more": reply.has_more})
}

fn message_as_json(message: &HistoryMessage) -> Value {
    let content = message.content.clone().unwrap_or_default();
    let (name, data) = match text(&content) {
        Some(text) => ("data", text.to_owned()),
        None => ("data_base64", BASE64_STANDARD.encode(&content.data)),
    };
    json!({"message_id": message.message_id, "offset": message.offset,
        "content": {"type": content.r#type().as_str_name(), name: data, "timestamp": content.timestamp},
        "timestamp_ms": message.timestamp_ms, "exclude_user_ids": message.exclude_user_ids,
        "expires_at_ms": message.expires_at_ms})
}

fn text(content: &Content) -> Option<&str> {
    std::str::from_utf8(&content.data).ok().filter(|_| !content.binary)
}

fn describe(reply: &GetHistoryReply, page: Page) -> String {
    let is_empty = reply.first > reply.offset;
    let kept = if is_empty { "nothing".to_owned() } else { format!("#{} to #{}", reply.first, reply.offset) };
    let head = pairs([("epoch", reply.epoch.clone()), ("kept", kept)]);
    let rows = reply.messages.iter().map(row);
    let list = list(["offset", "accepted", "type", "message", "message id"], rows);
    let ends = (reply.messages.first(), reply.messages.last());
    let more = match (reply.has_more, page, ends) {
        (true, Page::After(_), (_, Some(last))) => format!("there are more: --after {}\n", last.offset),
        (true, _, (Some(first), _)) => format!("there are more: --before {}\n", first.offset),
        _ => String::new(),
    };
    format!("{head}{list}{more}")
}

fn row(message: &HistoryMessage) -> [String; 5] {
    let content = message.content.clone().unwrap_or_default();
    let kind = content.r#type().as_str_name();
    let text = text(&content).map_or_else(|| format!("({} bytes)", content.data.len()), str::to_owned);
    let accepted = utc(message.timestamp_ms);
    [format!("#{}", message.offset), accepted, kind.to_owned(), text, message.message_id.clone()]
}
