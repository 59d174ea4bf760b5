//! What a page of a log means for a node that asked, and how messages lie in logs.

use prost::Message;
use roomcast_proto::pubsub::{Deliver, LogAnswer, LoggedMessage, UserTargets, deliver, log_answer::State};
use roomcast_store::log::{Entry, Page, Stored};
use roomcast_types::{Epoch, Position, UserId};

/// The part of a log that a node asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Of which life; `None`: only the position is wanted.
    pub epoch: Option<Epoch>,
    /// The offset before the first.
    pub after: u64,
    /// The last; `u64::MAX`: to the end.
    pub up_to: u64,
}

/// What a page comes to.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// This.
    Answer(LogAnswer),
    /// A hole, and the log has no position to go on from yet.
    Nothing,
    /// The node, or its client, knows a position that the log has not reached: the store went back in time.
    WentBack(Epoch),
}

/// Judges a page as of `now_ms`.
pub fn judge(wanted: Wanted, page: &Page, now_ms: i64) -> Verdict {
    let Some(position) = page.position else { return Verdict::Nothing };
    let Some(epoch) = wanted.epoch else {
        return Verdict::Answer(at(State::Complete, Some(position)));
    };
    if epoch != position.epoch {
        return Verdict::Answer(at(State::Lost, Some(position)));
    }
    let knows_more = wanted.up_to != u64::MAX && wanted.up_to > position.offset;
    if wanted.after > position.offset || knows_more {
        return Verdict::WentBack(epoch);
    }
    let last = wanted.up_to.min(position.offset);
    if page.first > wanted.after.saturating_add(1) && wanted.after < last {
        return Verdict::Answer(at(State::Lost, Some(position)));
    }
    if page.is_cut {
        return Verdict::Answer(at(State::TooMuch, Some(position)));
    }
    let offsets = page.entries.iter().map(|entry| entry.offset);
    if !offsets.eq(wanted.after.saturating_add(1)..=last) {
        return Verdict::Answer(at(State::Lost, Some(position)));
    }
    let messages = page.entries.iter().filter_map(|entry| logged(entry, epoch, now_ms)).collect();
    Verdict::Answer(LogAnswer { messages, ..at(State::Complete, Some(position)) })
}

/// An answer without messages.
pub fn at(state: State, position: Option<Position>) -> LogAnswer {
    let (epoch, offset) = Position::to_wire(position);
    LogAnswer { state: state.into(), epoch, offset, ..LogAnswer::default() }
}

/// A message as it lay in a log; `None` when it has expired.
fn logged(entry: &Entry, epoch: Epoch, now_ms: i64) -> Option<Deliver> {
    let deliver = open(&entry.payload, now_ms)?;
    Some(Deliver { epoch: epoch.as_u64(), offset: entry.offset, ..deliver })
}

/// A message as it lay in the inbox of a user; `None` when it has expired.
pub fn stored(user_id: &UserId, row: &Stored, now_ms: i64) -> Option<Deliver> {
    let deliver = open(&row.payload, now_ms)?;
    let target = deliver::Target::Users(UserTargets { user_ids: vec![user_id.to_string()] });
    Some(Deliver { target: Some(target), ack: true, stored: true, ..deliver })
}

fn open(payload: &[u8], now_ms: i64) -> Option<Deliver> {
    let logged = match LoggedMessage::decode(payload) {
        Ok(logged) => logged,
        Err(error) => {
            tracing::warn!(%error, "a message that was kept cannot be read");
            return None;
        }
    };
    let mut deliver = logged.deliver?;
    if logged.expires_at_ms != 0 {
        let left = logged.expires_at_ms.saturating_sub(now_ms);
        if left <= 0 {
            return None;
        }
        deliver.ttl_ms = Some(u32::try_from(left).unwrap_or(u32::MAX));
    }
    Some(deliver)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use roomcast_types::{Incarnation, MessageId};

    use super::*;

    const NOW_MS: i64 = 1_000_000;

    fn entry(offset: u64, expires_at_ms: i64) -> Entry {
        let message_id = MessageId::new(offset, Incarnation::random(), offset);
        let deliver = Deliver { message_id: message_id.to_string(), ..Deliver::default() };
        let payload = LoggedMessage { deliver: Some(deliver), expires_at_ms }.encode_to_vec().into();
        Entry { offset, message_id, payload }
    }

    /// What a log that keeps `first..=head` answers to a question with these limits.
    fn page(epoch: Epoch, first: u64, head: u64, wanted: Wanted, limit: usize) -> Page {
        let kept = first..=head;
        let range = kept.filter(|offset| *offset > wanted.after && *offset <= wanted.up_to);
        let mut entries: Vec<_> = range.map(|offset| entry(offset, 0)).collect();
        let is_cut = entries.len() > limit;
        entries.truncate(limit);
        Page { position: Some(Position { epoch, offset: head }), first, entries, is_cut }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        /// Never a part: an answer has all of the range, or says why it has nothing.
        #[test]
        fn an_answer_has_all_of_the_range_or_nothing(
            gone in 0_u64..12, kept in 0_u64..12, after in 0_u64..30, length in 0_u64..30, to_the_end: bool, limit in 1_usize..12,
        ) {
            let (epoch, first, head) = (Epoch::random(), gone + 1, gone + kept);
            let up_to = if to_the_end { u64::MAX } else { after + length };
            let wanted = Wanted { epoch: Some(epoch), after, up_to };
            let last = up_to.min(head);
            match judge(wanted, &page(epoch, first, head, wanted, limit), NOW_MS) {
                Verdict::WentBack(_) => prop_assert!(after > head || (!to_the_end && up_to > head)),
                Verdict::Nothing => prop_assert!(false, "the log has a position"),
                Verdict::Answer(answer) => {
                    prop_assert_eq!((answer.epoch, answer.offset), (epoch.as_u64(), head));
                    let offsets: Vec<_> = answer.messages.iter().map(|message| message.offset).collect();
                    match answer.state() {
                        State::Complete => prop_assert_eq!(offsets, (after + 1..=last).collect::<Vec<_>>()),
                        State::Lost => prop_assert!(offsets.is_empty() && after < gone && after < last),
                        State::TooMuch => prop_assert!(offsets.is_empty() && last - after > limit as u64),
                        State::Unavailable => prop_assert!(false, "it answered"),
                    }
                }
            }
        }
    }

    #[test]
    fn what_has_expired_is_left_out_and_what_has_not_says_what_is_left() {
        let epoch = Epoch::random();
        let entries = vec![entry(1, NOW_MS), entry(2, NOW_MS + 40), entry(3, 0)];
        let page = Page { position: Some(Position { epoch, offset: 3 }), first: 1, entries, is_cut: false };
        let wanted = Wanted { epoch: Some(epoch), after: 0, up_to: u64::MAX };
        let Verdict::Answer(answer) = judge(wanted, &page, NOW_MS) else { panic!("it is all there") };
        let told: Vec<_> = answer.messages.iter().map(|own| (own.offset, own.ttl_ms)).collect();
        assert_eq!(told, [(2, Some(40)), (3, None)]);
    }
}
