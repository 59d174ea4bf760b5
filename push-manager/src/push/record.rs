//! One accepted push and what became of it: fixed by its plan, filled by the lanes, awaited by who asked.

mod reached;
mod ticket;
mod told;

use std::{
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use roomcast_types::{MessageId, NodeId};
use smallvec::SmallVec;
use tokio::{sync::Notify, time::Instant};

pub use reached::Reached;
pub use ticket::{Taken, Ticket};
pub use told::{SessionTold, Told};

use super::{
    log::Kept,
    plan::{Absent, LegUser, LegUsers, Plan},
    request::{Level, Target},
};

/// What one session in an outcome takes.
const SESSION_BYTES: usize = size_of::<SessionTold>();

/// What is known of one node.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// What it said last.
    pub told: Option<Told>,
    /// Why what was pending is NODE_LOST.
    pub lost: Option<Loss>,
    /// When it said something first, or was lost.
    pub at: Option<Instant>,
}

/// Why a node will not say any more what became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The queue of its lane was full.
    QueueFull,
    /// The lane gave the message up at its deadline.
    Deadline,
    /// The node died: it refused, or another life of it answered.
    Dead,
    /// The node forgot the lane: what was sent and not acknowledged may have been delivered.
    Forgotten,
}

impl Loss {
    /// The word of an explanation.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "QUEUE_FULL",
            Self::Deadline => "DEADLINE",
            Self::Dead => "DEAD",
            Self::Forgotten => "FORGOTTEN",
        }
    }
}

impl Heard {
    /// Whether what was pending is NODE_LOST.
    pub fn is_lost(&self) -> bool {
        self.lost.is_some()
    }
}

/// One node that was addressed.
#[derive(Debug)]
pub struct RecordLeg {
    /// Which.
    pub node_id: NodeId,
    /// Whether its announced interest held a target.
    pub is_known: bool,
    /// Whether the level WRITTEN waits for it.
    pub is_awaited: bool,
    /// Targets there as last announced.
    pub announced: u64,
    /// For pushes to users: whom the message names, in its order.
    pub users: LegUsers,
    /// When it was put on the connection first, in microseconds since the push was accepted; 0 before.
    sent_us: AtomicU32,
}

impl RecordLeg {
    /// When it was put on the connection first, in microseconds since the push was accepted.
    pub fn sent_us(&self) -> Option<u32> {
        Some(self.sent_us.load(Ordering::Relaxed)).filter(|sent_us| *sent_us != 0)
    }
}

/// One push. Kept for minutes, so in one piece where it went to one node, as most do.
#[derive(Debug)]
pub struct Record {
    /// Its id.
    pub message_id: MessageId,
    /// When it was accepted.
    pub accepted: Instant,
    /// Whom it is for.
    pub target: Target,
    /// Clients confirm it.
    pub wants_ack: bool,
    /// The list of nodes was too old to be believed.
    pub is_registry_stale: bool,
    /// What was kept of it before it went out.
    pub kept: Kept,
    /// Nodes that were addressed.
    pub legs: SmallVec<[RecordLeg; 1]>,
    /// Trusted nodes that hold a target.
    pub addressed: u32,
    /// Nodes that get it without being waited for.
    pub blind: u32,
    inner: Mutex<Inner>,
    /// Wakes whoever waits for a change.
    changed: Notify,
}

#[derive(Debug)]
struct Inner {
    state: State,
    /// Seldom more than one: only a push under the same key waits for the same record.
    waiting: SmallVec<[Waiting; 1]>,
}

/// Somebody who is told once when the push has come as far as this.
#[derive(Debug)]
struct Waiting {
    level: Level,
    number: u64,
    reached: Arc<Reached>,
}

/// What is known by now.
#[derive(Debug, Clone)]
pub struct State {
    /// By leg.
    pub heard: SmallVec<[Heard; 1]>,
    /// Registered nodes that are out of reach.
    pub unreachable: u32,
    /// Members of a DURABLE room who are away.
    pub absent: Absent,
    /// How often any of this changed.
    pub changes: u64,
}

impl Record {
    /// Of a push that is about to be sent.
    pub fn new(
        message_id: MessageId,
        target: Target,
        wants_ack: bool,
        plan: &Plan,
        is_registry_stale: bool,
        kept: Kept,
    ) -> Arc<Self> {
        let legs: SmallVec<[_; 1]> = plan
            .legs
            .iter()
            .map(|leg| RecordLeg {
                node_id: plan.lanes[leg.lane].node_id().clone(),
                is_known: leg.is_known,
                is_awaited: leg.is_awaited,
                announced: leg.announced,
                users: leg.users.clone(),
                sent_us: AtomicU32::new(0),
            })
            .collect();
        let heard = legs.iter().map(|_| Heard::default()).collect();
        let state = State { heard, unreachable: plan.unreachable, absent: plan.absent, changes: 0 };
        Arc::new(Self {
            message_id,
            accepted: Instant::now(),
            target,
            wants_ack,
            is_registry_stale,
            kept,
            legs,
            addressed: plan.addressed,
            blind: plan.blind,
            inner: Mutex::new(Inner { state, waiting: SmallVec::new() }),
            changed: Notify::new(),
        })
    }

