//! What a reader that lags gets of each class, and what is counted for what it does not get.

use std::{pin::pin, time::Duration};

use connect_node::tally::Counts;
use proptest::prelude::*;
use roomcast_types::Class;
use serde_json::Value;

use crate::{
    fixture::{Client, Node, until},
    message::{Message, Pushed},
};

const LONG: Duration = Duration::from_secs(600);

fn expiring(data: impl Into<String>, ttl: Duration) -> Message<'static> {
    Message { ttl: Some(ttl), ..Message::new(Class::Expiring, data) }
}

fn latest(key: &'static str, data: &str) -> Message<'static> {
    Message { key, ..Message::new(Class::Latest, data) }
}

/// Everything that was sent to this client and is no filler.
async fn rest(client: &mut Client) -> Vec<String> {
    let data = |frame: &Value| frame["content"]["data"].as_str().unwrap_or_default().to_owned();
    let frames = client.until_pong().await;
    frames.iter().map(data).filter(|data| !data.starts_with("fill")).collect()
}

async fn all_settled(pushed: &mut [Pushed]) -> Vec<Counts> {
    let mut counts = Vec::new();
    for push in pushed {
        counts.push(push.settled().await);
    }
    counts
}

#[tokio::test]
async fn a_lagging_reader_of_audio_gets_what_is_fresh_and_nothing_old() {
    let node = Node::start().await;
    let mut client = node.narrow_member("user_id=u&room_id=r").await;
    let mut fill = node.fill("r").await;
    let mut old = Vec::new();
    for number in 0..5 {
        old.push(node.push_message(expiring(format!("old {number}"), Duration::from_millis(200))).await);
    }
    for push in &mut old {
        let counts = push.settled().await;
        assert_eq!((counts.expired, counts.targets()), (1, 1), "counted while nobody reads");
    }
    let mut fresh = Vec::new();
    for number in 0..3 {
        fresh.push(node.push_message(expiring(format!("fresh {number}"), LONG)).await);
    }
    assert_eq!(rest(&mut client).await, ["fresh 0", "fresh 1", "fresh 2"]);
    for counts in all_settled(&mut fresh).await.iter().chain(&all_settled(&mut fill).await) {
        assert_eq!((counts.written, counts.targets()), (1, 1));
    }
    until("the metric of drops", || node.metric("pubsub_node_dropped_total", "expired") == 5.0).await;
    assert_eq!(node.metric("pubsub_node_dropped_total", ""), 5.0);
}

#[tokio::test]
async fn what_expires_makes_room_and_a_newcomer_without_room_is_dropped() {
    let node = Node::with(|setup| setup.config.queue_frames = 5).await;
    let mut client = node.narrow_member("user_id=u&room_id=r").await;
    let mut kept = node.fill("r").await;
    let mut audio = vec![
        node.push_message(expiring("audio 0", LONG)).await,
        node.push_message(expiring("audio 1", LONG)).await,
        node.push_message(expiring("audio 2", LONG)).await,
    ];
    // The queue holds the filler and these; each further message takes the place of the oldest that may go.
    for number in 0..4 {
        let text = Message::new(Class::Ordered, format!("text {number}"));
        kept.push(node.push_message(text).await);
    }
    for push in &mut audio {
        assert_eq!(push.settled().await.dropped_slow, 1);
    }
    for newcomer in [expiring("late audio", LONG), latest("k", "late state")] {
        let counts = node.push_message(newcomer).await.settled().await;
        assert_eq!((counts.dropped_slow, counts.targets()), (1, 1));
    }
    // Without a question of the client, for whose answer there is no room.
    let mut arrived = Vec::new();
    for _ in 0..kept.len() {
        arrived.push(client.pushed().await);
    }
    assert_eq!(arrived[kept.len() - 4..], ["text 0", "text 1", "text 2", "text 3"]);
    assert!(client.until_pong().await.is_empty());
    for counts in all_settled(&mut kept).await {
        assert_eq!(counts.written, 1);
    }
    until("the metric of drops", || node.metric("pubsub_node_dropped_total", "dropped_slow") == 5.0).await;
    assert_eq!(node.metric("pubsub_node_closes_total", ""), 0.0);
}

#[tokio::test]
async fn of_states_the_newest_of_each_key_and_room_is_kept() {
    let node = Node::start().await;
    let mut client = node.narrow_member("user_id=u&room_id=r&room_id=s").await;
    node.fill("r").await;
    let mut states = Vec::new();
    for (key, data) in
        [("a", "a 1"), ("b", "b 1"), ("a", "a 2"), ("", "none 1"), ("a", "a 3"), ("", "none 2")]
    {
        states.push(node.push_message(latest(key, data)).await);
    }
    let other_room = Message { room: "s", ..latest("a", "a of s") };
    states.push(node.push_message(other_room).await);
    assert_eq!(rest(&mut client).await, ["b 1", "a 3", "none 2", "a of s"]);
    let superseded: Vec<_> =
        all_settled(&mut states).await.iter().map(|counts| (counts.superseded, counts.written)).collect();
    assert_eq!(superseded, [(1, 0), (0, 1), (1, 0), (1, 0), (0, 1), (0, 1), (0, 1)]);
    until("the metric of drops", || node.metric("pubsub_node_dropped_total", "superseded") == 3.0).await;
}

#[tokio::test]
async fn what_has_expired_before_its_walk_reaches_nobody() {
    let node = Node::with(|setup| setup.shards = 2).await;
    let mut clients = Vec::new();
    for user in 0..4 {
        clients.push(node.member(&format!("user_id=u{user}&room_id=r")).await);
    }
    for class in [Class::Expiring, Class::Latest] {
        let over = Message { ttl: Some(Duration::ZERO), ..Message::new(class, "over") };
        let counts = node.push_message(over).await.settled().await;
        assert_eq!((counts.expired, counts.targets()), (4, 4));
    }
    for client in &mut clients {
        assert!(client.until_pong().await.is_empty());
    }
}

/// One step of the property below.
#[derive(Debug, Clone)]
enum Step {
    Push { class: Class, bytes: usize, key: &'static str, ttl: Duration },
    Read(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let class = prop_oneof![
        4 => Just(Class::Ordered),
        1 => Just(Class::Critical),
        3 => Just(Class::Expiring),
        3 => Just(Class::Latest),
    ];
    let key = prop_oneof![Just("a"), Just("b")];
    let ttl = prop_oneof![Just(Duration::from_millis(20)), Just(LONG)];
    let push = (class, 1usize..20_000, key, ttl).prop_map(|(class, bytes, key, ttl)| Step::Push {
        class,
        bytes,
        key,
        ttl,
    });
    prop_oneof![5 => push, 2 => (1usize..12).prop_map(Step::Read)]
}

/// What one run of steps came to: numbers of the messages that arrived, whether the session is open, and for each
/// message whether it must not be missing, and its counts.
struct Run {
    arrived: Vec<usize>,
    is_open: bool,
    messages: Vec<(bool, Counts)>,
}

async fn run(steps: Vec<Step>) -> Run {
    let node = Node::with(|setup| {
        setup.config.queue_bytes = 100_000;
        setup.config.queue_frames = 24;
    })
    .await;
    let mut client = node.narrow_member("user_id=u&room_id=r").await;
    let key = node.hub.session("u").await.key;
    let number = |frame: &Value| frame["content"]["data"].as_str()?.split(' ').next()?.parse::<usize>().ok();
    let (mut arrived, mut pushed) = (Vec::new(), Vec::new());
    let mut written = 0;
    for step in steps {
        match step {
            Step::Push { class, bytes, key, ttl } => {
                let data = format!("{} {}", pushed.len(), "x".repeat(bytes));
                let ttl = class.may_be_dropped().then_some(ttl);
                let message = Message { key, ttl, ..Message::new(class, data) };
                let mut push = node.push_message(message).await;
                written += push.walked().await.written as usize;
                pushed.push((!class.may_be_dropped(), push));
            }
            // Only what is known to be on the wire: the reader lags, and never waits for more.
            Step::Read(frames) => {
                for _ in 0..frames.min(written.saturating_sub(arrived.len())) {
                    arrived.extend(number(&client.json().await));
                }
            }
        }
    }
    let is_open = node.hub.times_closed(key) == 0;
    let mut settling = pin!(async move {
        let mut messages = Vec::new();
        for (must_not_miss, mut push) in pushed {
            messages.push((must_not_miss, push.settled().await));
        }
        messages
    });
    // Reads all that waits before it asks anything: there may be no room for the answer.
    let (mut messages, mut is_over) = (None, false);
    while messages.is_none() || (!is_open && !is_over) {
        tokio::select! {
            settled = &mut settling, if messages.is_none() => messages = Some(settled),
            frame = client.next_text(), if !is_over => match frame {
                Some(frame) => arrived.extend(number(&frame)),
                None => is_over = true,
            },
        }
    }
    if is_open {
        arrived.extend(client.until_pong().await.iter().filter_map(number));
    }
    Run { arrived, is_open, messages: messages.unwrap() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn an_open_session_misses_nothing_ordered_and_every_target_has_one_outcome(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let run = runtime.block_on(run(steps));
        let expected: Vec<usize> = (0..run.messages.len()).filter(|number| run.messages[*number].0).collect();
        let ordered: Vec<usize> = run.arrived.iter().copied().filter(|number| run.messages[*number].0).collect();
        if run.is_open {
            prop_assert_eq!(&ordered, &expected);
            let written: u64 = run.messages.iter().map(|(_, counts)| counts.written).sum();
            prop_assert_eq!(written as usize, run.arrived.len(), "what is written arrives");
        } else {
            prop_assert!(expected.starts_with(&ordered), "{ordered:?} has a gap");
        }
        prop_assert!(run.arrived.is_sorted());
        let mut was_closed = false;
        for (number, (_, counts)) in run.messages.iter().enumerate() {
            was_closed |= counts.targets() == 0;
            prop_assert_eq!(counts.targets(), u64::from(!was_closed), "{}: {:?}", number, counts);
            prop_assert_eq!(counts.settled(), counts.targets());
            if counts.written == 0 && run.is_open {
                prop_assert!(!run.arrived.contains(&number), "{} arrived: {:?}", number, counts);
            }
        }
    }
}
