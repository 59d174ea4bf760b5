//! How messages leave a session: straight to the socket, or through its queue by the rules of their class.

use std::{
    io::{self, IoSlice},
    rc::Rc,
    time::SystemTime,
};

use roomcast_types::Class;
use rustix::net::SendFlags;

use super::{
    entry::Entry,
    flow::Flow,
    out::{Flushed, Frame},
    session::Session,
    traced::Traced,
    unacked::Unacked,
};
use crate::tally::TargetOutcome;

/// What became of frames that were sent to one session, in their order: first those written, then those that had to
/// wait or had no room, then those that were not tried.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) written: usize,
    /// Of the frames behind those written: PENDING, DROPPED_SLOW, or how they ended while the next ones were queued.
    pub(super) others: Vec<TargetOutcome>,
    pub(super) end: SentEnd,
}

impl Sent {
    fn written(written: usize, end: SentEnd) -> Self {
        Self { written, others: Vec::new(), end }
    }

    /// What became of the frame at this index.
    pub(super) fn outcome(&self, index: usize) -> TargetOutcome {
        if index < self.written {
            return TargetOutcome::Written;
        }
        match self.others.get(index - self.written) {
            Some(outcome) => *outcome,
            None if self.end == SentEnd::Slow => TargetOutcome::DroppedSlow,
            None => TargetOutcome::Closed,
        }
    }
}

/// Whether all frames were tried.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SentEnd {
    /// They were.
    Complete,
    /// The next one does not fit, and must not be missing.
    Slow,
    /// The socket is broken.
    Broken,
}

