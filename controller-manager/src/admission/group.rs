//! One transaction for the joins of many rooms, and those rooms that cannot be part of it.
//!
//! A room that is not there yet, or that another controller is at, goes alone, in a task of its own: the others wait
//! neither for its creation nor for its lock.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::join_all};
use roomcast_store::{
    Error as StoreError,
    presence::CardEntry,
    rooms::{Admission, RoomRequests, SeatRequest},
};
use roomcast_types::{Fault, RoomId};
use tokio::time::{Instant, timeout};

use super::{
    batches::{Batch, Seat, Waiting},
    mark_absent, refusal, room_full,
};
use crate::{
    concurrent,
    controller::{Controller, room_deleted, unanswered},
};

/// How long joins that a transaction decided or will decide wait for presence.
const PRESENCE_WAIT: Duration = Duration::from_millis(100);
/// Users marked as absent at once.
const MARKED_AT_ONCE: usize = 64;

/// Decides the joins of rooms, each with an outcome of its own. Presence is asked for all rooms at once.
pub(super) async fn run(controller: &Arc<Controller>, batches: Vec<Batch>) {
    let admissible = batches.into_iter().map(|batch| admissible(controller, batch));
    let batches: Vec<Batch> = join_all(admissible).await.into_iter().flatten().collect();
    if batches.is_empty() {
        return;
    }
    let asked: Vec<RoomRequests> = batches
        .iter()
        .map(|batch| RoomRequests { room: batch.busy.room.clone(), requests: requests(&batch.joins) })
        .collect();
    let now = controller.clock.now().await;
    let admitted = transaction(controller, controller.rooms.admit_together(&asked, now)).await;
    match admitted {
        Ok(admissions) => {
            let mut given = Vec::with_capacity(batches.len());
            for (batch, admission) in batches.into_iter().zip(admissions) {
                match admission {
                    Some(admission) => given.push(give(controller, batch, admission)),
                    None => controller.tasks.spawn(alone(controller.clone(), batch)),
                }
            }
            join_all(given).await;
        }
        Err(refused) => batches.into_iter().for_each(|batch| refuse(batch, &refused)),
    }
}

/// A room by itself: it is created, or its turn comes when others are done with it.
async fn alone(controller: Arc<Controller>, mut batch: Batch) {
    // Closed by nobody: an error would only mean to go on without a place in the order.
    let _turn = controller.batches.alone.acquire().await;
    let joins_max = controller.config.server.join_batch_max;
    batch.joins.extend(batch.busy.more(joins_max.saturating_sub(batch.joins.len())));
    let Some(batch) = admissible(&controller, batch).await else { return };
    let (requests, now) = (requests(&batch.joins), controller.clock.now().await);
    let call = controller.rooms.admit(&batch.busy.room, &requests, controller.auto_create(), now);
    match transaction(&controller, call).await {
        Ok(admission) => give(&controller, batch, admission).await,
        Err(refused) => refuse(batch, &refused),
    }
}

fn requests(joins: &[Waiting]) -> Vec<SeatRequest> {
    joins.iter().map(|waiting| waiting.who.clone()).collect()
}

/// What is left of a batch to decide. Looked at just before the transaction: who gave up takes no seat, and a join under
/// way must not bring a deleted room back.
async fn admissible(controller: &Controller, mut batch: Batch) -> Option<Batch> {
    batch.joins.retain(|waiting| !waiting.answer.is_closed());
    if batch.joins.is_empty() {
        batch.busy.done();
        return None;
    }
    if is_deleted(controller, &batch.busy.room).await {
        let refused = room_deleted(&batch.busy.room);
        refuse(batch, &refused);
        return None;
    }
    Some(batch)
}

async fn is_deleted(controller: &Controller, room: &RoomId) -> bool {
    let known = timeout(PRESENCE_WAIT, controller.promptly(controller.presence.card(room))).await;
    matches!(known, Ok(Ok(CardEntry::Buried { .. }))) || controller.burials.contains(room)
}

/// Makes an admission through the gate.
async fn transaction<T>(
    controller: &Controller,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, Fault> {
    let started = Instant::now();
    let admitted = controller.batches.record.pass(call, StoreError::is_retryable).await;
    let admitted = admitted.unwrap_or_else(|refused| Err(unanswered("record", refused.to_string())));
    controller.metrics.admission_seconds.record(started.elapsed().as_secs_f64());
    controller.metrics.batches.increment(1);
    admitted.map_err(|error| refusal(&error))
}

fn refuse(batch: Batch, refused: &Fault) {
    for waiting in batch.joins {
        // Who gave up meanwhile needs no answer.
        let _ = waiting.answer.send(Err(refused.clone()));
    }
    batch.busy.done();
}

/// Shows the room as it is now, and answers its joins.
async fn give(controller: &Controller, batch: Batch, admission: Admission) {
    let Batch { busy, joins } = batch;
    controller.metrics.batched_joins.increment(joins.len() as u64);
    let shown = controller.promptly(controller.presence.put_card(&admission.card, admission.members));
    if !matches!(timeout(PRESENCE_WAIT, shown).await, Ok(Ok(()))) {
        controller.stale_cards.push(busy.room.clone());
    }
    answer(controller, &busy.room, joins, &admission).await;
    busy.done();
}

async fn answer(controller: &Controller, room: &RoomId, joins: Vec<Waiting>, admission: &Admission) {
    let seat = Seat { card: admission.card.clone(), members: admission.members };
    let full = room_full(room, admission.members, admission.card.max_users);
    let mut gave_up = Vec::new();
    for (waiting, is_admitted) in joins.into_iter().zip(&admission.admitted) {
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
