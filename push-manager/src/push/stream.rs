//! `PushStream`: many pushes over one call. Each is answered when it is done; those to one target keep their order.
//!
//! A push that needs nothing but this process goes to the lanes where it is read, without a task or timer of its own. One
//! that has to wait for a store or a controller waits apart, and further ones to its target wait behind it.

mod turns;
mod waiting;

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use futures_util::{FutureExt, Stream, StreamExt, stream::FuturesUnordered};
use roomcast_proto::pubsub::{
    BroadcastRequest, PushStreamReply, PushStreamRequest, PushToRoomRequest, PushToUserRequest,
    PushToUsersRequest, Refusal, push_stream_reply::Result as Answer, push_stream_request::Push as Asked,
};
use roomcast_types::Fault;
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::{Instant, sleep_until},
};

use self::{
    turns::{Place, Turns},
    waiting::Waiting,
};
use super::{Call, Pusher, Started, record::Reached, request::Push};
use crate::metrics::Kind;

/// Pushes of one stream that are under way, or whose answers wait to be sent; further ones stay on the connection.
const UNDER_WAY_MAX: usize = 4_096;
/// Pushes that are read before answers get their turn.
const READ_MAX: usize = 64;

/// A push that was read.
struct Read {
    request: u64,
    push: Result<Push, Fault>,
    kind: Kind,
}

/// A push that waits for a store or a controller, until it is on the lanes or refused.
type Starting<'a> = Pin<Box<dyn Future<Output = (Option<Place>, u64, Started<'a>)> + Send + 'a>>;

/// The pushes of one call.
struct Serving<'a> {
    pusher: &'a Pusher,
    call: Call,
    starting: FuturesUnordered<Starting<'a>>,
    turns: Turns<Read>,
    /// Those on the lanes.
    waiting: Waiting<'a>,
    reached: Arc<Reached>,
    answers: VecDeque<PushStreamReply>,
    /// This process ends: what is known is the answer.
    has_ended: bool,
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
        let (mut requests, mut ended) = (pin!(requests), pin!(self.receipts.ended()));
        let mut serving = Serving::new(self, traceparent);
        let reached = serving.reached.clone();
        let mut is_open = true;
        loop {
            serving.answer_reached();
            is_open &= serving.hand_over(replies);
            if !is_open && serving.is_empty() {
                return serving.has_ended;
            }
            let (may_read, due) = (is_open && serving.has_place(), serving.waiting.due());
            tokio::select! {
                biased;
                // The place is given back: the answers take it in the next round.
                _ = replies.reserve(), if !serving.answers.is_empty() => {}
                () = reached.come() => {}
                Some((place, request, started)) = serving.starting.next(), if !serving.starting.is_empty() => {
                    serving.started(request, started);
                    serving.start_next(place).await;
                }
                () = &mut ended, if !serving.has_ended => {
                    is_open = false;
                    serving.end();
                }
                request = requests.next(), if may_read => {
                    let (mut next, mut left) = (Some(request), READ_MAX);
                    while let Some(request) = next {
                        match request {
                            Some(Ok(request)) => serving.take(request, bytes_max).await,
                            Some(Err(_)) | None => is_open = false,
                        }
                        left -= 1;
                        let goes_on = is_open && left > 0 && serving.has_place();
                        next = if goes_on { requests.next().now_or_never() } else { None };
                    }
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => serving.answer_due(),
            }
        }
    }
}

impl<'a> Serving<'a> {
    fn new(pusher: &'a Pusher, traceparent: &Arc<str>) -> Self {
        Self {
            pusher,
            call: Call { traceparent: traceparent.clone(), deadline: None },
            starting: FuturesUnordered::new(),
            turns: Turns::default(),
            waiting: Waiting::default(),
            reached: Arc::default(),
            answers: VecDeque::new(),
            has_ended: false,
        }
    }

    fn under_way(&self) -> usize {
        self.starting.len() + self.turns.waiting() + self.waiting.len() + self.answers.len()
    }

    fn has_place(&self) -> bool {
        self.under_way() < UNDER_WAY_MAX
    }

    fn is_empty(&self) -> bool {
        self.under_way() == 0
    }

    /// A push was read: it starts, unless an earlier one to the same target has not come as far as the lanes.
    async fn take(&mut self, asked: PushStreamRequest, bytes_max: usize) {
        let PushStreamRequest { request, push } = asked;
        let (push, kind) = checked(push, bytes_max);
        let read = Read { request, push, kind };
        if let Some(read) = self.turns.wait(read, Read::place) {
            self.start(read).await;
        }
    }

    /// Starts a push; whether it is on the lanes, or refused, by then.
    async fn start(&mut self, read: Read) -> bool {
        let place = read.place();
        let Read { request, push, kind } = read;
        let mut starting = Box::pin(self.pusher.start(push, kind, self.call.clone()));
        match poll_fn(|context| Poll::Ready(starting.as_mut().poll(context))).await {
            Poll::Ready(started) => {
                self.started(request, started);
                true
            }
            Poll::Pending => {
                if let Some(place) = &place {
                    self.turns.begin(place.clone());
                }
                self.starting.push(Box::pin(async move { (place, request, starting.await) }));
                false
            }
        }
    }

    /// The push that had a place is on the lanes, or refused: those behind it follow.
    async fn start_next(&mut self, place: Option<Place>) {
        let Some(place) = place else { return };
        while let Some(read) = self.turns.next(&place) {
            if !self.start(read).await {
                return;
            }
        }
    }

    fn started(&mut self, request: u64, started: Started<'a>) {
        let number = self.waiting.next_number();
        match &started.sent {
            Ok(sent) if !self.has_ended && sent.record.tell(sent.level, number, &self.reached) => {
                self.waiting.add(request, sent.wait_until, started);
            }
            _ => self.answer(request, started),
        }
    }

    fn answer(&mut self, request: u64, started: Started<'a>) {
        let result = match self.pusher.answer(started) {
            Ok(reply) => Answer::Reply(reply),
            Err(fault) => Answer::Error(Refusal::from(&fault)),
        };
        self.answers.push_back(PushStreamReply { request, result: Some(result) });
    }

    /// Answers those that have come as far as they wait for.
    fn answer_reached(&mut self) {
        for number in self.reached.take() {
            // Its time may have run out before.
            if let Some((request, started)) = self.waiting.remove(number) {
                self.answer(request, started);
            }
        }
    }

    /// Answers those whose time has run out.
    fn answer_due(&mut self) {
        for (request, started) in self.waiting.take_due(Instant::now()) {
            self.answer(request, started);
        }
    }

    /// Answers all with what is known, now and from now on.
    fn end(&mut self) {
        self.has_ended = true;
        for (request, started) in self.waiting.take_all() {
            self.answer(request, started);
        }
    }

    /// Hands answers on as long as there is room for them; false when nobody takes any.
    fn hand_over<E>(&mut self, replies: &mpsc::Sender<Result<PushStreamReply, E>>) -> bool {
        while !self.answers.is_empty() {
            match replies.try_reserve() {
                Ok(place) => place.send(Ok(self.answers.pop_front().expect("is checked"))),
                Err(TrySendError::Full(())) => break,
                Err(TrySendError::Closed(())) => {
                    self.answers.clear();
                    return false;
                }
            }
        }
        true
    }
}

impl Read {
    fn place(&self) -> Option<Place> {
        self.push.as_ref().ok().and_then(Place::of)
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
