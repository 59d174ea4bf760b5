//! A node that runs: its addresses, its failure, its orderly end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::future::{join_all, select_all};
use roomcast_registry::{Member, Roster, State};
use roomcast_runtime::{
    Front, Phase, Telemetry,
    cli::{End, Over},
    config::SessionDrain,
};
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    drain::{self, Drain, Drained},
    hub::Core,
    load::Load,
    ports::ToShard,
    shard::ShardHandle,
};

/// What a shard may take beyond the time that its sessions have to read what waits; what takes longer is ended.
const SHARDS_END: Duration = Duration::from_secs(2);
/// How long sessions have to read what waits when the node stops without a drain.
const STOP_FLUSH: Duration = Duration::from_millis(900);
/// How long a full mailbox may take to take the word to stop.
const MAILBOX_WAIT: Duration = Duration::from_millis(500);
/// How long the last outcomes and reports may take to be acknowledged.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long giving the registration back may take; past it the lease runs out instead.
const LEAVE_WAIT: Duration = Duration::from_secs(3);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A running node. Dropping it is like a crash: every task and thread ends at once, and its key stays until the lease
/// runs out.
pub struct Running {
    pub(crate) front: Front,
    pub(crate) http_address: SocketAddr,
    pub(crate) hub: Arc<Core>,
    pub(crate) load: Arc<Load>,
    pub(crate) pace: SessionDrain,
    /// All nodes.
    pub(crate) nodes: Arc<Roster>,
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

    /// Of its shards' threads, to hold them up on purpose.
    pub fn shard_runtimes(&self) -> Vec<tokio::runtime::Handle> {
        self.shards.iter().map(ShardHandle::runtime).collect()
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

    /// Resolves when the node is to end: somebody asked for a drain, or it cannot go on.
    pub async fn over(&mut self) -> Over {
        let asked = self.hub.drain_asked.clone();
        tokio::select! {
            () = asked.cancelled() => Over::Asked,
            why = self.failed() => Over::Failed(why),
        }
    }

    /// How long its end takes at most: the sum of what it waits for.
    pub fn end_limit(&self) -> Duration {
        self.hub.settings.drain_limit
    }

    /// Drains it, or stops it.
    pub async fn end(self, how: End) {
        match how {
            End::Drain => self.drain().await,
            End::Stop => self.stop().await,
        };
    }

    /// Sends every session to another node, in the time that the configuration gives it (`connect_node.drain`), and ends
    /// as [`Self::stop`] does. Quick where nobody is left, or no other node is there to go to.
    pub async fn drain(self) -> Drained {
        self.begin_end().await;
        let own = self.member.id().clone();
        let leaving = Drain::new(&self.hub, &self.load, &self.pace, &self.nodes, own).run();
        let limit = drain::leaving_limit(&self.pace, self.hub.settings.sessions_max);
        if timeout(limit, leaving).await.is_err() {
            tracing::warn!("the sessions were not told to go in time");
        }
        let flush_wait = self.pace.flush_wait;
        self.close(flush_wait).await
    }

    /// Stops in order and at once: no new sessions, every session closed with 4001, what that means told to the other
    /// tiers, the key given back, then the ports. Takes some seconds at most.
    pub async fn stop(self) -> Drained {
        self.begin_end().await;
        self.load.set_open(false);
        self.close(STOP_FLUSH).await
    }

    async fn begin_end(&self) {
        self.front.set_phase(Phase::Draining).await;
        self.hub.set_life(State::Draining);
        self.member.set_state(State::Draining);
    }

    async fn close(self, flush_wait: Duration) -> Drained {
        let Self { front, hub, load, member, shards, mut tasks, mut accepting, end, operations, .. } = self;
        load.set_open(false);
        // Their threads serve the lanes, which have the last words.
        let threads = stop_shards(&hub, shards, flush_wait).await;
        hub.withdraw_all();
        let settled = async {
            while !hub.is_settled() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        if timeout(LAST_WORDS, settled).await.is_err() {
            tracing::info!("the node ends with reports or outcomes that nobody took");
        }
        let _ = timeout(LEAVE_WAIT, member.leave()).await;
        tasks.shutdown().await;
        // No listener any more: a push-manager that dials anew is refused, and knows that the node has ended.
        front.leave().await;
        hub.end_lanes();
        end.cancel();
        while accepting.join_next().await.is_some() {}
        front.close().await;
        drop((operations, threads));
        let drained = hub.departures.sum();
        let Drained { sessions, moved, closed, lost, gap_p99 } = drained;
        let gap_p99_ms = gap_p99.as_millis() as u64;
        tracing::info!(
            node_id = %hub.identity.node_id, sessions, moved, closed, lost, gap_p99_ms, "the node stopped"
        );
        drained
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

async fn first_ended(shards: &[ShardHandle]) -> usize {
    let endings = shards.iter().enumerate().map(|(index, shard)| {
        Box::pin(async move {
            shard.ended().await;
            index
        })
    });
    select_all(endings).await.0
}

/// Those that stopped in time; the threads of the others are ended.
async fn stop_shards(hub: &Core, shards: Vec<ShardHandle>, flush_wait: Duration) -> Vec<ShardHandle> {
    // A mailbox that stays full belongs to a shard that hangs; it is ended below.
    let stops = (0..shards.len() as u16)
        .map(|shard| timeout(MAILBOX_WAIT, hub.shards().send(shard, ToShard::Stop { flush_wait })));
    join_all(stops).await;
    let count = shards.len();
    let endings = shards.into_iter().map(async |shard: ShardHandle| {
        let in_time = shard.stopped(flush_wait + SHARDS_END).await;
        in_time.then_some(shard)
    });
    let stopped: Vec<_> = join_all(endings).await.into_iter().flatten().collect();
    if stopped.len() < count {
        tracing::warn!(shards = count - stopped.len(), "shards did not end in time");
    }
    stopped
}
