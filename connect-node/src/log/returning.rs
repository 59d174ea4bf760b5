//! Somebody comes back and names the last position he saw: what he missed is read, and what is passed on meanwhile is kept
//! for him, until he takes part.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use roomcast_proto::pubsub::{Deliver, log_answer};
use roomcast_types::{Epoch, Position, UserId};

use super::{
    reader::Unlinked,
    sequence::{Inner, Sequence},
};
use crate::{
    hub::{Core, target::excluded},
    wire::{Encoding, PushFrame},
};

/// Messages kept for those who read; with one more they have to hear that messages are missing.
const RING_MAX: usize = 1_024;

/// The position that a client names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Since {
    /// `None`: it is none of ours.
    pub epoch: Option<Epoch>,
    /// The last that it saw.
    pub offset: u64,
}

/// What a session is told of a log as it comes in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Where it takes part from; of one who caught up, the position that he named himself.
    pub position: Option<Position>,
    /// Only where a position was named.
    pub recovered: Option<bool>,
    /// Whole frames in the session's encoding, in order.
    pub missed: Vec<Bytes>,
    /// How far the user has read a DURABLE room, in the epoch of the position.
    pub read_offset: Option<u64>,
}

/// A message that was passed on.
#[derive(Debug, Clone)]
struct Kept {
    /// 0: it has no place.
    offset: u64,
    frame: PushFrame,
    exclude: Option<Arc<HashSet<UserId>>>,
}

impl Kept {
    fn new(message: Deliver) -> Self {
        Self { offset: message.offset, exclude: excluded(&message), frame: PushFrame::new(message) }
    }

    fn frame_for(&self, user: Option<&UserId>, encoding: Encoding) -> Option<Bytes> {
        let is_for = !self.exclude.as_ref().zip(user).is_some_and(|(users, user)| users.contains(user));
        is_for.then(|| self.frame.bytes(encoding))
    }
}

/// What is passed on while somebody reads.
#[derive(Debug, Default)]
pub struct Ring {
    kept: Vec<Kept>,
    /// Those who read.
    readers: usize,
    /// There is a hole in it.
    is_broken: bool,
}

impl Ring {
    /// A message was passed on.
    pub(super) fn passed(&mut self, message: &Deliver) {
        if self.readers == 0 {
            return;
        }
        if self.kept.len() >= RING_MAX {
            return self.broke();
        }
        self.kept.push(Kept::new(message.clone()));
    }

    /// Messages are missing.
    pub(super) fn broke(&mut self) {
        self.is_broken = self.readers > 0;
        self.kept = Vec::new();
    }

    fn begin(&mut self) -> usize {
        self.readers += 1;
        self.kept.len()
    }

    /// What was passed on since [`Self::begin`] returned this; `None` when there is a hole in it.
    fn end(&mut self, begin: usize) -> Option<Vec<Kept>> {
        let kept = (!self.is_broken).then(|| self.kept[begin..].to_vec());
        self.readers -= 1;
        if self.readers == 0 {
            *self = Self::default();
        }
        kept
    }
}

/// What somebody who comes back has missed, up to a moment that is not yet.
pub struct Missed {
    since: Position,
    read: Vec<Kept>,
    begin: usize,
}

/// What can be said before the order stands still.
pub enum Return {
    /// He names no position.
    New,
    /// He cannot catch up.
    Lost,
    /// He missed this, and what is in the ring.
    Some(Missed),
}

impl Sequence {
    /// Reads what lies between the position named and now, for a session that reads this encoding.
    pub async fn prepare(&self, hub: &Arc<Core>, since: Option<Since>, encoding: Encoding) -> Return {
        let Some(Since { epoch, offset }) = since else { return Return::New };
        let Some(epoch) = epoch else { return Return::Lost };
        let since = Position { epoch, offset };
        let (now, begin) = {
            let mut inner = self.lock().await;
            match inner.position().filter(|now| now.epoch == epoch) {
                Some(now) => (now.offset, inner.ring.begin()),
                None => return Return::Lost,
            }
        };
        let read = match now {
            now if now == offset => Some(Vec::new()),
            now if now > offset => self.read(hub, since, now).await,
            // He saw more than came here yet; or the store went back.
            _ => self.reaches(hub, since).await.then(Vec::new),
        };
        match read {
            Some(read) => {
                // Now, and not when the order stands still.
                read.iter().for_each(|kept| drop(kept.frame.bytes(encoding)));
                Return::Some(Missed { since, read, begin })
            }
            None => {
                self.lock().await.ring.end(begin);
                Return::Lost
            }
        }
    }

    async fn read(&self, hub: &Core, since: Position, up_to: u64) -> Option<Vec<Kept>> {
        let (limit, bytes_max) = (hub.settings.catch_up_messages, hub.settings.catch_up_bytes);
        let answer = hub.reader.ask(self.range(since, up_to, limit, bytes_max), Unlinked::Fails).await?;
        let is_whole = answer.state() == log_answer::State::Complete;
        is_whole.then(|| answer.messages.into_iter().map(Kept::new).collect())
    }

    async fn reaches(&self, hub: &Core, position: Position) -> bool {
        let answer = hub.reader.ask(self.range(position, position.offset, 1, 1), Unlinked::Fails).await;
        answer
            .is_some_and(|answer| answer.epoch == position.epoch.as_u64() && answer.offset >= position.offset)
    }
}

impl Inner {
    /// What the session is told, now that the order stands still. Called once for each [`Sequence::prepare`].
    pub fn standing(
        &mut self,
        hub: &Core,
        returned: Return,
        user: Option<&UserId>,
        encoding: Encoding,
    ) -> Standing {
        let position = self.position();
        match returned {
            Return::New => Standing { position, ..Standing::default() },
            Return::Lost => Standing { position, recovered: Some(false), ..Standing::default() },
            Return::Some(Missed { since, read, begin }) => match self.ring.end(begin) {
                Some(passed) if position.is_some_and(|now| now.epoch == since.epoch) => {
                    let passed = passed.iter().filter(|kept| kept.offset == 0 || kept.offset > since.offset);
                    let missed: Vec<_> =
                        read.iter().chain(passed).filter_map(|kept| kept.frame_for(user, encoding)).collect();
                    hub.metrics.catch_up.increment(missed.len() as u64);
                    Standing { position: Some(since), recovered: Some(true), missed, ..Standing::default() }
                }
                _ => Standing { position, recovered: Some(false), ..Standing::default() },
            },
        }
    }
}
