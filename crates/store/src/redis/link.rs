//! The connection of the moment: made when a call needs one, shared by all calls, replaced when it failed.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use redis::{
    Cmd, ErrorKind, FromRedisValue, Pipeline, RedisResult, ServerErrorKind, aio::MultiplexedConnection,
    cluster_async::ClusterConnection,
};
use roomcast_runtime::Backoff;
use tokio::task::JoinSet;

use super::{dial::Dialer, fault, script::Script};

/// How often a call that a cluster refused is made again.
const REFUSALS: u32 = 3;

/// Many calls share one: each waits for its own answer only. Answers come in the order of the commands, and one that
/// nobody waits for any more is dropped when it comes, so a late answer never meets another call.
#[derive(Clone)]
pub(super) enum Link {
    One(MultiplexedConnection),
    Master(MultiplexedConnection, Arc<Watch>),
    Cluster(ClusterConnection),
}

impl Link {
    fn is_deposed(&self) -> bool {
        matches!(self, Self::Master(_, watch) if watch.is_deposed.load(Ordering::Relaxed))
    }
}

/// Notices that the Sentinels name another master. Ends with the connection that it watches.
#[derive(Debug, Default)]
pub(super) struct Watch {
    pub is_deposed: Arc<AtomicBool>,
    task: JoinSet<()>,
}

impl Watch {
    pub(super) fn run(mut self, watching: impl Future<Output = ()> + Send + 'static) -> Self {
        self.task.spawn(watching);
        self
    }
}

/// One try to connect, shared by the calls that wait for it.
type Dialing = Shared<BoxFuture<'static, RedisResult<Link>>>;

enum Slot {
    Empty,
    Dialing(Dialing),
    Ready(Link),
}

/// The way to Redis. Connects lazily; no lock is held while anything is awaited.
pub(super) struct Wire {
    dialer: Arc<Dialer>,
    /// With the number of the connection in it, counted from 1.
    slot: Mutex<(u64, Slot)>,
}

impl Wire {
    pub(super) fn new(dialer: Dialer) -> Self {
        Self { dialer: Arc::new(dialer), slot: Mutex::new((0, Slot::Empty)) }
    }

    pub(super) fn is_cluster(&self) -> bool {
        self.dialer.is_cluster()
    }

    /// Runs a script by its hash; a server that does not know it (it is new, or it was flushed) gets the code.
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[&str],
        args: &[&[u8]],
    ) -> RedisResult<T> {
        match self.query(&script.by_hash(keys, args)).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.query(&script.by_code(keys, args)).await
            }
            answer => answer,
        }
    }

    /// As [`Self::run`], and again, a few times, while a cluster answers that it did nothing: its parts move.
    pub(super) async fn run_unless_done<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[&str],
        args: &[&[u8]],
    ) -> RedisResult<T> {
        self.unless_done(|| self.run(script, keys, args)).await
    }

    /// As [`Self::run_unless_done`], for one command.
    pub(super) async fn query_unless_done<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        self.unless_done(|| self.query(command)).await
    }

    async fn unless_done<T, F>(&self, call: impl Fn() -> F) -> RedisResult<T>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let mut pauses = Backoff::new(Duration::from_millis(5), Duration::from_millis(50));
        for _ in 0..REFUSALS {
            match call().await {
                Err(error) if self.is_cluster() && fault::is_undone(&error) => {
                    tokio::time::sleep(pauses.next_wait()).await;
                }
                answer => return answer,
            }
        }
        call().await
    }

    /// Runs one command.
    pub(super) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        let (number, link) = self.link().await?;
        let answer = match link {
            Link::One(mut link) | Link::Master(mut link, _) => command.query_async(&mut link).await,
            Link::Cluster(mut link) => command.query_async(&mut link).await,
        };
        self.judged(number, answer)
    }

    /// Runs commands on keys of one tag, one after the other or as a transaction.
    pub(super) async fn query_all<T: FromRedisValue>(&self, commands: &Pipeline) -> RedisResult<T> {
        let (number, link) = self.link().await?;
        let answer = match link {
            Link::One(mut link) | Link::Master(mut link, _) => commands.query_async(&mut link).await,
            Link::Cluster(mut link) => commands.query_async(&mut link).await,
        };
        self.judged(number, answer)
    }

    /// Numbers the connection of the moment, for [`Self::hang_up`].
    pub(super) fn number(&self) -> u64 {
        self.lock().0
    }

    /// Drops the connection with this number, if it is still the one in use: the next call makes another. Calls that
    /// wait on it keep it until they are answered.
    pub(super) fn hang_up(&self, number: u64) {
        let mut slot = self.lock();
        if slot.0 == number {
            slot.1 = Slot::Empty;
        }
    }

    /// A server that is gone, demoted or not ready is not asked again over the same connection: behind a Sentinel
    /// another one may be the master now. A cluster's connection mends itself.
    fn judged<T>(&self, number: u64, answer: RedisResult<T>) -> RedisResult<T> {
        answer.inspect_err(|error| {
            if !self.is_cluster() && (fault::is_outage(error) || error.is_unrecoverable_error()) {
                self.hang_up(number);
            }
        })
    }

    async fn link(&self) -> RedisResult<(u64, Link)> {
        let (number, dialing) = {
            let mut slot = self.lock();
            let number = slot.0;
            match &slot.1 {
                Slot::Ready(link) if !link.is_deposed() => return Ok((number, link.clone())),
                Slot::Dialing(dialing) => (number, dialing.clone()),
                Slot::Ready(_) | Slot::Empty => {
                    let dialing = self.dialer.clone().dial().boxed().shared();
                    *slot = (number + 1, Slot::Dialing(dialing.clone()));
                    (number + 1, dialing)
                }
            }
        };
        let outcome = dialing.await;
        let mut slot = self.lock();
        if slot.0 == number && matches!(slot.1, Slot::Dialing(_)) {
            slot.1 = outcome.clone().map_or(Slot::Empty, Slot::Ready);
        }
        outcome.map(|link| (number, link))
    }

    fn lock(&self) -> MutexGuard<'_, (u64, Slot)> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
