//! The suite for [`Log`].

mod append;
mod epochs;
mod keys;
mod read;
mod retention;

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use roomcast_types::{Incarnation, MessageId, Position, RoomId, UserId};

pub use self::{append::*, epochs::*, keys::*, read::*, retention::*};
use super::{LOOK_ALIKES, suite, wait_until};
use crate::log::{ANY_AGE, Append, Appended, Entry, Idempotency, Log, LogKey, Page, Part, Read, Retention};

/// Fresh, empty logs with one or more handles to them: rules that race spread over all of them.
pub struct Journal {
    handles: Vec<Arc<dyn Log>>,
    _guard: Box<dyn Any + Send + Sync>,
}

impl Journal {
    /// At least one handle; all of them open the same logs.
    pub fn new(handles: Vec<Arc<dyn Log>>) -> Self {
        assert!(!handles.is_empty(), "a journal needs a handle");
        Self { handles, _guard: Box::new(()) }
    }

    /// Keeps something, such as a temporary folder, for as long as the logs are used.
    pub fn guarded_by(self, guard: impl Any + Send + Sync) -> Self {
        Self { _guard: Box::new(guard), ..self }
    }

    fn log(&self) -> &dyn Log {
        &*self.handles[0]
    }

    fn handle(&self, number: usize) -> Arc<dyn Log> {
        self.handles[number % self.handles.len()].clone()
    }
}

suite! {
    $,
    /// One test per rule for a backend of [`Log`](crate::Log); takes a future of a
    /// [`Journal`](crate::conformance::log::Journal).
    log_conformance in log on Journal {
        offsets_count_from_one_in_one_epoch
        racing_appends_leave_no_hole
        racing_first_appends_begin_one_epoch
        a_payload_reads_as_it_was_given
        an_append_without_payload_takes_no_offset
        logs_of_look_alikes_are_different
        a_room_and_a_user_of_one_id_have_their_own_logs
        what_is_of_no_one_has_no_log
        it_answers
        asking_for_the_position_of_a_new_log_gives_it_one
        racing_questions_begin_one_epoch
        a_removed_log_begins_a_fresh_epoch_and_forgets_its_keys
        a_log_is_renewed_once_per_epoch
        only_the_epoch_that_was_meant_is_renewed
        a_repeat_after_a_renewal_has_no_position
        racing_publishers_with_one_key_append_once
        racing_publishers_without_payload_use_a_key_once
        another_digest_under_a_key_changes_nothing
        keys_belong_to_their_log
        keys_of_any_characters_are_different
        a_key_expires
        messages_after_an_offset_come_in_pages
        messages_before_an_offset_come_in_pages
        a_page_is_bounded_by_bytes
        what_is_not_there_is_no_entry
        every_question_has_its_answer
        the_oldest_go_by_count
        the_oldest_go_by_bytes
        a_message_greater_than_the_limit_stays_while_it_is_the_newest
        what_is_too_old_is_not_read
        what_is_too_old_goes_and_the_position_stays
    }
}

fn room(id: &str) -> LogKey {
    LogKey::Room(RoomId::new(id).unwrap())
}

fn user(id: &str) -> LogKey {
    LogKey::User(UserId::new(id).unwrap())
}

/// Never the same twice.
fn message_id() -> MessageId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    MessageId::new(1_700_000_000_000, Incarnation::random(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Enough for any rule that is not about what goes.
fn ample() -> Retention {
    let (age, idempotency) = (Duration::from_secs(600), Duration::from_secs(600));
    Retention { messages: 1_000, bytes: 1 << 30, age, idempotency }
}

/// A message that says `text`.
fn says(key: &LogKey, text: &str) -> Append {
    let payload = Some(Bytes::copy_from_slice(text.as_bytes()));
    Append { key: key.clone(), message_id: message_id(), payload, idempotency: None }
}

/// A message that happens once under `idempotency_key`.
fn once(key: &LogKey, text: &str, idempotency_key: &str, digest: u64) -> Append {
    let idempotency = Some(Idempotency { key: idempotency_key.to_owned(), digest });
    Append { idempotency, ..says(key, text) }
}

/// The position of an append that is new and has one.
async fn append(log: &dyn Log, append: &Append, retention: &Retention) -> Position {
    match log.append(append, retention).await.unwrap() {
        Appended::New(Some(position)) => position,
        other => panic!("{other:?}"),
    }
}

/// `count` messages that say their offsets; the last one's position.
async fn fill(log: &dyn Log, key: &LogKey, count: u64, retention: &Retention) -> Position {
    let mut last = None;
    for number in 1..=count {
        last = Some(append(log, &says(key, &number.to_string()), retention).await);
    }
    last.unwrap()
}

fn question(key: &LogKey, part: Part) -> Read {
    Read { key: key.clone(), part, limit: 10_000, bytes_max: u64::MAX, age: ANY_AGE }
}

async fn ask(log: &dyn Log, read: Read) -> Page {
    let mut pages = log.read(&[read]).await.unwrap();
    assert_eq!(pages.len(), 1);
    pages.remove(0)
}

/// Everything that lies in a log.
async fn all(log: &dyn Log, key: &LogKey) -> Page {
    ask(log, question(key, Part::After { offset: 0, up_to: u64::MAX })).await
}

/// Where a log is; begins it.
async fn position(log: &dyn Log, key: &LogKey) -> Position {
    ask(log, question(key, Part::Position)).await.position.unwrap()
}

fn offsets(page: &Page) -> Vec<u64> {
    page.entries.iter().map(|entry| entry.offset).collect()
}

fn texts(page: &Page) -> Vec<String> {
    page.entries.iter().map(|entry| String::from_utf8(entry.payload.to_vec()).unwrap()).collect()
}

/// What the page of an append would hold of it.
fn entry(append: &Append, offset: u64) -> Entry {
    Entry { offset, message_id: append.message_id, payload: append.payload.clone().unwrap() }
}
