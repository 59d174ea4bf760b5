//! The JSON API on the gRPC port: pushes, and what the controllers know, for whoever speaks plain HTTP.

mod body;
mod history;
mod push;
mod read;
mod reply;

use std::sync::Arc;

use axum::{
    Router,
    extract::Request,
    http::{Method, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use roomcast_types::{Code, Fault};

use self::reply::refusal;
use crate::{
    controllers::Controllers,
    push::{Pusher, Watches},
};

/// What the handlers share.
#[derive(Clone)]
pub struct Api {
    pusher: Arc<Pusher>,
    watches: Arc<Watches>,
    controllers: Arc<Controllers>,
    push_bytes_max: usize,
    body_bytes_max: usize,
}

impl Api {
    /// Bodies of up to `body_bytes_max` bytes, contents of up to `push_bytes_max`.
    pub fn new(
        pusher: Arc<Pusher>,
        watches: Arc<Watches>,
        controllers: Arc<Controllers>,
        push_bytes_max: usize,
        body_bytes_max: usize,
    ) -> Self {
        Self { pusher, watches, controllers, push_bytes_max, body_bytes_max }
    }
}

/// Adds the JSON API to the router of the gRPC services.
pub fn add(grpc: Router, api: Api) -> Router {
    let json = Router::new()
        .route("/v1/push/room/{room_id}", post(push::to_room))
        .route("/v1/push/user/{user_id}", post(push::to_user))
        .route("/v1/push/users", post(push::to_users))
        .route("/v1/push/broadcast", post(push::to_all))
        .route("/v1/push/{message_id}", get(read::receipt))
        .route("/v1/rooms", get(read::rooms))
        .route("/v1/rooms/{room_id}", get(read::room))
        .route("/v1/rooms/{room_id}/messages", get(history::of_room))
        .route("/v1/users/{user_id}/messages", get(history::of_user))
        .route("/v1/users", get(read::sessions))
        .route("/v1/users/{user_id}", get(read::user))
        .route("/v1/nodes", get(read::nodes))
        .method_not_allowed_fallback(wrong_method)
        .with_state(api);
    grpc.merge(json).fallback(unknown_path)
}

async fn unknown_path(request: Request) -> Response {
    let path = request.uri().path();
    let content_type = request.headers().get(header::CONTENT_TYPE);
    if content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc")) {
        let status = tonic::Status::unimplemented(format!("{path} is no method of this service"));
        return status.into_http::<axum::body::Body>().into_response();
    }
    let message = format!("there is nothing at {path}; see /v1/push/…, /v1/rooms, /v1/users and /v1/nodes");
    refusal(&Fault::new(Code::NotFound, message))
}

async fn wrong_method(method: Method, request: Request) -> Response {
    let path = request.uri().path();
    let takes = match path.strip_prefix("/v1/push/") {
        Some("users" | "broadcast") => "POST",
        Some(target) if target.contains('/') => "POST",
        _ => "GET",
    };
    let fault = Fault::bad_request(format!("{path} takes {takes}, not {method}"));
    let mut response = refusal(&fault);
    *response.status_mut() = axum::http::StatusCode::METHOD_NOT_ALLOWED;
    response
}
