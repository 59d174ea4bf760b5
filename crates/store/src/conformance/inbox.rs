//! The suite for [`Inbox`].

#![allow(missing_docs, reason = "a rule's name is its contract")]

use std::{any::Any, collections::HashSet, sync::Arc};

use bytes::Bytes;
use roomcast_types::{Incarnation, MessageId, StoreTime, UserId};
use tokio::task::JoinSet;

use super::{LOOK_ALIKES, suite};
use crate::log::{Inbox, Put, Stored};

/// Fresh, empty inboxes with one or more handles to them: rules that race spread over all of them.
pub struct Letterboxes {
    handles: Vec<Arc<dyn Inbox>>,
    _guard: Box<dyn Any + Send + Sync>,
}

impl Letterboxes {
    /// At least one handle; all of them open the same inboxes.
    pub fn new(handles: Vec<Arc<dyn Inbox>>) -> Self {
        assert!(!handles.is_empty(), "inboxes need a handle");
        Self { handles, _guard: Box::new(()) }
    }

    /// Keeps something, such as a temporary folder, for as long as the inboxes are used.
    pub fn guarded_by(self, guard: impl Any + Send + Sync) -> Self {
        Self { _guard: Box::new(guard), ..self }
    }

    fn inbox(&self) -> &dyn Inbox {
        &*self.handles[0]
    }

    fn handle(&self, number: usize) -> Arc<dyn Inbox> {
        self.handles[number % self.handles.len()].clone()
    }
}

suite! {
    $,
    /// One test per rule for a backend of [`Inbox`](crate::Inbox); takes a future of
    /// [`Letterboxes`](crate::conformance::inbox::Letterboxes).
    inbox_conformance in inbox on Letterboxes {
        a_message_lies_there_until_it_is_taken
        a_message_lies_there_once
        a_full_inbox_takes_no_more
        what_expired_takes_no_place
        each_of_several_users_has_an_answer
        thousands_of_users_get_a_message
        racing_messages_never_exceed_the_limit
        a_message_that_is_put_twice_at_once_lies_there_once
        inboxes_are_read_in_pages_oldest_first
        a_page_of_an_inbox_is_bounded_by_bytes
        what_expired_is_not_listed_and_swept
        who_has_a_message_waiting_is_told_for_hundreds_at_once
        taking_what_is_not_there_takes_nothing
        inboxes_of_look_alikes_are_different
        a_stored_payload_reads_as_it_was_given
    }
}

const NOW: StoreTime = StoreTime::from_millis(1_000_000);

fn at(millis: i64) -> StoreTime {
    StoreTime::from_millis(millis)
}

