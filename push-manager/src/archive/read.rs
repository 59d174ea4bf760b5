//! `ReadLog`: nodes ask for positions and parts of logs, and for inboxes, many at a time.

use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{StreamExt, stream};
use roomcast_proto::pubsub::{
    LogAnswer, LogQuery, ReadLogReply, ReadLogRequest, log_answer::State, log_query::Log,
};
use roomcast_store::log::{LogKey, Part, Read};
use roomcast_types::{Epoch, Fault, LogPolicy, MessageId, RoomId, StoreTime, UserId, unix_millis};

use super::{
    Archive,
    answer::{Verdict, Wanted, at, judge, stored},
};

/// Questions of one call.
const QUERIES_MAX: usize = 256;
/// Messages of one answer at most, whatever the question says.
const MESSAGES_MAX: u32 = 10_000;
/// Bytes of payloads of one answer at most.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// Bytes that are read at once, and of a whole reply; what comes after that is UNAVAILABLE and is asked for anew.
const READ_BYTES_MAX: u64 = 16 << 20;
const REPLY_BYTES_MAX: u64 = 32 << 20;
/// Inboxes that are read at once.
const INBOXES_AT_ONCE: usize = 16;

/// A question, checked.
#[derive(Debug)]
struct Query {
    /// Its place in the request.
    index: usize,
    limit: u32,
    bytes_max: u64,
    about: About,
}

#[derive(Debug)]
enum About {
    Log { policy: LogPolicy, key: LogKey, wanted: Wanted },
    Inbox { user_id: UserId, after: Option<MessageId> },
}

impl Archive {
    /// Answers each question, in their order.
    pub async fn read_log(&self, request: ReadLogRequest) -> Result<ReadLogReply, Fault> {
        let count = request.queries.len();
        if count > QUERIES_MAX {
            let message = format!("queries has {count} entries; at most {QUERIES_MAX} are allowed");
            return Err(Fault::bad_request(message));
        }
        let queries = request.queries.iter().enumerate();
        let queries: Vec<_> =
            queries.map(|(index, query)| checked(index, query)).collect::<Result<_, _>>()?;
        // One who asks for much must not fill the memory; the permit is given back when the reply is composed.
        let Ok(_place) = self.reads.acquire().await else { return Ok(ReadLogReply::default()) };
        let (mut recent, mut durable, mut inboxes) = (Vec::new(), Vec::new(), Vec::new());
        let mut answers = vec![at(State::Unavailable, None); count];
        for query in queries {
            match &query.about {
                About::Log { policy: LogPolicy::Recent, .. } => recent.push(query),
                About::Log { policy: LogPolicy::Durable, .. } => durable.push(query),
                About::Log { policy: LogPolicy::None, wanted, .. } => {
                    let state = if wanted.epoch.is_none() { State::Complete } else { State::Lost };
                    answers[query.index] = at(state, None);
                }
                About::Inbox { .. } => inboxes.push(query),
            }
        }
        let bytes = AtomicU64::new(0);
        let (recent, durable, inboxes) = tokio::join!(
            self.read_logs(LogPolicy::Recent, recent, &bytes),
            self.read_logs(LogPolicy::Durable, durable, &bytes),
            self.read_inboxes(inboxes, &bytes),
        );
        for (index, answer) in recent.into_iter().chain(durable).chain(inboxes) {
            answers[index] = answer;
        }
        for answer in &answers {
            self.metrics.read(answer.state());
        }
        Ok(ReadLogReply { answers })
    }

    async fn read_logs(
        &self,
        policy: LogPolicy,
        queries: Vec<Query>,
        bytes: &AtomicU64,
    ) -> Vec<(usize, LogAnswer)> {
        let mut answers = Vec::with_capacity(queries.len());
        let mut queries = queries.into_iter().peekable();
        while bytes.load(Ordering::Relaxed) < REPLY_BYTES_MAX {
            let (mut group, mut group_bytes) = (Vec::new(), 0);
            while let Some(query) =
                queries.next_if(|query| group.is_empty() || group_bytes + query.cost() <= READ_BYTES_MAX)
            {
                group_bytes += query.cost();
                group.push(query);
            }
            if group.is_empty() {
                break;
            }
            let reads: Vec<_> = group.iter().filter_map(|query| self.read_of(policy, query)).collect();
            let gate = self.read_gate(policy);
            let Ok(pages) = super::answer(gate, self.logs.of(policy).read(&reads)).await else { break };
            let now_ms = unix_millis();
            for (query, page) in group.into_iter().zip(pages) {
                let read: u64 = page.entries.iter().map(|entry| entry.payload.len() as u64).sum();
                bytes.fetch_add(read, Ordering::Relaxed);
                let About::Log { key, wanted, .. } = query.about else { continue };
                let answer = match judge(wanted, &page, now_ms) {
                    Verdict::Answer(answer) => answer,
                    Verdict::Nothing => self.begin(policy, key).await,
                    Verdict::WentBack(epoch) => self.went_back(policy, key, epoch, page.position).await,
                };
                answers.push((query.index, answer));
            }
        }
        answers
    }

    fn read_of(&self, policy: LogPolicy, query: &Query) -> Option<Read> {
        let About::Log { key, wanted, .. } = &query.about else { return None };
        let part = match wanted.epoch {
            None => Part::Position,
            Some(_) => Part::After { offset: wanted.after, up_to: wanted.up_to },
        };
        let age = self.retention(policy).age;
        Some(Read { key: key.clone(), part, limit: query.limit, bytes_max: query.bytes_max, age })
    }

