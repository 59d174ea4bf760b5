//! A hub with mailboxes that the test reads in the place of shards.

use std::{sync::Arc, time::Duration};

use roomcast_proto::pubsub::{ChangeResult, SessionChange};
use roomcast_runtime::{Config, Telemetry};
use roomcast_types::{ClientId, Incarnation, NodeId, RoomId, SessionId, UserId};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout},
};

use super::PATIENCE;
use crate::{
    hub::{Core, Handle, Identity, Settings},
    metrics::Metrics,
    ports::{Hub, OpenedSession, SessionKey, Shards, ToShard},
    wire::Encoding,
};

pub struct Bench {
    pub hub: Arc<Core>,
    pub mailboxes: Vec<mpsc::Receiver<ToShard>>,
    slots: u32,
    tasks: JoinSet<()>,
}

pub fn room(name: &str) -> RoomId {
    RoomId::new(name).unwrap()
}

impl Bench {
    pub fn new(shards: usize) -> Self {
        let config = Config::default();
        let telemetry = Telemetry::new("connect-node", "test", &config.telemetry);
        let identity = Identity {
            node_id: NodeId::new("node-1").unwrap(),
            incarnation: Incarnation::random(),
            grpc_address: "127.0.0.1:1".into(),
            url: "ws://127.0.0.1:1/ws".into(),
            started_at: Instant::now(),
        };
        let metrics = telemetry.register(Metrics::new);
        let hub = Core::new(identity, Settings::new(&config), metrics, telemetry.tracing().clone());
        let (senders, mailboxes) = (0..shards).map(|_| mpsc::channel(64)).unzip();
        hub.set_shards(Shards::new(senders));
        let mut tasks = JoinSet::new();
        tasks.spawn(hub.clone().keep_time());
        tasks.spawn(crate::log::reader::run(hub.clone()));
        Self { hub, mailboxes, slots: 0, tasks }
    }

    /// Runs something beside the test.
    pub fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Stands in for a controller, without a wire: `answer` is asked for each change.
    pub fn control(&mut self, answer: impl Fn(&SessionChange) -> Option<ChangeResult> + Send + 'static) {
        let hub = self.hub.clone();
        hub.state().outbox.link_up();
        hub.state().breaker.heard(Instant::now());
        self.spawn(async move {
            let wake = hub.state().report_wake.clone();
            loop {
                hub.state().breaker.heard(Instant::now());
                let report = hub.state().changes(Instant::now());
                for change in report.into_iter().flat_map(|report| report.changes) {
                    if let Some(result) = answer(&change) {
                        hub.state().outbox.answered(result);
                    }
                }
                // It says something now and then, as a real one does.
                let _ = timeout(Duration::from_millis(200), wake.notified()).await;
            }
        });
    }

    pub fn shards(&self) -> Handle {
        Handle(self.hub.clone())
    }

    /// A socket was upgraded on this shard.
    pub fn open(&mut self, shard: u16, user: &str) -> (SessionKey, SessionId) {
        self.slots += 1;
        let key = SessionKey { shard, slot: self.slots, generation: 1 };
        let session_id = SessionId::random();
        self.shards().opened(OpenedSession {
            key,
            session_id,
            user_id: UserId::new(user).unwrap(),
            client_id: ClientId::new("c").unwrap(),
            user_name: String::new(),
            since: None,
            encoding: Encoding::Json,
            opened_at: Instant::now(),
        });
        (key, session_id)
    }

    /// As [`Self::open`], with its welcome.
    pub async fn welcomed(&mut self, shard: u16, user: &str) -> (SessionKey, SessionId) {
        let (key, id) = self.open(shard, user);
        let command = self.next(shard).await;
        assert!(
            matches!(command, ToShard::Welcome { session: welcomed, .. } if welcomed == key),
            "{command:?}"
        );
        (key, id)
    }

    /// The session is in the room when this returns.
    pub async fn joined(&mut self, session: SessionKey, room: &RoomId) {
        self.shards().join(session, Some(1), room.clone(), None);
        let command = self.next(session.shard).await;
        assert!(matches!(&command, ToShard::Joined { room: joined, .. } if joined == room), "{command:?}");
    }

    /// The next command for a shard.
    pub async fn next(&mut self, shard: u16) -> ToShard {
        let next = self.mailboxes[usize::from(shard)].recv();
        timeout(PATIENCE, next).await.expect("a command comes").expect("the hub lives")
    }

    /// Nothing waits in the mailbox of a shard.
    pub fn is_quiet(&mut self, shard: u16) -> bool {
        self.mailboxes[usize::from(shard)].try_recv().is_err()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.hub.tasks.end();
    }
}
