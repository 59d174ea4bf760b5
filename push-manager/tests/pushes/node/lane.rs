//! What the node answers on a lane, as node.proto says.

use std::{
    pin::Pin,
    sync::{Arc, MutexGuard},
};

use roomcast_proto::pubsub::{
    Deliver, GetNodeStatsRequest, Interest, KickReply, KickRequest, LaneDown, LaneHelloReply, LanePing,
    LaneUp, NodeStats, Outcome, RoomInterest, SessionOutcome, UpItem, UserInterest,
    connect_node_service_server::ConnectNodeService, deliver, down_item, interest::Snapshot,
    room_card::Membership, session_outcome::Kind, up_item,
};
use roomcast_types::MessageId;
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::{Inner, State};

impl State {
    pub(super) fn sessions(&self) -> u64 {
        self.users.values().sum::<u64>().max(self.rooms.values().copied().max().unwrap_or(0))
    }

    pub(super) fn queue(&mut self, item: up_item::Item) -> u64 {
        self.up_number += 1;
        self.unacknowledged.push((self.up_number, UpItem { item: Some(item) }));
        self.up_number
    }

    pub(super) fn room(&self, room_id: &str, sessions: u64) -> RoomInterest {
        let is_durable = self.durable.contains(room_id);
        let (log, on_log_failure) = self.logs.get(room_id).copied().unwrap_or_default();
        RoomInterest {
            room_id: room_id.to_owned(),
            sessions,
            card_version: 1,
            withdrawn: false,
            membership: if is_durable { Membership::Durable } else { Membership::Follow }.into(),
            log: log.into(),
            on_log_failure: on_log_failure.into(),
        }
    }

    fn snapshot(&self) -> Interest {
        let room = |(room_id, sessions): (&String, &u64)| self.room(room_id, *sessions);
        let user = |(user_id, sessions): (&String, &u64)| UserInterest {
            user_id: user_id.clone(),
            sessions: *sessions,
        };
        Interest {
            snapshot: Snapshot::Last.into(),
            rooms: self.rooms.iter().map(room).collect(),
            users: self.users.iter().map(user).collect(),
            sessions: self.sessions(),
        }
    }

    fn process(&mut self, number: u64, item: Option<down_item::Item>) {
        if number <= self.seen {
            self.repeats += 1;
            return;
        }
        assert_eq!(number, self.seen + 1, "numbers come without a gap");
        self.seen = number;
        match item {
            Some(down_item::Item::Deliver(deliver)) => {
                // What was walked is not walked again.
                let outcome = match self.walked.get(&deliver.message_id) {
                    Some(walked) => Outcome { repeat: true, ..walked.clone() },
                    None => self.answer.clone().unwrap_or_else(|| self.written(&deliver)),
                };
                self.walked.entry(deliver.message_id.clone()).or_insert_with(|| outcome.clone());
                let message_id = MessageId::parse(&deliver.message_id).unwrap().to_bytes().to_vec();
                self.delivered.push(deliver);
                if !self.withholds_outcomes {
                    self.queue(up_item::Item::Outcome(Outcome { message_id: message_id.into(), ..outcome }));
                }
            }
            Some(down_item::Item::RoomChanged(card)) => self.cards.push(card),
            None => {}
        }
    }

    /// Every session takes it.
    fn written(&self, deliver: &Deliver) -> Outcome {
        let mut sessions = Vec::new();
        let written = match deliver.target.as_ref().unwrap() {
            deliver::Target::RoomId(room_id) => self.rooms.get(room_id).copied().unwrap_or(0),
            deliver::Target::All(_) => self.sessions(),
            deliver::Target::Users(users) => {
                for (index, user_id) in users.user_ids.iter().enumerate() {
                    for _ in 0..self.users.get(user_id).copied().unwrap_or(0) {
                        let (user, session_id) = (index as u32, vec![sessions.len() as u8; 16]);
                        sessions.push(SessionOutcome {
                            user,
                            session_id: session_id.into(),
                            kind: Kind::Written.into(),
                        });
                    }
                }
                sessions.len() as u64
            }
        };
        Outcome { targets: written, written, sessions, ..Outcome::default() }
    }
}

