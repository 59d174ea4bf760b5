//! Serves one stream of a lane: its hello, what comes down, what goes up.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use roomcast_proto::pubsub::{
    DownItem, LaneDown, LaneHello, LaneHelloReply, LaneUp, RoomCard, down_item::Item,
};
use roomcast_types::{Fault, Incarnation, ServiceId};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Status, Streaming};

use super::{Lane, Seat, deliver::deliver, state::Arrival};
use crate::hub::Core;

/// How long a stream may take to say whose it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// How long acknowledgements wait for an outcome to go with: alone they would wake the push-manager once more a push.
const ACK_WAIT: Duration = Duration::from_millis(20);

/// What goes up.
pub type Up = Pin<Box<dyn Stream<Item = Result<LaneUp, Status>> + Send>>;

/// Takes the hello, takes the lane over from an older stream, and starts reading.
pub async fn open(hub: Arc<Core>, mut down: Streaming<LaneDown>) -> Result<Up, Status> {
    let first = match tokio::time::timeout(HELLO_TIMEOUT, down.message()).await {
        Ok(Ok(Some(first))) => first,
        Ok(Ok(None)) => return Err(bad("the stream ended before its hello")),
        Ok(Err(status)) => return Err(status),
        Err(_) => return Err(bad("no hello came; it is the first message of a lane")),
    };
    let Some(hello) = first.hello.clone() else {
        return Err(bad("hello is missing; it is in the first message of a lane"));
    };
    let lane = find(&hub, &hello)?;
    lane.set_address(&hello.grpc_address);
    let seat = lane.take_over().await;
    let Some(attached) = hub.attach(&lane, &seat, &hello) else {
        return Err(Status::aborted("a newer stream of this push-manager took the lane"));
    };
    if attached.is_fresh {
        lane.tell_again();
    }
    hub.metrics.lane_resent.increment(lane.resending());
    tracing::info!(
        manager_id = %lane.manager_id, incarnation = %lane.incarnation, is_fresh = attached.is_fresh,
        "a lane opened"
    );
    let reply = LaneHelloReply {
        node_id: hub.identity.node_id.to_string(),
        incarnation: hub.identity.incarnation.as_u64(),
        down_seen: attached.down_seen,
        fresh: attached.is_fresh,
    };
    let stream = attached.stream;
    let up = Writer {
        lane: lane.clone(),
        stream,
        wake: seat.current.wake.clone(),
        end: seat.current.end.clone(),
        _end: seat.current.end.clone().drop_guard(),
    };
    let reader = Reader { hub: hub.clone(), lane, stream };
    // With the connection, on a shard's thread: what it reads for that shard wakes no other thread.
    hub.tasks.spawn_here(reader.run(seat, first, down));
    Ok(Box::pin(up.messages(LaneUp { hello: Some(reply), ..LaneUp::default() })))
}

fn bad(message: &str) -> Status {
    roomcast_proto::status(&Fault::bad_request(message))
}

fn find(hub: &Core, hello: &LaneHello) -> Result<Arc<Lane>, Status> {
    let manager =
        ServiceId::new(&hello.manager_id).map_err(|error| bad(&format!("hello.manager_{error}")))?;
    let incarnation =
        Incarnation::from_u64(hello.incarnation).ok_or_else(|| bad("hello.incarnation is 0"))?;
    hub.lane(manager, incarnation)
}

/// Reads what comes down, item after item.
struct Reader {
    hub: Arc<Core>,
    lane: Arc<Lane>,
    stream: u64,
}

