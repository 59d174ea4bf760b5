//! One batch a room at a time: what arrives while a transaction runs shares the next one.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use roomcast_store::{
    presence::CardEntry,
    rooms::{Admission, SeatRequest},
};
use roomcast_types::{Code, Fault, RoomCard, RoomId};
use tokio::sync::oneshot;

use super::{mark_absent, refusal, room_full};
use crate::controller::{Controller, room_deleted};

/// Joins that wait in all rooms; each holds a few hundred bytes. More are told to come again.
const WAITING_MAX: usize = 65_536;

/// A seat that a transaction gave or confirmed.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    pub(super) card: RoomCard,
    pub(super) members: u64,
    /// Whether presence took the card.
    pub(super) is_card_shown: bool,
}

type Decided = Result<Seat, Fault>;

struct Waiting {
    who: SeatRequest,
    /// The join waits at the other end; closed when it has given up.
    answer: oneshot::Sender<Decided>,
}

/// Joins that wait, by room. A room is in here exactly while a task works on it.
#[derive(Default)]
pub(crate) struct Batches(Mutex<Queues>);

#[derive(Default)]
struct Queues {
    rooms: HashMap<RoomId, VecDeque<Waiting>>,
    waiting: usize,
}

impl Batches {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next batch of a room; `None` ends the room's task.
    fn next(&self, room: &RoomId, batch_max: usize) -> Option<Vec<Waiting>> {
        let mut queues = self.lock();
        let queue = queues.rooms.get_mut(room)?;
        if queue.is_empty() {
            queues.rooms.remove(room);
            return None;
        }
        let size = queue.len().min(batch_max);
        let batch = queue.drain(..size).collect();
        queues.waiting -= size;
        Some(batch)
    }

    fn forget(&self, room: &RoomId) {
        let mut queues = self.lock();
        if let Some(queue) = queues.rooms.remove(room) {
            queues.waiting -= queue.len();
        }
    }
}

/// Puts a join into the next batch of its room. RATE_LIMITED when too many wait.
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
                retry_after: Some(crate::error::RETRY_AFTER),
            });
        }
        queues.waiting += 1;
        let is_idle = !queues.rooms.contains_key(room);
        queues.rooms.entry(room.clone()).or_default().push_back(Waiting { who, answer });
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
    while let Some(batch) = controller.batches.next(room, controller.config.server.join_batch_max) {
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
        Ok((admission, is_card_shown)) => answer(controller, room, batch, &admission, is_card_shown).await,
        Err(refused) => {
            for waiting in batch {
                // Who gave up meanwhile needs no answer.
                let _ = waiting.answer.send(Err(refused.clone()));
            }
        }
    }
}

async fn admit(
    controller: &Controller,
    room: &RoomId,
    requests: &[SeatRequest],
) -> Result<(Admission, bool), Fault> {
    // Looked at again just before the transaction: a join under way must not bring a deleted room back.
    let known = controller.promptly(controller.presence.card(room)).await;
    if matches!(known, Ok(CardEntry::Buried { .. })) {
        return Err(room_deleted(room));
    }
    let (now, started) = (controller.clock.now().await, Instant::now());
    let admitted = controller.rooms.admit(room, requests, controller.auto_create(), now).await;
    controller.metrics.admission_seconds.record(started.elapsed().as_secs_f64());
    controller.metrics.batches.increment(1);
    controller.metrics.batched_joins.increment(requests.len() as u64);
    let admission = admitted.map_err(|error| refusal(&error))?;
    let shown = controller.promptly(controller.presence.put_card(&admission.card, admission.members)).await;
    if shown.is_err() {
        controller.stale_cards.push(room.clone());
    }
    Ok((admission, shown.is_ok()))
}

async fn answer(
    controller: &Controller,
    room: &RoomId,
    batch: Vec<Waiting>,
    admission: &Admission,
    is_card_shown: bool,
) {
    let seat = Seat { card: admission.card.clone(), members: admission.members, is_card_shown };
    let full = room_full(room, admission.members, admission.card.max_users);
    for (waiting, is_admitted) in batch.into_iter().zip(&admission.admitted) {
        let decided = if *is_admitted { Ok(seat.clone()) } else { Err(full.clone()) };
        if waiting.answer.send(decided).is_err() && *is_admitted {
            // It gave up while the transaction ran: its seat waits for it as for anybody who is away.
            let now = controller.clock.now().await;
            mark_absent(controller, room, &waiting.who.user_id, seat.card.membership, now).await;
        }
    }
}
