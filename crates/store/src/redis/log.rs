//! Logs in Redis: a stream per log, with the offset as the entry's id, and a hash with its position.
//!
//! An append is one script. It is not given again when its outcome is unknown; what the server refused, saying so, is.
//! Times are the server's. A position outlives its messages by a day; a server that lost its content begins fresh epochs.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::try_join_all;
use redis::RedisResult;
use roomcast_runtime::config::{self, RedisServer};
use roomcast_types::{Epoch, MessageId, Position};

use super::{
    access::Access,
    dial::{Dialer, Repeats},
    fault::unreadable,
    keys::{Keys, LogKeys},
    memory, script,
};
use crate::{
    counters::Counters,
    error::Result,
    log::{ANY_AGE, Append, Appended, Entry, Idempotency, Log, LogKey, Page, Part, Read, Retention},
};

/// How long a position is kept beyond the messages.
const POSITION_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Questions under way at once, of one call.
const READS_AT_ONCE: usize = 64;

/// Scripts count in doubles: no offset is greater, and what a caller means by "the end" is no less.
const OFFSET_MAX: u64 = 1 << 53;

/// Logs of the last minutes, in Redis.
pub struct RedisLog {
    access: Access,
    keys: Keys,
}

impl RedisLog {
    /// A handle. Connects with the first call, and again when a connection was lost.
    pub fn open(server: &RedisServer, section: &config::Redis) -> Result<Self> {
        let dialer = Dialer::new(server, section.timeout, Repeats::Never)?;
        Ok(Self {
            access: Access::new("Redis (logs)", dialer, section.timeout),
            keys: Keys::new(&section.key_prefix),
        })
    }

    async fn try_append(&self, append: &Append, retention: &Retention) -> RedisResult<Appended> {
        let message = append.message_id.to_string();
        if append.key == LogKey::Unaddressed {
            let Some(own) = &append.idempotency else { return Ok(Appended::New(None)) };
            let (used, digest, ttl) = (self.keys.unaddressed(&own.key), digest(own), ttl(retention));
            let args = [&message, &digest, &ttl].map(|text| text.as_bytes());
            let answer = self.access.wire.run_unless_done(&script::LOG_USE, &[&used], &args).await?;
            return appended(answer);
        }
        let LogKeys { log, head } = self.keys.log(&append.key);
        let own = append.idempotency.as_ref();
        let used = own.map_or(head.clone(), |own| self.keys.used(&append.key, &own.key));
        let (digest, is_once) = own.map_or((String::new(), "0"), |own| (digest(own), "1"));
        let texts = [
            message,
            Epoch::random().to_string(),
            retention.messages.to_string(),
            retention.bytes.min(OFFSET_MAX).to_string(),
            millis(retention.age),
            millis(POSITION_KEPT),
            is_once.to_owned(),
            digest,
            ttl(retention),
        ];
        let mut args: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
        args.extend(append.payload.as_deref());
        let keys = [log.as_str(), &head, &used];
        appended(self.access.wire.run_unless_done(&script::LOG_APPEND, &keys, &args).await?)
    }

    async fn page(&self, read: &Read) -> RedisResult<Page> {
        if read.key == LogKey::Unaddressed {
            return Ok(Page { position: None, first: 1, entries: Vec::new(), is_cut: false });
        }
        let LogKeys { log, head } = self.keys.log(&read.key);
        let (part, offset, up_to) = match read.part {
            Part::Position => ("position", 0, 0),
            Part::After { offset, up_to } => ("after", offset, up_to),
            Part::Before { offset } => ("before", offset, 0),
        };
        let texts = [
            part.to_owned(),
            offset.min(OFFSET_MAX).to_string(),
            up_to.min(OFFSET_MAX).to_string(),
            read.limit.to_string(),
            read.bytes_max.min(OFFSET_MAX).to_string(),
            millis(read.age),
            Epoch::random().to_string(),
            millis(POSITION_KEPT),
        ];
        let args: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
        let answer: Vec<Vec<u8>> =
            self.access.wire.run_unless_done(&script::LOG_READ, &[&log, &head], &args).await?;
        let mut page = page(&answer)?;
        if matches!(read.part, Part::Before { .. }) {
            page.entries.reverse();
        }
        Ok(page)
    }
}

#[async_trait]
impl Log for RedisLog {
    async fn append(&self, append: &Append, retention: &Retention) -> Result<Appended> {
        self.access.call("append to a log", self.try_append(append, retention)).await
    }

    async fn read(&self, reads: &[Read]) -> Result<Vec<Page>> {
        let call = async {
            let mut pages = Vec::with_capacity(reads.len());
            // What waits together is written together, and a cluster's driver parts it by slot.
            for together in reads.chunks(READS_AT_ONCE) {
                pages.extend(try_join_all(together.iter().map(|read| self.page(read))).await?);
            }
            Ok(pages)
        };
        self.access.call("read logs", call).await
    }