    /// A log that has no position gets one: whoever lost the old one goes on from there.
    async fn begin(&self, policy: LogPolicy, key: LogKey) -> LogAnswer {
        let age = self.retention(policy).age;
        let read = Read { key, part: Part::Position, limit: 1, bytes_max: 0, age };
        let pages = super::answer(self.read_gate(policy), self.logs.of(policy).read(&[read])).await;
        match pages.ok().and_then(|pages| pages.first()?.position) {
            Some(position) => at(State::Lost, Some(position)),
            None => at(State::Unavailable, None),
        }
    }

    async fn went_back(
        &self,
        policy: LogPolicy,
        key: LogKey,
        epoch: Epoch,
        position: Option<roomcast_types::Position>,
    ) -> LogAnswer {
        if !self.renewals.may(&key) {
            return at(State::Lost, position);
        }
        match self.renew(policy, &key, epoch).await {
            Some(position) => at(State::Lost, Some(position)),
            None => at(State::Unavailable, None),
        }
    }

    async fn read_inboxes(&self, queries: Vec<Query>, bytes: &AtomicU64) -> Vec<(usize, LogAnswer)> {
        let Some((mut answers, queries)) = self.without_empty(queries).await else { return Vec::new() };
        let read = queries.into_iter().map(|query| self.read_inbox(query, bytes));
        let read = stream::iter(read).buffer_unordered(INBOXES_AT_ONCE).filter_map(std::future::ready);
        answers.extend(read.collect::<Vec<_>>().await);
        answers
    }

    /// Answers the questions about inboxes that are empty, which most are, all at once; the others. `None` when the store
    /// does not answer.
    async fn without_empty(&self, queries: Vec<Query>) -> Option<(Vec<(usize, LogAnswer)>, Vec<Query>)> {
        if queries.len() < 2 {
            return Some((Vec::new(), queries));
        }
        let users: Vec<UserId> = queries.iter().filter_map(Query::inbox).cloned().collect();
        let now = StoreTime::from_millis(unix_millis());
        let waiting = self.logs.inbox.waiting(&users, now);
        let waiting = super::answer(&self.gates.inbox, waiting).await.ok()?;
        let is_filled = |query: &Query| query.inbox().is_some_and(|user| waiting.contains(user));
        let (filled, empty): (Vec<_>, Vec<_>) = queries.into_iter().partition(is_filled);
        let answers = empty.into_iter().map(|query| (query.index, at(State::Complete, None))).collect();
        Some((answers, filled))
    }

    async fn read_inbox(&self, query: Query, bytes: &AtomicU64) -> Option<(usize, LogAnswer)> {
        let About::Inbox { user_id, after } = query.about else { return None };
        if bytes.load(Ordering::Relaxed) >= REPLY_BYTES_MAX {
            return None;
        }
        let now_ms = unix_millis();
        let now = StoreTime::from_millis(now_ms);
        let listing = self.logs.inbox.list(&user_id, after, query.limit, query.bytes_max, now);
        let (rows, has_more) = super::answer(&self.gates.inbox, listing).await.ok()?;
        let read: usize = rows.iter().map(|row| row.payload.len()).sum();
        bytes.fetch_add(read as u64, Ordering::Relaxed);
        let messages = rows.iter().filter_map(|row| stored(&user_id, row, now_ms)).collect();
        Some((query.index, LogAnswer { messages, has_more, ..at(State::Complete, None) }))
    }
}

impl Query {
    /// Whose inbox it is about, if about one.
    fn inbox(&self) -> Option<&UserId> {
        match &self.about {
            About::Inbox { user_id, .. } => Some(user_id),
            About::Log { .. } => None,
        }
    }

    /// Bytes that reading it may take.
    fn cost(&self) -> u64 {
        match &self.about {
            About::Log { wanted: Wanted { epoch: None, .. }, .. } => 0,
            _ => self.bytes_max,
        }
    }
}

fn checked(index: usize, query: &LogQuery) -> Result<Query, Fault> {
    let invalid = |error: roomcast_types::InvalidId| Fault::bad_request(format!("queries[{index}]: {error}"));
    let log = query.log.as_ref();
    let log = log.ok_or_else(|| Fault::bad_request(format!("queries[{index}] names no log")))?;
    let wanted = Wanted { epoch: Epoch::from_u64(query.epoch), after: query.after, up_to: query.up_to };
    let about = match log {
        Log::RoomId(room_id) => {
            let key = LogKey::Room(RoomId::new(room_id).map_err(invalid)?);
            About::Log { policy: query.policy().into(), key, wanted }
        }
        Log::UserId(user_id) => {
            let key = LogKey::User(UserId::new(user_id).map_err(invalid)?);
            About::Log { policy: LogPolicy::Recent, key, wanted }
        }
        Log::InboxUserId(user_id) => {
            let user_id = UserId::new(user_id).map_err(invalid)?;
            let is_named = !query.after_message.is_empty();
            let after = MessageId::from_bytes(&query.after_message);
            if is_named && after.is_none() {
                let message = format!("queries[{index}].after_message has not 16 bytes");
                return Err(Fault::bad_request(message));
            }
            About::Inbox { user_id, after }
        }
    };
    let limit = query.limit.clamp(1, MESSAGES_MAX);
    let bytes_max = u64::from(query.bytes_max).clamp(1, ANSWER_BYTES_MAX);
    Ok(Query { index, limit, bytes_max, about })
}
