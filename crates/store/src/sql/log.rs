//! What becomes of a log, as far as it does not depend on who keeps the rows.

use roomcast_types::{Epoch, MessageId, Position};

use crate::log::{Appended, Idempotency, LogKey, Read, Retention};

/// A row of table `logs`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub position: Position,
    /// Payloads of all messages of the epoch, gone ones too.
    pub bytes: u64,
}

/// A message without its payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line {
    pub offset: u64,
    pub bytes: u64,
    /// Payloads of the epoch's earlier messages.
    pub bytes_before: u64,
}

/// A row of table `log_keys`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UsedKey {
    pub digest: u64,
    pub message_id: MessageId,
    pub position: Option<Position>,
}

impl UsedKey {
    /// What an append under this key gets; `epoch` is the log's.
    pub(crate) fn answer(self, own: &Idempotency, epoch: Option<Epoch>) -> Appended {
        let Self { digest, message_id, position } = self;
        if digest != own.digest {
            return Appended::KeyTaken { message_id };
        }
        let position = position.filter(|position| Some(position.epoch) == epoch);
        Appended::Repeat { message_id, position }
    }
}

/// Lines that one look at the oldest messages reads; as many as a step can lag behind, and more, so that a limit that
/// was lowered is reached.
pub(crate) const LINES_PER_TRIM: u32 = 256;

/// Rows that one statement of a sweep deletes.
pub(crate) const ROWS_PER_SWEEP: u32 = 500;

/// A log whose messages have all gone keeps its position for so long, in milliseconds: one row, and without it whoever
/// comes back to a quiet room would be told of a loss that was none.
pub(crate) const POSITION_KEPT_MS: i64 = 90 * 24 * 60 * 60 * 1_000;

/// The letter keeps rooms and users of one id apart.
pub(crate) fn log_key(key: &LogKey) -> Vec<u8> {
    match key {
        LogKey::Room(room) => [b"r", room.as_str().as_bytes()].concat(),
        LogKey::User(user) => [b"u", user.as_str().as_bytes()].concat(),
        LogKey::Unaddressed => b"a".to_vec(),
    }
}

/// Whether an append at this offset looks for what is over: not each one does, as the look costs as much as the append.
pub(crate) fn is_trim_due(offset: u64, retention: &Retention) -> bool {
    offset.is_multiple_of(u64::from((retention.messages / 8).clamp(1, 64)))
}

/// The last offset that is over, of the oldest lines of a log in their order; the newest message is not among them.
pub(crate) fn trimmed_up_to(oldest: &[Line], head: Head, retention: &Retention) -> Option<u64> {
    let is_over = |line: &&Line| {
        line.offset + u64::from(retention.messages) <= head.position.offset
            || head.bytes - line.bytes_before > retention.bytes
    };
    oldest.iter().take_while(is_over).last().map(|line| line.offset)
}

/// How many of the lines fit the limits of a read, and whether any does not.
pub(crate) fn fitting(lines: &[Line], read: &Read) -> (usize, bool) {
    let mut bytes = 0;
    let fits = |(index, line): &(usize, &Line)| {
        bytes += line.bytes;
        *index < read.limit as usize && (bytes <= read.bytes_max || *index == 0)
    };
    let count = lines.iter().enumerate().take_while(fits).count();
    (count, count < lines.len())
}

/// SQL's integers are signed.
pub(crate) fn offset_bound(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}

/// Milliseconds of a duration, for sums with times.
pub(crate) fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2)
}

/// Whatever is bound or read as 64 bits without a meaning as a number.
pub(crate) fn bits(value: u64) -> i64 {
    value as i64
}

pub(crate) fn epoch(bits: i64) -> Option<Epoch> {
    Epoch::from_u64(bits as u64)
}
