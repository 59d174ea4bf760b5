//! Listening and serving: HTTP/1.1 and HTTP/2 (gRPC) on one port, with an end that waits for requests under way.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// How long requests under way may take after the end was asked for.
const GRACE: Duration = Duration::from_secs(2);
/// How long a client that has connected and said nothing is waited for after that.
const FIRST_WORD: Duration = Duration::from_millis(200);
/// Connections at once on one internal port.
const CONNECTIONS_MAX: usize = 8192;

/// Why a port could not be taken; one line with what to do.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {purpose}: {}; {}", reason(source), advice(source, key))]
pub struct BindError {
    address: SocketAddr,
    purpose: &'static str,
    key: &'static str,
    #[source]
    source: io::Error,
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program holds the port, or a connection that ended within the last minute".to_owned()
        }
        _ => error.to_string(),
    }
}

fn advice(error: &io::Error, key: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!("stop that program, wait, or set {key} to a free port"),
        io::ErrorKind::AddrNotAvailable => "set network.bind to an address of this machine".to_owned(),
        _ => format!("set {key} or network.bind"),
    }
}

/// A port that was taken before anything else was started.
#[derive(Debug)]
pub struct Bound {
    /// Accepts connections.
    pub listener: TcpListener,
    /// The address with the real port, also when port 0 was asked for.
    pub address: SocketAddr,
}

/// Takes a port; `key` is the configuration key that names it. Port 0 takes a free one.
pub async fn bind(
    ip: IpAddr,
    port: u16,
    purpose: &'static str,
    key: &'static str,
) -> Result<Bound, BindError> {
    let address = SocketAddr::new(ip, port);
    let failed = |source| BindError { address, purpose, key, source };
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)
        .map_err(failed)?;
    socket.set_reuse_address(true).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    socket.bind(&address.into()).map_err(failed)?;
    socket.listen(4096).map_err(failed)?;
    let listener = TcpListener::from_std(socket.into()).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok(Bound { listener, address })
}

/// Where the connections of a port are served: where they are accepted until runtimes are named, then on those in turn.
#[derive(Debug, Clone, Default)]
pub(crate) struct Homes(Arc<OnceLock<Vec<Handle>>>);

impl Homes {
    /// Serves connections that come from now on by these runtimes; the first call counts, and none is no call.
    pub fn set(&self, runtimes: Vec<Handle>) {
        if !runtimes.is_empty() {
            let _ = self.0.set(runtimes);
        }
    }

    /// Where the `turn`th connection goes; `None` where it was accepted.
    fn of(&self, turn: usize) -> Option<&Handle> {
        let runtimes = self.0.get()?;
        runtimes.get(turn % runtimes.len())
    }
}

/// Serves a router until `end` is cancelled, then lets requests under way finish for two seconds, and those of clients that
/// had connected and not been heard. Dropping the future ends every connection at once. Speaks HTTP/1.1 and HTTP/2 with
/// prior knowledge, so gRPC and JSON share it.
pub async fn serve(bound: Bound, router: Router, end: CancellationToken) {
    serve_on(bound, router, end, CancellationToken::new(), Homes::default()).await;
}

