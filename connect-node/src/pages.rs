//! What the client port serves beside `/ws`: the test page, the client module, stats, health, and the list of nodes.

pub mod loads;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use roomcast_registry::Roster;
use roomcast_runtime::Readiness;
use serde::Serialize;
use serde_json::json;

use self::loads::Loads;
use crate::{hub::Core, rpc};

const CLIENT_HTML: &str = include_str!("../../web/client.html");
const ROOMCAST_JS: &str = include_str!("../../web/roomcast.js");
const ROOMCAST_D_TS: &str = include_str!("../../web/roomcast.d.ts");

/// A list of the registry that is older says that the registry is away.
const LIST_AGE_MAX: Duration = Duration::from_secs(10);
/// How a client is to reconnect: full jitter up to the first, doubling to the last.
const RETRY_FIRST_MS: u64 = 500;
const RETRY_MAX_MS: u64 = 20_000;

/// What the pages show.
pub struct Site {
    hub: Arc<Core>,
    readiness: Readiness,
    /// From when the registry was found.
    peers: OnceLock<Peers>,
}

/// The other nodes.
pub struct Peers {
    /// All nodes.
    pub nodes: Arc<Roster>,
    /// Their sessions as a controller last knew.
    pub loads: Arc<Loads>,
}

impl Site {
    /// Of a node that knows no other yet.
    pub fn new(hub: Arc<Core>, readiness: Readiness) -> Self {
        Self { hub, readiness, peers: OnceLock::new() }
    }

    /// Says where to look for the other nodes; the first call counts.
    pub fn set_peers(&self, peers: Peers) {
        let _ = self.peers.set(peers);
    }
}

type Shared = State<Arc<Site>>;

/// All of it; anything else is a 404 in JSON.
pub fn router(site: Arc<Site>) -> Router {
    Router::new()
        .route("/", get(client))
        .route("/client.html", get(client))
        .route("/roomcast.js", get(module))
        .route("/roomcast.d.ts", get(types))
        .route("/stats", get(stats))
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/nodes", get(nodes))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .with_state(site)
}

fn text(content_type: &'static str, body: &'static str) -> Response {
    let headers = [(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-cache")];
    (headers, body).into_response()
}

/// Lets pages of any origin read it.
fn open(mut response: Response) -> Response {
    let any = HeaderValue::from_static("*");
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, any);
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
    response
}

async fn client() -> Response {
    text("text/html; charset=utf-8", CLIENT_HTML)
}

async fn module() -> Response {
    open(text("text/javascript; charset=utf-8", ROOMCAST_JS))
}

async fn types() -> Response {
    open(text("text/plain; charset=utf-8", ROOMCAST_D_TS))
}

async fn stats(State(site): Shared) -> Response {
    let stats = rpc::stats(&site.hub);
    let body = json!({
        "node_id": stats.node_id,
        "node_address": stats.node_address,
        "url": stats.url,
        "state": stats.state,
        "connections": stats.connections,
        "connections_max": stats.connections_max,
        "users": stats.users,
        "rooms": stats.rooms,
        "lanes": stats.lanes,
        "uptime_seconds": stats.uptime_seconds,
    });
    open(Json(body).into_response())
}

async fn health() -> Response {
    open(Json(json!({"status": "ok"})).into_response())
}

async fn ready(State(site): Shared) -> Response {
    open(site.readiness.answer())
}

/// What the node serves without: `lanes` of push-managers that are listed (their pushes do not arrive here), a
/// `controller` that takes its reports (first joins wait, others see its sessions as they were), `etcd`.
pub fn degraded(hub: &Core, managers: &Roster) -> Vec<&'static str> {
    let listing = managers.current();
    let is_linked = listing.registrations.iter().all(|listed| hub.is_linked(&listed.id, listed.incarnation));
    let is_listed = listing.listed_at.is_some_and(|at| at.elapsed() <= LIST_AGE_MAX);
    let all = [("lanes", is_linked), ("controller", hub.state().outbox.is_linked()), ("etcd", is_listed)];
    all.into_iter().filter(|(_, is_well)| !is_well).map(|(what, _)| what).collect()
}

#[derive(Serialize)]
struct Node<'a> {
    node_id: &'a str,
    url: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions: Option<u64>,
    state: &'static str,
}

async fn nodes(State(site): Shared) -> Response {
    let peers = site.peers.get();
    let (listing, loads) =
        peers.map(|peers| (peers.nodes.current(), peers.loads.current())).unwrap_or_default();
    let nodes: Vec<_> = listing
        .registrations
        .iter()
        .map(|listed| Node {
            node_id: listed.id.as_str(),
            url: &listed.url,
            sessions: loads.as_ref().and_then(|loads| loads.get(listed.id.as_str()).copied()),
            state: listed.state.as_str(),
        })
        .collect();
    let body = json!({"nodes": nodes, "retry": {"first_ms": RETRY_FIRST_MS, "max_ms": RETRY_MAX_MS}});
    open(Json(body).into_response())
}

async fn not_found() -> Response {
    let message = "there is no such page; there are /ws, /, /client.html, /roomcast.js, /stats, /health, /ready and /nodes";
    let body = json!({"error": {"code": "NOT_FOUND", "message": message}});
    (StatusCode::NOT_FOUND, Json(body)).into_response()
}

async fn not_allowed() -> Response {
    let body = json!({"error": {"code": "BAD_REQUEST", "message": "this page takes GET"}});
    (StatusCode::METHOD_NOT_ALLOWED, Json(body)).into_response()
}
