//! A shard: one thread that owns its sessions' sockets and its part of every room.
//!
//! ```text
//! acceptor --Accept--> mailbox --> thread: loop over the mailbox -- walk ------+
//! hub -----ToShard---> (bounded)           |                       timers      |
//!                                          +-- upgrade: HTTP, /ws              v
//! hub <--- opened, join, leave, closed ----+-- task per session: frames --> session: out --> socket
//! ```
//! Everything in it shares one [`state::Shard`], borrowed between awaits and never across one. The tasks only wait for
//! sockets; acting, writing and closing are plain functions of the state.

mod batch;
mod closing;
mod config;
mod draining;
mod entry;
mod flow;
mod frames;
mod history;
mod inspect;
mod limits;
mod members;
mod metrics;
mod out;
mod query;
mod rooms;
mod sending;
mod session;
mod standing;
mod state;
mod thread;
mod timers;
mod traced;
mod unacked;
pub(crate) mod upgrade;
mod walk;
mod websocket;

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use config::Config;
pub use metrics::ShardMetrics;

use crate::{
    load::Load,
    ports::{Hub, MAILBOX_CAPACITY, ToShard},
};

/// A running shard. Dropping it ends the thread at once, without a word to the sessions. The thread serves connections
/// of the other tiers as well ([`Self::runtime`]): those outlive the sessions, until the handle is dropped.
#[derive(Debug)]
pub struct ShardHandle {
    mailbox: mpsc::Sender<ToShard>,
    runtime: tokio::runtime::Handle,
    /// The sessions have ended.
    ended: CancellationToken,
    /// The thread has.
    gone: oneshot::Receiver<()>,
    end: DropGuard,
}

impl ShardHandle {
    /// Sends commands. The thread also ends when every clone of it is gone; the handle holds one.
    pub fn mailbox(&self) -> mpsc::Sender<ToShard> {
        self.mailbox.clone()
    }

    /// Of its thread. What is started there holds up the sessions, so it must wait for nothing but sockets.
    pub fn runtime(&self) -> tokio::runtime::Handle {
        self.runtime.clone()
    }

    /// Resolves when its sessions have ended, for whatever reason.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Waits for the end of the sessions that [`ToShard::Stop`] asked for; false when it takes longer.
    pub async fn stopped(&self, within: Duration) -> bool {
        tokio::time::timeout(within, self.ended()).await.is_ok()
    }

    /// Ends the thread at once and waits until it and its sockets are gone, but no longer than `within`.
    pub async fn kill(self, within: Duration) -> bool {
        let Self { gone, end, .. } = self;
        drop(end);
        tokio::time::timeout(within, gone).await.is_ok()
    }
}

/// Starts the thread of a shard. `pages` answers every path but `/ws`. Fails when the thread or its runtime cannot be
/// made. A panic in the loop itself aborts the process: the rooms' state would be torn.
pub fn spawn(
    index: u16,
    config: Arc<Config>,
    hub: Arc<dyn Hub>,
    pages: Router,
    metrics: ShardMetrics,
    load: Arc<Load>,
) -> io::Result<ShardHandle> {
    let (mailbox, commands) = mpsc::channel(MAILBOX_CAPACITY);
    let ended = CancellationToken::new();
    let sessions = ended.clone().drop_guard();
    let (gone, when_gone) = oneshot::channel();
    let (started, when_started) = std::sync::mpsc::sync_channel(1);
    let end = CancellationToken::new();
    let until = end.clone();
    std::thread::Builder::new().name(format!("shard-{index}")).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(Default::default())
        {
            Ok(runtime) => runtime,
            Err(error) => return drop(started.send(Err(error))),
        };
        let _ = started.send(Ok(runtime.handle().clone()));
        let torn = AbortOnPanic;
        runtime.block_on(async {
            let shard = state::Shard::new(index, config, hub, load, metrics);
            thread::run(shard, commands, pages, until.clone()).await;
            drop(sessions);
            until.cancelled().await;
        });
        drop(runtime);
        std::mem::forget(torn);
        let _ = gone.send(());
    })?;
    let runtime = when_started.recv().map_err(io::Error::other)??;
    Ok(ShardHandle { mailbox, runtime, ended, gone: when_gone, end: end.drop_guard() })
}

/// Ends the process when it is dropped by a panic.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        tracing::error!("a shard panicked outside of its sessions; the process ends");
        std::process::abort();
    }
}
