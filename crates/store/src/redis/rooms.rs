//! `{r:R}`: who is online or absent in rooms.

use std::collections::HashMap;

use redis::RedisResult;
use roomcast_types::{RoomId, SessionId, StoreTime, UserId};

use super::{
    due,
    keys::{Keys, RoomKeys},
    link::Wire,
    record::{Absence, read_ids, read_user},
    script,
};
use crate::presence::{Exit, Occupancy};

/// Users of a room that are read at once: some milliseconds of the server's time. More are read in pages.
const AT_ONCE: u64 = 20_000;
/// Users in a page.
const PAGE: usize = 1_000;

pub(super) async fn rejoin(
    wire: &Wire,
    keys: &Keys,
    room: &RoomId,
    user: &UserId,
    session: SessionId,
) -> RedisResult<bool> {
    let RoomKeys { online, absent, extra, buried, .. } = keys.room(room);
    let args = [user.as_str().as_bytes(), session.as_bytes()];
    wire.run(&script::REJOIN, &[&online, &absent, &extra, &buried], &args).await
}

pub(super) async fn enter(
    wire: &Wire,
    keys: &Keys,
    room: &RoomId,
    user: &UserId,
    session: SessionId,
) -> RedisResult<()> {
    let RoomKeys { online, absent, extra, .. } = keys.room(room);
    let args = [user.as_str().as_bytes(), session.as_bytes()];
    wire.run(&script::ENTER, &[&online, &absent, &extra], &args).await
}

pub(super) async fn exit(
    wire: &Wire,
    keys: &Keys,
    room: &RoomId,
    user: &UserId,
    session: SessionId,
    how: Exit,
) -> RedisResult<u64> {
    let mut absence = String::new();
    if let Exit::Away { now, due } = how {
        if let Some(due) = due {
            due::write(wire, keys, room, user, due).await?;
        }
        absence = Absence { since: now, due }.write();
    }
    let RoomKeys { online, absent, extra, .. } = keys.room(room);
    let args = [user.as_str().as_bytes(), session.as_bytes(), absence.as_bytes()];
    wire.run(&script::EXIT, &[&online, &absent, &extra], &args).await
}

pub(super) async fn mark_absent(
    wire: &Wire,
    keys: &Keys,
    room: &RoomId,
    user: &UserId,
    absence: Absence,
) -> RedisResult<bool> {
    if let Some(due) = absence.due {
        due::write(wire, keys, room, user, due).await?;
    }
    let (RoomKeys { online, absent, .. }, absence) = (keys.room(room), absence.write());
    let args = [user.as_str(), &absence].map(str::as_bytes);
    wire.run(&script::MARK_ABSENT, &[&online, &absent], &args).await
}

pub(super) async fn take_absence(
    wire: &Wire,
    keys: &Keys,
    room: &RoomId,
    user: &UserId,
    before: StoreTime,
) -> RedisResult<bool> {
    let (absent, before) = (keys.room(room).absent, before.as_millis().to_string());
    let args = [user.as_str(), &before].map(str::as_bytes);
    let taken: Option<String> = wire.run(&script::TAKE_ABSENCE, &[&absent], &args).await?;
    let Some(absence) = taken.map(|text| Absence::read(&text)).transpose()? else { return Ok(false) };
    if let Some(due) = absence.due {
        // The absence is taken whatever becomes of its entry, which readers clear away as well.
        let _ = due::remove(wire, keys, room, user, due).await;
    }
    Ok(true)
}

pub(super) async fn evict(
    wire: &Wire,
    keys: &Keys,
    room: &RoomId,
    user: &UserId,
) -> RedisResult<Vec<SessionId>> {
    let RoomKeys { online, absent, extra, .. } = keys.room(room);
    let args = [user.as_str().as_bytes()];
    let packed: Vec<u8> = wire.run(&script::EVICT, &[&online, &absent, &extra], &args).await?;
    read_ids(&packed)
}

pub(super) async fn online_counts(wire: &Wire, keys: &Keys, room: &RoomId) -> RedisResult<(u64, u64)> {
    let RoomKeys { online, extra, .. } = keys.room(room);
    wire.run(&script::COUNTS, &[&online, &extra], &[]).await
}

pub(super) async fn occupancy(wire: &Wire, keys: &Keys, room: &RoomId) -> RedisResult<Occupancy> {
    let RoomKeys { online, absent, .. } = keys.room(room);
    let mut sizes = redis::pipe();
    sizes.cmd("HLEN").arg(&online).cmd("HLEN").arg(&absent);
    let (users_online, users_absent): (u64, u64) = wire.query_all(&sizes).await?;
    let (users_online, users_absent) = if users_online + users_absent <= AT_ONCE {
        let mut both = redis::pipe();
        both.atomic().cmd("HGETALL").arg(&online).cmd("HGETALL").arg(&absent);
        wire.query_all(&both).await?
    } else {
        // Pages are no snapshot. Who goes away meanwhile is in the first or the second list, who comes back in the
        // second or the third.
        let mut users_online = pages(wire, &online).await?;
        let users_absent = pages(wire, &absent).await?;
        users_online.extend(pages(wire, &online).await?);
        (users_online, users_absent.into_iter().map(|(user, text)| (user, text_of(text))).collect())
    };
    read(users_online, users_absent)
}

fn read(online: HashMap<String, Vec<u8>>, absent: HashMap<String, String>) -> RedisResult<Occupancy> {
    let mut occupancy = Occupancy::default();
    for (user, absence) in absent {
        if !online.contains_key(&user) {
            occupancy.absent.push((read_user(user)?, Absence::read(&absence)?.since));
        }
    }
    for (user, packed) in online {
        occupancy.online.push((read_user(user)?, read_ids(&packed)?));
    }
    Ok(occupancy)
}

async fn pages(wire: &Wire, key: &str) -> RedisResult<HashMap<String, Vec<u8>>> {
    let mut found = HashMap::new();
    let mut cursor = 0_u64;
    loop {
        let mut command = redis::cmd("HSCAN");
        command.arg(key).arg(cursor).arg("COUNT").arg(PAGE);
        let (next, page): (u64, Vec<(String, Vec<u8>)>) = wire.query(&command).await?;
        found.extend(page);
        if next == 0 {
            return Ok(found);
        }
        cursor = next;
    }
}

fn text_of(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}
