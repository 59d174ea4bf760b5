//! One log in process memory: its position and its messages.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use roomcast_types::{Epoch, MessageId, Position};
use tokio::time::Instant;

use crate::log::{Entry, Page, Part, Read, Retention};

#[derive(Debug, Clone)]
pub(super) struct Kept {
    position: Position,
    entries: VecDeque<Line>,
    bytes: u64,
    /// When somebody last appended, or asked for the position.
    used_at: Instant,
}

#[derive(Debug, Clone)]
struct Line {
    offset: u64,
    message_id: MessageId,
    payload: Bytes,
    at: Instant,
}

impl Line {
    fn is_older(&self, age: Duration, now: Instant) -> bool {
        now.duration_since(self.at) > age
    }
}

impl Kept {
    /// Without messages, at the begin of a fresh epoch.
    pub(super) fn new(now: Instant) -> Self {
        let position = Position { epoch: Epoch::random(), offset: 0 };
        Self { position, entries: VecDeque::new(), bytes: 0, used_at: now }
    }

    pub(super) fn position(&self) -> Position {
        self.position
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn used_at(&self) -> Instant {
        self.used_at
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn append(
        &mut self,
        message_id: MessageId,
        payload: Bytes,
        retention: &Retention,
        now: Instant,
    ) -> Position {
        self.used_at = now;
        self.position.offset += 1;
        self.bytes += payload.len() as u64;
        self.entries.push_back(Line { offset: self.position.offset, message_id, payload, at: now });
        self.drop_while(|kept, oldest| {
            let is_over = kept.entries.len() > retention.messages as usize || kept.bytes > retention.bytes;
            kept.entries.len() > 1 && (is_over || oldest.is_older(retention.age, now))
        });
        self.position
    }

    /// Drops what is over its age; how many messages.
    pub(super) fn drop_old(&mut self, age: Duration, now: Instant) -> u64 {
        self.drop_while(|_, oldest| oldest.is_older(age, now))
    }

    fn drop_while(&mut self, is_over: impl Fn(&Self, &Line) -> bool) -> u64 {
        let before = self.entries.len();
        while self.entries.front().is_some_and(|oldest| is_over(self, oldest)) {
            self.bytes -= self.entries.pop_front().map_or(0, |line| line.payload.len() as u64);
        }
        if self.entries.is_empty() {
            // A burst that is over gives its room back.
            self.entries.shrink_to(0);
        }
        (before - self.entries.len()) as u64
    }

    pub(super) fn page(&mut self, read: &Read, now: Instant) -> Page {
        self.used_at = now;
        let is_kept = |line: &&Line| !line.is_older(read.age, now);
        let first = self.entries.iter().find(is_kept).map_or(self.position.offset + 1, |line| line.offset);
        let kept = self.entries.iter().filter(is_kept);
        let (entries, is_cut) = match read.part {
            Part::Position => (Vec::new(), false),
            Part::After { offset, up_to } => {
                let wanted = kept.filter(|line| line.offset > offset && line.offset <= up_to);
                take(wanted, read)
            }
            Part::Before { offset } => {
                let (mut entries, is_cut) = take(kept.rev().filter(|line| line.offset < offset), read);
                entries.reverse();
                (entries, is_cut)
            }
        };
        Page { position: Some(self.position), first, entries, is_cut }
    }
}

fn take<'a>(lines: impl Iterator<Item = &'a Line>, read: &Read) -> (Vec<Entry>, bool) {
    let (mut entries, mut bytes) = (Vec::new(), 0);
    for line in lines {
        bytes += line.payload.len() as u64;
        if entries.len() >= read.limit as usize || (bytes > read.bytes_max && !entries.is_empty()) {
            return (entries, true);
        }
        let Line { offset, message_id, ref payload, .. } = *line;
        entries.push(Entry { offset, message_id, payload: payload.clone() });
    }
    (entries, false)
}
