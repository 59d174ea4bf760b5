//! The list of absences that become due: an index over all rooms, so on other slots than the facts.
//!
//! An entry names room, user and due time, and is written before the absence. Ending an absence leaves the entry: who
//! reads it when its time has come checks the fact. So a rejoin stays one script, and no late removal can take away
//! the entry of an absence that began meanwhile: another absence has another due time, so another entry.
//!
//! An entry without a fact is stale, or its fact is on its way. It is put off by [`ON_ITS_WAY`] when first seen, and
//! dropped when there is no fact then either: no call takes that long. (Should a fact come later still, from a server
//! that was frozen, marking the absence again, as the seat audit does, enters it anew.)

use futures_util::future::{join_all, try_join_all};
use redis::RedisResult;
use roomcast_types::{RoomId, StoreTime, UserId};

use super::{
    fault::unreadable,
    keys::{DUE_SHARDS, Keys},
    link::Wire,
    record::Absence,
    script,
};

/// How long a fact may be behind its entry, in milliseconds.
const ON_ITS_WAY: &[u8] = b"60000";

/// One entry as it stands in its part of the list.
struct Entry {
    shard: usize,
    member: String,
    score: f64,
    room: RoomId,
    user: UserId,
}

/// What became of an entry's absence.
enum Fact {
    Due(StoreTime),
    Later(StoreTime),
    None,
}

/// Enters an absence, before the fact.
pub(super) async fn write(
    wire: &Wire,
    keys: &Keys,
    room: &RoomId,
    user: &UserId,
    due: StoreTime,
) -> RedisResult<()> {
    let mut command = redis::cmd("ZADD");
    command.arg(keys.due_of(room)).arg(due.as_millis()).arg(member(room, user, due));
    wire.query(&command).await
}

/// Removes the entry of an absence that was taken.
pub(super) async fn remove(
    wire: &Wire,
    keys: &Keys,
    room: &RoomId,
    user: &UserId,
    due: StoreTime,
) -> RedisResult<()> {
    let mut command = redis::cmd("ZREM");
    command.arg(keys.due_of(room)).arg(member(room, user, due));
    wire.query(&command).await
}

/// Absences that are due, oldest first. Looks at `limit` entries: where some are stale, which it clears away, there
/// are fewer absences, and the rest comes with the next call.
pub(super) async fn read(
    wire: &Wire,
    keys: &Keys,
    now: StoreTime,
    limit: usize,
) -> RedisResult<Vec<(RoomId, UserId)>> {
    let shards = (0..DUE_SHARDS).map(|shard| ripe(wire, keys, shard, now, limit));
    let mut entries: Vec<Entry> = try_join_all(shards).await?.into_iter().flatten().collect();
    entries.sort_by(|a, b| a.score.total_cmp(&b.score));
    entries.truncate(limit);
    let facts = try_join_all(entries.iter().map(|entry| fact(wire, keys, entry, now))).await?;

    let mut due = Vec::new();
    let mut stale: Vec<Vec<String>> = vec![Vec::new(); DUE_SHARDS];
    for (entry, fact) in entries.into_iter().zip(facts) {
        match fact {
            Fact::Due(time) => due.push((time, entry.room, entry.user)),
            Fact::Later(time) => {
                write(wire, keys, &entry.room, &entry.user, time).await?;
                stale[entry.shard].push(entry.member);
            }
            Fact::None => stale[entry.shard].push(entry.member),
        }
    }
    let mended = stale.iter().enumerate().filter(|(_, members)| !members.is_empty());
    let mending = join_all(mended.map(|(shard, members)| mend(wire, keys, shard, members)));
    mending.await.into_iter().collect::<RedisResult<()>>()?;

    due.sort();
    // An absence that was entered twice.
    due.dedup_by(|a, b| (&a.1, &a.2) == (&b.1, &b.2));
    Ok(due.into_iter().map(|(_, room, user)| (room, user)).collect())
}

async fn ripe(
    wire: &Wire,
    keys: &Keys,
    shard: usize,
    now: StoreTime,
    limit: usize,
) -> RedisResult<Vec<Entry>> {
    let mut command = redis::cmd("ZRANGEBYSCORE");
    command.arg(keys.due(shard)).arg("-inf").arg(now.as_millis()).arg("WITHSCORES");
    command.arg("LIMIT").arg(0).arg(i64::try_from(limit).unwrap_or(i64::MAX));
    let found: Vec<(String, f64)> = wire.query(&command).await?;
    found.into_iter().map(|(member, score)| read_member(shard, member, score)).collect()
}

async fn fact(wire: &Wire, keys: &Keys, entry: &Entry, now: StoreTime) -> RedisResult<Fact> {
    let mut command = redis::cmd("HGET");
    command.arg(keys.room(&entry.room).absent).arg(entry.user.as_str());
    let found: Option<String> = wire.query(&command).await?;
    let due = found.map(|text| Absence::read(&text)).transpose()?.and_then(|absence| absence.due);
    Ok(match due {
        Some(due) if due <= now => Fact::Due(due),
        Some(due) => Fact::Later(due),
        None => Fact::None,
    })
}

async fn mend(wire: &Wire, keys: &Keys, shard: usize, members: &[String]) -> RedisResult<()> {
    let members = members.iter().map(String::as_bytes);
    let args: Vec<&[u8]> = [ON_ITS_WAY].into_iter().chain(members).collect();
    wire.run(&script::MEND_DUE, &[&keys.due(shard)], &args).await
}

/// `ROOM\0USER\0DUE`: ids hold no control characters.
fn member(room: &RoomId, user: &UserId, due: StoreTime) -> String {
    format!("{room}\0{user}\0{}", due.as_millis())
}

fn read_member(shard: usize, member: String, score: f64) -> RedisResult<Entry> {
    let parse = || {
        let mut parts = member.split('\0');
        Some((RoomId::new(parts.next()?).ok()?, UserId::new(parts.next()?).ok()?))
    };
    let (room, user) = parse().ok_or_else(|| unreadable("not an entry of the due list", &member))?;
    Ok(Entry { shard, member, score, room, user })
}
