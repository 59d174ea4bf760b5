//! One batch a room at a time: what arrives while a transaction runs shares the next one.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use roomcast_runtime::{Gate, GateSettings};
use roomcast_store::{
    Error as StoreError,
    presence::CardEntry,
    rooms::{Admission, SeatRequest},
};
use roomcast_types::{Code, Fault, RoomCard, RoomId};
use tokio::{
    sync::{Semaphore, oneshot},
    time::{Instant, timeout},
};

use super::{budget, mark_absent, no_record, refusal, room_full};
use crate::{
    concurrent,
    controller::{Controller, room_deleted, unanswered},
    error::retry_after,
};

/// Joins that wait in all rooms: about what a fast record decides in the second that each of them may wait. More
/// would wait in vain; they are told to come again.
const WAITING_MAX: usize = 16_384;
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
/// How long a batch waits for presence: joins that it decided or will decide wait with it.
const PRESENCE_WAIT: Duration = Duration::from_millis(100);
/// Users marked as absent at once.
const MARKED_AT_ONCE: usize = 64;

/// A seat that a transaction gave or confirmed.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    pub(super) card: RoomCard,
    pub(super) members: u64,
}

type Decided = Result<Seat, Fault>;

struct Waiting {
    who: SeatRequest,
    /// The join waits at the other end; closed when it has given up.
    answer: oneshot::Sender<Decided>,
}

/// Joins that wait, by room. A room is in here exactly while a task works on it.
pub(crate) struct Batches {
    queues: Mutex<Queues>,
    /// One permit for each transaction under way: three quarters of the record's connections, so that the other calls
    /// find one. Rooms wait for it in order, and joins that come meanwhile share the transaction.
    at_once: Semaphore,
    pub(crate) record: Gate,
}

#[derive(Default)]
struct Queues {
    rooms: HashMap<RoomId, Queue>,
    waiting: usize,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Since when its task has waited for its turn or for the record.
    since: Option<Instant>,
}

