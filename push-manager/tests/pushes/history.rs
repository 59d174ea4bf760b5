//! Reading logs: parts for nodes, pages for business servers.

use roomcast_proto::pubsub::{
    GetHistoryRequest, LogQuery, PushOptions, ReadLogRequest, get_history_request, log_answer::State,
    log_query::Log, room_card,
};
use roomcast_types::Code;

use crate::{node::FakeNode, stage::Stage};

fn query(epoch: u64, after: u64, up_to: u64) -> LogQuery {
    let log = Some(Log::RoomId("blue".into()));
    LogQuery { log, epoch, after, up_to, limit: 100, bytes_max: 1 << 20, ..LogQuery::default() }
}

fn page(after: Option<u64>, before: Option<u64>, limit: u32) -> GetHistoryRequest {
    let log = Some(get_history_request::Log::RoomId("blue".into()));
    GetHistoryRequest { log, after, before, limit }
}

async fn stage(node: &FakeNode) -> Stage {
    let stage = Stage::configured(&[node], &["log.recent_messages=5"]).await;
    node.room("blue", 1).await;
    stage
}

#[tokio::test]
async fn a_node_gets_all_of_a_range_or_hears_why_not() {
    let node = FakeNode::start("one").await;
    let stage = stage(&node).await;
    let begin = stage.read_log(query(0, 0, 0)).await;
    assert_eq!((begin.state(), begin.offset), (State::Complete, 0));
    assert_ne!(begin.epoch, 0, "a log without a position gets one");
    for text in ["a", "b", "c", "d", "e", "f", "g"] {
        stage.push_to_room("blue", text).await.unwrap();
    }
    let epoch = begin.epoch;
    let range = stage.read_log(query(epoch, 3, 6)).await;
    let told: Vec<_> = range.messages.iter().map(|deliver| deliver.offset).collect();
    assert_eq!((range.state(), range.epoch, range.offset, told), (State::Complete, epoch, 7, vec![4, 5, 6]));
    let deliver = &range.messages[0];
    assert_eq!((deliver, deliver.epoch), (&node.deliveries()[3], epoch), "it is what went over the lane");

    for (query, state) in [
        (query(epoch, 7, u64::MAX), State::Complete),
        // Of seven, five are kept.
        (query(epoch, 1, 4), State::Lost),
        (query(epoch ^ 1, 3, 6), State::Lost),
        (LogQuery { limit: 2, ..query(epoch, 3, 6) }, State::TooMuch),
        (LogQuery { bytes_max: 9, ..query(epoch, 3, 6) }, State::TooMuch),
        (LogQuery { policy: room_card::Log::DurableLog.into(), ..query(epoch, 3, 6) }, State::Lost),
    ] {
        let answer = stage.read_log(query.clone()).await;
        assert_eq!((answer.state(), answer.messages.len()), (state, 0), "{query:?}");
        assert_ne!(answer.epoch, 0, "{query:?}");
    }
    stage.logs.recent.set_available(false);
    assert_eq!(stage.read_log(query(epoch, 3, 6)).await.state(), State::Unavailable);
}

#[tokio::test]
async fn what_has_expired_is_left_out() {
    let node = FakeNode::start("one").await;
    let stage = stage(&node).await;
    let epoch = stage.read_log(query(0, 0, 0)).await.epoch;
    let short = PushOptions { ttl_ms: Some(1), key: "k".into(), log: Some(true), ..PushOptions::default() };
    stage.room_with("blue", "a", short.clone()).await.unwrap();
    stage.room_with("blue", "b", PushOptions { ttl_ms: Some(60_000), ..short }).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    let answer = stage.read_log(query(epoch, 0, u64::MAX)).await;
    let [deliver] = answer.messages.try_into().unwrap();
    assert_eq!((answer.offset, deliver.offset), (2, 2));
    assert!((1..=60_000).contains(&deliver.ttl_ms.unwrap()), "{:?}", deliver.ttl_ms);
}

