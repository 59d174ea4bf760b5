//! What waits for one socket: whole frames, in order, the first of them perhaps half-written. Nothing else writes.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    rc::Rc,
};

use bytes::Bytes;

/// Frames that one system call takes at most.
pub(super) const SLICES_MAX: usize = 64;
/// An emptied queue that grew past this gives its memory back.
const KEPT_CAPACITY: usize = 8;

/// One encoded frame, shared by every queue of the shard that holds it.
#[derive(Debug)]
pub(super) struct Frame(pub(super) Bytes);

impl Frame {
    pub(super) fn len(&self) -> usize {
        self.0.len()
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

    /// Adds a frame. `written` bytes of it went out already: only for the first of the queue.
    pub(super) fn push(&mut self, frame: Rc<Frame>, written: usize) {
        debug_assert!(written == 0 || self.frames.is_empty());
        debug_assert!(written < frame.len());
        if self.frames.is_empty() {
            self.head_written = written;
        }
        self.bytes += frame.len() - written;
        self.frames.push_back(frame);
    }

    /// Writes until nothing waits or `write` takes no more. Also gives the bytes that were taken.
    pub(super) fn flush(
        &mut self,
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> (usize, Flushed) {
        let before = self.bytes;
        let end = loop {
            if self.frames.is_empty() {
                break Flushed::Empty;
            }
            match self.write_once(&mut write) {
                Ok(0) => break Flushed::Broken,
                Ok(taken) => self.advance(taken),
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
            *slice = IoSlice::new(&frame.0[std::mem::take(&mut skip)..]);
        }
        write(&slices[..self.frames.len().min(SLICES_MAX)])
    }

    fn advance(&mut self, mut taken: usize) {
        self.bytes -= taken;
        while let Some(head) = self.frames.front() {
            let left = head.len() - self.head_written;
            if taken < left {
                self.head_written += taken;
                return;
            }
            taken -= left;
            self.head_written = 0;
            self.frames.pop_front();
        }
        if self.frames.capacity() > KEPT_CAPACITY {
            self.frames = VecDeque::new();
        }
    }

    /// Drops every frame of which the kernel took nothing: what stays is the rest of a half-written one.
    pub(super) fn drop_unbegun(&mut self) {
        self.frames.truncate(usize::from(self.head_written > 0));
        self.recount();
    }

    /// Drops every frame of which the kernel took nothing, except the last one.
    pub(super) fn drop_unbegun_but_last(&mut self) {
        if let Some(last) = self.frames.pop_back() {
            let is_begun = self.frames.is_empty() && self.head_written > 0;
            if !is_begun {
                self.frames.truncate(usize::from(self.head_written > 0));
            }
            self.frames.push_back(last);
            self.recount();
        }
    }

    fn recount(&mut self) {
        if self.frames.is_empty() {
            self.head_written = 0;
        }
        self.bytes = self.frames.iter().map(|frame| frame.len()).sum::<usize>() - self.head_written;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(fill: u8, length: usize) -> Rc<Frame> {
        Rc::new(Frame(Bytes::from(vec![fill; length])))
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
        assert_eq!(out.flush(socket(&mut wire, 13)), (13, Flushed::Blocked));
        out.drop_unbegun();
        out.push(frame(9, 2), 0);
        assert_eq!((out.bytes(), out.frames()), (9, 2));
        assert_eq!(out.flush(socket(&mut wire, 100)), (9, Flushed::Empty));
        assert_eq!(wire, [vec![1; 10], vec![2; 10], vec![9; 2]].concat());
    }

    #[test]
    fn dropping_all_but_the_last_keeps_the_close_frame() {
        for begun in [0, 3] {
            let mut out = Out::default();
            (1..=3).for_each(|fill| out.push(frame(fill, 10), 0));
            let mut wire = Vec::new();
            out.flush(socket(&mut wire, begun));
            out.drop_unbegun_but_last();
            out.flush(socket(&mut wire, 100));
            let expected = if begun == 0 { vec![3; 10] } else { [vec![1; 10], vec![3; 10]].concat() };
            assert_eq!(wire, expected, "{begun} bytes begun");
            assert_eq!(out.bytes(), 0);
        }
    }

    #[test]
    fn a_broken_socket_is_told_from_a_full_one() {
        let mut out = Out::default();
        out.push(frame(1, 5), 2);
        assert_eq!(out.flush(|_| Ok(0)), (0, Flushed::Broken));
        assert_eq!(out.flush(|_| Err(io::ErrorKind::ConnectionReset.into())), (0, Flushed::Broken));
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
                let (taken, _) = out.flush(socket(&mut wire, limit));
                proptest::prop_assert!(taken <= limit);
                proptest::prop_assert_eq!(out.bytes(), expected.len() - wire.len());
            }
            proptest::prop_assert_eq!(out.flush(socket(&mut wire, usize::MAX)).1, Flushed::Empty);
            proptest::prop_assert_eq!(wire, expected);
        }
    }
}
