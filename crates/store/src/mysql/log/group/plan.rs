//! What a transaction of several appends asks and writes, as text: values are numbers and hexadecimal strings, so one
//! exchange takes as many statements as there are.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Write,
};

use roomcast_types::Position;
use sqlx::mysql::MySqlRow;

use super::{
    super::{head, now_ms, used_key_row},
    Waiting,
};
use crate::{
    log::{Append, Appended, Idempotency, Retention},
    mysql::{
        fault::Result,
        row::column,
        text::{Hex, Rows},
    },
    sql::log::{Head, UsedKey, bits, is_trim_due, log_key, millis},
};

/// An idempotency key, with the key of its log.
type OwnKey = (Vec<u8>, Vec<u8>);

/// The locked logs, and what is to be written of them.
pub(super) struct Plan {
    /// As they will be.
    pub(super) heads: BTreeMap<Vec<u8>, Head>,
    /// Logs that are to be trimmed.
    pub(super) trims: HashMap<Vec<u8>, Retention>,
    /// With whether it has not expired.
    used: HashMap<OwnKey, (UsedKey, bool)>,
    /// Keys that appends of this transaction use.
    taken: HashSet<OwnKey>,
    messages: Rows,
    keys: Rows,
}

/// Locks those logs that nobody else holds: one that is held would have all others wait. Without the hint a small table
/// is read, and locked, as a whole.
pub(super) fn lock(group: &[Waiting]) -> String {
    let mut keys = Rows::default();
    for key in group.iter().map(|waiting| log_key(&waiting.append.key)).collect::<HashSet<_>>() {
        keys.push(&Hex(&key).to_string());
    }
    format!(
        "SELECT log_key, epoch, last_offset, bytes FROM logs FORCE INDEX (PRIMARY) WHERE log_key IN ({keys}) \
         ORDER BY log_key FOR UPDATE SKIP LOCKED"
    )
}

impl Plan {
    /// Of the logs that were locked.
    pub(super) fn new(locked: &[MySqlRow]) -> Result<Self> {
        let mut heads = BTreeMap::new();
        for row in locked {
            if let Some(head) = head(Some(row))? {
                heads.insert(column::<Vec<u8>>(row, "log_key")?, head);
            }
        }
        Ok(Self {
            heads,
            trims: HashMap::new(),
            used: HashMap::new(),
            taken: HashSet::new(),
            messages: Rows::default(),
            keys: Rows::default(),
        })
    }

    /// Asks for the idempotency keys of the locked logs, and locks those that are known; `None` when there are none.
    pub(super) fn keys_used(&self, group: &[Waiting]) -> Option<String> {
        let mut wanted = String::new();
        for append in group.iter().map(|waiting| &waiting.append) {
            let Some((key, own)) = own_key(append).filter(|(key, _)| self.heads.contains_key(key)) else {
                continue;
            };
            let or = if wanted.is_empty() { "" } else { " OR " };
            let (key, own) = (Hex(&key), Hex(&own));
            write(&mut wanted, format_args!("{or}(log_key = {key} AND idempotency_key = {own})"));
        }
        (!wanted.is_empty()).then(|| {
            format!(
                "SELECT log_key, idempotency_key, digest, message_id, epoch, log_offset, expires_at > {} AS is_valid \
                 FROM log_keys FORCE INDEX (PRIMARY) WHERE {wanted} FOR UPDATE",
                now_ms!()
            )
        })
    }

    /// Those that are known.
    pub(super) fn note_used(&mut self, rows: &[MySqlRow]) -> Result<()> {
        for row in rows {
            let own = (column(row, "log_key")?, column(row, "idempotency_key")?);
            self.used.insert(own, used_key_row(row)?);
        }
        Ok(())
    }

    /// Gives each append its place; `None` for those that are to go alone.
    pub(super) fn fill(&mut self, group: &[Waiting]) -> Vec<Option<Appended>> {
        group.iter().map(|waiting| self.add(&waiting.append, &waiting.retention)).collect()
    }

    fn add(&mut self, append: &Append, retention: &Retention) -> Option<Appended> {
        let key = log_key(&append.key);
        let before = *self.heads.get(&key)?;
        if let (Some(own), Some(own_key)) = (&append.idempotency, own_key(append)) {
            match self.used.get(&own_key) {
                Some((used, true)) => return Some(used.answer(own, Some(before.position.epoch))),
                Some((_, false)) => return None,
                None if !self.taken.insert(own_key) => return None,
                None => {}
            }
        }
        let payload = append.payload.as_deref().unwrap_or_default();
        let position = Position { offset: before.position.offset + 1, ..before.position };
        let (epoch, offset) = (bits(position.epoch.as_u64()), position.offset);
        let (log, message_id) = (Hex(&key).to_string(), append.message_id.to_bytes());
        let message = Hex(&message_id);
        self.messages.push(&format!(
            "({log},{epoch},{offset},{message},{},{},{},{})",
            payload.len(),
            before.bytes,
            Hex(payload),
            now_ms!()
        ));
        if let Some(Idempotency { key: own, digest }) = &append.idempotency {
            let (own, digest, ttl) = (Hex(own.as_bytes()), bits(*digest), millis(retention.idempotency));
            let row = format!("({log},{own},{digest},{message},{epoch},{offset},{ttl} + {})", now_ms!());
            self.keys.push(&row);
        }
        if is_trim_due(offset, retention) {
            self.trims.insert(key.clone(), *retention);
        }
        self.heads.insert(key, Head { position, bytes: before.bytes + payload.len() as u64 });
        Some(Appended::New(Some(position)))
    }

    /// The statements that write it all; `None` when there is nothing to write.
    pub(super) fn writes(&self) -> Option<String> {
        if self.messages.is_empty() {
            return None;
        }
        let mut heads = Rows::default();
        for (key, Head { position, bytes }) in &self.heads {
            let (key, epoch, offset) = (Hex(key), bits(position.epoch.as_u64()), position.offset);
            heads.push(&format!("({key},{epoch},{offset},{bytes},{})", now_ms!()));
        }
        let mut text = format!(
            "INSERT INTO log_messages (log_key, epoch, log_offset, message_id, payload_bytes, bytes_before, payload, \
             created_at) VALUES {}; \
             INSERT INTO logs (log_key, epoch, last_offset, bytes, used_at) VALUES {} ON DUPLICATE KEY UPDATE \
             last_offset = VALUES(last_offset), bytes = VALUES(bytes), used_at = VALUES(used_at)",
            self.messages, heads
        );
        if !self.keys.is_empty() {
            text.push_str(
                "; INSERT INTO log_keys (log_key, idempotency_key, digest, message_id, epoch, log_offset, expires_at) \
                 VALUES ",
            );
            text.push_str(self.keys.as_str());
        }
        Some(text)
    }
}

fn own_key(append: &Append) -> Option<OwnKey> {
    let own = append.idempotency.as_ref()?;
    Some((log_key(&append.key), own.key.clone().into_bytes()))
}

fn write(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a string takes everything");
}
