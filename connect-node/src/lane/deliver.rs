//! Hands one message to the shards that have targets, and puts what becomes of it on the lane.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use opentelemetry::trace::SpanKind;
use roomcast_proto::{
    convert,
    pubsub::{self, Deliver, Outcome, SessionOutcome, session_outcome, up_item::Item},
};
use roomcast_registry::State;
use roomcast_runtime::Span;
use roomcast_types::{Class, MessageId, Position, RoomId};
use tokio::time::Instant;

use super::Lane;
use crate::{
    hub::{
        Core,
        target::{Kind, excluded},
        walks::Coming,
    },
    ledger::Account,
    ports::{Delivery, DeliveryTarget, ToShard, Traits},
    tally::{Counts, Hops, Tally, TargetOutcome},
    wire::PushFrame,
};

/// A message on its way to the shards.
pub struct Arrived {
    pub message_id: MessageId,
    pub message: Deliver,
    walk: Unwalked,
    came: Instant,
    span: Span,
}

/// The count of a message that is not on its walk yet. Dropped, it says that there was nobody to walk to.
struct Unwalked(Option<Arc<Tally>>);

impl Unwalked {
    fn begin(mut self, shards: u32) -> Option<Arc<Tally>> {
        let tally = self.0.take()?;
        tally.begin(shards);
        Some(tally)
    }
}

impl Drop for Unwalked {
    fn drop(&mut self) {
        if let Some(tally) = &self.0 {
            tally.begin(0);
        }
    }
}

/// A message came down a lane. Returns when every shard's mailbox took its part, or the message waits for others of its
/// log: a full mailbox holds the lane back.
pub async fn deliver(hub: &Arc<Core>, lane: &Arc<Lane>, mut message: Deliver) {
    let came = Instant::now();
    let Some(message_id) = MessageId::parse(&message.message_id) else {
        return tracing::warn!(manager_id = %lane.manager_id, "a lane brought a message without an id");
    };
    match hub.walks.come(message_id, Some(lane.incarnation), came) {
        Coming::First(tally) => {
            let account = hub.ledger.open(&lane.manager_id, lane.incarnation, message.timestamp_ms);
            tell(hub, lane, &tally, false, Some(account));
            lane.remember(tally.clone(), came);
            let span = start_span(hub, &mut message);
            let arrived = Arrived { message_id, message, walk: Unwalked(Some(tally)), came, span };
            match hub.sequence_of(&arrived.message) {
                Some(sequence) => sequence.arrive(hub, arrived).await,
                None => hand_on(hub, arrived).await,
            }
        }
        Coming::Again { tally, is_told: true, .. } => tally.tell_again(),
        Coming::Again { tally, is_other, .. } => {
            // From the log it came for nobody's account: whoever brings it first now answers for it.
            let account = (!is_other)
                .then(|| hub.ledger.open(&lane.manager_id, lane.incarnation, message.timestamp_ms));
            tell(hub, lane, &tally, is_other, account);
            lane.remember(tally, came);
        }
    }
}

impl Arrived {
    /// A message that was read from a log; `None` when it came on a lane, or has no id.
    pub fn logged(hub: &Core, message: Deliver) -> Option<Self> {
        let message_id = MessageId::parse(&message.message_id)?;
        let came = Instant::now();
        match hub.walks.come(message_id, None, came) {
            Coming::First(tally) => {
                let (walk, span) = (Unwalked(Some(tally)), Span::default());
                Some(Self { message_id, message, walk, came, span })
            }
            Coming::Again { .. } => None,
        }
    }
}

/// Hands a message to the shards that have targets now.
pub async fn hand_on(hub: &Arc<Core>, arrived: Arrived) {
    let Arrived { message_id, message, walk, came, span } = arrived;
    let ((kind, targets), readers) = {
        let state = hub.state();
        (state.targets(&message, hub.shards().len()), state.readers)
    };
    hub.metrics.delivers(kind).increment(1);
    let exclude = excluded(&message);
    let traits = traits(message_id, &message, came);
    let frame = PushFrame::new(message);
    if !targets.is_empty() {
        // Here, and not by the first shard that asks: the others would wait for it.
        readers.encodings().for_each(|encoding| drop(frame.bytes(encoding)));
    }
    let shards = targets.len() as u32;
    let Some(tally) = walk.begin(shards) else { return };
    if span.is_recording() {
        let mut span = Some(span);
        tally.listen(move |counts, _| {
            if let Some(span) = span.take() {
                end_span(span, shards, counts);
            }
        });
    }
    for (shard, target) in targets {
        let closed = gone(&target);
        let delivery = Delivery {
            frame: frame.clone(),
            target,
            traits: traits.clone(),
            exclude: exclude.clone(),
            tally: tally.clone(),
        };
        if !hub.shards().send(shard, ToShard::Deliver(delivery)).await {
            // The shard has ended, and its sessions with it. Unless they were closed in order, the whole node is ending:
            // what it held is lost, and it must not tell that there was nothing.
            if hub.life() == State::Draining {
                tally.report(closed, Hops::default());
            }
        }
    }
}

