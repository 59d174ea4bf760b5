//! The numbered queue of one lane: acknowledgement, resending and deadlines, without any input or output.
//!
//! | event | queue | number |
//! |---|---|---|
//! | push | joins the end, or is refused when full | none yet |
//! | take | stays | the next one, on its first sending |
//! | ack n | all up to n leave | |
//! | resume n | all up to n leave, the rest is sent again | kept |
//! | expire | all past their deadline leave and are never sent again | kept; the node gets empty items in their place |
//! | restart | stays as far as the caller wants | all forgotten, from 1 again |
//!
//! Deadlines are as long for every item, so that items expire in the order of the queue and numbers stay dense.

use std::collections::VecDeque;

/// What may wait on one lane.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Items.
    pub messages: usize,
    /// Their bytes, as the caller counts them.
    pub bytes: usize,
}

/// Items and bytes that travel in one message at most; a single larger item travels alone.
#[derive(Debug, Clone, Copy)]
pub struct BatchBounds {
    /// Items.
    pub items: usize,
    /// Bytes.
    pub bytes: usize,
}

#[derive(Debug)]
struct Entry<T> {
    item: T,
    bytes: usize,
    due_us: u64,
}

/// The queue. `T` is one item.
#[derive(Debug)]
pub struct Outbox<T> {
    entries: VecDeque<Entry<T>>,
    /// How many entries at the front have a number.
    numbered: usize,
    /// Number of the front entry when it has one, else the next number to give.
    first: u64,
    /// Number that goes next on this connection.
    send_next: u64,
    bytes: usize,
    bounds: Bounds,
    deadline_us: u64,
}

/// What goes next: `empty` items without content, or `items`, numbered from `first_number`.
#[derive(Debug)]
pub struct Batch<'a, T> {
    /// Number of the first item.
    pub first_number: u64,
    /// How many numbers to fill with items without content, because theirs were given up.
    pub empty: usize,
    /// Items to send.
    pub items: Vec<&'a T>,
    /// How many of them were sent before.
    pub resent: usize,
}

impl<T> Outbox<T> {
    /// An empty queue whose items are given up `deadline_us` after they joined it.
    pub fn new(bounds: Bounds, deadline_us: u64) -> Self {
        Self { entries: VecDeque::new(), numbered: 0, first: 1, send_next: 1, bytes: 0, bounds, deadline_us }
    }

    /// Items that wait for their acknowledgement.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Their bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Joins the queue; the item comes back when the queue is full. An empty queue takes any item.
    pub fn push(&mut self, item: T, bytes: usize, now_us: u64) -> Result<(), T> {
        let is_full = self.entries.len() >= self.bounds.messages || self.bytes + bytes > self.bounds.bytes;
        if is_full && !self.entries.is_empty() {
            return Err(item);
        }
        self.bytes += bytes;
        self.entries.push_back(Entry { item, bytes, due_us: now_us.saturating_add(self.deadline_us) });
        Ok(())
    }

    /// Whether [`Outbox::take`] has something.
    pub fn has_unsent(&self) -> bool {
        self.send_next < self.first + self.entries.len() as u64
    }

    /// What goes next on this connection; `None` when all was sent.
    pub fn take(&mut self, bounds: BatchBounds) -> Option<Batch<'_, T>> {
        if !self.has_unsent() {
            return None;
        }
        let first_number = self.send_next;
        if first_number < self.first {
            let empty = usize::try_from(self.first - first_number).unwrap_or(usize::MAX).min(bounds.items);
            self.send_next += empty as u64;
            return Some(Batch { first_number, empty, items: Vec::new(), resent: 0 });
        }
        let start = (first_number - self.first) as usize;
        let mut bytes = 0;
        let mut end = start;
        for entry in self.entries.range(start..).take(bounds.items) {
            bytes += entry.bytes;
            if end > start && bytes > bounds.bytes {
                break;
            }
            end += 1;
        }
        let resent = self.numbered.min(end) - self.numbered.min(start);
        self.numbered = self.numbered.max(end);
        self.send_next = self.first + end as u64;
        let items = self.entries.range(start..end).map(|entry| &entry.item).collect();
        Some(Batch { first_number, empty: 0, items, resent })
    }

    /// The node processed everything up to `number`: those items leave, with their numbers. Numbers that were never
    /// sent are not believed.
    pub fn ack(&mut self, number: u64) -> Vec<(u64, T)> {
        let mut left = Vec::new();
        while self.numbered > 0 && self.first <= number {
            let own = self.first;
            if let Some(item) = self.leave() {
                left.push((own, item));
            }
        }
        left
    }

    /// A connection between the same two lives begins: the node processed up to `seen`, the rest is sent again.
    pub fn resume(&mut self, seen: u64) -> Vec<(u64, T)> {
        let left = self.ack(seen);
        self.send_next = (seen + 1).min(self.first);
        left
    }

    /// Gives up what is past its deadline. Given-up items are never sent again.
    pub fn expire(&mut self, now_us: u64) -> Vec<T> {
        let mut given_up = Vec::new();
        while self.entries.front().is_some_and(|entry| entry.due_us <= now_us) {
            given_up.extend(self.leave());
        }
        given_up
    }

    /// Gives up everything, as if its deadline had passed.
    pub fn give_up(&mut self) -> Vec<T> {
        self.expire(u64::MAX)
    }

    /// The node knows none of these numbers; the next one it expects is `seen + 1`. `keep` says what is still worth
    /// sending, given whether it was sent before; the rest is returned.
    pub fn restart(&mut self, seen: u64, mut keep: impl FnMut(&mut T, bool) -> bool) -> Vec<T> {
        let mut left = Vec::new();
        let numbered = self.numbered;
        for (index, mut entry) in std::mem::take(&mut self.entries).into_iter().enumerate() {
            if keep(&mut entry.item, index < numbered) {
                self.entries.push_back(entry);
            } else {
                self.bytes -= entry.bytes;
                left.push(entry.item);
            }
        }
        (self.numbered, self.first, self.send_next) = (0, seen + 1, seen + 1);
        left
    }

    fn leave(&mut self) -> Option<T> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.bytes;
        if self.numbered > 0 {
            self.numbered -= 1;
            self.first += 1;
        }
        Some(entry.item)
    }
}

#[cfg(test)]
mod tests;
