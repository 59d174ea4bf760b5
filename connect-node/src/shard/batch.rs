//! Messages on their walk: what each target gets of them, and what is counted.

use std::{collections::HashSet, io::IoSlice, rc::Rc, sync::Arc, time::Instant};

use roomcast_types::UserId;

use super::{
    flow::Flow,
    out::Frame,
    session::{SentEnd, Session},
};
use crate::ports::{Counts, SessionKey, Tally, TargetOutcome};

/// A message that waits for its walk.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) frame: Rc<Frame>,
    pub(super) exclude: Exclude,
    pub(super) tally: Arc<Tally>,
}

pub(super) type Exclude = Option<Arc<HashSet<UserId>>>;

/// A walk through a room, or through all sessions, with messages that all its targets get together.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) batch: Batch,
    pub(super) next: usize,
    pub(super) began: Instant,
}

/// What all targets of a walk get, and what became of it.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) frames: Vec<Rc<Frame>>,
    excludes: Vec<Exclude>,
    has_excludes: bool,
    tallies: Vec<Arc<Tally>>,
    counts: Vec<Counts>,
    /// Targets that got every message written at once: part of each message's counts at the end.
    all_written: u64,
}

/// A walk through a list of sessions.
#[derive(Debug)]
pub(super) struct ListWalk {
    pub(super) message: Message,
    pub(super) counts: Counts,
    pub(super) sessions: Vec<(SessionKey, u32)>,
    pub(super) next: usize,
    pub(super) began: Instant,
}

impl Walk {
    pub(super) fn new(messages: Vec<Message>) -> Self {
        let counts = vec![Counts::default(); messages.len()];
        let has_excludes = messages.iter().any(|message| message.exclude.is_some());
        let mut batch =
            Batch { frames: vec![], excludes: vec![], has_excludes, tallies: vec![], counts, all_written: 0 };
        for Message { frame, exclude, tally } in messages {
            batch.frames.push(frame);
            batch.excludes.push(exclude);
            batch.tallies.push(tally);
        }
        Self { batch, next: 0, began: Instant::now() }
    }
}

impl Batch {
    /// The sums, each with whom it is for.
    pub(super) fn into_counts(self) -> impl Iterator<Item = (Arc<Tally>, Counts)> {
        let all_written = self.all_written;
        self.tallies.into_iter().zip(self.counts).map(move |(tally, mut counts)| {
            counts.written += all_written;
            (tally, counts)
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
    if batch.has_excludes && batch.excludes.iter().any(|exclude| is_excluded(exclude, &session.user_id)) {
        return deliver_some(session, slot, batch, frames, flow);
    }
    let sent = session.send(frames, slices, slot, flow);
    if sent.written == frames.len() {
        batch.all_written += 1;
        return SentEnd::Complete;
    }
    for (index, counts) in batch.counts.iter_mut().enumerate() {
        counts.add(sent.outcome(index));
    }
    sent.end
}

/// As [`deliver`], for a session that some of the messages leave out.
fn deliver_some(
    session: &mut Session,
    slot: u32,
    batch: &mut Batch,
    frames: &[Rc<Frame>],
    flow: &mut Flow,
) -> SentEnd {
    let is_for = |index: &usize| !is_excluded(&batch.excludes[*index], &session.user_id);
    let (wanted, excluded): (Vec<usize>, Vec<usize>) = (0..frames.len()).partition(is_for);
    for index in excluded {
        batch.counts[index].add(TargetOutcome::Filtered);
    }
    let frames: Vec<_> = wanted.iter().map(|index| frames[*index].clone()).collect();
    if frames.is_empty() {
        return SentEnd::Complete;
    }
    let slices: Vec<_> = frames.iter().map(|frame| IoSlice::new(&frame.0)).collect();
    let sent = session.send(&frames, &slices, slot, flow);
    for (order, index) in wanted.into_iter().enumerate() {
        batch.counts[index].add(sent.outcome(order));
    }
    sent.end
}

/// Whether a message leaves a user out.
pub(super) fn is_excluded(exclude: &Exclude, user: &UserId) -> bool {
    exclude.as_ref().is_some_and(|users| users.contains(user))
}
