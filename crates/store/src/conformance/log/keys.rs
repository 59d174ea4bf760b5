//! Rules of idempotency keys.

#![allow(missing_docs, reason = "a rule's name is its contract")]

use std::{collections::HashSet, time::Duration};

use roomcast_types::MessageId;
use tokio::task::JoinSet;

use super::{
    Journal, all, ample, append, message_id, offsets, once, position, room, texts, user, wait_until,
};
use crate::log::{Append, Appended, LogKey, Retention};

/// The one that is new, and whether all others repeat it.
async fn race(journal: &Journal, append: impl Fn() -> Append) -> (MessageId, Appended) {
    let mut tasks = JoinSet::new();
    for racer in 0..8 {
        let (log, append) = (journal.handle(racer), append());
        tasks.spawn(async move { (append.message_id, log.append(&append, &ample()).await.unwrap()) });
    }
    let answers = tasks.join_all().await;
    let is_new = |answer: &Appended| matches!(answer, Appended::New(_));
    let new: Vec<_> = answers.iter().filter(|(_, answer)| is_new(answer)).collect();
    assert_eq!(new.len(), 1, "{answers:?}");
    let (first, Appended::New(position)) = *new[0] else { unreachable!("it was filtered for") };
    let repeat = Appended::Repeat { message_id: first, position };
    let others: HashSet<String> = answers
        .iter()
        .filter(|(_, answer)| !is_new(answer))
        .map(|(_, answer)| format!("{answer:?}"))
        .collect();
    assert_eq!(others, HashSet::from([format!("{repeat:?}")]));
    (first, repeat)
}

pub async fn racing_publishers_with_one_key_append_once(journal: &Journal) {
    let log = journal.log();
    for round in 0..10 {
        let (key, idempotency_key) = (room(&format!("r{}", round % 2)), format!("key {round}"));
        let before = position(log, &key).await;
        let (first, repeat) = race(journal, || once(&key, "once", &idempotency_key, 42)).await;
        let page = all(log, &key).await;
        assert_eq!(page.position.unwrap().offset, before.offset + 1);
        let last = page.entries.last().unwrap();
        assert_eq!((last.message_id, last.offset), (first, before.offset + 1));
        let Appended::Repeat { position, .. } = repeat else { unreachable!("it repeats") };
        assert_eq!(position, page.position);
    }
}

pub async fn racing_publishers_without_payload_use_a_key_once(journal: &Journal) {
    for key in [room("r"), user("u"), LogKey::Unaddressed] {
        for round in 0..5 {
            let idempotency_key = format!("key {round}");
            let nothing = || Append { payload: None, ..once(&key, "", &idempotency_key, 42) };
            let (_, repeat) = race(journal, nothing).await;
            assert!(matches!(repeat, Appended::Repeat { position: None, .. }), "{repeat:?}");
        }
    }
}

pub async fn another_digest_under_a_key_changes_nothing(journal: &Journal) {
    let (log, key) = (journal.log(), room("r"));
    let first = once(&key, "a", "key", 1);
    let position = append(log, &first, &ample()).await;
    let taken = Appended::KeyTaken { message_id: first.message_id };
    for other in [once(&key, "b", "key", 2), Append { payload: None, ..once(&key, "", "key", u64::MAX) }] {
        assert_eq!(log.append(&other, &ample()).await.unwrap(), taken);
    }
    let repeat = Appended::Repeat { message_id: first.message_id, position: Some(position) };
    assert_eq!(log.append(&once(&key, "a", "key", 1), &ample()).await.unwrap(), repeat);
    let page = all(log, &key).await;
    assert_eq!((texts(&page), page.position), (vec!["a".to_owned()], Some(position)));
}

pub async fn keys_belong_to_their_log(journal: &Journal) {
    let log = journal.log();
    for key in [room("a"), room("b"), user("a"), user("b")] {
        assert_eq!(append(log, &once(&key, "x", "key", 1), &ample()).await.offset, 1);
    }
    let to_all = once(&LogKey::Unaddressed, "x", "key", 1);
    assert_eq!(log.append(&to_all, &ample()).await.unwrap(), Appended::New(None));
}

pub async fn keys_of_any_characters_are_different(journal: &Journal) {
    let (log, key, long) = (journal.log(), room("r"), "k".repeat(128));
    let keys = ["k", "K", "k ", "é", "e\u{301}", "007", "7", "{}:%", "a b", &long, &long[1..]];
    for (idempotency_key, offset) in keys.into_iter().zip(1..) {
        let given = append(log, &once(&key, idempotency_key, idempotency_key, 1), &ample()).await;
        assert_eq!(given.offset, offset, "{idempotency_key}");
        let unaddressed = Append { payload: None, ..once(&LogKey::Unaddressed, "", idempotency_key, 1) };
        assert_eq!(
            log.append(&unaddressed, &ample()).await.unwrap(),
            Appended::New(None),
            "{idempotency_key}"
        );
    }
    assert_eq!(texts(&all(log, &key).await), keys);
}

pub async fn a_key_expires(journal: &Journal) {
    let log = journal.log();
    let short = Retention { idempotency: Duration::from_millis(300), ..ample() };
    for key in [room("r"), LogKey::Unaddressed] {
        let first = once(&key, "a", "key", 1);
        assert!(matches!(log.append(&first, &short).await.unwrap(), Appended::New(_)));
        let mut second = message_id();
        wait_until("the key is free again", async || {
            // Another digest, so that a key that is still known is told apart.
            let other = Append { message_id: message_id(), ..once(&key, "b", "key", 2) };
            second = other.message_id;
            match log.append(&other, &ample()).await.unwrap() {
                Appended::New(_) => true,
                answer => {
                    assert_eq!(answer, Appended::KeyTaken { message_id: first.message_id });
                    false
                }
            }
        })
        .await;
        let answer = log.append(&once(&key, "b", "key", 2), &ample()).await.unwrap();
        assert!(matches!(answer, Appended::Repeat { message_id, .. } if message_id == second), "{answer:?}");
    }
    assert_eq!(offsets(&all(log, &room("r")).await), [1, 2]);
}
