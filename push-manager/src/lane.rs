//! One lane: what pushes see of a node, and the way of their messages to it.
//!
//! Pushes read the stance without a lock and put messages into the queue under a short one. [`link`] is the task that
//! dials, reads and gives up; [`downstream`] is what HTTP/2 pulls messages from when the connection has room.

mod dial;
mod downstream;
mod interest;
mod link;
mod open;
mod outbox;
mod outgoing;
#[cfg(test)]
pub mod sample;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use roomcast_proto::pubsub::PositionConflict;
use roomcast_types::{Incarnation, MessageId, NodeId};
use tokio::sync::{mpsc, watch};

pub use downstream::Downstream;
pub use interest::Held;
pub use link::{Link, Target};
pub use outbox::Bounds;
pub use outgoing::Outgoing;

use crate::{
    clock::{Clock, micros},
    ledger::{Book, Ledger},
    metrics::Metrics,
    push::Ticket,
    routes::{NodeIndex, Routes},
};

/// What a lane is doing. The breaker of the lane: closed in `Syncing` and `InSync`, open in `Broken` and `Refused`
/// between two dials, half open while one is under way.
///
/// | from | event | to |
/// |---|---|---|
/// | any | the node answers the hello | `Syncing` |
/// | `Syncing` | last part of the snapshot, and an echo behind it | `InSync` |
/// | `Syncing`, `InSync` | the connection ends or is silent | `Broken` |
/// | any but `Refused` | no answer to a dial | `Broken` |
/// | any | a dial is refused | `Refused` |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Never linked yet.
    New,
    /// Linked; its snapshot is under way.
    Syncing,
    /// Linked; its routes are what the node says, and it is trusted while it echoes.
    InSync,
    /// Not linked; its routes stand.
    Broken,
    /// Dead: it refused the last dial. It has no routes and takes no messages.
    Refused,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 5] = [Self::New, Self::Syncing, Self::InSync, Self::Broken, Self::Refused];

    /// The label in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Syncing => "syncing",
            Self::InSync => "in_sync",
            Self::Broken => "broken",
            Self::Refused => "refused",
        }
    }
}

/// What a push may conclude about a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stance {
    /// The absence of a route counts.
    Trusted,
    /// It may hold what its routes do not say.
    Untrusted,
    /// It is dead; true while its registration stands.
    Refused(bool),
}

/// Why a message did not join the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The queue is full.
    Full,
    /// The node is dead.
    Dead,
}

/// What all lanes share.
#[derive(Debug)]
pub struct Context {
    /// Our id.
    pub manager_id: String,
    /// This life of ours.
    pub incarnation: Incarnation,
    /// host:port of our gRPC interface, for nodes that read logs.
    pub grpc_address: String,
    /// Bounds of each queue.
    pub bounds: Bounds,
    /// When an unacknowledged message is given up.
    pub deadline: Duration,
    /// How old the youngest echo of a trusted lane may be.
    pub trust: Duration,
    /// How often a lane is asked for an echo.
    pub ping_interval: Duration,
    /// Time.
    pub clock: Clock,
    /// What the nodes hold.
    pub routes: Routes,
    /// What is counted.
    pub metrics: Metrics,
    /// What the nodes told of our pushes.
    pub ledger: Arc<Ledger>,
    /// Grows with each change of any lane's phase.
    pub progress: watch::Sender<u64>,
    /// Receiver: the archive. Positions that nodes know and the store of a log does not.
    pub conflicts: mpsc::Sender<PositionConflict>,
}

/// A message on its way to one node.
#[derive(Debug)]
pub struct Parcel {
    /// A [`DownItem`](roomcast_proto::pubsub::DownItem) as it travels; shared by all lanes where it is the same for all.
    pub item: Bytes,
    /// The message, and where the node's outcomes of it go.
    pub ticket: Option<(MessageId, Ticket)>,
    /// Whether the node was trusted when this was accepted. If it was not, the node may have been replaced already,
    /// by one that holds targets: then this is meant for that one, too.
    pub was_trusted: bool,
    /// When its time to live ends, if it has one.
    pub expires_us: Option<u64>,
}

/// One lane. Shared by the pushes and its task.
#[derive(Debug)]
pub struct Lane {
    index: NodeIndex,
    node_id: NodeId,
    trust_us: u64,
    context: Arc<Context>,
    /// Our sending time of the youngest ping that came back while in sync; 0 when there is none on this connection.
    echo_us: AtomicU64,
    phase: AtomicU8,
    is_listed: AtomicBool,
    /// Sessions on the node, as it last said.
    sessions: AtomicU64,
    /// Users the node holds.
    users: AtomicU64,
    outgoing: Mutex<Outgoing>,
}

