//! Rules of appends without a key.

#![allow(missing_docs, reason = "a rule's name is its contract")]

use std::collections::HashSet;

use bytes::Bytes;
use roomcast_types::Position;
use tokio::task::JoinSet;

use super::{
    Journal, LOOK_ALIKES, all, ample, append, entry, fill, offsets, once, position, room, says, texts, user,
};
use crate::log::{Append, Appended, LogKey};

pub async fn offsets_count_from_one_in_one_epoch(journal: &Journal) {
    let (log, key) = (journal.log(), room("r"));
    let appends = [says(&key, "a"), says(&key, "b"), says(&key, "c")];
    let first = append(log, &appends[0], &ample()).await;
    assert_eq!(first.offset, 1);
    for (next, offset) in appends[1..].iter().zip(2..) {
        assert_eq!(append(log, next, &ample()).await, Position { offset, ..first });
    }
    let page = all(log, &key).await;
    assert_eq!((page.position, page.first, page.is_cut), (Some(Position { offset: 3, ..first }), 1, false));
    let entries: Vec<_> = appends.iter().zip(1..).map(|(given, offset)| entry(given, offset)).collect();
    assert_eq!(page.entries, entries);
}

pub async fn racing_appends_leave_no_hole(journal: &Journal) {
    let key = room("r");
    let epoch = append(journal.log(), &says(&key, "first"), &ample()).await.epoch;
    let mut tasks = JoinSet::new();
    for racer in 0..8 {
        let (log, key) = (journal.handle(racer), key.clone());
        tasks.spawn(async move {
            let mut given = Vec::new();
            for number in 0..20 {
                let next = says(&key, &format!("{racer} {number}"));
                given.push((append(&*log, &next, &ample()).await, next));
            }
            given
        });
    }
    let mut given: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    assert!(given.iter().all(|(position, _)| position.epoch == epoch));
    given.sort_by_key(|(position, _)| position.offset);
    let page = all(journal.log(), &key).await;
    assert_eq!(offsets(&page), (1..=161).collect::<Vec<u64>>());
    let entries: Vec<_> = given.iter().map(|(position, given)| entry(given, position.offset)).collect();
    assert_eq!(page.entries[1..], entries);
}

pub async fn racing_first_appends_begin_one_epoch(journal: &Journal) {
    for round in 0..10 {
        let key = room(&format!("r{round}"));
        let mut tasks = JoinSet::new();
        for racer in 0..8 {
            let (log, next) = (journal.handle(racer), says(&key, "x"));
            tasks.spawn(async move { append(&*log, &next, &ample()).await });
        }
        let given = tasks.join_all().await;
        assert_eq!(given.iter().map(|position| position.epoch).collect::<HashSet<_>>().len(), 1);
        let mut found: Vec<u64> = given.iter().map(|position| position.offset).collect();
        found.sort_unstable();
        assert_eq!(found, (1..=8).collect::<Vec<u64>>());
    }
}

pub async fn a_payload_reads_as_it_was_given(journal: &Journal) {
    let (log, key) = (journal.log(), room("r"));
    let every_byte: Vec<u8> = (0..=255).collect();
    let payloads = [Vec::new(), every_byte.clone(), every_byte.repeat(320), b"\r\n\0'\"\\".to_vec()];
    for payload in &payloads {
        let payload = Some(Bytes::from(payload.clone()));
        append(log, &Append { payload, ..says(&key, "") }, &ample()).await;
    }
    let page = all(log, &key).await;
    assert!(page.entries.iter().map(|entry| entry.payload.to_vec()).eq(payloads));
}

pub async fn an_append_without_payload_takes_no_offset(journal: &Journal) {
    let log = journal.log();
    for key in [room("r"), user("r")] {
        let nothing = Append { payload: None, ..once(&key, "", "key", 1) };
        assert_eq!(log.append(&nothing, &ample()).await.unwrap(), Appended::New(None));
        let repeat = Appended::Repeat { message_id: nothing.message_id, position: None };
        assert_eq!(log.append(&nothing, &ample()).await.unwrap(), repeat);
        assert_eq!(append(log, &says(&key, "a"), &ample()).await.offset, 1);
        assert_eq!(log.append(&nothing, &ample()).await.unwrap(), repeat, "the log began meanwhile");
        let without_key = Append { idempotency: None, ..nothing };
        assert_eq!(log.append(&without_key, &ample()).await.unwrap(), Appended::New(None));
        assert_eq!(texts(&all(log, &key).await), ["a"]);
        assert_eq!(position(log, &key).await.offset, 1);
    }
}

pub async fn logs_of_look_alikes_are_different(journal: &Journal) {
    let log = journal.log();
    let mut epochs = HashSet::new();
    for key in LOOK_ALIKES.map(room).into_iter().chain(LOOK_ALIKES.map(user)) {
        let given = append(log, &says(&key, &format!("{key:?}")), &ample()).await;
        assert!(epochs.insert(given.epoch) && given.offset == 1, "{key:?} is another log");
    }
    for key in LOOK_ALIKES.map(room).into_iter().chain(LOOK_ALIKES.map(user)) {
        assert_eq!(texts(&all(log, &key).await), [format!("{key:?}")]);
    }
}

pub async fn a_room_and_a_user_of_one_id_have_their_own_logs(journal: &Journal) {
    let log = journal.log();
    fill(log, &room("same"), 3, &ample()).await;
    fill(log, &user("same"), 2, &ample()).await;
    log.remove(&room("same")).await.unwrap();
    assert_eq!(texts(&all(log, &user("same")).await), ["1", "2"]);
    assert_eq!(all(log, &room("same")).await.position, None);
}

pub async fn what_is_of_no_one_has_no_log(journal: &Journal) {
    let (log, key) = (journal.log(), LogKey::Unaddressed);
    let broadcast = once(&key, "all", "key", 1);
    assert_eq!(log.append(&broadcast, &ample()).await.unwrap(), Appended::New(None));
    let repeat = Appended::Repeat { message_id: broadcast.message_id, position: None };
    assert_eq!(log.append(&once(&key, "all", "key", 1), &ample()).await.unwrap(), repeat);
    let page = all(log, &key).await;
    assert_eq!((page.position, page.entries), (None, Vec::new()));
    assert_eq!(log.renew(&key, roomcast_types::Epoch::random()).await.unwrap(), None);
}

pub async fn it_answers(journal: &Journal) {
    journal.log().ping().await.unwrap();
}
