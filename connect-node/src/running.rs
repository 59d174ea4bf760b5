//! A node that runs: its addresses, its failure, its orderly end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::future::{join_all, select_all};
use roomcast_registry::{Member, State};
use roomcast_runtime::{Front, Phase, Telemetry};
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{hub::Core, load::Load, ports::ToShard, shard::ShardHandle};

/// The shards close their sessions within two seconds; what takes longer is ended.
const SHARDS_END: Duration = Duration::from_secs(3);
/// How long a full mailbox may take to take the word to stop.
const MAILBOX_WAIT: Duration = Duration::from_millis(500);
/// How long the last outcomes and reports may take to be acknowledged.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A running node. Dropping it is like a crash: every task and thread ends at once, and its key stays until the lease
/// runs out.
pub struct Running {
    pub(crate) front: Front,
    pub(crate) http_address: SocketAddr,
    pub(crate) hub: Arc<Core>,
    pub(crate) load: Arc<Load>,
    pub(crate) member: Member,
    pub(crate) shards: Vec<ShardHandle>,
    /// Work that ends with the node; each task says its name when it ends.
    pub(crate) tasks: JoinSet<&'static str>,
    /// The client port; ends by `end`.
    pub(crate) accepting: JoinSet<&'static str>,
    pub(crate) end: CancellationToken,
    pub(crate) operations: EndOperations,
}

impl Running {
    /// Where push-managers and controllers reach it.
    pub fn grpc_address(&self) -> SocketAddr {
        self.front.grpc_address()
    }

    /// Where clients reach it.
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// Where Prometheus reads.
    pub fn metrics_address(&self) -> SocketAddr {
        self.front.metrics_address()
    }

    /// Its metrics and traces.
    pub fn telemetry(&self) -> &Telemetry {
        &self.front.telemetry
    }

    /// The address clients are told, of `/ws`.
    pub fn url(&self) -> &str {
        &self.hub.identity.url
    }

    /// Its name in the registry.
    pub fn node_id(&self) -> &str {
        self.hub.identity.node_id.as_str()
    }

    /// Sessions now, those that wait for their welcome included.
    pub fn sessions(&self) -> usize {
        self.hub.totals().sessions
    }

    /// Breaks its accounting on purpose.
    #[cfg(feature = "failpoints")]
    pub fn failpoints(&self) -> &crate::failpoint::Failpoints {
        &self.hub.failpoints
    }

    /// Whether a controller takes its reports.
    pub fn is_reporting(&self) -> bool {
        self.hub.state().outbox.is_linked()
    }

    /// Resolves when the node cannot go on: a part that must live ended, or another process holds its key.
    pub async fn failed(&mut self) -> String {
        let Self { front, member, tasks, accepting, shards, .. } = self;
        tokio::select! {
            error = member.lost() => error.to_string(),
            Some(ended) = tasks.join_next() => why(ended),
            why = front.failed() => why,
            Some(ended) = accepting.join_next() => why(ended),
            index = first_ended(shards) => format!("shard {index} ended"),
        }
    }

    /// Stops in order: no new sessions, every session closed with 4001, what that means told to the other tiers, the
    /// key given back, then the ports. Takes some seconds at most.
    pub async fn stop(self) {
        let Self { front, hub, load, member, shards, mut tasks, mut accepting, end, operations, .. } = self;
        load.set_open(false);
        front.set_phase(Phase::Draining).await;
        hub.set_life(State::Draining);
        member.set_state(State::Draining);
        stop_shards(&hub, shards).await;
        let settled = async {
            while !hub.is_settled() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        if timeout(LAST_WORDS, settled).await.is_err() {
            tracing::info!("the node ends with reports or outcomes that nobody took");
        }
        member.leave().await;
        tasks.shutdown().await;
        hub.end_lanes();
        end.cancel();
        while accepting.join_next().await.is_some() {}
        front.close().await;
        drop(operations);
        tracing::info!(node_id = %hub.identity.node_id, "the node stopped");
    }
}

/// Ends the operations of sessions and lanes when it is dropped.
pub(crate) struct EndOperations(pub Arc<Core>);

impl Drop for EndOperations {
    fn drop(&mut self) {
        self.0.tasks.end();
    }
}

fn why(ended: Result<&'static str, tokio::task::JoinError>) -> String {
    match ended {
        Ok(name) => format!("{name} ended"),
        Err(error) => format!("a task of the node ended: {error}"),
    }
}

async fn first_ended(shards: &mut [ShardHandle]) -> usize {
    let endings = shards.iter_mut().enumerate().map(|(index, shard)| {
        Box::pin(async move {
            shard.ended().await;
            index
        })
    });
    select_all(endings).await.0
}

async fn stop_shards(hub: &Core, shards: Vec<ShardHandle>) {
    for shard in 0..shards.len() as u16 {
        // A mailbox that stays full belongs to a shard that hangs; it is ended below.
        let stop = hub.shards().send(shard, ToShard::Stop);
        let _ = timeout(MAILBOX_WAIT, stop).await;
    }
    let endings = shards.into_iter().map(|shard| shard.join(SHARDS_END));
    let late = join_all(endings).await.into_iter().filter(|in_time| !in_time).count();
    if late > 0 {
        tracing::warn!(shards = late, "shards did not end in time");
    }
}
