//! Rules of positions: where a log begins, and when its epoch changes.

#![allow(missing_docs, reason = "a rule's name is its contract")]

use std::collections::HashSet;

use roomcast_types::{Epoch, Position};
use tokio::task::JoinSet;

use super::{Journal, all, ample, append, ask, fill, once, position, question, room, says, texts, user};
use crate::log::{Appended, Part};

pub async fn asking_for_the_position_of_a_new_log_gives_it_one(journal: &Journal) {
    let (log, key) = (journal.log(), room("r"));
    let page = all(log, &key).await;
    assert_eq!((page.position, page.entries.len(), page.is_cut), (None, 0, false), "nobody began it");
    let begin = position(log, &key).await;
    assert_eq!(begin.offset, 0);
    let page = ask(log, question(&key, Part::Position)).await;
    assert_eq!((page.position, page.first, page.is_cut), (Some(begin), 1, false));
    assert_eq!(append(log, &says(&key, "a"), &ample()).await, Position { offset: 1, ..begin });
    assert_eq!(position(log, &key).await, Position { offset: 1, ..begin });
}

pub async fn racing_questions_begin_one_epoch(journal: &Journal) {
    for round in 0..10 {
        let key = user(&format!("u{round}"));
        let mut tasks = JoinSet::new();
        for racer in 0..8 {
            let (log, key) = (journal.handle(racer), key.clone());
            tasks.spawn(async move {
                match racer % 2 {
                    0 => position(&*log, &key).await,
                    _ => append(&*log, &says(&key, "x"), &ample()).await,
                }
            });
        }
        let epochs: HashSet<Epoch> = tasks.join_all().await.into_iter().map(|found| found.epoch).collect();
        assert_eq!(epochs.len(), 1);
        assert_eq!(position(journal.log(), &key).await.offset, 4);
    }
}

pub async fn a_removed_log_begins_a_fresh_epoch_and_forgets_its_keys(journal: &Journal) {
    let (log, key) = (journal.log(), room("r"));
    fill(log, &key, 3, &ample()).await;
    let before = append(log, &once(&key, "4", "key", 1), &ample()).await;
    log.remove(&key).await.unwrap();
    let page = all(log, &key).await;
    assert_eq!((page.position, page.entries.len()), (None, 0));
    let after = append(log, &once(&key, "anew", "key", 1), &ample()).await;
    assert!(after.epoch != before.epoch && after.offset == 1, "{before:?} {after:?}");
    assert_eq!(texts(&all(log, &key).await), ["anew"]);
    log.remove(&room("never was")).await.unwrap();
}

pub async fn a_log_is_renewed_once_per_epoch(journal: &Journal) {
    let (log, key) = (journal.log(), room("r"));
    let before = fill(log, &key, 3, &ample()).await;
    let mut tasks = JoinSet::new();
    for racer in 0..8 {
        let (log, key) = (journal.handle(racer), key.clone());
        tasks.spawn(async move { log.renew(&key, before.epoch).await.unwrap().unwrap() });
    }
    let renewed: HashSet<Position> = tasks.join_all().await.into_iter().collect();
    assert_eq!(renewed.len(), 1, "{renewed:?}");
    let after = position(log, &key).await;
    assert!(renewed.contains(&after) && after.epoch != before.epoch && after.offset == 0, "{after:?}");
    let page = all(log, &key).await;
    assert_eq!((page.first, page.entries.len()), (1, 0));
    assert_eq!(append(log, &says(&key, "a"), &ample()).await, Position { offset: 1, ..after });
    assert_eq!(texts(&all(log, &key).await), ["a"]);
}

pub async fn only_the_epoch_that_was_meant_is_renewed(journal: &Journal) {
    let (log, key) = (journal.log(), user("u"));
    assert_eq!(log.renew(&key, Epoch::random()).await.unwrap(), None);
    assert_eq!(all(log, &key).await.position, None, "it did not begin");
    let before = fill(log, &key, 2, &ample()).await;
    assert_eq!(log.renew(&key, Epoch::random()).await.unwrap(), Some(before));
    assert_eq!(texts(&all(log, &key).await), ["1", "2"]);
}

pub async fn a_repeat_after_a_renewal_has_no_position(journal: &Journal) {
    let (log, key) = (journal.log(), room("r"));
    let first = once(&key, "a", "key", 7);
    let before = append(log, &first, &ample()).await;
    log.renew(&key, before.epoch).await.unwrap();
    let again = log.append(&once(&key, "a", "key", 7), &ample()).await.unwrap();
    assert_eq!(again, Appended::Repeat { message_id: first.message_id, position: None });
    assert_eq!(all(log, &key).await.entries, []);
}
