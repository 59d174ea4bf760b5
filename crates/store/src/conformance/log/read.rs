//! Rules of questions.

#![allow(missing_docs, reason = "a rule's name is its contract")]

use roomcast_types::Position;

use super::{Journal, all, ample, append, ask, fill, offsets, position, question, room, says, texts, user};
use crate::log::{Part, Read};

fn after(offset: u64, up_to: u64) -> Part {
    Part::After { offset, up_to }
}

fn before(offset: u64) -> Part {
    Part::Before { offset }
}

pub async fn messages_after_an_offset_come_in_pages(journal: &Journal) {
    let (log, key) = (journal.log(), room("r"));
    let last = fill(log, &key, 9, &ample()).await;
    let cases: [(u64, u64, u32, &[u64], bool); 8] = [
        (0, u64::MAX, 4, &[1, 2, 3, 4], true),
        (4, u64::MAX, 4, &[5, 6, 7, 8], true),
        (8, u64::MAX, 4, &[9], false),
        (5, u64::MAX, 4, &[6, 7, 8, 9], false),
        (2, 5, 9, &[3, 4, 5], false),
        (2, 5, 2, &[3, 4], true),
        (9, u64::MAX, 9, &[], false),
        (5, 5, 9, &[], false),
    ];
    for (offset, up_to, limit, wanted, is_cut) in cases {
        let page = ask(log, Read { limit, ..question(&key, after(offset, up_to)) }).await;
        assert_eq!((&offsets(&page)[..], page.is_cut), (wanted, is_cut), "after {offset} up to {up_to}");
        assert_eq!((page.position, page.first), (Some(last), 1));
    }
}

pub async fn messages_before_an_offset_come_in_pages(journal: &Journal) {
    let (log, key) = (journal.log(), user("u"));
    let last = fill(log, &key, 9, &ample()).await;
    let cases: [(u64, u32, &[u64], bool); 6] = [
        (u64::MAX, 4, &[6, 7, 8, 9], true),
        (6, 4, &[2, 3, 4, 5], true),
        (2, 4, &[1], false),
        (5, 4, &[1, 2, 3, 4], false),
        (1, 4, &[], false),
        (10, 1, &[9], true),
    ];
    for (offset, limit, wanted, is_cut) in cases {
        let page = ask(log, Read { limit, ..question(&key, before(offset)) }).await;
        assert_eq!((&offsets(&page)[..], page.is_cut), (wanted, is_cut), "before {offset}");
        assert_eq!((page.position, page.first), (Some(last), 1));
    }
}

pub async fn a_page_is_bounded_by_bytes(journal: &Journal) {
    let (log, key) = (journal.log(), room("r"));
    for size in [100, 200, 300, 400, 50] {
        append(log, &says(&key, &"x".repeat(size)), &ample()).await;
    }
    let cases: [(Part, u64, &[u64], bool); 7] = [
        (after(0, u64::MAX), 600, &[1, 2, 3], true),
        (after(0, u64::MAX), 599, &[1, 2], true),
        (after(0, 3), 600, &[1, 2, 3], false),
        (after(3, u64::MAX), 10, &[4], true),
        (before(u64::MAX), 449, &[5], true),
        (before(u64::MAX), 450, &[4, 5], true),
        (before(2), 0, &[1], false),
    ];
    for (part, bytes_max, wanted, is_cut) in cases {
        let page = ask(log, Read { bytes_max, ..question(&key, part) }).await;
        assert_eq!((&offsets(&page)[..], page.is_cut), (wanted, is_cut), "{part:?}, {bytes_max} bytes");
    }
}

pub async fn what_is_not_there_is_no_entry(journal: &Journal) {
    let (log, key) = (journal.log(), room("r"));
    position(log, &key).await;
    for part in [after(0, u64::MAX), after(u64::MAX, u64::MAX), after(7, 3), before(0), before(u64::MAX)] {
        let page = ask(log, question(&key, part)).await;
        assert_eq!((page.first, page.entries.len(), page.is_cut), (1, 0, false), "{part:?}");
    }
    fill(log, &key, 2, &ample()).await;
    for part in [after(2, u64::MAX), after(u64::MAX, u64::MAX), after(7, 3), before(0), before(1)] {
        let page = ask(log, question(&key, part)).await;
        assert_eq!((page.first, page.entries.len(), page.is_cut), (1, 0, false), "{part:?}");
    }
}

pub async fn every_question_has_its_answer(journal: &Journal) {
    let log = journal.log();
    let mut questions = Vec::new();
    for number in 0..150_u64 {
        let key = room(&format!("r{number}"));
        if number % 3 != 0 {
            append(log, &says(&key, &format!("{number}")), &ample()).await;
        }
        questions.push(question(&key, if number % 2 == 0 { Part::Position } else { before(u64::MAX) }));
    }
    let pages = log.read(&questions).await.unwrap();
    assert_eq!(pages.len(), questions.len());
    for (number, page) in (0..).zip(pages) {
        let is_begun = number % 3 != 0 || number % 2 == 0;
        let offset = u64::from(number % 3 != 0);
        assert_eq!(
            page.position.map(|Position { offset, .. }| offset),
            is_begun.then_some(offset),
            "{number}"
        );
        let wanted = if number % 2 != 0 && number % 3 != 0 { vec![number.to_string()] } else { Vec::new() };
        assert_eq!(texts(&page), wanted);
    }
    assert_eq!(log.read(&[]).await.unwrap(), []);
    assert_eq!(all(log, &room("r4")).await.entries.len(), 1);
}