impl Batches {
    /// For a record with so many connections.
    pub(crate) fn new(connections: usize) -> Self {
        Self {
            queues: Mutex::default(),
            at_once: Semaphore::new((connections * 3 / 4).max(1)),
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

    /// The next batch of a room; `None` ends the room's task.
    fn next(&self, room: &RoomId, batch_max: usize) -> Option<Vec<Waiting>> {
        let mut queues = self.lock();
        let queue = queues.rooms.get_mut(room)?;
        if queue.waiting.is_empty() {
            queues.rooms.remove(room);
            return None;
        }
        let size = queue.waiting.len().min(batch_max);
        let batch = queue.waiting.drain(..size).collect();
        queues.waiting -= size;
        Some(batch)
    }

    /// The room's task waits from now on.
    fn begin(&self, room: &RoomId) {
        if let Some(queue) = self.lock().rooms.get_mut(room) {
            queue.since = Some(Instant::now());
        }
    }

    fn forget(&self, room: &RoomId) {
        let mut queues = self.lock();
        if let Some(queue) = queues.rooms.remove(room) {
            queues.waiting -= queue.waiting.len();
        }
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
    let is_idle = {
        let mut queues = controller.batches.lock();
        if queues.waiting >= WAITING_MAX {
            return Err(Fault {
                code: Code::RateLimited,
                message: format!("{WAITING_MAX} joins wait for the record already; try again"),
                retry_after: Some(retry_after()),
            });
        }
        let known = queues.rooms.get(room);
        if known.and_then(|queue| queue.since).is_some_and(|since| since.elapsed() > budget::RECORD) {
            return Err(no_record(room));
        }
        let is_idle = known.is_none();
        queues.waiting += 1;
        queues.rooms.entry(room.clone()).or_default().waiting.push_back(Waiting { who, answer });
        is_idle
    };
    if is_idle {
        controller.tasks.spawn(work(controller.clone(), room.clone()));
    }
    Ok(decided)
}

/// Lets go of the room even when the task panics or is aborted: its joins are answered, the next one starts anew.
struct Entry {
    controller: Arc<Controller>,
    room: RoomId,
    /// The queue went with the last look at it; a join that came since has a task of its own.
    is_done: bool,
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.is_done {
            self.controller.batches.forget(&self.room);
        }
    }
}

async fn work(controller: Arc<Controller>, room: RoomId) {
    let mut entry = Entry { controller, room, is_done: false };
    let (controller, room) = (&entry.controller, &entry.room);
    // Joins that are about to arrive, from the same report, share the first transaction.
    tokio::task::yield_now().await;
    loop {
        controller.batches.begin(room);
        // Closed by nobody: an error would only mean to go on without a place in the order.
        let _turn = controller.batches.at_once.acquire().await;
        let Some(batch) = controller.batches.next(room, controller.config.server.join_batch_max) else {
            break;
        };
        run(controller, room, batch).await;
    }
    entry.is_done = true;
}

async fn run(controller: &Arc<Controller>, room: &RoomId, batch: Vec<Waiting>) {
    // Who gave up takes no seat.
    let batch: Vec<Waiting> = batch.into_iter().filter(|waiting| !waiting.answer.is_closed()).collect();
    if batch.is_empty() {
        return;
    }
    let requests: Vec<SeatRequest> = batch.iter().map(|waiting| waiting.who.clone()).collect();
    match admit(controller, room, &requests).await {
        Ok(admission) => answer(controller, room, batch, &admission).await,
        Err(refused) => {
            for waiting in batch {
                // Who gave up meanwhile needs no answer.
                let _ = waiting.answer.send(Err(refused.clone()));
            }
        }
    }
}

async fn admit(controller: &Controller, room: &RoomId, requests: &[SeatRequest]) -> Result<Admission, Fault> {
    // Looked at again just before the transaction: a join under way must not bring a deleted room back.
    let known = timeout(PRESENCE_WAIT, controller.promptly(controller.presence.card(room))).await;
    if matches!(known, Ok(Ok(CardEntry::Buried { .. }))) || controller.burials.contains(room) {
        return Err(room_deleted(room));
    }
    let (now, started) = (controller.clock.now().await, Instant::now());
    let call = controller.rooms.admit(room, requests, controller.auto_create(), now);
    let admitted = controller.batches.record.pass(call, StoreError::is_retryable).await;
    let admitted = admitted.unwrap_or_else(|refused| Err(unanswered("record", refused.to_string())));
    controller.metrics.admission_seconds.record(started.elapsed().as_secs_f64());
    controller.metrics.batches.increment(1);
    controller.metrics.batched_joins.increment(requests.len() as u64);
    let admission = admitted.map_err(|error| refusal(&error))?;
    let shown = controller.promptly(controller.presence.put_card(&admission.card, admission.members));
    if !matches!(timeout(PRESENCE_WAIT, shown).await, Ok(Ok(()))) {
        controller.stale_cards.push(room.clone());
    }
    Ok(admission)
}

async fn answer(controller: &Controller, room: &RoomId, batch: Vec<Waiting>, admission: &Admission) {
    let seat = Seat { card: admission.card.clone(), members: admission.members };
    let full = room_full(room, admission.members, admission.card.max_users);
    let mut gave_up = Vec::new();
    for (waiting, is_admitted) in batch.into_iter().zip(&admission.admitted) {
        let decided = if *is_admitted { Ok(seat.clone()) } else { Err(full.clone()) };
        if waiting.answer.send(decided).is_err() && *is_admitted {
            gave_up.push(waiting.who.user_id);
        }
    }
    // They gave up while the transaction ran: their seats wait for them as for anybody who is away.
    let now = controller.clock.now().await;
    let membership = seat.card.membership;
    let marks = gave_up.iter().map(|user| mark_absent(controller, room, user, membership, now).boxed());
    concurrent::every(marks.collect(), MARKED_AT_ONCE).await;
}
