//! `{u:U}`: the sessions of users and the slots they hold.

use redis::RedisResult;
use roomcast_types::{SessionId, SessionPolicy, UserId};

use super::{
    fault::unreadable,
    keys::Keys,
    link::Wire,
    record::{read_entry, write_entry},
    script,
};
use crate::presence::{Claim, SessionEntry};

pub(super) async fn claim(
    wire: &Wire,
    keys: &Keys,
    user: &UserId,
    entry: &SessionEntry,
    policy: SessionPolicy,
) -> RedisResult<Claim> {
    let is_single = if policy == SessionPolicy::Single { "1" } else { "0" };
    let (stamp, record) = (entry.stamp.as_millis().to_string(), write_entry(entry));
    let args = [stamp.as_str(), entry.client_id.as_str(), &record, is_single].map(str::as_bytes);
    let args: Vec<&[u8]> = [&entry.session_id.as_bytes()[..]].into_iter().chain(args).collect();
    let answer: Vec<Vec<u8>> = wire.run(&script::CLAIM, &[&keys.sessions(user)], &args).await?;
    let wrong = || unreadable("not the outcome of a claim", format!("{} parts", answer.len()));
    match answer.split_first() {
        Some((outcome, [holder])) if outcome == b"lost" => {
            Ok(Claim::Lost { holder: SessionId::from_bytes(holder).ok_or_else(wrong)? })
        }
        Some((_, displaced)) => Ok(Claim::Held {
            displaced: displaced
                .chunks(2)
                .map(|pair| read_entry(&pair[0], &String::from_utf8_lossy(pair.get(1).ok_or_else(wrong)?)))
                .collect::<RedisResult<_>>()?,
        }),
        None => Err(wrong()),
    }
}

pub(super) async fn drop_session(
    wire: &Wire,
    keys: &Keys,
    user: &UserId,
    session: SessionId,
) -> RedisResult<bool> {
    let mut command = redis::cmd("HDEL");
    command.arg(keys.sessions(user)).arg(session.as_bytes());
    wire.query(&command).await
}

pub(super) async fn sessions(wire: &Wire, keys: &Keys, user: &UserId) -> RedisResult<Vec<SessionEntry>> {
    let mut command = redis::cmd("HGETALL");
    command.arg(keys.sessions(user));
    let found: Vec<(Vec<u8>, String)> = wire.query(&command).await?;
    let mut sessions: Vec<SessionEntry> =
        found.iter().map(|(session, text)| read_entry(session, text)).collect::<RedisResult<_>>()?;
    sessions.sort_unstable_by_key(|entry| std::cmp::Reverse((entry.stamp, entry.session_id)));
    Ok(sessions)
}
