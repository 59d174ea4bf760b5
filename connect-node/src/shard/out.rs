//! What waits for one socket: whole frames, in order, the first of them perhaps half-written. Nothing else writes.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    rc::Rc,
};

use bytes::Bytes;
use roomcast_types::{Class, MessageId};

use super::{
    entry::Entry,
    timers::{Millis, NEVER},
};

/// Frames that one system call takes at most.
pub(super) const SLICES_MAX: usize = 64;
/// An emptied queue that grew past this gives its memory back.
const KEPT_CAPACITY: usize = 8;

/// One encoded frame, shared by every queue of the shard that holds it. A message has one for each encoding in use.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) bytes: Bytes,
    /// The message it brings; `None` for answers and control frames.
    pub(super) entry: Option<Rc<Entry>>,
}

impl Frame {
    /// A frame of this message.
    pub(super) fn of(bytes: Bytes, entry: &Rc<Entry>) -> Rc<Self> {
        entry.hold();
        Rc::new(Self { bytes, entry: Some(entry.clone()) })
    }

    /// A frame that is no message.
    pub(super) fn plain(bytes: Bytes) -> Rc<Self> {
        Rc::new(Self { bytes, entry: None })
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    fn is_perishable(&self) -> bool {
        self.entry.as_ref().is_some_and(|entry| entry.traits.class.may_be_dropped())
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        if let Some(entry) = &self.entry {
            entry.let_go();
        }
    }
}

/// What a flush came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Flushed {
    /// Nothing waits.
    Empty,
    /// The socket takes no more for now.
    Blocked,
    /// The socket is broken.
    Broken,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Out {
    frames: VecDeque<Rc<Frame>>,
    /// Bytes of the first frame that the kernel took.
    head_written: usize,
    /// Bytes that it did not take yet, of all frames.
    bytes: usize,
    /// Frames that may be dropped to make room or when their time is over.
    perishable: usize,
    /// Frames and bytes that may wait above the limits until the queue is empty once.
    allowed: (u32, u32),
}

impl Out {
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(super) fn frames(&self) -> usize {
        self.frames.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Lets these frames wait above the limits, until nothing waits.
    pub(super) fn allow(&mut self, frames: &[Rc<Frame>]) {
        if self.frames.is_empty() {
            self.allowed = (0, 0);
        }
        let bytes: usize = frames.iter().map(|frame| frame.len()).sum();
        self.allowed.0 = self.allowed.0.saturating_add(frames.len() as u32);
        self.allowed.1 = self.allowed.1.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// Frames and bytes above the limits that may wait now.
    pub(super) fn allowed(&self) -> (usize, usize) {
        (self.allowed.0 as usize, self.allowed.1 as usize)
    }

    /// Messages that wait, a half-written one included.
    pub(super) fn messages(&self) -> usize {
        self.frames.iter().filter(|frame| frame.entry.is_some()).count()
    }

    /// Whether a message waits.
    pub(super) fn holds(&self, message_id: MessageId) -> bool {
        let is_it = |entry: &Rc<Entry>| entry.message_id() == message_id;
        self.frames.iter().any(|frame| frame.entry.as_ref().is_some_and(is_it))
    }

    /// Adds a frame. `written` bytes of it went out already: only for the first of the queue.
    pub(super) fn push(&mut self, frame: Rc<Frame>, written: usize) {
        debug_assert!(written == 0 || self.frames.is_empty());
        debug_assert!(written < frame.len());
        if self.frames.is_empty() {
            self.head_written = written;
        }
        self.bytes += frame.len() - written;
        self.perishable += usize::from(frame.is_perishable());
        self.frames.push_back(frame);
    }

    /// When the first frame that can still be dropped expires; `NEVER` when none does.
    pub(super) fn next_expiry(&self) -> Millis {
        if self.perishable == 0 {
            return NEVER;
        }
        self.unbegun()
            .filter_map(|frame| frame.entry.as_ref())
            .map(|entry| entry.expires_at)
            .min()
            .unwrap_or(NEVER)
    }

    /// Frames of which the kernel took nothing and that are such, and their bytes.
    pub(super) fn count_if(&self, is_such: impl Fn(&Entry) -> bool) -> (usize, usize) {
        if self.perishable == 0 {
            return (0, 0);
        }
        let such = self.unbegun().filter(|frame| frame.entry.as_deref().is_some_and(&is_such));
        such.fold((0, 0), |(frames, bytes), frame| (frames + 1, bytes + frame.len()))
    }

    /// Takes out the frames of which the kernel took nothing and that are to go.
    pub(super) fn drop_if(&mut self, is_to_go: impl Fn(&Entry) -> bool) -> Vec<Rc<Frame>> {
        let mut dropped = Vec::new();
        if self.perishable > 0 {
            let mut place = usize::from(self.head_written > 0);
            while let Some(frame) = self.frames.get(place) {
                if frame.entry.as_deref().is_some_and(&is_to_go) {
                    dropped.extend(self.frames.remove(place));
                } else {
                    place += 1;
                }
            }
            self.recount();
        }
        dropped
    }

    /// Takes out the oldest frame that expires, if there is one of which the kernel took nothing.
    pub(super) fn drop_oldest_expiring(&mut self) -> Option<Rc<Frame>> {
        if self.perishable == 0 {
            return None;
        }
        let is_expiring = |frame: &Rc<Frame>| {
            frame.entry.as_ref().is_some_and(|entry| entry.traits.class == Class::Expiring)
        };
        let place = self.unbegun().position(is_expiring)? + usize::from(self.head_written > 0);
        let dropped = self.frames.remove(place);
        self.recount();
        dropped
    }

    fn unbegun(&self) -> impl Iterator<Item = &Rc<Frame>> {
        self.frames.iter().skip(usize::from(self.head_written > 0))
    }

    /// Writes until nothing waits or `write` takes no more. Also gives the bytes that were taken. `written` gets each
    /// frame whose last byte was.
    pub(super) fn flush(
        &mut self,
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
        mut written: impl FnMut(Rc<Frame>),
    ) -> (usize, Flushed) {
        let before = self.bytes;
        let end = loop {
            if self.frames.is_empty() {
                break Flushed::Empty;
            }
            match self.write_once(&mut write) {
                Ok(0) => break Flushed::Broken,
                Ok(taken) => self.advance(taken, &mut written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Flushed::Blocked,
                Err(_) => break Flushed::Broken,
            }
        };
        (before - self.bytes, end)
    }

    fn write_once(&self, write: &mut impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut skip = self.head_written;
        for (slice, frame) in slices.iter_mut().zip(&self.frames) {
            *slice = IoSlice::new(&frame.bytes[std::mem::take(&mut skip)..]);
        }
        write(&slices[..self.frames.len().min(SLICES_MAX)])
    }

    fn advance(&mut self, mut taken: usize, written: &mut impl FnMut(Rc<Frame>)) {
        self.bytes -= taken;
        while let Some(head) = self.frames.front() {
            let left = head.len() - self.head_written;
            if taken < left {
                self.head_written += taken;
                return;
            }
            taken -= left;
            self.head_written = 0;
            if let Some(head) = self.frames.pop_front() {
                self.perishable -= usize::from(head.is_perishable());
                written(head);
            }
        }
        if self.frames.capacity() > KEPT_CAPACITY {
            self.frames = VecDeque::new();
        }
        self.allowed = (0, 0);
    }

    /// Takes out every frame of which the kernel took nothing, except the last one if `keep_last`: what stays is the rest
    /// of a half-written one, and the last.
    pub(super) fn drop_unbegun(&mut self, keep_last: bool) -> Vec<Rc<Frame>> {
        let begun = usize::from(self.head_written > 0);
        let end = self.frames.len() - usize::from(keep_last && !self.frames.is_empty());
        let dropped = if begun < end { self.frames.drain(begun..end).collect() } else { Vec::new() };
        self.recount();
        dropped
    }

    /// Takes out every frame.
    pub(super) fn drop_all(&mut self) -> VecDeque<Rc<Frame>> {
        let dropped = std::mem::take(&mut self.frames);
        self.recount();
        dropped
    }

    fn recount(&mut self) {
        if self.frames.is_empty() {
            self.head_written = 0;
        }
        self.perishable = self.frames.iter().filter(|frame| frame.is_perishable()).count();
        self.bytes = self.frames.iter().map(|frame| frame.len()).sum::<usize>() - self.head_written;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(fill: u8, length: usize) -> Rc<Frame> {
        Frame::plain(Bytes::from(vec![fill; length]))
    }

    /// Takes at most `limit` bytes in all, then would block.
    fn socket<'a>(
        into: &'a mut Vec<u8>,
        mut limit: usize,
    ) -> impl FnMut(&[IoSlice<'_>]) -> io::Result<usize> + 'a {
        move |slices| {
            let before = into.len();
            for slice in slices {
                let taken = slice.len().min(limit);
                into.extend_from_slice(&slice[..taken]);
                limit -= taken;
            }
            if into.len() == before { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(into.len() - before) }
        }
    }

    #[test]
    fn dropping_what_is_not_begun_keeps_the_rest_of_a_half_written_frame() {
        let mut out = Out::default();
        (1..=4).for_each(|fill| out.push(frame(fill, 10), 0));
        let mut wire = Vec::new();
        assert_eq!(out.flush(socket(&mut wire, 13), drop), (13, Flushed::Blocked));
        assert_eq!(out.drop_unbegun(false).len(), 2);
        out.push(frame(9, 2), 0);
        assert_eq!((out.bytes(), out.frames()), (9, 2));
        assert_eq!(out.flush(socket(&mut wire, 100), drop), (9, Flushed::Empty));
        assert_eq!(wire, [vec![1; 10], vec![2; 10], vec![9; 2]].concat());
    }

    #[test]
    fn dropping_all_but_the_last_keeps_the_close_frame() {
        for begun in [0, 3] {
            let mut out = Out::default();
            (1..=3).for_each(|fill| out.push(frame(fill, 10), 0));
            let mut wire = Vec::new();
            out.flush(socket(&mut wire, begun), drop);
            out.drop_unbegun(true);
            out.flush(socket(&mut wire, 100), drop);
            let expected = if begun == 0 { vec![3; 10] } else { [vec![1; 10], vec![3; 10]].concat() };
            assert_eq!(wire, expected, "{begun} bytes begun");
            assert_eq!(out.bytes(), 0);
        }
    }

    #[test]
    fn a_broken_socket_is_told_from_a_full_one() {
        let mut out = Out::default();
        out.push(frame(1, 5), 2);
        assert_eq!(out.flush(|_| Ok(0), drop), (0, Flushed::Broken));
        assert_eq!(out.flush(|_| Err(io::ErrorKind::ConnectionReset.into()), drop), (0, Flushed::Broken));
        assert_eq!(out.bytes(), 3);
    }

    proptest::proptest! {
        #[test]
        fn however_the_socket_takes_them_the_bytes_stay_in_order(
            lengths in proptest::collection::vec(1usize..400, 1..150),
            limits in proptest::collection::vec(0usize..3_000, 1..60),
        ) {
            let (mut out, mut wire, mut expected) = (Out::default(), Vec::new(), Vec::new());
            for (index, length) in lengths.iter().enumerate() {
                out.push(frame(index as u8, *length), 0);
                expected.extend(vec![index as u8; *length]);
            }
            for limit in limits {
                let (taken, _) = out.flush(socket(&mut wire, limit), drop);
                proptest::prop_assert!(taken <= limit);
                proptest::prop_assert_eq!(out.bytes(), expected.len() - wire.len());
            }
            proptest::prop_assert_eq!(out.flush(socket(&mut wire, usize::MAX), drop).1, Flushed::Empty);
            proptest::prop_assert_eq!(wire, expected);
        }
    }
}