#[tokio::test]
async fn a_log_that_others_know_more_of_begins_a_new_epoch() {
    let node = FakeNode::start("one").await;
    let stage = stage(&node).await;
    stage.push_to_room("blue", "a").await.unwrap();
    let dump = stage.logs.recent.dump();
    let last = stage.push_to_room("blue", "b").await.unwrap();
    stage.logs.recent.restore(dump);
    let epoch = u64::from_str_radix(&last.epoch, 16).unwrap();
    let answer = stage.read_log(query(epoch, 2, u64::MAX)).await;
    assert_eq!((answer.state(), answer.offset), (State::Lost, 0));
    assert_ne!(answer.epoch, epoch);
    // What a client says may be made up: a log is not renewed again and again for it.
    let again = stage.read_log(query(answer.epoch, 9, u64::MAX)).await;
    assert_eq!((again.state(), again.epoch), (State::Lost, answer.epoch));
    let next = stage.push_to_room("blue", "c").await.unwrap();
    assert_eq!((u64::from_str_radix(&next.epoch, 16).unwrap(), next.offset), (answer.epoch, 1));

    stage.logs.recent.flush();
    let lost = stage.read_log(query(answer.epoch, 1, u64::MAX)).await;
    assert_eq!((lost.state(), lost.offset), (State::Lost, 0));
    assert!(lost.epoch != 0 && lost.epoch != answer.epoch, "whoever lost it goes on from there");
}

#[tokio::test]
async fn too_many_or_bad_questions_are_named() {
    let stage = Stage::with(&[]).await;
    let nameless = LogQuery { log: None, ..query(0, 0, 0) };
    let long = LogQuery { log: Some(Log::UserId("u".repeat(129))), ..query(0, 0, 0) };
    let inbox =
        LogQuery { log: Some(Log::InboxUserId("u".into())), after_message: vec![1], ..LogQuery::default() };
    for (queries, says) in [
        (vec![query(0, 0, 0); 257], "queries has 257 entries; at most 256"),
        (vec![query(0, 0, 0), nameless], "queries[1] names no log"),
        (vec![long], "queries[0]: user_id"),
        (vec![inbox], "queries[0].after_message has not 16 bytes"),
    ] {
        let status = stage.client.clone().read_log(ReadLogRequest { queries }).await.unwrap_err();
        assert!(status.message().starts_with("BAD_REQUEST: ") && status.message().contains(says), "{status}");
    }
}

#[tokio::test]
async fn a_history_is_paged_both_ways() {
    let node = FakeNode::start("one").await;
    let stage = stage(&node).await;
    for text in ["a", "b", "c", "d", "e", "f", "g"] {
        stage.push_to_room("blue", text).await.unwrap();
    }
    let texts = |from: u64, texts: &str| -> Vec<(u64, String)> {
        (from..).zip(texts.chars().map(String::from)).collect()
    };
    for (request, messages, has_more) in [
        (page(None, None, 0), texts(3, "cdefg"), false),
        (page(None, None, 2), texts(6, "fg"), true),
        (page(None, Some(6), 2), texts(4, "de"), true),
        (page(None, Some(4), 2), texts(3, "c"), false),
        (page(Some(3), None, 2), texts(4, "de"), true),
        (page(Some(5), None, 2), texts(6, "fg"), false),
        (page(Some(7), None, 2), Vec::new(), false),
    ] {
        assert_eq!(stage.history(request.clone()).await.unwrap(), (messages, has_more), "{request:?}");
    }
    let fault = stage.history(page(Some(1), Some(2), 0)).await.unwrap_err();
    assert!(fault.message.contains("after or before, not both"), "{fault}");
    let fault = stage.history(page(None, None, 1_001)).await.unwrap_err();
    assert!(fault.message.contains("limit is 1001"), "{fault}");
    let unknown = Some(get_history_request::Log::RoomId("nowhere".into()));
    let unknown = GetHistoryRequest { log: unknown, ..GetHistoryRequest::default() };
    assert_eq!(stage.history(unknown).await.unwrap_err().code, Code::NotFound);
    stage.logs.recent.set_available(false);
    assert_eq!(stage.history(page(None, None, 0)).await.unwrap_err().code, Code::Unavailable);
}
