//! `GET /v1/…`: asks a controller and answers with its reply.

use std::time::Duration;

use axum::{
    extract::{Path, Query, State, rejection::PathRejection, rejection::QueryRejection},
    response::IntoResponse,
};
use futures_util::StreamExt;
use roomcast_proto::pubsub::{
    GetRoomInfoRequest, GetUserNodeRequest, ListNodesRequest, ListRoomsRequest, ListSessionsRequest,
    WatchPushRequest,
};
use roomcast_types::{Code, Fault, NodeId, RoomId, UserId};
use serde::Deserialize;

use super::{Api, push::id, reply::Reply};

/// How long one controller may take for a page.
const ASK: Duration = Duration::from_secs(2);

type Id = Result<Path<String>, PathRejection>;
type Parameters<T> = Result<Query<T>, QueryRejection>;

/// Which page.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Page {
    page_size: u32,
    page_token: String,
}

/// Which page of which node's sessions.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct NodePage {
    node_id: String,
    page_size: u32,
    page_token: String,
}

pub(super) async fn rooms(State(api): State<Api>, page: Parameters<Page>) -> impl IntoResponse {
    Reply(
        async {
            let Page { page_size, page_token } = parameters(page)?;
            let request = ListRoomsRequest { page_size, page_token };
            api.controllers
                .ask(ASK, |mut controller| {
                    let request = request.clone();
                    async move { controller.list_rooms(request).await }
                })
                .await
        }
        .await,
    )
}

pub(super) async fn room(State(api): State<Api>, room_id: Id, page: Parameters<Page>) -> impl IntoResponse {
    Reply(
        async {
            let room_id = RoomId::new(id("room_id", room_id)?)?.to_string();
            let Page { page_size, page_token } = parameters(page)?;
            let request = GetRoomInfoRequest { room_id, page_size, page_token, card_only: false };
            api.controllers
                .ask(ASK, |mut controller| {
                    let request = request.clone();
                    async move { controller.get_room_info(request).await }
                })
                .await
        }
        .await,
    )
}

pub(super) async fn user(State(api): State<Api>, user_id: Id) -> impl IntoResponse {
    Reply(
        async {
            let user_id = UserId::new(id("user_id", user_id)?)?.to_string();
            api.controllers
                .ask(ASK, |mut controller| {
                    let request = GetUserNodeRequest { user_id: user_id.clone() };
                    async move { controller.get_user_node(request).await }
                })
                .await
        }
        .await,
    )
}

pub(super) async fn sessions(State(api): State<Api>, page: Parameters<NodePage>) -> impl IntoResponse {
    Reply(
        async {
            let NodePage { node_id, page_size, page_token } = parameters(page)?;
            let node_id = NodeId::new(node_id)?.to_string();
            let request = ListSessionsRequest { node_id, page_size, page_token };
            api.controllers
                .ask(ASK, |mut controller| {
                    let request = request.clone();
                    async move { controller.list_sessions(request).await }
                })
                .await
        }
        .await,
    )
}

pub(super) async fn nodes(State(api): State<Api>) -> impl IntoResponse {
    Reply(
        api.controllers
            .ask(ASK, |mut controller| async move { controller.list_nodes(ListNodesRequest {}).await })
            .await,
    )
}

/// The receipt of a push as it is now.
pub(super) async fn receipt(State(api): State<Api>, message_id: Id) -> impl IntoResponse {
    Reply(
        async {
            let message_id = id("message_id", message_id)?;
            let request = WatchPushRequest { message_id, until: None, once: true };
            let mut replies = api.watches.watch(request, false).await?;
            replies.next().await.unwrap_or_else(|| Err(Fault::new(Code::Internal, "there is no receipt")))
        }
        .await,
    )
}

pub(super) fn parameters<T>(query: Parameters<T>) -> Result<T, Fault> {
    match query {
        Ok(Query(parameters)) => Ok(parameters),
        Err(rejection) => {
            let text = rejection.body_text();
            let reason = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            Err(Fault::bad_request(format!("query: {reason}")))
        }
    }
}