impl Inner {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let result = change(&mut self.lock());
        self.changes.send_modify(|changes| *changes += 1);
        result
    }

    async fn thawed(&self) {
        self.is_frozen.subscribe().wait_for(|is_frozen| !is_frozen).await.unwrap();
    }

    fn greet(&self, first: &LaneDown) -> LaneUp {
        let hello = first.hello.clone().expect("the first message is a hello");
        self.change(|state| {
            let fresh = !state.knows_lane;
            state.knows_lane = true;
            state.links += 1;
            let up_seen = if hello.node_incarnation == self.incarnation { hello.up_seen } else { 0 };
            state.unacknowledged.retain(|(number, _)| *number > up_seen);
            let snapshot = state.snapshot();
            state.queue(up_item::Item::Interest(snapshot));
            let reply = LaneHelloReply {
                node_id: self.node_id.clone(),
                incarnation: self.incarnation,
                down_seen: state.seen,
                fresh,
            };
            LaneUp { hello: Some(reply), ..LaneUp::default() }
        })
    }

    fn take_in(&self, message: LaneDown) -> (u64, Option<LanePing>) {
        self.change(|state| {
            state.unacknowledged.retain(|(number, _)| *number > message.up_ack);
            for (number, item) in (message.first_number..).zip(message.items) {
                state.process(number, item.item);
            }
            (if state.withholds_acks { 0 } else { state.seen }, message.ping)
        })
    }

    /// Items from number `from` on.
    fn unsent(&self, from: u64) -> LaneUp {
        let state = self.lock();
        let items: Vec<_> =
            state.unacknowledged.iter().filter(|(number, _)| *number >= from).cloned().collect();
        let first_number = items.first().map_or(0, |(number, _)| *number);
        LaneUp { first_number, items: items.into_iter().map(|(_, item)| item).collect(), ..LaneUp::default() }
    }
}

pub(super) struct Service(pub(super) Arc<Inner>);

type UpStream = Pin<Box<dyn Stream<Item = Result<LaneUp, Status>> + Send>>;

#[tonic::async_trait]
impl ConnectNodeService for Service {
    async fn lane(&self, request: Request<Streaming<LaneDown>>) -> Result<Response<UpStream>, Status> {
        let inner = self.0.clone();
        inner.thawed().await;
        let (sender, receiver) = tokio::sync::mpsc::channel(64);
        let cut = inner.cut.lock().unwrap().clone();
        tokio::spawn(async move {
            let broken = sender.clone();
            tokio::select! {
                _ = lane(inner, request.into_inner(), sender) => {}
                () = cut.cancelled() => { let _ = broken.send(Err(Status::aborted("cut"))).await; }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn get_node_stats(&self, _: Request<GetNodeStatsRequest>) -> Result<Response<NodeStats>, Status> {
        Err(Status::unimplemented("fake"))
    }

    async fn kick(&self, _: Request<KickRequest>) -> Result<Response<KickReply>, Status> {
        Err(Status::unimplemented("fake"))
    }
}

async fn lane(
    inner: Arc<Inner>,
    mut down: Streaming<LaneDown>,
    up: tokio::sync::mpsc::Sender<Result<LaneUp, Status>>,
) -> Option<()> {
    let first = down.next().await?.ok()?;
    up.send(Ok(inner.greet(&first))).await.ok()?;
    let mut changes = inner.changes.subscribe();
    let mut next = 1;
    loop {
        inner.thawed().await;
        let message = inner.unsent(next);
        if !message.items.is_empty() {
            next = message.first_number + message.items.len() as u64;
            up.send(Ok(message)).await.ok()?;
        }
        tokio::select! {
            message = down.next() => {
                inner.thawed().await;
                let (down_ack, pong) = inner.take_in(message?.ok()?);
                let items = inner.unsent(next);
                next = next.max(items.first_number + items.items.len() as u64);
                up.send(Ok(LaneUp { down_ack, pong, ..items })).await.ok()?;
            }
            changed = changes.changed() => changed.ok()?,
        }
    }
}
