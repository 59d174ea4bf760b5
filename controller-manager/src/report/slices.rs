//! Applies a slice in full: from then on the stores hold exactly what the node holds in it.

use std::collections::{HashMap, HashSet};

use futures_util::FutureExt;
use roomcast_proto::pubsub::SessionRecord;
use roomcast_store::{
    Error as StoreError,
    presence::{CardEntry, Claim, IndexedSession, SessionEntry},
};
use roomcast_types::{RoomId, SessionId};

use super::{
    apply::{Applier, exit_away},
    change::read_session,
};
use crate::{
    concurrent,
    kick::{self, Order},
};

/// Sessions worked on at once.
const AT_ONCE: usize = 32;

/// The sessions of a slice; one that cannot be read is left out, and logged.
pub(super) fn read(applier: &Applier, records: Vec<SessionRecord>) -> Vec<IndexedSession> {
    let read = |record| match read_session(record, &applier.node) {
        Ok(session) => Some(session),
        Err(refused) => {
            tracing::error!(node_id = %applier.node.node_id, error = %refused, "a node reports a session that cannot be");
            None
        }
    };
    records.into_iter().filter_map(read).collect()
}

/// Makes the stores agree with the node on one slice.
pub(super) async fn apply(
    applier: &Applier,
    slice: usize,
    sessions: Vec<IndexedSession>,
) -> Result<(), StoreError> {
    let controller = &applier.controller;
    let known = controller.presence.indexed(&applier.node, slice).await?;
    let held: HashSet<SessionId> = sessions.iter().map(|session| session.entry.session_id).collect();
    let (stays, gone): (Vec<_>, Vec<_>) =
        known.into_iter().partition(|session| held.contains(&session.entry.session_id));
    let drops = gone.iter().map(|session| drop_gone(applier, session).boxed()).collect();
    concurrent::all(drops, AT_ONCE).await?;
    let known: HashMap<SessionId, Vec<RoomId>> =
        stays.into_iter().map(|session| (session.entry.session_id, session.rooms)).collect();
    let deleted = deleted_rooms(applier, &sessions).await?;
    let places = sessions.iter().map(|session| {
        let rooms_before = known.get(&session.entry.session_id).map_or(&[][..], Vec::as_slice);
        place(applier, session, rooms_before, &deleted).boxed()
    });
    let outcomes = concurrent::all(places.collect(), AT_ONCE).await?;
    let mut taken_over = Vec::new();
    let mut leave: HashMap<RoomId, Vec<SessionEntry>> = HashMap::new();
    for placed in outcomes {
        taken_over.extend(placed.taken_over);
        for (room, entry) in placed.deleted {
            leave.entry(room).or_default().push(entry);
        }
    }
    kick::in_background(controller, Order::take_over(), taken_over);
    for (room, entries) in leave {
        kick::in_background(controller, Order::evict(room), entries);
    }
    controller.metrics.slices_applied.increment(1);
    Ok(())
}

async fn drop_gone(applier: &Applier, session: &IndexedSession) -> Result<(), StoreError> {
    let id = session.entry.session_id;
    applier.drop_session(&session.user_id, id, &session.rooms).await?;
    applier.forget(id);
    Ok(())
}

/// Rooms of these sessions that were deleted by request. Those that presence knows nothing of are audited.
async fn deleted_rooms(
    applier: &Applier,
    sessions: &[IndexedSession],
) -> Result<HashSet<RoomId>, StoreError> {
    let controller = &applier.controller;
    let rooms: HashSet<&RoomId> = sessions.iter().flat_map(|session| &session.rooms).collect();
    let cards = rooms.into_iter().map(|room| {
        async move { Ok::<_, StoreError>((room, controller.presence.card(room).await?)) }.boxed()
    });
    let mut deleted = HashSet::new();
    for (room, card) in concurrent::all(cards.collect(), AT_ONCE).await? {
        match card {
            CardEntry::Buried { .. } => {
                deleted.insert(room.clone());
            }
            CardEntry::Unknown => controller.audits.push(room.clone()),
            CardEntry::Known { .. } => {}
        }
    }
    Ok(deleted)
}

/// What the node has to be told about a session.
#[derive(Default)]
struct Placed {
    /// Sessions without a slot.
    taken_over: Vec<SessionEntry>,
    /// Rooms that are gone.
    deleted: Vec<(RoomId, SessionEntry)>,
}

async fn place(
    applier: &Applier,
    session: &IndexedSession,
    rooms_before: &[RoomId],
    deleted: &HashSet<RoomId>,
) -> Result<Placed, StoreError> {
    let controller = &applier.controller;
    let presence = &controller.presence;
    let (id, user) = (session.entry.session_id, &session.user_id);
    applier.remember(session.clone());
    presence.index(session).await?;
    let mut placed = Placed::default();
    match presence.claim(user, &session.entry, controller.config.server.session_policy).await? {
        Claim::Held { displaced } => placed.taken_over = displaced,
        Claim::Lost { .. } => {
            // It stays in the index until its node reports it closed.
            placed.taken_over.push(session.entry.clone());
            return Ok(placed);
        }
    }
    for room in rooms_before.iter().filter(|room| !session.rooms.contains(room)) {
        exit_away(controller, room, user, id).await?;
    }
    for room in &session.rooms {
        if deleted.contains(room) {
            placed.deleted.push((room.clone(), session.entry.clone()));
        } else if !presence.rejoin(room, user, id).await? {
            // Nothing says that the user holds a seat: presence is told, the audit looks.
            presence.enter(room, user, id).await?;
            controller.audits.push(room.clone());
        }
    }
    Ok(placed)
}
