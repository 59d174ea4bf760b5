//! Rules of what goes.

#![allow(missing_docs, reason = "a rule's name is its contract")]

use std::time::Duration;

use roomcast_types::Position;

use super::{
    Journal, all, ample, append, ask, fill, offsets, position, question, room, says, texts, user, wait_until,
};
use crate::log::{Part, Read, Retention};

pub async fn the_oldest_go_by_count(journal: &Journal) {
    let (log, key) = (journal.log(), room("r"));
    let few = Retention { messages: 5, ..ample() };
    for count in 1..=5 {
        append(log, &says(&key, &count.to_string()), &few).await;
        assert_eq!(all(log, &key).await.first, 1);
    }
    let last = fill(log, &key, 8, &few).await;
    let page = all(log, &key).await;
    assert_eq!((page.first, offsets(&page)), (9, vec![9, 10, 11, 12, 13]));
    assert_eq!((page.position, last.offset), (Some(last), 13));
    let page = ask(log, question(&key, Part::Before { offset: 11 })).await;
    assert_eq!((page.first, offsets(&page)), (9, vec![9, 10]));

    let many = fill(log, &user("u"), 200, &Retention { messages: 80, ..ample() }).await;
    let page = all(log, &user("u")).await;
    assert!((80..=90).contains(&page.entries.len()), "{} entries", page.entries.len());
    assert_eq!(page.entries.last().unwrap().offset, many.offset);
    assert_eq!(page.first, page.entries[0].offset);
    assert_eq!(offsets(&page), (page.first..=200).collect::<Vec<u64>>());
}

pub async fn the_oldest_go_by_bytes(journal: &Journal) {
    let (log, key) = (journal.log(), room("r"));
    let small = Retention { messages: 15, bytes: 1_000, ..ample() };
    for size in [400, 400, 200, 1, 399] {
        append(log, &says(&key, &"x".repeat(size)), &small).await;
    }
    let page = all(log, &key).await;
    assert_eq!((page.first, offsets(&page)), (2, vec![2, 3, 4, 5]));
    append(log, &says(&key, &"x".repeat(900)), &small).await;
    assert_eq!(offsets(&all(log, &key).await), [6]);
}

pub async fn a_message_greater_than_the_limit_stays_while_it_is_the_newest(journal: &Journal) {
    let (log, key) = (journal.log(), room("r"));
    let small = Retention { messages: 15, bytes: 10, ..ample() };
    append(log, &says(&key, "small"), &small).await;
    append(log, &says(&key, &"x".repeat(5_000)), &small).await;
    assert_eq!(offsets(&all(log, &key).await), [2]);
    append(log, &says(&key, "small"), &small).await;
    assert_eq!(offsets(&all(log, &key).await), [3]);
}

pub async fn what_is_too_old_is_not_read(journal: &Journal) {
    let (log, key) = (journal.log(), room("r"));
    fill(log, &key, 3, &ample()).await;
    let age = Duration::from_millis(300);
    for part in [Part::After { offset: 0, up_to: u64::MAX }, Part::Before { offset: u64::MAX }] {
        wait_until("the first three are old", async || {
            ask(log, Read { age, ..question(&key, part) }).await.entries.is_empty()
        })
        .await;
    }
    let last = append(log, &says(&key, "young"), &ample()).await;
    let page = ask(log, Read { age, ..question(&key, Part::Before { offset: u64::MAX }) }).await;
    // On a machine that stood still meanwhile, nothing is young any more.
    if !page.entries.is_empty() {
        assert_eq!((page.first, texts(&page)), (4, vec!["young".to_owned()]));
    }
    assert_eq!((page.position, page.is_cut), (Some(last), false));
    wait_until("the last is old", async || {
        let page = ask(log, Read { age, ..question(&key, Part::Position) }).await;
        assert_eq!(page.position, Some(last));
        page.first == 5
    })
    .await;
    assert_eq!(texts(&all(log, &key).await), ["1", "2", "3", "young"], "they still lie there");
}

pub async fn what_is_too_old_goes_and_the_position_stays(journal: &Journal) {
    let (log, key) = (journal.log(), room("r"));
    let short = Retention { age: Duration::from_millis(300), ..ample() };
    let last = fill(log, &key, 40, &short).await;
    wait_until("all have gone", async || {
        log.sweep(&short).await.unwrap();
        all(log, &key).await.entries.is_empty()
    })
    .await;
    let page = all(log, &key).await;
    assert_eq!((page.position, page.first, page.is_cut), (Some(last), 41, false));
    assert_eq!(position(log, &key).await, last);
    assert_eq!(append(log, &says(&key, "41"), &ample()).await, Position { offset: 41, ..last });
    assert_eq!(texts(&all(log, &key).await), ["41"]);
}
