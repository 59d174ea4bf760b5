//! Methods on rooms: cards, members, totals.

use std::{collections::HashMap, sync::Arc};

use futures_util::FutureExt;
use roomcast_proto::{
    convert,
    pubsub::{
        CreateRoomRequest, DeleteRoomReply, DeleteRoomRequest, GetRoomInfoRequest, GetRoomStatsRequest,
        ListRoomsReply, ListRoomsRequest, RoomCard, RoomInfo, RoomMember, RoomStats, RoomSummary,
        UpdateRoomRequest,
    },
};
use roomcast_store::{
    presence::{CardEntry, SLICES},
    rooms::{NewRoom, RoomChange},
};
use roomcast_types::{Code, Fault, RoomId, UserId};

use super::fields;
use crate::{
    cards, concurrent,
    controller::{Controller, room_deleted},
    error::fault,
    page::{self, List},
};

/// Rooms whose presence is counted at once.
const COUNTED_AT_ONCE: usize = 64;
/// Rooms read a page when all are counted.
const PAGE: u32 = 1_000;

pub(super) async fn stats(
    controller: Arc<Controller>,
    request: GetRoomStatsRequest,
) -> Result<RoomStats, Fault> {
    if request.room_id.is_empty() {
        return totals(&controller).await;
    }
    let room = fields::room(&request.room_id)?;
    let row = controller.row(&room).await?;
    let (sessions, online) = controller.presence.online_counts(&room).await.map_err(|error| fault(&error))?;
    Ok(RoomStats { rooms: 1, members: row.members, online_members: online, sessions, nodes: 0 })
}

/// Counted when asked: presence keeps no sums, as each of its facts belongs to one room, user or node.
async fn totals(controller: &Controller) -> Result<RoomStats, Fault> {
    let failed = |error| fault(&error);
    let totals = controller.rooms.totals().await.map_err(failed)?;
    let mut stats = RoomStats {
        rooms: totals.rooms,
        members: totals.members,
        nodes: controller.nodes.current().registrations.len() as u64,
        ..RoomStats::default()
    };
    let mut after: Option<RoomId> = None;
    loop {
        let page = controller.rooms.rooms(after.as_ref(), PAGE).await.map_err(failed)?;
        let counts = page.iter().map(|row| controller.presence.online_counts(&row.card.room_id));
        let counts = concurrent::all(counts.map(FutureExt::boxed).collect(), COUNTED_AT_ONCE).await;
        stats.online_members += counts.map_err(failed)?.iter().map(|(_, users)| users).sum::<u64>();
        after = page.last().map(|row| row.card.room_id.clone());
        if page.len() < PAGE as usize {
            break;
        }
    }
    for node in controller.presence.indexed_nodes().await.map_err(failed)? {
        for slice in 0..SLICES {
            stats.sessions += controller.presence.indexed(&node, slice).await.map_err(failed)?.len() as u64;
        }
    }
    Ok(stats)
}

pub(super) async fn info(
    controller: Arc<Controller>,
    request: GetRoomInfoRequest,
) -> Result<RoomInfo, Fault> {
    let room = fields::room(&request.room_id)?;
    let size = page::size(request.page_size)?;
    let after = page::after(List::Members, &request.page_token)?;
    let after = after.map(UserId::new).transpose()?;
    if request.card_only {
        return card_only(&controller, &room).await;
    }
    let row = controller.row(&room).await?;
    let failed = |error| fault(&error);
    let mut seats = controller.rooms.seats(&room, after.as_ref(), size as u32 + 1).await.map_err(failed)?;
    let next_page_token = page::cut(List::Members, &mut seats, size, |seat| seat.user_id.to_string());
    // What is online is worth less than who the members are: without presence all are shown as offline.
    let occupancy = controller.promptly(controller.presence.occupancy(&room)).await.unwrap_or_default();
    let online_count = occupancy.online.len() as u64;
    let online: HashMap<UserId, u32> =
        occupancy.online.into_iter().map(|(user, sessions)| (user, sessions.len() as u32)).collect();
    let member = |seat: roomcast_store::rooms::SeatRow| {
        let sessions = online.get(&seat.user_id).copied().unwrap_or_default();
        RoomMember {
            user_id: seat.user_id.to_string(),
            user_name: seat.user_name,
            online: sessions > 0,
            sessions,
            joined_at_ms: seat.joined_at.as_millis(),
        }
    };
    Ok(RoomInfo {
        card: Some((&row.card).into()),
        member_count: row.members,
        online_count,
        created_at_ms: row.created_at.as_millis(),
        members: seats.into_iter().map(member).collect(),
        next_page_token,
    })
}

/// What push-managers ask for: presence answers it without SQL.
async fn card_only(controller: &Controller, room: &RoomId) -> Result<RoomInfo, Fault> {
    let known = controller.promptly(controller.presence.card(room)).await;
    let (card, members) = match known {
        Ok(CardEntry::Known { card, members }) => (card, members),
        Ok(CardEntry::Buried { .. }) => return Err(room_deleted(room)),
        Ok(CardEntry::Unknown) | Err(_) => {
            let row = controller.row(room).await?;
            controller.stale_cards.push(room.clone());
            (row.card, row.members)
        }
    };
    let counts = controller.promptly(controller.presence.online_counts(room)).await;
    Ok(RoomInfo {
        card: Some((&card).into()),
        member_count: members,
        online_count: counts.map_or(0, |(_, users)| users),
        ..RoomInfo::default()
    })
}

pub(super) async fn list(
    controller: Arc<Controller>,
    request: ListRoomsRequest,
) -> Result<ListRoomsReply, Fault> {
    let size = page::size(request.page_size)?;
    let after = page::after(List::Rooms, &request.page_token)?;
    let after = after.map(RoomId::new).transpose()?;
    let mut rows =
        controller.rooms.rooms(after.as_ref(), size as u32 + 1).await.map_err(|error| fault(&error))?;
    let next_page_token = page::cut(List::Rooms, &mut rows, size, |row| row.card.room_id.to_string());
    let rooms = rows
        .iter()
        .map(|row| RoomSummary { card: Some((&row.card).into()), member_count: row.members })
        .collect();
    Ok(ListRoomsReply { rooms, next_page_token })
}

pub(super) async fn create(
    controller: Arc<Controller>,
    request: CreateRoomRequest,
) -> Result<RoomCard, Fault> {
    let room = fields::room(&request.room_id)?;
    let new = NewRoom {
        max_users: fields::max_users(request.max_users.unwrap_or(controller.config.room.default_max_users))?,
        membership: convert::membership(request.membership)?,
        is_auto_created: false,
    };
    cards::create(&controller, &room, new).await.map(|card| (&card).into())
}

pub(super) async fn update(
    controller: Arc<Controller>,
    request: UpdateRoomRequest,
) -> Result<RoomCard, Fault> {
    let room = fields::room(&request.room_id)?;
    let change = RoomChange {
        max_users: request.max_users.map(fields::max_users).transpose()?,
        membership: request.membership.map(convert::membership).transpose()?,
    };
    if change == RoomChange::default() {
        return Err(Fault::new(Code::BadRequest, "nothing to change: give max_users or membership"));
    }
    cards::update(&controller, &room, change).await.map(|card| (&card).into())
}

pub(super) async fn delete(
    controller: Arc<Controller>,
    request: DeleteRoomRequest,
) -> Result<DeleteRoomReply, Fault> {
    let room = fields::room(&request.room_id)?;
    cards::delete(&controller, &room).await.map(|members| DeleteRoomReply { members })
}