fn user(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

/// Made at this millisecond.
fn stored(made: u64, text: &str) -> Stored {
    let message_id = MessageId::new(made, Incarnation::random(), 1);
    Stored { message_id, payload: Bytes::copy_from_slice(text.as_bytes()), expires_at: at(2_000_000) }
}

async fn put(inbox: &dyn Inbox, id: &str, message: &Stored, messages_max: u32) -> Put {
    let answers = inbox.put(&[user(id)], message, messages_max, NOW).await.unwrap();
    assert_eq!(answers.len(), 1);
    answers[0]
}

async fn all(inbox: &dyn Inbox, id: &str) -> Vec<Stored> {
    let (found, is_cut) = inbox.list(&user(id), None, 10_000, u64::MAX, NOW).await.unwrap();
    assert!(!is_cut);
    found
}

fn texts(messages: &[Stored]) -> Vec<&str> {
    messages.iter().map(|stored| std::str::from_utf8(&stored.payload).unwrap()).collect()
}

pub async fn a_message_lies_there_until_it_is_taken(boxes: &Letterboxes) {
    let (inbox, other) = (boxes.inbox(), boxes.handle(1));
    let (first, second) = (stored(1, "first"), stored(2, "second"));
    assert_eq!(all(inbox, "ann").await, []);
    for message in [&second, &first] {
        assert_eq!(put(inbox, "ann", message, 10).await, Put::Stored);
    }
    for _ in 0..2 {
        assert_eq!(all(&*other, "ann").await, [first.clone(), second.clone()]);
    }
    assert_eq!(inbox.take(&user("ann"), &[first.message_id]).await.unwrap(), 1);
    assert_eq!(all(&*other, "ann").await, std::slice::from_ref(&second));
    assert_eq!(other.take(&user("ann"), &[first.message_id, second.message_id]).await.unwrap(), 1);
    assert_eq!(all(inbox, "ann").await, []);
}

pub async fn a_message_lies_there_once(boxes: &Letterboxes) {
    let (inbox, message) = (boxes.inbox(), stored(1, "a"));
    for _ in 0..3 {
        assert_eq!(put(inbox, "ann", &message, 1).await, Put::Stored);
    }
    let twice = inbox.put(&[user("ann"), user("bob"), user("bob")], &message, 1, NOW).await.unwrap();
    assert_eq!(twice, [Put::Stored; 3]);
    assert_eq!((texts(&all(inbox, "ann").await), texts(&all(inbox, "bob").await)), (vec!["a"], vec!["a"]));
}

pub async fn a_full_inbox_takes_no_more(boxes: &Letterboxes) {
    let inbox = boxes.inbox();
    let messages: Vec<Stored> = (1..=6).map(|made| stored(made, &made.to_string())).collect();
    for (message, wanted) in messages.iter().zip([Put::Stored, Put::Stored, Put::Stored, Put::Full]) {
        assert_eq!(put(inbox, "ann", message, 3).await, wanted);
    }
    assert_eq!(put(inbox, "ann", &messages[1], 3).await, Put::Stored, "it lies there already");
    assert_eq!(texts(&all(inbox, "ann").await), ["1", "2", "3"]);
    assert_eq!(put(inbox, "bob", &messages[3], 3).await, Put::Stored, "another inbox has its own places");
    inbox.take(&user("ann"), &[messages[0].message_id]).await.unwrap();
    assert_eq!(put(inbox, "ann", &messages[4], 3).await, Put::Stored);
    assert_eq!(put(inbox, "ann", &messages[5], 3).await, Put::Full);
    assert_eq!(put(inbox, "ann", &messages[5], 4).await, Put::Stored, "the limit may grow");
}

pub async fn what_expired_takes_no_place(boxes: &Letterboxes) {
    let inbox = boxes.inbox();
    let soon = Stored { expires_at: at(1_000_500), ..stored(1, "soon") };
    put(inbox, "ann", &soon, 2).await;
    put(inbox, "ann", &stored(2, "b"), 2).await;
    assert_eq!(put(inbox, "ann", &stored(3, "c"), 2).await, Put::Full);
    let later = inbox.put(&[user("ann")], &stored(4, "d"), 2, at(1_000_500)).await.unwrap();
    assert_eq!(later, [Put::Stored]);
    let (found, _) = inbox.list(&user("ann"), None, 10, u64::MAX, at(1_000_500)).await.unwrap();
    assert_eq!(texts(&found), ["b", "d"]);
}

pub async fn each_of_several_users_has_an_answer(boxes: &Letterboxes) {
    let inbox = boxes.inbox();
    for name in ["b", "d"] {
        put(inbox, name, &stored(1, "first"), 1).await;
    }
    let users = ["d", "c", "b", "a"].map(user);
    let answers = inbox.put(&users, &stored(2, "second"), 1, NOW).await.unwrap();
    assert_eq!(answers, [Put::Full, Put::Stored, Put::Full, Put::Stored]);
    for (name, wanted) in [("a", "second"), ("b", "first"), ("c", "second"), ("d", "first")] {
        assert_eq!(texts(&all(inbox, name).await), [wanted]);
    }
    assert_eq!(inbox.put(&[], &stored(3, "x"), 1, NOW).await.unwrap(), []);
}

pub async fn thousands_of_users_get_a_message(boxes: &Letterboxes) {
    let inbox = boxes.inbox();
    let users: Vec<UserId> = (0..1_500).map(|number| user(&format!("u{number}"))).collect();
    let answers = inbox.put(&users, &stored(1, "all"), 10, NOW).await.unwrap();
    assert_eq!(answers, vec![Put::Stored; users.len()]);
    for id in ["u0", "u511", "u512", "u1024", "u1499"] {
        assert_eq!(texts(&all(inbox, id).await), ["all"]);
    }
}

pub async fn racing_messages_never_exceed_the_limit(boxes: &Letterboxes) {
    let mut tasks = JoinSet::new();
    for racer in 0..8 {
        let inbox = boxes.handle(racer);
        tasks.spawn(async move {
            let mut stored_count = [0; 2];
            for number in 0..4 {
                // Some put into both, in different orders.
                let users = if racer % 2 == 0 { ["ann", "bob"] } else { ["bob", "ann"] };
                let message = stored((racer * 10 + number) as u64, "x");
                let answers = inbox.put(&users.map(user), &message, 10, NOW).await.unwrap();
                for (user, answer) in users.iter().zip(answers) {
                    stored_count[usize::from(*user == "bob")] += u32::from(answer == Put::Stored);
                }
            }
            stored_count
        });
    }
    let counts = tasks.join_all().await;
    for (index, name) in ["ann", "bob"].iter().enumerate() {
        assert_eq!(counts.iter().map(|count| count[index]).sum::<u32>(), 10);
        assert_eq!(all(boxes.inbox(), name).await.len(), 10);
    }
}

pub async fn a_message_that_is_put_twice_at_once_lies_there_once(boxes: &Letterboxes) {
    let message = stored(1, "x");
    let mut tasks = JoinSet::new();
    for racer in 0..8 {
        let (inbox, message) = (boxes.handle(racer), message.clone());
        tasks.spawn(async move { put(&*inbox, "ann", &message, 1).await });
    }
    assert_eq!(tasks.join_all().await, [Put::Stored; 8]);
    assert_eq!(texts(&all(boxes.inbox(), "ann").await), ["x"]);
}

pub async fn inboxes_are_read_in_pages_oldest_first(boxes: &Letterboxes) {
    let inbox = boxes.inbox();
    for made in [5, 3, 1, 4, 2] {
        put(inbox, "ann", &stored(made, &made.to_string()), 10).await;
    }
    let (mut after, mut pages) = (None, Vec::new());
    loop {
        let (page, is_cut) = inbox.list(&user("ann"), after, 2, u64::MAX, NOW).await.unwrap();
        after = page.last().map(|stored| stored.message_id);
        pages.push(texts(&page).join(" "));
        if !is_cut {
            break;
        }
    }
    assert_eq!(pages, ["1 2", "3 4", "5"]);
    assert_eq!(inbox.list(&user("ann"), after, 2, u64::MAX, NOW).await.unwrap(), (Vec::new(), false));
    let (page, is_cut) = inbox.list(&user("ann"), None, 5, u64::MAX, NOW).await.unwrap();
    assert_eq!((page.len(), is_cut), (5, false));
}

pub async fn a_page_of_an_inbox_is_bounded_by_bytes(boxes: &Letterboxes) {
    let inbox = boxes.inbox();
    for made in 1..=4 {
        put(inbox, "ann", &stored(made, &"x".repeat(100)), 10).await;
    }
    for (bytes_max, count, is_cut) in [(0, 1, true), (199, 1, true), (200, 2, true), (400, 4, false)] {
        let (page, found_cut) = inbox.list(&user("ann"), None, 10, bytes_max, NOW).await.unwrap();
        assert_eq!((page.len(), found_cut), (count, is_cut), "{bytes_max} bytes");
    }
}

pub async fn what_expired_is_not_listed_and_swept(boxes: &Letterboxes) {
    let inbox = boxes.inbox();
    for number in 0..30 {
        let expires_at = at(if number % 3 == 0 { 1_000_010 } else { 1_000_020 });
        let message = Stored { expires_at, ..stored(number, "x") };
        put(inbox, &format!("u{}", number % 5), &message, 10).await;
    }
    let count = async |now| {
        let mut count = 0;
        for number in 0..5 {
            let user = user(&format!("u{number}"));
            count += inbox.list(&user, None, 100, u64::MAX, at(now)).await.unwrap().0.len();
        }
        count
    };
    assert_eq!((count(1_000_009).await, count(1_000_010).await, count(1_000_020).await), (30, 20, 0));
    let mut swept = 0;
    loop {
        let more = inbox.sweep(at(1_000_010)).await.unwrap();
        swept += more;
        if more == 0 {
            break;
        }
    }
    assert_eq!((swept, count(0).await), (10, 20));
}

pub async fn who_has_a_message_waiting_is_told_for_hundreds_at_once(stage: &Letterboxes) {
    let inbox = stage.inbox();
    let everybody: Vec<UserId> = (0..700).map(|number| user(&format!("user-{number}"))).collect();
    assert!(inbox.waiting(&everybody, NOW).await.unwrap().is_empty());
    assert!(inbox.waiting(&[], NOW).await.unwrap().is_empty());
    let lasting = stored(1, "lasting");
    let passing = Stored { expires_at: at(1_500_000), ..stored(2, "passing") };
    for id in ["user-0", "user-511", "user-699", "elsewhere"] {
        put(inbox, id, &lasting, 10).await;
    }
    put(inbox, "user-0", &passing, 10).await;
    put(inbox, "user-300", &passing, 10).await;
    let waiting = inbox.waiting(&everybody, NOW).await.unwrap();
    assert_eq!(waiting, ["user-0", "user-300", "user-511", "user-699"].map(user).into());
    inbox.take(&user("user-511"), &[lasting.message_id]).await.unwrap();
    let waiting = inbox.waiting(&everybody, at(1_600_000)).await.unwrap();
    assert_eq!(waiting, ["user-0", "user-699"].map(user).into());
}

pub async fn taking_what_is_not_there_takes_nothing(boxes: &Letterboxes) {
    let inbox = boxes.inbox();
    let (kept, other) = (stored(1, "kept"), stored(2, "other"));
    put(inbox, "ann", &kept, 10).await;
    assert_eq!(inbox.take(&user("ann"), &[]).await.unwrap(), 0);
    assert_eq!(inbox.take(&user("ann"), &[other.message_id]).await.unwrap(), 0);
    assert_eq!(inbox.take(&user("bob"), &[kept.message_id]).await.unwrap(), 0);
    assert_eq!(texts(&all(inbox, "ann").await), ["kept"]);
    let twice = [kept.message_id, other.message_id, kept.message_id];
    assert_eq!(inbox.take(&user("ann"), &twice).await.unwrap(), 1);
}

pub async fn inboxes_of_look_alikes_are_different(boxes: &Letterboxes) {
    let inbox = boxes.inbox();
    for (id, made) in LOOK_ALIKES.into_iter().zip(1..) {
        assert_eq!(put(inbox, id, &stored(made, id), 1).await, Put::Stored, "{id:?}");
    }
    let mut seen = HashSet::new();
    for id in LOOK_ALIKES {
        let found = all(inbox, id).await;
        assert_eq!(texts(&found), [id]);
        assert!(seen.insert(found[0].message_id));
    }
}

pub async fn a_stored_payload_reads_as_it_was_given(boxes: &Letterboxes) {
    let inbox = boxes.inbox();
    let every_byte: Vec<u8> = (0..=255).collect();
    for (payload, made) in [Vec::new(), every_byte.clone(), every_byte.repeat(320)].into_iter().zip(1..) {
        let message = Stored { payload: Bytes::from(payload), ..stored(made, "") };
        put(inbox, "ann", &message, 10).await;
        assert_eq!(all(inbox, "ann").await.last(), Some(&message));
    }
}