    /// The right to speak for one leg.
    pub fn ticket(self: &Arc<Self>, slot: usize) -> Ticket {
        let is_repeat = self.kept.is_duplicate;
        // What a repeat does not find stands with the first.
        let announced = self.legs.get(slot).filter(|_| !is_repeat).map_or(0, |leg| leg.announced);
        Ticket { record: Arc::downgrade(self), slot, announced, wants_ack: self.wants_ack, is_repeat }
    }

    /// As of now.
    pub fn state(&self) -> State {
        self.lock().state.clone()
    }

    /// Shows what is known by now. Nobody is heard meanwhile.
    pub fn see<R>(&self, see: impl FnOnce(&State) -> R) -> R {
        see(&self.lock().state)
    }

    /// Nodes turned out to be out of reach when the message was put on their lanes.
    pub fn add_unreachable(&self, nodes: u32) {
        if nodes > 0 {
            self.lock().state.unreachable += nodes;
        }
    }

    /// What a controller said of the absent members, once.
    pub fn tell_absent(&self, absent: Absent) {
        self.change(|state| state.absent = absent);
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut inner = self.lock();
        let result = change(&mut inner.state);
        inner.state.changes += 1;
        let Inner { state, waiting } = &mut *inner;
        waiting.retain(|waiting| {
            let is_reached = self.reaches(state, waiting.level);
            if is_reached {
                waiting.reached.add(waiting.number);
            }
            !is_reached
        });
        drop(inner);
        self.changed.notify_waiters();
        result
    }

    /// Has `reached` get `number` once the level is reached; false when it is already.
    pub fn tell(&self, level: Level, number: u64, reached: &Arc<Reached>) -> bool {
        let mut inner = self.lock();
        if self.reaches(&inner.state, level) {
            return false;
        }
        inner.waiting.push(Waiting { level, number, reached: reached.clone() });
        true
    }

    /// Waits until there were more than `seen` changes.
    pub async fn change_after(&self, seen: u64) {
        self.until(|| self.lock().state.changes > seen).await;
    }

    async fn until(&self, is_so: impl Fn() -> bool) {
        loop {
            let mut changed = pin!(self.changed.notified());
            // What changes from here on wakes it.
            changed.as_mut().enable();
            if is_so() {
                return;
            }
            changed.await;
        }
    }

    /// Waits until the level is reached, at most until `deadline`.
    pub async fn wait(&self, level: Level, deadline: Instant) {
        if self.see(|state| self.reaches(state, level)) {
            return;
        }
        // Running out is no error: the receipt says what is pending.
        let _ =
            tokio::time::timeout_at(deadline, self.until(|| self.see(|state| self.reaches(state, level))))
                .await;
    }

    fn reaches(&self, state: &State, level: Level) -> bool {
        if state.absent == Absent::Asked && level != Level::Accepted {
            return false;
        }
        let is_known = |(leg, heard): (&RecordLeg, &Heard)| {
            if heard.is_lost() {
                return true;
            }
            let Some(told) = &heard.told else {
                return match level {
                    Level::Accepted => true,
                    Level::Written => !leg.is_awaited,
                    // A blind node that was not known to hold a target has none that could be pending.
                    Level::Settled | Level::Acked => !leg.is_awaited && leg.announced == 0,
                };
            };
            match level {
                Level::Accepted | Level::Written => true,
                Level::Settled => told.pending == 0,
                Level::Acked => told.pending == 0 && told.written == 0,
            }
        };
        self.legs.iter().zip(&state.heard).all(is_known)
    }

    /// Whether nothing of it can change any more: a client on a node that died never confirms.
    pub fn is_final(&self, state: &State) -> bool {
        let is_said = |told: &Told| is_final(told.pending, told.written, self.wants_ack);
        let mut heard = state.heard.iter();
        state.absent != Absent::Asked
            && heard.all(|heard| heard.is_lost() || heard.told.as_ref().is_some_and(is_said))
    }

    /// Microseconds since it was accepted; at least 1.
    fn age_us(&self) -> u32 {
        u32::try_from(self.accepted.elapsed().as_micros()).unwrap_or(u32::MAX).max(1)
    }

    /// Bytes that keeping it takes, roughly.
    pub fn bytes(&self) -> usize {
        let users: usize = self.legs.iter().map(|leg| leg.users.len() * size_of::<LegUser>()).sum();
        let named =
            self.target.users().iter().map(|user| user.as_str().len() + size_of_val(user)).sum::<usize>();
        let leg = size_of::<RecordLeg>() + size_of::<Heard>() + 64;
        let to_users = self.legs.iter().filter(|leg| !leg.users.is_empty());
        let sessions: usize = to_users.map(|leg| leg.announced as usize).sum();
        size_of::<Self>() + self.legs.len() * leg + users + named + sessions * SESSION_BYTES
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_final(pending: u64, written: u64, wants_ack: bool) -> bool {
    pending == 0 && (!wants_ack || written == 0)
}
