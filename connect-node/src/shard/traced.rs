//! What one session that reports arrivals was sent of traced messages: so that a report counts once, and only from it.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, SystemTime},
};

use roomcast_types::MessageId;

/// Messages remembered for one session; past that the oldest get no last span.
const MAX: usize = 64;
/// A report comes within this time, or counts as unknown.
const REPORTED_WITHIN: Duration = Duration::from_secs(30);

/// Messages of traces, oldest first. A session has one from its first `received` frame on.
#[derive(Debug, Default)]
pub(super) struct Traced {
    written: VecDeque<Written>,
}

/// One message whose frame the kernel took.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) message_id: MessageId,
    /// Names the node's span of the message.
    pub(super) traceparent: Arc<str>,
    pub(super) at: SystemTime,
}

impl Traced {
    /// The session was sent this message.
    pub(super) fn add(&mut self, message_id: MessageId, traceparent: Arc<str>, at: SystemTime) {
        if self.written.len() == MAX {
            self.written.pop_front();
        }
        self.written.push_back(Written { message_id, traceparent, at });
    }

    /// The session reports this message; `None` when it was never sent to it, or is reported already, or long ago.
    pub(super) fn take(&mut self, message_id: MessageId, now: SystemTime) -> Option<Written> {
        let is_old =
            |written: &Written| now.duration_since(written.at).is_ok_and(|age| age > REPORTED_WITHIN);
        while self.written.front().is_some_and(is_old) {
            self.written.pop_front();
        }
        // Mostly the oldest: clients report in order.
        let place = self.written.iter().position(|written| written.message_id == message_id)?;
        self.written.remove(place)
    }
}

#[cfg(test)]
mod tests {
    use roomcast_types::Incarnation;

    use super::*;

    #[test]
    fn only_the_last_messages_of_a_short_while_can_be_reported_and_once() {
        let ids: Vec<_> = (0..=MAX as u64).map(|n| MessageId::new(1, Incarnation::random(), n)).collect();
        let start = SystemTime::UNIX_EPOCH;
        let mut traced = Traced::default();
        ids.iter().for_each(|id| traced.add(*id, "00-1-2-01".into(), start));
        assert_eq!(traced.take(ids[0], start), None, "the oldest is forgotten");
        assert_eq!(traced.take(ids[1], start + REPORTED_WITHIN).map(|written| written.at), Some(start));
        assert_eq!(traced.take(ids[1], start), None, "reported");
        assert_eq!(traced.take(ids[2], start + REPORTED_WITHIN * 2), None, "too late");
        assert!(traced.written.is_empty());
    }
}
