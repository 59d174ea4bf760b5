//! Joins that wait for the record, by room: what arrives while a transaction runs goes with the next one.
//!
//! | a room | a join that comes | what is next |
//! |---|---|---|
//! | unknown | makes it ready | |
//! | ready, in order with the others | waits with those before | busy, when a transaction takes them |
//! | busy | waits | when they are decided: ready, or unknown when none came meanwhile |

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use roomcast_runtime::{Gate, GateSettings};
use roomcast_store::rooms::SeatRequest;
use roomcast_types::{Code, Fault, RoomCard, RoomId};
use tokio::{
    sync::{Semaphore, oneshot},
    time::Instant,
};

use super::{budget, group, no_record};
use crate::{controller::Controller, error::retry_after};

/// Joins that wait in all rooms: about what a fast record decides in the second that each of them may wait. More
/// would wait in vain; they are told to come again.
const WAITING_MAX: usize = 16_384;
/// Transactions over several rooms at once: one is on its way while what the other decided is answered. Few, as more
/// rooms share one then.
const GROUPS_AT_ONCE: usize = 2;
/// Rooms of one transaction: their locks are held until all are decided.
const ROOMS_MAX: usize = 128;
/// Before the transactions. The deadline is above what the record itself takes to give up a statement; three in a row
/// that met nothing mean that it is away, and joins are refused at once, but for one trial a second at most.
const RECORD: GateSettings = GateSettings {
    name: "the record, for joins",
    calls_max: 65_536,
    deadline: Duration::from_secs(3),
    failures: 3,
    pause_min: Duration::from_millis(250),
    pause_max: Duration::from_secs(1),
};

/// A seat that a transaction gave or confirmed.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    pub(super) card: RoomCard,
    pub(super) members: u64,
}

pub(super) type Decided = Result<Seat, Fault>;

/// One join.
pub(super) struct Waiting {
    pub(super) who: SeatRequest,
    /// The join waits at the other end; closed when it has given up.
    pub(super) answer: oneshot::Sender<Decided>,
}

/// Joins of one room that are decided together, in the order in which they came.
pub(super) struct Batch {
    pub(super) busy: Busy,
    pub(super) joins: Vec<Waiting>,
}

/// Joins that wait, by room.
pub(crate) struct Batches {
    queues: Mutex<Queues>,
    /// One permit for each transaction of a single room: with those of groups three quarters of the record's
    /// connections, so that the other calls find one.
    pub(super) alone: Semaphore,
    pub(crate) record: Gate,
}

#[derive(Default)]
struct Queues {
    rooms: HashMap<RoomId, Queue>,
    /// Rooms with joins none of which is being decided, in the order in which they became so.
    ready: VecDeque<RoomId>,
    waiting: usize,
    /// Tasks that take groups.
    groups: usize,
}

struct Queue {
    waiting: VecDeque<Waiting>,
    /// When it became ready last.
    since: Instant,
}

impl Batches {
    /// For a record with so many connections.
    pub(crate) fn new(connections: usize) -> Self {
        Self {
            queues: Mutex::default(),
            alone: Semaphore::new((connections * 3 / 4).saturating_sub(GROUPS_AT_ONCE).max(1)),
            record: Gate::new(RECORD),
        }
    }