impl Session {
    /// Sends frames, all or a beginning of them: straight to the socket when nothing waits, else behind what waits.
    /// `slices` are the bytes of `frames`. What the socket takes only in part waits even where the limits are reached,
    /// for its rest has to follow.
    pub(super) fn send(
        &mut self,
        frames: &[Rc<Frame>],
        slices: &[IoSlice<'_>],
        slot: u32,
        flow: &mut Flow,
    ) -> Sent {
        let (mut written, mut begun) = (0, 0);
        if self.out.is_empty() {
            // Not by way of the runtime: what it remembers of the socket lies elsewhere in memory, and the kernel knows.
            let result = match slices {
                [one] => rustix::net::send(&self.stream, one, SendFlags::NOSIGNAL),
                many => rustix::io::writev(&self.stream, many),
            };
            let result = result.map_err(io::Error::from);
            match result {
                Ok(taken) => {
                    flow.bytes_written += taken as u64;
                    flow.writes += 1;
                    begun = taken;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Sent::written(written, SentEnd::Broken),
            }
            while let Some(frame) = frames.get(written).filter(|frame| frame.len() <= begun) {
                begun -= frame.len();
                written += 1;
            }
            if written == frames.len() {
                return Sent::written(written, SentEnd::Complete);
            }
            self.progress_at = flow.now;
        }
        let mut sent = Sent::written(written, SentEnd::Complete);
        for frame in &frames[written..] {
            match self.queue(frame, std::mem::take(&mut begun), flow) {
                Some(outcome) => sent.others.push(outcome),
                None => {
                    sent.end = SentEnd::Slow;
                    break;
                }
            }
        }
        self.watch_progress(slot, flow);
        sent
    }

    /// Queues a frame of which `begun` bytes are written; `None` when it must not be missing and does not fit.
    fn queue(&mut self, frame: &Rc<Frame>, begun: usize, flow: &mut Flow) -> Option<TargetOutcome> {
        if begun == 0 && !self.make_room(frame, flow) {
            let may_be_dropped =
                frame.entry.as_ref().is_some_and(|entry| entry.traits.class.may_be_dropped());
            return may_be_dropped.then_some(TargetOutcome::DroppedSlow);
        }
        let before = self.out.bytes();
        self.out.push(frame.clone(), begun);
        flow.requeued(before, self.out.bytes());
        Some(TargetOutcome::Pending)
    }

    /// Makes room where the frame does not fit: what is expired goes, then the oldest that expires, one after the
    /// other. What the frame replaces goes when the frame gets its place. Says whether it does.
    fn make_room(&mut self, frame: &Frame, flow: &mut Flow) -> bool {
        let latest = frame.entry.as_ref().filter(|entry| entry.traits.class == Class::Latest);
        let is_replaced = |own: &Entry| {
            latest.is_some_and(|new| own.traits.class == Class::Latest && own.traits.key == new.traits.key)
        };
        if !self.fits(frame.len(), is_replaced, flow) {
            self.drop_expired(flow);
        }
        while !self.fits(frame.len(), is_replaced, flow) {
            let before = self.out.bytes();
            let Some(dropped) = self.out.drop_oldest_expiring() else { return false };
            flow.requeued(before, self.out.bytes());
            self.settle([dropped], TargetOutcome::DroppedSlow, flow);
        }
        if latest.is_some() {
            self.drop_if(is_replaced, TargetOutcome::Superseded, flow);
        }
        true
    }

    /// Whether a frame may wait here when those it replaces are gone.
    fn fits(&self, bytes: usize, is_replaced: impl Fn(&Entry) -> bool, flow: &Flow) -> bool {
        let (gone, freed) = self.out.count_if(is_replaced);
        let (frames_more, bytes_more) = self.out.allowed();
        self.out.frames() - gone < flow.config.queue_frames + frames_more
            && self.out.bytes() - freed + bytes <= flow.config.queue_bytes + bytes_more
            && flow.has_budget(bytes.saturating_sub(freed))
    }

    /// Takes out what waits and has expired.
    pub(super) fn drop_expired(&mut self, flow: &mut Flow) {
        let now = flow.now;
        self.drop_if(|entry| entry.is_expired(now), TargetOutcome::Expired, flow);
    }

    fn drop_if(&mut self, is_to_go: impl Fn(&Entry) -> bool, outcome: TargetOutcome, flow: &mut Flow) {
        let before = self.out.bytes();
        let dropped = self.out.drop_if(is_to_go);
        flow.requeued(before, self.out.bytes());
        self.settle(dropped, outcome, flow);
    }

    /// These frames waited, and have a final outcome.
    fn settle(
        &mut self,
        frames: impl IntoIterator<Item = Rc<Frame>>,
        outcome: TargetOutcome,
        flow: &mut Flow,
    ) {
        for frame in frames {
            // While the frame is held: who lets go of it first has lost its targets.
            if let Some(entry) = &frame.entry {
                entry.settle(outcome, self.session_id, &mut flow.news);
            }
        }
    }

    /// These frames were written: those that are to be acknowledged or reported are remembered.
    #[cold]
    pub(super) fn note_written(&mut self, frames: &[Rc<Frame>]) {
        for entry in frames.iter().filter_map(|frame| frame.entry.as_ref()) {
            note(entry, &mut self.unacked, &mut self.traced);
        }
    }

    /// Writes what waits.
    pub(super) fn flush(&mut self, slot: u32, flow: &mut Flow) -> Flushed {
        if self.out.is_empty() {
            return Flushed::Empty;
        }
        self.drop_expired(flow);
        let before = self.out.bytes();
        let Self { stream, out, unacked, traced, session_id, .. } = self;
        let (writes, news) = (&mut flow.writes, &mut flow.news);
        let (taken, flushed) = out.flush(
            |slices| {
                let written = stream.try_write_vectored(slices);
                *writes += u64::from(written.is_ok());
                written
            },
            |frame| {
                let Some(entry) = &frame.entry else { return };
                entry.settle(TargetOutcome::Written, *session_id, news);
                note(entry, unacked, traced);
            },
        );
        flow.bytes_written += taken as u64;
        flow.requeued(before, self.out.bytes());
        if taken > 0 {
            self.progress_at = flow.now;
        }
        if flushed == Flushed::Blocked {
            self.watch_progress(slot, flow);
        }
        flushed
    }

    /// Drops waiting frames that were not begun: all, or all but the last.
    pub(super) fn drop_unbegun(&mut self, keep_last: bool, outcome: TargetOutcome, flow: &mut Flow) {
        let before = self.out.bytes();
        let dropped = self.out.drop_unbegun(keep_last);
        flow.requeued(before, self.out.bytes());
        self.settle(dropped, outcome, flow);
    }

    /// Drops every waiting frame.
    pub(super) fn drop_all(&mut self, outcome: TargetOutcome, flow: &mut Flow) {
        flow.requeued(self.out.bytes(), 0);
        let dropped = self.out.drop_all();
        self.settle(dropped, outcome, flow);
    }
}

/// A message was written to a session with these memories.
fn note(entry: &Rc<Entry>, unacked: &mut Unacked, traced: &mut Option<Box<Traced>>) {
    if entry.traits.wants_ack {
        unacked.add(entry.clone());
    }
    if let (Some(traced), Some(trace)) = (traced, &entry.traits.trace) {
        traced.add(entry.message_id(), trace.clone(), SystemTime::now());
    }
}
