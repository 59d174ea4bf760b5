//! How far members of DURABLE rooms have read: gathered from the nodes' reports, written now and then, and read for
//! joins, those of one room together.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use roomcast_proto::pubsub;
use roomcast_store::rooms::ReadMark;
use roomcast_types::{LogPolicy, Membership, Position, RoomCard, RoomId, UserId};
use tokio::{
    sync::{Notify, oneshot},
    time::{sleep, timeout},
};

use crate::controller::Controller;

/// Members whose mark waits to be written; a further one is dropped, and made up for by the member's next.
const WAITING_MAX: usize = 100_000;
/// Marks written at once, and the pause after it: the record has other things to do.
const AT_ONCE: usize = 512;
const PAUSE: Duration = Duration::from_millis(200);
/// How long to wait before a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How long a join waits for its mark: it is worth little beside the join.
const WAIT: Duration = Duration::from_millis(250);
/// Joins that share a question.
const ASKED_AT_ONCE: usize = 512;

/// Marks on their way to the record, and joins that wait for theirs.
#[derive(Default)]
pub(crate) struct Reads {
    waiting: Mutex<HashMap<(RoomId, UserId), Position>>,
    arrived: Notify,
    /// A room is in here exactly while a task works on it.
    asked: Mutex<HashMap<RoomId, Vec<Asked>>>,
}

struct Asked {
    user: UserId,
    /// The join waits at the other end.
    answer: oneshot::Sender<Option<Position>>,
}

impl Reads {
    /// What a node reported; what cannot be read is dropped, as nothing answers it.
    pub(crate) fn report(&self, mark: &pubsub::ReadMark) {
        let parsed = (RoomId::new(&mark.room_id), UserId::new(&mark.user_id));
        if let ((Ok(room), Ok(user)), Some(position)) = (parsed, Position::from_wire(mark.epoch, mark.offset))
        {
            self.note(ReadMark { room, user, position });
        }
    }

    fn note(&self, mark: ReadMark) {
        {
            let mut waiting = lock(&self.waiting);
            let is_full = waiting.len() >= WAITING_MAX;
            match waiting.entry((mark.room, mark.user)) {
                Entry::Vacant(_) if is_full => return,
                Entry::Vacant(place) => drop(place.insert(mark.position)),
                Entry::Occupied(mut known) => {
                    let Position { epoch, offset } = *known.get();
                    if epoch != mark.position.epoch || offset < mark.position.offset {
                        known.insert(mark.position);
                    }
                }
            }
        }
        self.arrived.notify_one();
    }

    fn waiting(&self, room: &RoomId, user: &UserId) -> Option<Position> {
        lock(&self.waiting).get(&(room.clone(), user.clone())).copied()
    }

    async fn take(&self) -> Vec<ReadMark> {
        loop {
            let marks: Vec<ReadMark> = {
                let mut waiting = lock(&self.waiting);
                let some: Vec<(RoomId, UserId)> = waiting.keys().take(AT_ONCE).cloned().collect();
                let mark = |(room, user): (RoomId, UserId)| {
                    let key = (room, user);
                    let position = waiting.remove(&key)?;
                    Some(ReadMark { room: key.0, user: key.1, position })
                };
                some.into_iter().filter_map(mark).collect()
            };
            if !marks.is_empty() {
                return marks;
            }
            self.arrived.notified().await;
        }
    }

    /// The next joins of a room that ask; `None` ends the room's task.
    fn next_asked(&self, room: &RoomId) -> Option<Vec<Asked>> {
        let mut rooms = lock(&self.asked);
        let asked = rooms.get_mut(room)?;
        if asked.is_empty() {
            rooms.remove(room);
            return None;
        }
        let count = asked.len().min(ASKED_AT_ONCE);
        Some(asked.drain(..count).collect())
    }
}

/// Writes what was reported. Runs for ever.
pub(crate) async fn write(controller: &Controller) {
    loop {
        let marks = controller.reads.take().await;
        if controller.rooms.mark_read(&marks).await.is_err() {
            for mark in marks {
                // A later mark of the same member stays.
                if controller.reads.waiting(&mark.room, &mark.user).is_none() {
                    controller.reads.note(mark);
                }
            }
            sleep(RETRY).await;
        }
        sleep(PAUSE).await;
    }
}

/// How far somebody who joined has read; `None` when nothing is known, or not soon enough.
pub(crate) async fn position(
    controller: &Arc<Controller>,
    card: &RoomCard,
    user: &UserId,
) -> Option<Position> {
    if card.membership != Membership::Durable || card.log == LogPolicy::None {
        return None;
    }
    if let Some(position) = controller.reads.waiting(&card.room_id, user) {
        return Some(position);
    }
    let (answer, answered) = oneshot::channel();
    let is_idle = {
        let mut rooms = lock(&controller.reads.asked);
        let is_idle = !rooms.contains_key(&card.room_id);
        rooms.entry(card.room_id.clone()).or_default().push(Asked { user: user.clone(), answer });
        is_idle
    };
    if is_idle {
        controller.tasks.spawn(ask(controller.clone(), card.room_id.clone()));
    }
    timeout(WAIT, answered).await.ok()?.ok()?
}

async fn ask(controller: Arc<Controller>, room: RoomId) {
    while let Some(asked) = controller.reads.next_asked(&room) {
        let users: Vec<UserId> = asked.iter().map(|asked| asked.user.clone()).collect();
        let found = controller.readily(controller.rooms.read_positions(&room, &users)).await;
        let found = found.unwrap_or_else(|_| vec![None; users.len()]);
        for (asked, position) in asked.into_iter().zip(found) {
            // One that waits no more needs no answer.
            let _ = asked.answer.send(position);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
