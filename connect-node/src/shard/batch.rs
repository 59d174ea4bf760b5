//! Messages on their walk: what each target gets of them, and what is counted.

use std::{io::IoSlice, rc::Rc};

use roomcast_types::{Position, SessionId, UserId};
use tokio::time::Instant;

use super::{
    entry::{Entry, Exclude},
    flow::Flow,
    history::WalkNumber,
    out::{Frame, SLICES_MAX},
    sending::{Sent, SentEnd},
    session::Session,
    timers::Millis,
};
use crate::{
    ports::SessionKey,
    tally::{Counts, Hops, TargetOutcome},
    wire::{Encoding, PerEncoding, PushFrame},
};

/// A message that waits for its walk.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) push: PushFrame,
    pub(super) entry: Rc<Entry>,
    /// When it came to the shard.
    pub(super) came: Instant,
}

impl Message {
    /// Its frame for those who read this encoding.
    pub(super) fn frame(&self, encoding: Encoding) -> Rc<Frame> {
        Frame::of(self.push.bytes(encoding), &self.entry)
    }
}

/// A walk through a room, or through all sessions, with messages that all its targets get together.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) batch: Batch,
    pub(super) next: usize,
    pub(super) began: Instant,
    pub(super) number: WalkNumber,
}

/// What all targets of a walk get, and what became of it.
#[derive(Debug)]
pub(super) struct Batch {
    /// Of the messages, in their order; taken out while there is a walk.
    pub(super) frames: Frames,
    /// Of the messages, in their order, with when they came to the shard.
    entries: Vec<(Rc<Entry>, Instant)>,
    /// Some targets do not get some of them: excluded, or expired before the walk.
    has_exceptions: bool,
    /// Some are to be acknowledged or belong to a trace: sessions note that they were written.
    is_noted: bool,
    counts: Vec<Counts>,
    /// Targets that got every message written at once: part of each message's counts at the end.
    all_written: u64,
}

/// The frames of messages that go together, in each encoding that a target reads.
#[derive(Debug, Default)]
pub(super) struct Frames {
    pushes: Vec<PushFrame>,
    made: PerEncoding<Vec<Rc<Frame>>>,
}

/// What the sessions of one encoding get of a batch: frames, and the bytes of each.
pub(super) struct Form<'a> {
    encoding: Option<Encoding>,
    frames: &'a [Rc<Frame>],
    slices: [IoSlice<'a>; SLICES_MAX],
}

/// A walk through a list of sessions.
#[derive(Debug)]
pub(super) struct ListWalk {
    pub(super) message: Message,
    /// Of the message.
    pub(super) frames: PerEncoding<Rc<Frame>>,
    pub(super) counts: Counts,
    pub(super) sessions: Vec<(SessionKey, u32)>,
    pub(super) next: usize,
    pub(super) began: Instant,
    pub(super) number: WalkNumber,
}

/// What comes for single sessions, in the order of the mailbox.
#[derive(Debug)]
pub(super) enum ListItem {
    Walk(ListWalk),
    /// Messages up to here may be missing in the users' own logs.
    Gap(Vec<(SessionKey, u32)>, Position),
}

impl ListItem {
    /// Of the first session.
    pub(super) fn first_slot(&self) -> Option<u32> {
        let (Self::Walk(ListWalk { sessions, .. }) | Self::Gap(sessions, _)) = self;
        sessions.first().map(|(key, _)| key.slot)
    }
}

impl Walk {
    pub(super) fn new(messages: Vec<Message>, now: Millis, number: WalkNumber) -> Self {
        let counts = vec![Counts::default(); messages.len()];
        let is_exceptional = |entry: &Entry| entry.exclude.is_some() || entry.is_expired(now);
        let has_exceptions = messages.iter().any(|message| is_exceptional(&message.entry));
        let is_noted = messages.iter().any(|message| message.entry.traits.is_noted());
        let (pushes, entries) =
            messages.into_iter().map(|message| (message.push, (message.entry, message.came))).unzip();
        let frames = Frames { pushes, made: PerEncoding::default() };
        let batch = Batch { frames, entries, has_exceptions, is_noted, counts, all_written: 0 };
        Self { batch, next: 0, began: Instant::now(), number }
    }
}

impl Frames {
    /// Those for who reads this encoding.
    pub(super) fn read_as(&self, encoding: Encoding, batch: &Batch) -> &[Rc<Frame>] {
        self.made.get(encoding, || {
            let messages = self.pushes.iter().zip(&batch.entries);
            messages.map(|(push, (entry, _))| Frame::of(push.bytes(encoding), entry)).collect()
        })
    }
}

