//! `PushStream`: many pushes over one call. Each is answered when it is done; those to one target keep their order.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use futures_util::{Stream, StreamExt, stream::FuturesUnordered};
use roomcast_proto::pubsub::{
    BroadcastRequest, PushReply, PushStreamReply, PushStreamRequest, PushToRoomRequest, PushToUserRequest,
    PushToUsersRequest, Refusal, push_stream_reply::Result as Answer, push_stream_request::Push as Asked,
};
use roomcast_types::{Fault, RoomId, UserId};
use tokio::{
    pin,
    sync::{mpsc, oneshot},
};

use super::{
    Call, Pusher,
    request::{Push, Target},
};
use crate::metrics::Kind;

/// Pushes of one stream that are under way, or whose answers wait to be sent; further ones stay on the connection.
const UNDER_WAY_MAX: usize = 4_096;

/// What goes out in order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Place {
    Room(RoomId),
    User(UserId),
    All,
}

/// The last push to each place that has one under way.
#[derive(Debug, Default)]
struct Turns(HashMap<Place, Last>);

#[derive(Debug)]
struct Last {
    number: u64,
    /// Sender: the push; gone when it is on the lanes, or refused.
    sent: oneshot::Receiver<()>,
}

/// What a push of a stream came to.
struct Done {
    number: u64,
    place: Option<Place>,
    reply: PushStreamReply,
}

impl Turns {
    /// A push comes to a place: what it waits for, and what tells the next one.
    fn take(&mut self, place: &Place, number: u64) -> (Option<oneshot::Receiver<()>>, oneshot::Sender<()>) {
        let (tell, sent) = oneshot::channel();
        let before = self.0.insert(place.clone(), Last { number, sent });
        (before.map(|last| last.sent), tell)
    }

    fn end(&mut self, place: &Place, number: u64) {
        if self.0.get(place).is_some_and(|last| last.number == number) {
            self.0.remove(place);
        }
    }
}

impl Pusher {
    /// Carries out the pushes of a stream until it ends, whoever sent them is gone, or this process ends; whether it is the
    /// last. What was taken is carried out and answered in any case.
    pub async fn push_stream<E>(
        &self,
        requests: impl Stream<Item = Result<PushStreamRequest, E>>,
        replies: &mpsc::Sender<Result<PushStreamReply, E>>,
        traceparent: &Arc<str>,
        bytes_max: usize,
    ) -> bool {
        let ended = self.receipts.ended();
        pin!(requests, ended);
        let (mut turns, mut number) = (Turns::default(), 0);
        let mut pushes = FuturesUnordered::new();
        let mut answers = VecDeque::new();
        let (mut is_open, mut has_ended) = (true, false);
        loop {
            let has_place = is_open && pushes.len() + answers.len() < UNDER_WAY_MAX;
            tokio::select! {
                biased;
                place = replies.reserve(), if !answers.is_empty() => match place {
                    Ok(place) => place.send(Ok(answers.pop_front().expect("is checked"))),
                    Err(_) => {
                        answers.clear();
                        is_open = false;
                    }
                },
                Some(Done { number, place, reply }) = pushes.next(), if !pushes.is_empty() => {
                    if let Some(place) = place {
                        turns.end(&place, number);
                    }
                    answers.push_back(reply);
                }
                () = &mut ended, if is_open => (is_open, has_ended) = (false, true),
                request = requests.next(), if has_place => match request {
                    Some(Ok(request)) => {
                        number += 1;
                        pushes.push(self.push_of_stream(request, number, &mut turns, traceparent, bytes_max));
                    }
                    Some(Err(_)) | None => is_open = false,
                },
                else => return has_ended,
            }
        }
    }

    fn push_of_stream<'a>(
        &'a self,
        asked: PushStreamRequest,
        number: u64,
        turns: &mut Turns,
        traceparent: &Arc<str>,
        bytes_max: usize,
    ) -> impl Future<Output = Done> + use<'a> {
        let PushStreamRequest { request, push } = asked;
        let (push, kind) = checked(push, bytes_max);
        let place = push.as_ref().ok().and_then(place_of);
        let (before, sent) = match &place {
            Some(place) => {
                let (before, sent) = turns.take(place, number);
                (before, Some(sent))
            }
            None => (None, None),
        };
        let call = Call { traceparent: traceparent.to_string(), deadline: None, sent };
        async move {
            if let Some(before) = before {
                // Gone or told: it is on the lanes, or will never be.
                let _ = before.await;
            }
            let result = self.push(push, kind, call).await;
            Done { number, place, reply: PushStreamReply { request, result: Some(answer(result)) } }
        }
    }
}

fn checked(push: Option<Asked>, bytes_max: usize) -> (Result<Push, Fault>, Kind) {
    match push {
        Some(Asked::ToRoom(PushToRoomRequest { room_id, content, options })) => {
            (Push::to_room(&room_id, content, options, bytes_max), Kind::Room)
        }
        Some(Asked::ToUser(PushToUserRequest { user_id, content, options })) => {
            (Push::to_user(&user_id, content, options, bytes_max), Kind::Users)
        }
        Some(Asked::ToUsers(PushToUsersRequest { user_ids, content, options })) => {
            (Push::to_users(&user_ids, content, options, bytes_max), Kind::Users)
        }
        Some(Asked::Broadcast(BroadcastRequest { content, options })) => {
            (Push::to_all(content, options, bytes_max), Kind::All)
        }
        None => {
            let message = "push is missing; it takes to_room, to_user, to_users or broadcast";
            (Err(Fault::bad_request(message)), Kind::All)
        }
    }
}

fn place_of(push: &Push) -> Option<Place> {
    match &push.target {
        Target::Room(room_id) => Some(Place::Room(room_id.clone())),
        Target::Users(users) => match users.as_slice() {
            [one] => Some(Place::User(one.clone())),
            _ => None,
        },
        Target::All => Some(Place::All),
    }
}

fn answer(result: Result<PushReply, Fault>) -> Answer {
    match result {
        Ok(reply) => Answer::Reply(reply),
        Err(fault) => Answer::Error(Refusal::from(&fault)),
    }
}