impl Reader {
    async fn run(self, seat: Seat, first: LaneDown, mut down: Streaming<LaneDown>) {
        let end = seat.current.end.clone();
        let mut message = first;
        let ack = tokio::time::sleep(ACK_WAIT);
        tokio::pin!(ack);
        let mut owes_ack = false;
        let reason = loop {
            if !message.items.is_empty() && !std::mem::replace(&mut owes_ack, true) {
                ack.as_mut().reset(Instant::now() + ACK_WAIT);
            }
            if let Err(reason) = self.take(message, &end).await {
                break reason;
            }
            let next = loop {
                tokio::select! {
                    () = end.cancelled() => break None,
                    next = down.message() => break Some(next),
                    () = &mut ack, if owes_ack => {
                        owes_ack = false;
                        self.lane.ask_ack();
                    }
                }
            };
            let Some(next) = next else { break "the stream was ended or replaced".to_owned() };
            message = match next {
                Ok(Some(next)) => next,
                Ok(None) => break "the push-manager ended it".to_owned(),
                Err(status) => break status.to_string(),
            };
        };
        if self.lane.detach(self.stream, Instant::now()) {
            tracing::info!(manager_id = %self.lane.manager_id, reason, "a lane's stream ended");
            self.hub.comparing.lane_broke();
        }
        end.cancel();
        drop(seat.done);
        self.hub.lanes_changed();
    }

    async fn take(&self, message: LaneDown, end: &CancellationToken) -> Result<(), String> {
        if message.up_ack > 0 {
            let Some((released, is_news)) = self.lane.up_ack(message.up_ack) else {
                return Err(format!("up_ack {} was never sent", message.up_ack));
            };
            if !released.is_empty() {
                self.hub.state().lane_done(released);
            }
            if is_news {
                self.hub.lanes_changed();
            }
        }
        let mut handed_on = HandedOn { lane: &self.lane, items: 0 };
        for (number, item) in (message.first_number..).zip(message.items) {
            if end.is_cancelled() {
                return Err("the stream was ended or replaced".to_owned());
            }
            match self.lane.arrival(number - handed_on.items) {
                Arrival::Next => {
                    self.item(item).await;
                    handed_on.count();
                }
                Arrival::Repeat => {}
                Arrival::Gap => return Err(format!("item {number} came before those in front of it")),
            }
        }
        drop(handed_on);
        if let Some(ping) = message.ping {
            self.lane.ping(ping, Instant::now());
        }
        Ok(())
    }

    async fn item(&self, item: DownItem) {
        match item.item {
            Some(Item::Deliver(message)) => deliver(&self.hub, &self.lane, message).await,
            Some(Item::RoomChanged(card)) => self.room_changed(&card).await,
            // Given up, or of a later version of the protocol: its number counts.
            None => self.hub.comparing.given_up(),
        }
    }

    async fn room_changed(&self, card: &RoomCard) {
        match roomcast_types::RoomCard::try_from(card) {
            Ok(card) => self.hub.room_changed(&card).await,
            Err(error) => tracing::warn!(%error, "a lane brought the card of an impossible room"),
        }
    }
}

/// Items of one message that were handed on and are not acknowledged: they are when it is dropped, or are many.
struct HandedOn<'a> {
    lane: &'a Lane,
    items: u64,
}

impl HandedOn<'_> {
    /// Items that wait to be acknowledged together: a full mailbox behind them must not hold them up for long.
    const MAX: u64 = 32;

    fn count(&mut self) {
        self.items += 1;
        if self.items == Self::MAX {
            self.acknowledge();
        }
    }

    fn acknowledge(&mut self) {
        let items = std::mem::take(&mut self.items);
        if items > 0 {
            self.lane.processed(items);
        }
    }
}

impl Drop for HandedOn<'_> {
    fn drop(&mut self) {
        self.acknowledge();
    }
}

/// Gives what waits on the lane to the stream whenever there is room for more.
struct Writer {
    lane: Arc<Lane>,
    stream: u64,
    wake: Arc<Notify>,
    end: CancellationToken,
    /// The peer went: so does the reader.
    _end: DropGuard,
}

impl Writer {
    fn messages(self, hello: LaneUp) -> impl Stream<Item = Result<LaneUp, Status>> + Send {
        stream::unfold((self, Some(hello)), |(writer, hello)| async move {
            if let Some(hello) = hello {
                return Some((Ok(hello), (writer, None)));
            }
            let message = writer.next().await?;
            Some((Ok(message), (writer, None)))
        })
    }

    async fn next(&self) -> Option<LaneUp> {
        loop {
            if let Some(message) = self.lane.next_message(self.stream) {
                return Some(message);
            }
            tokio::select! {
                () = self.wake.notified() => {}
                () = self.end.cancelled() => return None,
            }
        }
    }
}
