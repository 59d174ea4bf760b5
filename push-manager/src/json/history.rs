//! `GET /v1/rooms/{room_id}/messages` and `/v1/users/{user_id}/messages`: pages of logs, with contents as clients see them.

use axum::{
    extract::{Path, Query, State, rejection::PathRejection, rejection::QueryRejection},
    response::IntoResponse,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use roomcast_proto::pubsub::{
    Content, GetHistoryReply, GetHistoryRequest, HistoryMessage, get_history_request::Log,
};
use serde::{Deserialize, Serialize};

use super::{Api, push::id, read::parameters, reply::Reply};

type Id = Result<Path<String>, PathRejection>;

/// Which page.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Page {
    after: Option<u64>,
    before: Option<u64>,
    limit: u32,
}

#[derive(Debug, Serialize)]
struct Messages {
    epoch: String,
    offset: u64,
    first: u64,
    messages: Vec<Message>,
    has_more: bool,
}

#[derive(Debug, Serialize)]
struct Message {
    message_id: String,
    offset: u64,
    content: Body,
    timestamp_ms: i64,
    exclude_user_ids: Vec<String>,
    expires_at_ms: i64,
}

#[derive(Debug, Serialize)]
struct Body {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
    timestamp: i64,
}

pub(super) async fn of_room(
    State(api): State<Api>,
    room_id: Id,
    page: Result<Query<Page>, QueryRejection>,
) -> impl IntoResponse {
    Reply(
        async {
            let log = Log::RoomId(id("room_id", room_id)?);
            let reply = api.pusher.history(request(log, parameters(page)?)).await?;
            Ok(Messages::from(reply))
        }
        .await,
    )
}

pub(super) async fn of_user(
    State(api): State<Api>,
    user_id: Id,
    page: Result<Query<Page>, QueryRejection>,
) -> impl IntoResponse {
    Reply(
        async {
            let log = Log::UserId(id("user_id", user_id)?);
            let reply = api.pusher.history(request(log, parameters(page)?)).await?;
            Ok(Messages::from(reply))
        }
        .await,
    )
}

fn request(log: Log, page: Page) -> GetHistoryRequest {
    let Page { after, before, limit } = page;
    GetHistoryRequest { log: Some(log), after, before, limit }
}

impl From<GetHistoryReply> for Messages {
    fn from(reply: GetHistoryReply) -> Self {
        let GetHistoryReply { epoch, offset, first, messages, has_more } = reply;
        Self { epoch, offset, first, messages: messages.into_iter().map(Message::from).collect(), has_more }
    }
}

impl From<HistoryMessage> for Message {
    fn from(message: HistoryMessage) -> Self {
        Self {
            message_id: message.message_id,
            offset: message.offset,
            content: Body::from(message.content.unwrap_or_default()),
            timestamp_ms: message.timestamp_ms,
            exclude_user_ids: message.exclude_user_ids,
            expires_at_ms: message.expires_at_ms,
        }
    }
}

impl From<Content> for Body {
    fn from(content: Content) -> Self {
        let kind = content.r#type().as_str_name();
        let text = (!content.binary).then(|| std::str::from_utf8(&content.data).ok()).flatten();
        let (data, data_base64) = match text {
            Some(text) => (Some(text.to_owned()), None),
            None => (None, Some(STANDARD.encode(&content.data))),
        };
        Self { kind, data, data_base64, timestamp: content.timestamp }
    }
}