impl Lane {
    /// A lane that is not linked yet. Messages wait for its first link.
    pub fn new(index: NodeIndex, node_id: NodeId, context: Arc<Context>) -> Self {
        context.metrics.lanes(Phase::New).increment(1.0);
        let book = Book::new(context.ledger.clone(), node_id.clone());
        let (deadline, queue) = (micros(context.deadline), context.metrics.queue.clone());
        let outgoing = Outgoing::new(context.bounds, deadline, queue, book);
        Self {
            index,
            node_id,
            trust_us: micros(context.trust),
            context,
            echo_us: AtomicU64::new(0),
            phase: AtomicU8::new(Phase::New as u8),
            is_listed: AtomicBool::new(false),
            sessions: AtomicU64::new(0),
            users: AtomicU64::new(0),
            outgoing: Mutex::new(outgoing),
        }
    }

    /// Names the node in routes.
    pub fn index(&self) -> NodeIndex {
        self.index
    }

    /// The node.
    pub fn node_id(&self) -> &NodeId {
        &self.node_id
    }

    /// Sessions on the node, as it last said.
    pub fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Acquire)
    }

    /// Whether the node holds any user, as it last said.
    pub fn holds_users(&self) -> bool {
        self.users.load(Ordering::Acquire) > 0
    }

    /// What it is doing.
    pub fn phase(&self) -> Phase {
        let number = self.phase.load(Ordering::Acquire);
        Phase::ALL.into_iter().find(|phase| *phase as u8 == number).unwrap_or(Phase::New)
    }

    /// What a push accepted at `now_us` may conclude. Read `now_us` first, then this, then the routes: what a lane
    /// learned before the echo that makes it trusted is then in the routes.
    pub fn stance(&self, now_us: u64) -> Stance {
        if self.phase.load(Ordering::Acquire) == Phase::Refused as u8 {
            return Stance::Refused(self.is_listed.load(Ordering::Relaxed));
        }
        match self.echo_us.load(Ordering::Acquire) {
            0 => Stance::Untrusted,
            echo if now_us.saturating_sub(echo) < self.trust_us => Stance::Trusted,
            _ => Stance::Untrusted,
        }
    }

    /// How old its youngest echo is; `None` when there is none on this connection.
    pub fn echo_age(&self, now_us: u64) -> Option<Duration> {
        match self.echo_us.load(Ordering::Acquire) {
            0 => None,
            echo_us => Some(Duration::from_micros(now_us.saturating_sub(echo_us))),
        }
    }

    /// Puts a message into the queue.
    pub fn send(&self, parcel: Parcel, bytes: usize) -> Result<(), Refusal> {
        let now_us = self.context.clock.now_us();
        let mut outgoing = self.lock();
        let queued = outgoing.push(parcel, bytes, now_us);
        let waker = outgoing.waker();
        drop(outgoing);
        if let Some(waker) = waker {
            waker.wake();
        }
        queued
    }

    /// Messages that the node has not acknowledged.
    pub fn queued(&self) -> usize {
        self.lock().queued()
    }

    fn set_phase(&self, phase: Phase) {
        let before = self.phase();
        self.phase.store(phase as u8, Ordering::Release);
        if phase != Phase::InSync {
            self.echo_us.store(0, Ordering::Release);
        }
        self.context.metrics.lanes(before).decrement(1.0);
        self.context.metrics.lanes(phase).increment(1.0);
        self.context.progress.send_modify(|changes| *changes += 1);
    }

    /// Whether its registration stands.
    pub fn set_listed(&self, is_listed: bool) {
        self.is_listed.store(is_listed, Ordering::Relaxed);
    }

    /// Changes what goes out and lets the connection look at it.
    fn change<R>(&self, change: impl FnOnce(&mut Outgoing) -> R) -> R {
        let mut outgoing = self.lock();
        let result = change(&mut outgoing);
        let waker = outgoing.waker();
        drop(outgoing);
        if let Some(waker) = waker {
            waker.wake();
        }
        result
    }

    /// Changes what gives the connection nothing to say.
    fn note<R>(&self, change: impl FnOnce(&mut Outgoing) -> R) -> R {
        change(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Outgoing> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.context.metrics.lanes(self.phase()).decrement(1.0);
    }
}
