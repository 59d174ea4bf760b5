//! Methods on rooms: cards, members, totals.

use std::{collections::HashMap, sync::Arc};

use roomcast_proto::{
    convert,
    pubsub::{
        CreateRoomRequest, DeleteRoomReply, DeleteRoomRequest, GetRoomInfoRequest, GetRoomStatsRequest,
        ListRoomsReply, ListRoomsRequest, RoomCard, RoomInfo, RoomMember, RoomStats, RoomSummary,
        UpdateRoomRequest,
    },
};
use roomcast_store::{
    presence::{CardEntry, Occupancy},
    rooms::{NewRoom, RoomChange, SeatRow},
};
use roomcast_types::{Code, Fault, RoomId, SessionId, StoreTime, UserId};

use super::fields;
use crate::{
    cards,
    controller::{Controller, room_deleted, unanswered},
    error::fault,
    metrics::Missing,
    page::{self, List},
};

pub(super) async fn stats(
    controller: Arc<Controller>,
    request: GetRoomStatsRequest,
) -> Result<RoomStats, Fault> {
    if request.room_id.is_empty() {
        return totals(&controller).await;
    }
    let room = fields::room(&request.room_id)?;
    let (known, counts) = tokio::join!(
        known(&controller, &room),
        controller.promptly(controller.presence.online_counts(&room))
    );
    let Known { members, missing, .. } = known?;
    let missing = missing.into_iter().chain(counts.is_err().then_some(Missing::Presence));
    let (sessions, online_members) = counts.as_ref().copied().unwrap_or_default();
    Ok(RoomStats {
        rooms: 1,
        members,
        online_members,
        sessions,
        nodes: 0,
        degraded: controller.does_without(missing),
    })
}

async fn totals(controller: &Controller) -> Result<RoomStats, Fault> {
    let (record, online) =
        tokio::join!(controller.readily(controller.rooms.totals()), controller.census.count(controller));
    let missing = match (&record, &online) {
        (Err(error), Err(_)) => return Err(fault(error)),
        (Err(error), _) | (_, Err(error)) if !error.is_retryable() => return Err(fault(error)),
        (Err(_), _) => Some(Missing::Record),
        (_, Err(_)) => Some(Missing::Presence),
        _ => None,
    };
    let (record, online) = (record.unwrap_or_default(), online.unwrap_or_default());
    Ok(RoomStats {
        rooms: record.rooms,
        members: record.members,
        online_members: online.online_members,
        sessions: online.sessions,
        nodes: controller.nodes.current().registrations.len() as u64,
        degraded: controller.does_without(missing),
    })
}

/// A room's card and number of seats from whichever store answers.
struct Known {
    card: roomcast_types::RoomCard,
    members: u64,
    created_at_ms: i64,
    missing: Option<Missing>,
}

