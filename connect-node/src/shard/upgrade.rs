//! Connections before they are sessions: HTTP/1.1 on the shard's own thread, pages, and the upgrade of `/ws`.

use std::{cell::RefCell, convert::Infallible, net::TcpStream, rc::Rc, time::Duration};

use axum::{Router, body::Body};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::{body::Incoming, server::conn::http1, service::Service, upgrade::OnUpgrade};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use roomcast_types::{Code, Fault, SessionId};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{
    Error, error::ProtocolError, handshake::server::create_response_with_body,
};

use super::{query, session::Opening, state::Shard, thread};
use crate::{load::Place, wire::Encoding};

/// What one connection may keep in memory for its request line and headers.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// A connection that asks for pages only is ended after this long; its client opens another.
const PAGES_MAX: Duration = Duration::from_secs(60);
/// When a client that found the node full, or not open, may try again.
const RETRY_FULL: Duration = Duration::from_secs(5);
const RETRY_NOT_OPEN: Duration = Duration::from_secs(1);

/// Speaks HTTP with a connection until it ends or becomes a session.
pub(super) async fn serve(shard: Rc<RefCell<Shard>>, pages: Router, stream: TcpStream) {
    let accepted_at = Instant::now();
    let (handshake, timeout) = {
        let shard = shard.borrow();
        (shard.load.adopt_handshake(shard.index), shard.config().handshake_timeout)
    };
    let Ok(stream) = tokio::net::TcpStream::from_std(stream) else { return };
    let pages = TowerToHyperService::new(pages);
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        let (shard, pages) = (shard.clone(), &pages);
        async move {
            match request.uri().path() {
                "/ws" => Ok::<_, Infallible>(answer(&shard, request, accepted_at)),
                _ => pages.call(request).await,
            }
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Ok(Err(error)) = tokio::time::timeout(PAGES_MAX, serving).await {
        tracing::debug!(%error, "a connection ended before it was a session");
    }
    drop(handshake);
}

/// Answers a request for `/ws`: 101, and a session from then on, or why not.
fn answer(
    shard: &Rc<RefCell<Shard>>,
    mut request: Request<Incoming>,
    accepted_at: Instant,
) -> Response<Body> {
    let admitted = admit(&shard.borrow(), &request);
    match admitted {
        Ok((response, admitted)) => {
            let upgrade = hyper::upgrade::on(&mut request);
            let session = upgraded(shard.clone(), upgrade, admitted, accepted_at);
            tokio::task::spawn_local(thread::guarded(shard.clone(), session));
            response
        }
        Err(refusal) => *refusal,
    }
}

type Refusal = Box<Response<Body>>;

/// What a session will be made of.
struct Admitted {
    query: query::Query,
    encoding: Encoding,
    place: Place,
}

fn admit(shard: &Shard, request: &Request<Incoming>) -> Result<(Response<Body>, Admitted), Refusal> {
    let (config, refused) = (shard.config(), &shard.metrics.refused);
    if !shard.load.is_open() {
        refused.not_open.increment(1);
        let fault = Fault::unavailable("this node takes no sessions now", RETRY_NOT_OPEN);
        return Err(refusal(StatusCode::SERVICE_UNAVAILABLE, &fault));
    }
    let bad_request = |refusal| {
        refused.bad_request.increment(1);
        refusal
    };
    let mut response =
        create_response_with_body(request, Body::empty).map_err(|error| bad_request(no_upgrade(&error)))?;
    let offered = offered(request.headers()).map_err(bad_request)?;
    if let Some(encoding) = offered {
        let protocol = HeaderValue::from_static(encoding.subprotocol());
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    let query = query::parse(request.uri().query().unwrap_or_default(), config.rooms_max)
        .map_err(|fault| bad_request(refusal(StatusCode::BAD_REQUEST, &fault)))?;
    let Some(place) = shard.load.take_place(shard.index, config.sessions_max) else {
        refused.sessions_max.increment(1);
        let fault = Fault::unavailable("this node has all the sessions it may have", RETRY_FULL);
        return Err(refusal(StatusCode::SERVICE_UNAVAILABLE, &fault));
    };
    Ok((response, Admitted { query, encoding: offered.unwrap_or_default(), place }))
}

/// The first sub-protocol of ours that the client offers; none when it offers none at all.
fn offered(headers: &HeaderMap) -> Result<Option<Encoding>, Refusal> {
    let mut offers = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().peekable();
    if offers.peek().is_none() {
        return Ok(None);
    }
    let mut names = offers.filter_map(|offer| offer.to_str().ok()).flat_map(|offer| offer.split(','));
    if let Some(encoding) = names.find_map(|name| Encoding::of_subprotocol(name.trim())) {
        return Ok(Some(encoding));
    }
    let ours = Encoding::ALL.map(Encoding::subprotocol).join(" or ");
    let fault = Fault::bad_request(format!("Sec-WebSocket-Protocol offers no {ours}"));
    Err(refusal(StatusCode::BAD_REQUEST, &fault))
}

/// Why a request is no WebSocket handshake. RFC 6455, 4.2.1 and 4.4.
fn no_upgrade(error: &Error) -> Refusal {
    use ProtocolError as P;
    let (status, message) = match error {
        Error::Protocol(P::WrongHttpMethod) => (StatusCode::METHOD_NOT_ALLOWED, "/ws takes GET only"),
        Error::Protocol(P::MissingConnectionUpgradeHeader | P::MissingUpgradeWebSocketHeader) => (
            StatusCode::UPGRADE_REQUIRED,
            "/ws speaks WebSocket: send Connection: Upgrade and Upgrade: websocket",
        ),
        Error::Protocol(P::MissingSecWebSocketVersionHeader) => {
            (StatusCode::UPGRADE_REQUIRED, "Sec-WebSocket-Version is not 13")
        }
        Error::Protocol(P::MissingSecWebSocketKey | P::InvalidSecWebSocketKey) => {
            (StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is not 16 bytes in base64")
        }
        _ => (StatusCode::BAD_REQUEST, "/ws takes HTTP/1.1 only"),
    };
    let mut response = refusal(status, &Fault::bad_request(message));
    let headers = response.headers_mut();
    match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
        }
        StatusCode::UPGRADE_REQUIRED => {
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        _ => {}
    }
    response
}

fn refusal(status: StatusCode, fault: &Fault) -> Refusal {
    let mut response = Response::new(Body::from(error_body(fault)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(after) = fault.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    Box::new(response)
}

/// The JSON of an error before the upgrade.
pub(crate) fn error_body(fault: &Fault) -> String {
    serde_json::json!({"error": {"code": fault.code.as_str(), "message": fault.message}}).to_string()
}

/// The raw answer to a connection that is refused before its request was read.
pub(crate) fn refused_unread() -> String {
    let body = error_body(&Fault::new(Code::Unavailable, "this node has all the handshakes it may have"));
    format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Makes a session of the connection when hyper lets go of it.
async fn upgraded(
    shard: Rc<RefCell<Shard>>,
    upgrade: OnUpgrade,
    Admitted { query, encoding, place }: Admitted,
    accepted_at: Instant,
) {
    let parts = match upgrade.await.map(|upgraded| upgraded.downcast::<TokioIo<tokio::net::TcpStream>>()) {
        Ok(Ok(parts)) => parts,
        Ok(Err(_)) => return tracing::error!("an upgraded connection is no TCP stream"),
        Err(error) => return tracing::debug!(%error, "a connection ended during its upgrade"),
    };
    let opening = Opening {
        stream: parts.io.into_inner(),
        // A copy: the original keeps hyper's whole buffer alive.
        read_ahead: parts.read_buf.to_vec(),
        session_id: SessionId::random(),
        user_id: query.user_id,
        client_id: query.client_id,
        rooms: query.rooms,
        encoding,
        place,
    };
    let key = shard.borrow_mut().open(opening, (query.user_name, query.since), accepted_at);
    if let Some(key) = key {
        // A task of its own: this one carries the remains of the handshake.
        tokio::task::spawn_local(thread::session(shard, key));
    }
}