/// As [`serve`], each connection where `homes` says when it comes. Cancels `left` when the port is given up: whoever
/// connects later is refused.
pub(crate) async fn serve_on(
    bound: Bound,
    router: Router,
    end: CancellationToken,
    left: CancellationToken,
    homes: Homes,
) {
    // However this ends, nobody waits for it any more.
    let given_up = left.clone().drop_guard();
    let mut connections = JoinSet::new();
    let mut turn = 0;
    loop {
        let accepted = tokio::select! {
            accepted = bound.listener.accept(), if connections.len() < CONNECTIONS_MAX => accepted,
            Some(_) = connections.join_next() => continue,
            () = end.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                spawn(&mut connections, homes.of(turn), stream, &router, &left);
                turn += 1;
            }
            Err(error) => {
                // Out of descriptors, usually: others must end before the next one fits.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    for stream in backlog(bound) {
        spawn(&mut connections, homes.of(turn), stream, &router, &left);
        turn += 1;
    }
    // Only now are connections told to go: one that comes again at once is refused, where it could have been reset.
    drop(given_up);
    let all = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(GRACE, all).await;
}

/// Gives a port up, and the connections that waited to be accepted.
fn backlog(bound: Bound) -> Vec<TcpStream> {
    let taken = |stream: std::net::TcpStream| {
        stream.set_nonblocking(true)?;
        TcpStream::from_std(stream)
    };
    let Ok(listener) = bound.listener.into_std() else { return Vec::new() };
    let streams = std::iter::from_fn(|| listener.accept().ok());
    streams.take(CONNECTIONS_MAX).filter_map(|(stream, _)| taken(stream).ok()).collect()
}

fn spawn(
    connections: &mut JoinSet<()>,
    home: Option<&Handle>,
    stream: TcpStream,
    router: &Router,
    left: &CancellationToken,
) {
    // Without it small replies wait for the peer's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let (router, left) = (router.clone(), left.clone());
    let Some(home) = home else {
        connections.spawn(connection(stream, router, left));
        return;
    };
    // The other runtime watches the socket, not this one.
    let moved = stream.into_std();
    let serving = async move {
        match moved.and_then(TcpStream::from_std) {
            Ok(stream) => connection(stream, router, left).await,
            Err(error) => tracing::debug!(%error, "a connection was lost before it was served"),
        }
    };
    connections.spawn_on(serving, home);
}

async fn connection(stream: TcpStream, router: Router, left: CancellationToken) {
    // A connection with unread bytes is not ended but reset. Behind the first ones whoever serves knows how to end it.
    let patience = async {
        left.cancelled().await;
        tokio::time::sleep(FIRST_WORD).await;
    };
    tokio::select! {
        biased;
        _ = stream.readable() => {}
        () = patience => return,
    }
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(4096)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .keep_alive_interval(Duration::from_secs(20));
    let serving = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(serving);
    let ended = tokio::select! {
        biased;
        ended = &mut serving => ended,
        () = left.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = &*error, "a connection ended with an error");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers with the name of the thread that serves.
    async fn whoever() -> String {
        std::thread::current().name().unwrap_or_default().to_owned()
    }

    #[test]
    fn connections_are_served_by_the_runtimes_named_in_turn_and_end_with_them() {
        let runtime = |name: &str| {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(1).thread_name(name).enable_all().build().unwrap()
        };
        let (accepting, one, other) = (runtime("accepting"), runtime("one"), runtime("other"));
        let (homes, end) = (Homes::default(), CancellationToken::new());
        let bound = accepting.block_on(bind([127, 0, 0, 1].into(), 0, "tests", "test")).unwrap();
        let address = bound.address;
        let router = Router::new().route("/", axum::routing::get(whoever));
        let serving =
            accepting.spawn(serve_on(bound, router, end.clone(), CancellationToken::new(), homes.clone()));
        let ask = || {
            use std::io::{Read, Write};
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer.rsplit_once("\r\n\r\n").unwrap().1.to_owned()
        };
        assert_eq!(ask(), "accepting");
        homes.set(vec![one.handle().clone(), other.handle().clone()]);
        let mut served = [ask(), ask()];
        served.sort();
        assert_eq!(served, ["one", "other"]);
        drop((one, other));
        end.cancel();
        accepting.block_on(serving).unwrap();
    }

    #[tokio::test]
    async fn who_came_before_the_end_is_answered() {
        use std::io::{Read, Write};
        let bound = bind([127, 0, 0, 1].into(), 0, "tests", "test").await.unwrap();
        let (address, end) = (bound.address, CancellationToken::new());
        let clients: Vec<_> = (0..16)
            .map(|_| {
                let mut stream = std::net::TcpStream::connect(address).unwrap();
                stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
                stream
            })
            .collect();
        end.cancel();
        let router = Router::new().route("/", axum::routing::get(|| async { "answered" }));
        serve(bound, router, end).await;
        for mut client in clients {
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert!(answer.ends_with("answered"), "{answer:?}");
        }
        assert!(std::net::TcpStream::connect(address).is_err(), "the port is given up");
    }

    #[tokio::test]
    async fn a_port_in_use_is_one_clear_line() {
        let ip = IpAddr::from([127, 0, 0, 1]);
        let first = bind(ip, 0, "tests", "server.port").await.unwrap();
        let error = bind(ip, first.address.port(), "controller gRPC", "server.port").await.unwrap_err();
        let line = error.to_string();
        assert!(line.contains(&first.address.to_string()) && line.contains("controller gRPC"), "{line}");
        assert!(line.contains("set server.port to a free port") && !line.contains('\n'), "{line}");
    }
}