/// Puts the sum on the lane whenever it changed, as long as there is a lane, and into the ledger. In this order: what
/// an audit finds in the ledger is on the lane already, or acknowledged.
fn tell(hub: &Core, lane: &Arc<Lane>, tally: &Tally, is_repeat: bool, account: Option<Account>) {
    let (lane, outcomes, mut account) = (Arc::downgrade(lane), hub.metrics.outcomes.clone(), account);
    let (failpoints, message_id) = (hub.failpoints.clone(), tally.message_id());
    tally.listen(move |counts, hops| {
        outcomes.increment(1);
        if let Some(lane) = Weak::upgrade(&lane).filter(|_| !failpoints.loses_word()) {
            lane.push(Item::Outcome(Outcome { repeat: is_repeat, ..outcome(message_id, counts, hops) }));
        }
        if let Some(account) = &mut account {
            account.hold(counts);
        }
    });
}

fn traits(message_id: MessageId, message: &Deliver, now: Instant) -> Traits {
    let content_type = message.content.as_ref().map(pubsub::Content::r#type).unwrap_or_default();
    let class = convert::class(message.class(), content_type);
    let target = match &message.target {
        Some(pubsub::deliver::Target::RoomId(room)) => room,
        // Ids have no control characters, so these name no room.
        Some(pubsub::deliver::Target::Users(_)) => "\u{1}",
        Some(pubsub::deliver::Target::All(_)) | None => "\u{2}",
    };
    Traits {
        message_id,
        class,
        expires_at: message.ttl_ms.map(|left| now + Duration::from_millis(left.into())),
        key: (class == Class::Latest).then(|| format!("{target}\u{0}{}", message.key).into()),
        wants_ack: message.ack,
        is_stored: message.stored,
        place: message.ack.then(|| place(message)).flatten(),
        trace: (!message.traceparent.is_empty()).then(|| message.traceparent.as_str().into()),
    }
}

/// In the log of a room.
fn place(message: &Deliver) -> Option<(RoomId, Position)> {
    let Some(pubsub::deliver::Target::RoomId(room)) = &message.target else { return None };
    RoomId::new(room).ok().zip(Position::from_wire(message.epoch, message.offset))
}

/// A frame names this node's span as its parent, so that a client's trace joins behind it.
fn start_span(hub: &Core, message: &mut Deliver) -> Span {
    if message.traceparent.is_empty() {
        return Span::default();
    }
    let mut span = hub.tracing.start("deliver", SpanKind::Consumer, &message.traceparent);
    message.traceparent = span.traceparent();
    if span.is_recording() {
        span.set("pubsub.node_id", hub.identity.node_id.to_string());
        span.set("pubsub.message_id", message.message_id.clone());
    }
    span
}

fn end_span(mut span: Span, shards: u32, counts: &Counts) {
    if span.is_recording() {
        for (key, count) in [
            ("pubsub.shards", u64::from(shards)),
            ("pubsub.targets", counts.targets()),
            ("pubsub.written", counts.written),
            ("pubsub.pending", counts.pending),
            ("pubsub.filtered", counts.filtered),
            ("pubsub.expired", counts.expired),
            ("pubsub.dropped_slow", counts.dropped_slow),
            ("pubsub.closed", counts.closed),
        ] {
            span.set(key, count as i64);
        }
    }
}

/// What a shard that is no more would have counted.
fn gone(target: &DeliveryTarget) -> Counts {
    match target {
        DeliveryTarget::Sessions(sessions) => Counts { closed: sessions.len() as u64, ..Counts::default() },
        DeliveryTarget::Room(_) | DeliveryTarget::All => Counts::default(),
    }
}

fn outcome(message_id: MessageId, counts: &Counts, hops: Hops) -> Outcome {
    let session = |(user, session, outcome): &(u32, roomcast_types::SessionId, TargetOutcome)| {
        let kind = session_kind(*outcome).into();
        SessionOutcome { user: *user, session_id: Bytes::copy_from_slice(session.as_bytes()), kind }
    };
    let micros = |duration: Duration| u32::try_from(duration.as_micros()).unwrap_or(u32::MAX);
    Outcome {
        message_id: Bytes::copy_from_slice(&message_id.to_bytes()),
        targets: counts.targets(),
        written: counts.written,
        pending: counts.pending,
        filtered: counts.filtered,
        dropped_slow: counts.dropped_slow,
        closed: counts.closed,
        acked: counts.acked,
        expired: counts.expired,
        superseded: counts.superseded,
        sessions: counts.sessions.iter().map(session).collect(),
        wait_us: micros(hops.wait),
        walk_us: micros(hops.walk),
        repeat: false,
    }
}

fn session_kind(outcome: TargetOutcome) -> session_outcome::Kind {
    match outcome {
        TargetOutcome::Written => session_outcome::Kind::Written,
        TargetOutcome::Acked => session_outcome::Kind::Acked,
        TargetOutcome::Pending => session_outcome::Kind::Pending,
        TargetOutcome::Filtered => session_outcome::Kind::Filtered,
        TargetOutcome::Expired => session_outcome::Kind::Expired,
        TargetOutcome::Superseded => session_outcome::Kind::Superseded,
        TargetOutcome::DroppedSlow => session_outcome::Kind::DroppedSlow,
        TargetOutcome::Closed => session_outcome::Kind::Closed,
    }
}

impl Kind {
    /// The word of the metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Room => "room",
            Self::Users => "users",
            Self::All => "all",
        }
    }
}
