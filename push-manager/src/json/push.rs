//! `POST /v1/push/…`.

use axum::{
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    http::HeaderMap,
    response::IntoResponse,
};
use roomcast_proto::pubsub::{Content, PushOptions, PushReply};
use roomcast_types::Fault;

use super::{
    Api,
    body::{PushBody, UsersBody, parse, read},
    reply::Reply,
};
use crate::{
    metrics::Kind,
    push::{Call, Push},
};

type Id = Result<Path<String>, PathRejection>;

pub(super) async fn to_room(
    State(api): State<Api>,
    room_id: Id,
    headers: HeaderMap,
    body: Body,
) -> impl IntoResponse {
    let push = async {
        let room_id = id("room_id", room_id)?;
        let (content, options) = one(&api, &headers, body).await?;
        Push::to_room(&room_id, content, options, api.push_bytes_max)
    };
    carry_out(&api, push.await, Kind::Room, &headers).await
}

pub(super) async fn to_user(
    State(api): State<Api>,
    user_id: Id,
    headers: HeaderMap,
    body: Body,
) -> impl IntoResponse {
    let push = async {
        let user_id = id("user_id", user_id)?;
        let (content, options) = one(&api, &headers, body).await?;
        Push::to_user(&user_id, content, options, api.push_bytes_max)
    };
    carry_out(&api, push.await, Kind::Users, &headers).await
}

pub(super) async fn to_users(State(api): State<Api>, headers: HeaderMap, body: Body) -> impl IntoResponse {
    let push = async {
        let bytes = read(&headers, body, api.body_bytes_max).await?;
        let body: UsersBody<'_> = parse(&bytes)?;
        let content = Some(body.content.0.into_content(&bytes)?);
        Push::to_users(
            &body.user_ids,
            content,
            body.options.map(PushOptions::try_from).transpose()?,
            api.push_bytes_max,
        )
    };
    carry_out(&api, push.await, Kind::Users, &headers).await
}

pub(super) async fn to_all(State(api): State<Api>, headers: HeaderMap, body: Body) -> impl IntoResponse {
    let push = async {
        let (content, options) = one(&api, &headers, body).await?;
        Push::to_all(content, options, api.push_bytes_max)
    };
    carry_out(&api, push.await, Kind::All, &headers).await
}

async fn one(
    api: &Api,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Option<Content>, Option<PushOptions>), Fault> {
    let bytes = read(headers, body, api.body_bytes_max).await?;
    let body: PushBody<'_> = parse(&bytes)?;
    Ok((Some(body.content.0.into_content(&bytes)?), body.options.map(PushOptions::try_from).transpose()?))
}

async fn carry_out(
    api: &Api,
    push: Result<Push, Fault>,
    kind: Kind,
    headers: &HeaderMap,
) -> Reply<PushReply> {
    let traceparent = headers.get("traceparent").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let call = Call { traceparent: traceparent.into(), deadline: None };
    Reply(api.pusher.push(push, kind, call).await)
}

/// An id of the path, percent-decoded.
pub(super) fn id(field: &str, path: Id) -> Result<String, Fault> {
    match path {
        Ok(Path(id)) => Ok(id),
        Err(_) => Err(Fault::bad_request(format!("{field} in the path is not percent-encoded UTF-8"))),
    }
}