impl Default for Form<'_> {
    fn default() -> Self {
        Self { encoding: None, frames: &[], slices: [IoSlice::new(&[]); SLICES_MAX] }
    }
}

impl<'a> Form<'a> {
    /// The next session reads this encoding, mostly that of the one before.
    #[inline]
    pub(super) fn turn_to(&mut self, encoding: Encoding, frames: &'a Frames, batch: &Batch) {
        if self.encoding != Some(encoding) {
            self.encoding = Some(encoding);
            self.frames = frames.read_as(encoding, batch);
            for (slice, frame) in self.slices.iter_mut().zip(self.frames) {
                *slice = IoSlice::new(&frame.bytes);
            }
        }
    }

    #[inline]
    pub(super) fn parts(&self) -> (&'a [Rc<Frame>], &[IoSlice<'a>]) {
        (self.frames, &self.slices[..self.frames.len()])
    }
}

impl Batch {
    /// Counts what one session got, where that was not everything.
    #[cold]
    fn count(&mut self, sent: &Sent, session: SessionId) {
        for (index, counts) in self.counts.iter_mut().enumerate() {
            let outcome = sent.outcome(index);
            counts.add(outcome);
            self.entries[index].0.except(outcome, session);
        }
    }

    /// The sums, each with its message, when that came, and the times of a walk that began then and ends now.
    pub(super) fn counts(
        &mut self,
        began: Instant,
    ) -> impl Iterator<Item = (&Rc<Entry>, Instant, Counts, Hops)> {
        let all_written = self.all_written;
        let walk = began.elapsed();
        let counts = std::mem::take(&mut self.counts);
        self.entries.iter().zip(counts).map(move |((entry, came), mut counts)| {
            counts.written += all_written;
            (entry, *came, counts, Hops { wait: began.saturating_duration_since(*came), walk })
        })
    }
}

/// What one session gets of a batch; says whether the session goes on.
pub(super) fn deliver(
    session: &mut Session,
    slot: u32,
    batch: &mut Batch,
    frames: &[Rc<Frame>],
    slices: &[IoSlice<'_>],
    flow: &mut Flow,
) -> SentEnd {
    let is_exception =
        |(entry, _): &(Rc<Entry>, Instant)| exception(entry, &session.user_id, flow.now).is_some();
    if batch.has_exceptions && batch.entries.iter().any(is_exception) {
        return deliver_some(session, slot, batch, frames, flow);
    }
    let sent = session.send(frames, slices, slot, flow);
    if batch.is_noted {
        session.note_written(&frames[..sent.written]);
    }
    if sent.written == frames.len() {
        batch.all_written += 1;
        return SentEnd::Complete;
    }
    batch.count(&sent, session.session_id);
    sent.end
}

/// As [`deliver`], where some of the messages are not for this session.
#[cold]
fn deliver_some(
    session: &mut Session,
    slot: u32,
    batch: &mut Batch,
    frames: &[Rc<Frame>],
    flow: &mut Flow,
) -> SentEnd {
    let mut wanted = Vec::with_capacity(frames.len());
    for (index, (entry, _)) in batch.entries.iter().enumerate() {
        match exception(entry, &session.user_id, flow.now) {
            Some(outcome) => {
                batch.counts[index].add(outcome);
                entry.except(outcome, session.session_id);
            }
            None => wanted.push(index),
        }
    }
    let frames: Vec<_> = wanted.iter().map(|index| frames[*index].clone()).collect();
    if frames.is_empty() {
        return SentEnd::Complete;
    }
    let slices: Vec<_> = frames.iter().map(|frame| IoSlice::new(&frame.bytes)).collect();
    let sent = session.send(&frames, &slices, slot, flow);
    if batch.is_noted {
        session.note_written(&frames[..sent.written]);
    }
    for (order, index) in wanted.into_iter().enumerate() {
        let outcome = sent.outcome(order);
        batch.counts[index].add(outcome);
        batch.entries[index].0.except(outcome, session.session_id);
    }
    sent.end
}

/// What becomes of a message for a user that does not get it.
pub(super) fn exception(entry: &Entry, user: &UserId, now: Millis) -> Option<TargetOutcome> {
    if is_excluded(&entry.exclude, user) {
        return Some(TargetOutcome::Filtered);
    }
    entry.is_expired(now).then_some(TargetOutcome::Expired)
}

fn is_excluded(exclude: &Exclude, user: &UserId) -> bool {
    exclude.as_ref().is_some_and(|users| users.contains(user))
}
