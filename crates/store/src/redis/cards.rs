//! `{r:R}:card`: what is known of rooms, and burials.

use std::time::Duration;

use redis::RedisResult;
use roomcast_types::{RoomCard, RoomId, RoomState};

use super::{
    fault::unreadable,
    keys::{Keys, RoomKeys},
    link::Wire,
    record::{read_card, write_card},
    script,
};
use crate::presence::CardEntry;

pub(super) async fn put_card(wire: &Wire, keys: &Keys, card: &RoomCard, members: u64) -> RedisResult<()> {
    let RoomKeys { card: key, buried, .. } = keys.room(&card.room_id);
    let (version, members, fields) = (card.version.to_string(), members.to_string(), write_card(card));
    let is_active = if card.state == RoomState::Active { "1" } else { "0" };
    let args = [version.as_str(), &members, &fields, is_active].map(str::as_bytes);
    wire.run(&script::PUT_CARD, &[&key, &buried], &args).await
}

pub(super) async fn card(wire: &Wire, keys: &Keys, room: &RoomId) -> RedisResult<CardEntry> {
    let RoomKeys { card, buried, .. } = keys.room(room);
    let known: Vec<String> = wire.run(&script::CARD, &[&card, &buried], &[]).await?;
    let number = |text: &str| text.parse().map_err(|_| unreadable("not a number of a card", text));
    match &known[..] {
        [] => Ok(CardEntry::Unknown),
        [version] => Ok(CardEntry::Buried { version: number(version)? }),
        [version, members, fields] => {
            let card = read_card(room, number(version)?, fields)?;
            Ok(CardEntry::Known { card, members: number(members)? })
        }
        _ => Err(unreadable("not a card", known.join(" "))),
    }
}

pub(super) async fn bury(
    wire: &Wire,
    keys: &Keys,
    room: &RoomId,
    version: u64,
    ttl: Duration,
) -> RedisResult<()> {
    let RoomKeys { online, absent, extra, card, buried } = keys.room(room);
    let (version, ttl) = (version.to_string(), ttl.as_millis().max(1).to_string());
    let args = [version.as_bytes(), ttl.as_bytes()];
    wire.run(&script::BURY, &[&online, &absent, &extra, &card, &buried], &args).await
}

pub(super) async fn forget_room(wire: &Wire, keys: &Keys, room: &RoomId, version: u64) -> RedisResult<()> {
    let RoomKeys { online, absent, extra, card, .. } = keys.room(room);
    let version = version.to_string();
    wire.run(&script::FORGET_ROOM, &[&online, &absent, &extra, &card], &[version.as_bytes()]).await
}
