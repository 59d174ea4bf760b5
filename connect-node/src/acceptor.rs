//! Accepts connections on the client port and hands each, untouched, to the shard with the fewest sockets.

use std::{fs::File, io, sync::Arc, time::Duration};

use roomcast_runtime::Bound;
use socket2::SockRef;
use tokio::{net::TcpStream, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    load::Load,
    ports::{Shards, ToShard},
    shard::{Config, ShardMetrics, upgrade::refused_unread},
};

/// Bytes that the kernel may hold unsent per socket; what is beyond waits in our queue, where it can be dropped.
const NOTSENT_LOWAT: u32 = 32 * 1024;
/// Pause after an error that the next accept would meet again.
const ERROR_PAUSE: Duration = Duration::from_millis(50);
/// How long a connection waits for the handshakes before it to become fewer, and how often they are looked at.
const PATIENCE: Duration = Duration::from_millis(500);
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// The acceptor of one node.
pub struct Acceptor {
    shards: Shards,
    load: Arc<Load>,
    config: Arc<Config>,
    metrics: ShardMetrics,
    /// Given up to accept, and refuse, one connection when the process is out of descriptors.
    spare: Option<File>,
    is_short: bool,
    /// The handshakes did not become fewer while one waited.
    is_stuck: bool,
}

impl Acceptor {
    /// Accepts until `end` is cancelled; the listener closes with it. Never fails: what cannot be accepted is counted
    /// and refused.
    pub async fn run(
        bound: Bound,
        shards: Shards,
        load: Arc<Load>,
        config: Arc<Config>,
        metrics: ShardMetrics,
        end: CancellationToken,
    ) {
        let mut acceptor =
            Self { shards, load, config, metrics, spare: spare(), is_short: false, is_stuck: false };
        let accepting = async {
            loop {
                match bound.listener.accept().await {
                    Ok((stream, _)) => acceptor.take(stream).await,
                    Err(error) => acceptor.failed(&bound, error).await,
                }
            }
        };
        end.run_until_cancelled(accepting).await;
    }

    async fn take(&mut self, stream: TcpStream) {
        self.is_short = false;
        if !self.has_place().await {
            self.metrics.refused.handshakes_max.increment(1);
            return refuse(&stream);
        }
        if let Err(error) = self.hand_over(stream).await {
            // The peer is gone already, as a rule.
            tracing::debug!(%error, "a connection was lost before it reached its shard");
        }
    }

    /// Whether one more handshake may begin. Of a crowd the next ones wait in the kernel, and are not sent away to come back
    /// later; but behind sockets that never say anything nobody waits twice.
    async fn has_place(&mut self) -> bool {
        let end = Instant::now() + PATIENCE;
        while self.load.handshakes() >= self.config.handshakes_max {
            if self.is_stuck || Instant::now() >= end {
                self.is_stuck = true;
                return false;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.is_stuck = false;
        true
    }

    async fn hand_over(&self, stream: TcpStream) -> io::Result<()> {
        let socket = SockRef::from(&stream);
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_notsent_lowat(NOTSENT_LOWAT)?;
        socket.set_tcp_user_timeout(Some(self.config.user_timeout()))?;
        let stream = stream.into_std()?;
        let shard = self.load.lightest();
        let handshake = self.load.begin_handshake(shard);
        if self.shards.send(shard, ToShard::Accept(stream)).await {
            handshake.hand_over();
            self.metrics.accepted.increment(1);
        }
        Ok(())
    }

    async fn failed(&mut self, bound: &Bound, error: io::Error) {
        if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) {
            self.shed(bound).await;
        } else {
            // Of the connection, which is gone: ECONNABORTED and the like.
            tracing::debug!(%error, "cannot accept a connection");
        }
        tokio::time::sleep(ERROR_PAUSE).await;
    }

    /// Out of descriptors: those who wait are told so instead of hanging in the backlog.
    async fn shed(&mut self, bound: &Bound) {
        if !std::mem::replace(&mut self.is_short, true) {
            tracing::error!(
                "out of file descriptors, so connections are refused; raise the limit of open files (ulimit -n)"
            );
        }
        self.spare = None;
        if let Ok(Ok((stream, _))) = tokio::time::timeout(ERROR_PAUSE, bound.listener.accept()).await {
            self.metrics.refused.descriptors.increment(1);
            refuse(&stream);
        }
        self.spare = spare();
    }
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

/// Answers 503 without reading, and closes.
fn refuse(stream: &TcpStream) {
    // A fresh socket has room for it; tokio does not know yet that it is writable, so this asks the socket itself.
    let _ = SockRef::from(stream).send(refused_unread().as_bytes());
    let _ = SockRef::from(stream).shutdown(std::net::Shutdown::Write);
}
