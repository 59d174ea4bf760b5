//! Streams of pushes: each is answered, and the end of a stream says no more than is known.

use std::time::Duration;

use roomcast_client::{Content, ContentType, Error, PushOptions, Pusher};
use roomcast_types::{Code, Fault};

use super::Fake;

#[tokio::test]
async fn pushes_of_a_stream_are_answered_one_by_one() {
    let served = Fake::accepting().serve();
    let stream = Pusher::new([served.address.to_string()]).unwrap().stream().await.unwrap();
    let options = PushOptions::default();
    let push = |text: &'static str| {
        stream.push_to_room("room-001", Content::text(ContentType::Text, text), &options)
    };
    let (hanging, answered) =
        tokio::join!(tokio::time::timeout(Duration::from_millis(200), push("hang")), async {
            (push("a").await, push("b").await)
        });
    assert!(hanging.is_err());
    assert_eq!(answered.0.unwrap().message_id, "01");
    assert!(answered.1.is_ok());
    let refusing = Fake::new(|| Err(Fault::new(Code::NotFound, "room room-001 was never created"))).serve();
    let stream = Pusher::new([refusing.address.to_string()]).unwrap().stream().await.unwrap();
    let content = Content::text(ContentType::Text, "x");
    let error = stream.push_to_room("room-001", content, &options).await.unwrap_err();
    assert_eq!(error.fault().unwrap().code, Code::NotFound);
}

#[tokio::test]
async fn at_the_end_of_a_stream_nobody_is_told_more_than_is_known() {
    let options = PushOptions::default();
    let text = |text: &'static str| Content::text(ContentType::Text, text);
    // A push-manager that stops has answered what it took.
    let served = Fake::accepting().serve();
    let stream = Pusher::new([served.address.to_string()]).unwrap().stream().await.unwrap();
    let (hanging, ending) = tokio::join!(
        stream.push_to_room("r", text("hang"), &options),
        stream.push_to_room("r", text("end"), &options),
    );
    for error in [hanging.unwrap_err(), ending.unwrap_err()] {
        assert_eq!(error.fault().unwrap().code, Code::Unavailable, "{error}");
    }
    let late = stream.push_to_room("r", text("a"), &options).await.unwrap_err();
    assert!(matches!(late, Error::Unreachable { .. }), "{late}");
    // One that dies may have accepted it.
    let stream = Pusher::new([served.address.to_string()]).unwrap().stream().await.unwrap();
    let waiting = stream.clone();
    let hanging = tokio::spawn(async move {
        waiting.push_to_room("r", text("hang"), &PushOptions::default()).await.unwrap_err()
    });
    stream.push_to_room("r", text("a"), &options).await.unwrap();
    served.stop().await;
    let error = hanging.await.unwrap();
    assert!(error.is_outcome_unknown(), "{error}");
}