    async fn renew(&self, key: &LogKey, epoch: Epoch) -> Result<Option<Position>> {
        if *key == LogKey::Unaddressed {
            return Ok(None);
        }
        let LogKeys { log, head } = self.keys.log(key);
        let texts = [epoch.to_string(), Epoch::random().to_string(), millis(POSITION_KEPT)];
        let args: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
        let call = async {
            let keys = [log.as_str(), &head];
            let answer: Vec<Vec<u8>> =
                self.access.wire.run_unless_done(&script::LOG_RENEW, &keys, &args).await?;
            if answer.is_empty() { Ok(None) } else { position(&answer).map(Some) }
        };
        self.access.call("renew a log", call).await
    }

    async fn remove(&self, key: &LogKey) -> Result<()> {
        if *key == LogKey::Unaddressed {
            return Ok(());
        }
        // Keys that were used name the life of the log, which ends here.
        let LogKeys { log, head } = self.keys.log(key);
        let mut command = redis::cmd("DEL");
        command.arg(log).arg(head);
        self.access.call("remove a log", self.access.wire.query_unless_done(&command)).await
    }

    async fn sweep(&self, _: &Retention) -> Result<u64> {
        Ok(0)
    }

    async fn ping(&self) -> Result<()> {
        self.access.call("read the clock", memory::now(&self.access.wire, &self.keys)).await?;
        Ok(())
    }

    fn counters(&self) -> Counters {
        self.access.counters()
    }
}

fn digest(own: &Idempotency) -> String {
    format!("{:016x}", own.digest)
}

fn ttl(retention: &Retention) -> String {
    millis(retention.idempotency.max(Duration::from_millis(1)))
}

/// Bounded, as a server refuses times that overflow.
fn millis(duration: Duration) -> String {
    duration.min(ANY_AGE).as_millis().max(1).to_string()
}

fn appended(answer: Vec<Vec<u8>>) -> RedisResult<Appended> {
    let has_position =
        |parts: &[Vec<u8>]| if parts.len() == 2 { position(parts).map(Some) } else { Ok(None) };
    match &answer[..] {
        [word, rest @ ..] if word == b"new" => Ok(Appended::New(has_position(rest)?)),
        [word, message, rest @ ..] if word == b"repeat" => {
            Ok(Appended::Repeat { message_id: message_id(message)?, position: has_position(rest)? })
        }
        [word, message] if word == b"taken" => Ok(Appended::KeyTaken { message_id: message_id(message)? }),
        _ => Err(unreadable("not the outcome of an append", format!("{} parts", answer.len()))),
    }
}

fn page(answer: &[Vec<u8>]) -> RedisResult<Page> {
    let [epoch, offset, first, is_cut, rest @ ..] = answer else {
        return Ok(Page { position: None, first: 1, entries: Vec::new(), is_cut: false });
    };
    let position = Some(position(&[epoch.clone(), offset.clone()])?);
    let entry = |parts: &[Vec<u8>]| {
        let [offset, message, payload] = parts else {
            return Err(unreadable("not an entry of a log", format!("{} parts", parts.len())));
        };
        let payload = Bytes::copy_from_slice(payload);
        Ok(Entry { offset: number(offset)?, message_id: message_id(message)?, payload })
    };
    let entries = rest.chunks(3).map(entry).collect::<RedisResult<_>>()?;
    Ok(Page { position, first: number(first)?, entries, is_cut: is_cut == b"1" })
}

fn position(parts: &[Vec<u8>]) -> RedisResult<Position> {
    let parse = || Epoch::parse(std::str::from_utf8(parts.first()?).ok()?);
    let epoch = parse().ok_or_else(|| unreadable("not an epoch", text(parts.first())))?;
    Ok(Position { epoch, offset: parts.get(1).map_or(Ok(0), |offset| number(offset))? })
}

fn number(bytes: &[u8]) -> RedisResult<u64> {
    let parse = || std::str::from_utf8(bytes).ok()?.parse().ok();
    parse().ok_or_else(|| unreadable("not an offset", String::from_utf8_lossy(bytes)))
}

fn message_id(bytes: &[u8]) -> RedisResult<MessageId> {
    let parse = || MessageId::parse(std::str::from_utf8(bytes).ok()?);
    parse().ok_or_else(|| unreadable("not a message id", String::from_utf8_lossy(bytes)))
}

fn text(bytes: Option<&Vec<u8>>) -> String {
    bytes.map_or(String::new(), |bytes| String::from_utf8_lossy(bytes).into_owned())
}
