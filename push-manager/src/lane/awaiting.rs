//! Acknowledged messages whose outcome has not come yet, by number.

use std::collections::VecDeque;

/// Outcomes waited for at most; past that the oldest are forgotten, and their pushes end as pending.
const MAX: usize = 65_536;

/// The list; numbers grow from front to back.
#[derive(Debug)]
pub struct Awaiting<T> {
    waiting: VecDeque<(u64, Option<T>)>,
}

impl<T> Awaiting<T> {
    /// An empty list.
    pub fn new() -> Self {
        Self { waiting: VecDeque::new() }
    }

    /// Waits for the outcome of `number`, which is higher than any before.
    pub fn add(&mut self, number: u64, value: T) {
        if self.waiting.len() == MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back((number, Some(value)));
    }

    /// The outcome of `number` came.
    pub fn take(&mut self, number: u64) -> Option<T> {
        let place = self.waiting.binary_search_by_key(&number, |(own, _)| *own).ok()?;
        let value = self.waiting[place].1.take();
        while self.waiting.front().is_some_and(|(_, value)| value.is_none()) {
            self.waiting.pop_front();
        }
        value
    }

    /// No outcome will come any more.
    pub fn clear(&mut self) -> Vec<T> {
        self.waiting.drain(..).filter_map(|(_, value)| value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_find_their_message_in_any_order_and_once() {
        let mut awaiting = Awaiting::new();
        for number in [3, 4, 7] {
            awaiting.add(number, number * 10);
        }
        assert_eq!(awaiting.take(4), Some(40));
        assert_eq!(awaiting.take(4), None);
        assert_eq!(awaiting.take(5), None);
        assert_eq!(awaiting.take(3), Some(30));
        assert_eq!(awaiting.clear(), [70]);
        assert_eq!(awaiting.take(7), None);
    }
}