    /// Joins that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().waiting
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queues {
    /// Up to so many joins of a room.
    fn take(&mut self, room: &RoomId, joins_max: usize) -> Vec<Waiting> {
        let Some(queue) = self.rooms.get_mut(room) else { return Vec::new() };
        let size = queue.waiting.len().min(joins_max);
        self.waiting -= size;
        queue.waiting.drain(..size).collect()
    }

    /// None of a room's joins is being decided any more.
    fn release(&mut self, room: &RoomId) {
        let Some(queue) = self.rooms.get_mut(room) else { return };
        if queue.waiting.is_empty() {
            self.rooms.remove(room);
        } else {
            queue.since = Instant::now();
            self.ready.push_back(room.clone());
        }
    }

    fn forget(&mut self, room: &RoomId) {
        if let Some(queue) = self.rooms.remove(room) {
            self.waiting -= queue.waiting.len();
        }
    }

    /// Whether one more task is to take groups; it is counted then.
    fn wants_group(&mut self) -> bool {
        let is_wanted = !self.ready.is_empty() && self.groups < GROUPS_AT_ONCE;
        self.groups += usize::from(is_wanted);
        is_wanted
    }
}

/// Puts a join into the next batch of its room. RATE_LIMITED when too many wait; UNAVAILABLE when those before it have
/// waited in vain for as long as it could.
pub(super) fn submit(
    controller: &Arc<Controller>,
    room: &RoomId,
    who: SeatRequest,
) -> Result<oneshot::Receiver<Decided>, Fault> {
    let (answer, decided) = oneshot::channel();
    let wants_group = {
        let mut queues = controller.batches.lock();
        if queues.waiting >= WAITING_MAX {
            return Err(Fault {
                code: Code::RateLimited,
                message: format!("{WAITING_MAX} joins wait for the record already; try again"),
                retry_after: Some(retry_after()),
            });
        }
        match queues.rooms.get(room) {
            Some(known) if known.since.elapsed() > budget::RECORD => return Err(no_record(room)),
            Some(_) => {}
            None => queues.ready.push_back(room.clone()),
        }
        let queue = || Queue { waiting: VecDeque::new(), since: Instant::now() };
        queues.rooms.entry(room.clone()).or_insert_with(queue).waiting.push_back(Waiting { who, answer });
        queues.waiting += 1;
        queues.wants_group()
    };
    if wants_group {
        begin_group(controller);
    }
    Ok(decided)
}

/// It is counted already.
fn begin_group(controller: &Arc<Controller>) {
    controller.tasks.spawn(work(Turn { controller: controller.clone(), is_over: false }));
}

async fn work(mut turn: Turn) {
    // Joins that are about to arrive, from the same report, share the first transaction.
    tokio::task::yield_now().await;
    while let Some(batches) = turn.next() {
        group::run(&turn.controller, batches).await;
    }
}

/// One of [`GROUPS_AT_ONCE`]; given back also when its task panics or is aborted.
struct Turn {
    controller: Arc<Controller>,
    is_over: bool,
}

impl Turn {
    /// What goes into the next transaction; `None`: nobody waits, and the turn is over.
    fn next(&mut self) -> Option<Vec<Batch>> {
        let joins_max = self.controller.config.server.join_batch_max;
        let (mut batches, mut joins) = (Vec::new(), 0);
        let mut queues = self.controller.batches.lock();
        while batches.len() < ROOMS_MAX && joins < joins_max {
            let Some(room) = queues.ready.pop_front() else { break };
            let taken = queues.take(&room, joins_max - joins);
            joins += taken.len();
            let busy = Busy { controller: self.controller.clone(), room, is_done: false };
            batches.push(Batch { busy, joins: taken });
        }
        if batches.is_empty() {
            queues.groups -= 1;
            self.is_over = true;
            return None;
        }
        Some(batches)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.is_over {
            self.controller.batches.lock().groups -= 1;
        }
    }
}

/// A room some of whose joins are being decided. Lets go of it even when the task panics or is aborted: its joins are
/// answered then, and the next one starts anew.
pub(super) struct Busy {
    controller: Arc<Controller>,
    pub(super) room: RoomId,
    is_done: bool,
}

impl Busy {
    /// Joins of the room that came meanwhile.
    pub(super) fn more(&self, joins_max: usize) -> Vec<Waiting> {
        self.controller.batches.lock().take(&self.room, joins_max)
    }

    /// They are decided: the turn of those that came meanwhile comes.
    pub(super) fn done(mut self) {
        self.is_done = true;
        let wants_group = {
            let mut queues = self.controller.batches.lock();
            queues.release(&self.room);
            queues.wants_group()
        };
        if wants_group {
            begin_group(&self.controller);
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if !self.is_done {
            self.controller.batches.lock().forget(&self.room);
        }
    }
}
