//! `GetHistory`: a page of a log for a business server, in either direction.

use prost::Message;
use roomcast_proto::pubsub::{
    GetHistoryReply, GetHistoryRequest, HistoryMessage, LoggedMessage, get_history_request,
};
use roomcast_store::log::{Entry, LogKey, Part, Read};
use roomcast_types::{Fault, LogPolicy, RoomId, UserId};

use super::Archive;

/// Messages of a page when the request does not say, and at most.
const LIMIT: u32 = 100;
const LIMIT_MAX: u32 = 1_000;
/// Bytes of a page at most.
const PAGE_BYTES_MAX: u64 = 1 << 20;

/// A request, checked.
#[derive(Debug)]
pub struct Which {
    /// Whose log.
    pub key: LogKey,
    part: Part,
    limit: u32,
}

impl Which {
    /// BAD_REQUEST names the field.
    pub fn checked(request: GetHistoryRequest) -> Result<Self, Fault> {
        let key = match &request.log {
            Some(get_history_request::Log::RoomId(room_id)) => LogKey::Room(RoomId::new(room_id)?),
            Some(get_history_request::Log::UserId(user_id)) => LogKey::User(UserId::new(user_id)?),
            None => return Err(Fault::bad_request("it takes a room_id or a user_id")),
        };
        let part = match (request.after, request.before) {
            (Some(_), Some(_)) => return Err(Fault::bad_request("it takes after or before, not both")),
            (Some(offset), None) => Part::After { offset, up_to: u64::MAX },
            (None, before) => Part::Before { offset: before.unwrap_or(u64::MAX) },
        };
        let limit = match request.limit {
            0 => LIMIT,
            limit if limit <= LIMIT_MAX => limit,
            limit => return Err(Fault::bad_request(format!("limit is {limit}; it takes 1 to {LIMIT_MAX}"))),
        };
        Ok(Self { key, part, limit })
    }
}

impl Archive {
    /// A page; of a log that keeps nothing an empty one.
    pub async fn history(&self, policy: LogPolicy, which: Which) -> Result<GetHistoryReply, Fault> {
        if policy == LogPolicy::None {
            return Ok(GetHistoryReply { first: 1, ..GetHistoryReply::default() });
        }
        let Which { key, part, limit } = which;
        let age = self.retention(policy).age;
        let read = [Read { key, part, limit, bytes_max: PAGE_BYTES_MAX, age }];
        let mut pages = super::answer(self.read_gate(policy), self.logs.of(policy).read(&read)).await?;
        let Some(page) = pages.pop() else { return Ok(GetHistoryReply::default()) };
        Ok(GetHistoryReply {
            epoch: page.position.map(|position| position.epoch.to_string()).unwrap_or_default(),
            offset: page.position.map_or(0, |position| position.offset),
            first: page.first,
            messages: page.entries.iter().filter_map(message).collect(),
            has_more: page.is_cut,
        })
    }
}

fn message(entry: &Entry) -> Option<HistoryMessage> {
    let logged = LoggedMessage::decode(&*entry.payload).ok()?;
    let deliver = logged.deliver?;
    Some(HistoryMessage {
        message_id: entry.message_id.to_string(),
        offset: entry.offset,
        content: deliver.content,
        timestamp_ms: deliver.timestamp_ms,
        exclude_user_ids: deliver.exclude_user_ids,
        expires_at_ms: logged.expires_at_ms,
    })
}