/// From the record, else from presence.
async fn known(controller: &Controller, room: &RoomId) -> Result<Known, Fault> {
    match controller.readily(controller.rooms.room(room)).await {
        Ok(Some(row)) => Ok(Known {
            card: row.card,
            members: row.members,
            created_at_ms: row.created_at.as_millis(),
            missing: None,
        }),
        Ok(None) => Err(controller.no_such_room(room).await),
        Err(error) if error.is_retryable() => {
            match controller.promptly(controller.presence.card(room)).await {
                Ok(CardEntry::Known { card, members }) => {
                    Ok(Known { card, members, created_at_ms: 0, missing: Some(Missing::Record) })
                }
                Ok(CardEntry::Buried { .. }) => Err(room_deleted(room)),
                Ok(CardEntry::Unknown) | Err(_) => Err(fault(&error)),
            }
        }
        Err(error) => Err(fault(&error)),
    }
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
    let known = known(&controller, &room).await?;
    // What is online is worth less than who the members are: without presence all are shown as offline.
    let occupancy = controller.promptly(controller.presence.occupancy(&room)).await;
    let seats = match known.missing {
        None => controller.readily(controller.rooms.seats(&room, after.as_ref(), size as u32 + 1)).await,
        Some(_) => Err(unanswered("record", "it did not answer before".to_owned())),
    };
    let missing = match (&seats, &occupancy) {
        (Err(error), Err(_)) => return Err(fault(error)),
        (Err(error), _) if !error.is_retryable() => return Err(fault(error)),
        (Err(_), _) => Some(Missing::Record),
        (_, Err(_)) => Some(Missing::Presence),
        _ => None,
    };
    let Occupancy { online, absent } = occupancy.unwrap_or_default();
    let online_count = online.len() as u64;
    let mut seats = seats.unwrap_or_else(|_| seats_of(&online, &absent, after.as_ref(), size + 1));
    let next_page_token = page::cut(List::Members, &mut seats, size, |seat| seat.user_id.to_string());
    let online: HashMap<UserId, u32> =
        online.into_iter().map(|(user, sessions)| (user, sessions.len() as u32)).collect();
    let member = |seat: SeatRow| {
        let sessions = online.get(&seat.user_id).copied().unwrap_or_default();
        RoomMember {
            user_id: seat.user_id.to_string(),
            user_name: seat.user_name,
            online: sessions > 0,
            sessions,
            joined_at_ms: seat.joined_at.as_millis(),
            read_epoch: seat.read.map(|read| read.epoch.to_string()).unwrap_or_default(),
            read_offset: seat.read.map_or(0, |read| read.offset),
        }
    };
    Ok(RoomInfo {
        card: Some((&known.card).into()),
        member_count: known.members,
        online_count,
        created_at_ms: known.created_at_ms,
        members: seats.into_iter().map(member).collect(),
        next_page_token,
        degraded: controller.does_without(missing),
    })
}

/// One page of those whom presence knows in a room, in the place of the record's seats.
fn seats_of(
    online: &[(UserId, Vec<SessionId>)],
    absent: &[(UserId, StoreTime)],
    after: Option<&UserId>,
    limit: usize,
) -> Vec<SeatRow> {
    let users = online.iter().map(|(user, _)| user).chain(absent.iter().map(|(user, _)| user));
    let mut users: Vec<&UserId> = users.filter(|user| after.is_none_or(|after| *user > after)).collect();
    users.sort_unstable();
    users.dedup();
    users.truncate(limit);
    let seat = |user: &UserId| SeatRow {
        user_id: user.clone(),
        user_name: String::new(),
        joined_at: StoreTime::from_millis(0),
        version: 0,
        read: None,
    };
    users.into_iter().map(seat).collect()
}

/// What push-managers ask for: presence answers it without SQL.
async fn card_only(controller: &Controller, room: &RoomId) -> Result<RoomInfo, Fault> {
    let presence = &controller.presence;
    let (known, counts) = tokio::join!(
        controller.promptly(presence.card(room)),
        controller.promptly(presence.online_counts(room))
    );
    let is_presence_away = known.is_err() || counts.is_err();
    let (card, members) = match known {
        Ok(CardEntry::Known { card, members }) => (card, members),
        Ok(CardEntry::Buried { .. }) => return Err(room_deleted(room)),
        Ok(CardEntry::Unknown) | Err(_) => {
            let row = controller.row(room).await?;
            controller.stale_cards.push(room.clone());
            (row.card, row.members)
        }
    };
    Ok(RoomInfo {
        card: Some((&card).into()),
        member_count: members,
        online_count: counts.map_or(0, |(_, users)| users),
        degraded: controller.does_without(is_presence_away.then_some(Missing::Presence)),
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
        log: request.log.map_or(Ok(controller.config.log.room), convert::log_policy)?,
        on_log_failure: convert::on_log_failure(request.on_log_failure)?,
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
        log: request.log.map(convert::log_policy).transpose()?,
        on_log_failure: request.on_log_failure.map(convert::on_log_failure).transpose()?,
    };
    if change == RoomChange::default() {
        return Err(Fault::new(
            Code::BadRequest,
            "nothing to change: give max_users, membership, log or on_log_failure",
        ));
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
