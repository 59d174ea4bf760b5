//! Hands one message to the shards that have targets, and puts the sum of their counts on the lane.

use std::sync::Arc;

use opentelemetry::trace::SpanKind;
use roomcast_proto::pubsub::{Deliver, Outcome, SessionOutcome, session_outcome, up_item::Item};
use roomcast_runtime::Span;

use super::Lane;
use crate::{
    hub::{
        Core,
        target::{Kind, excluded},
    },
    ports::{Counts, Delivery, DeliveryTarget, Tally, TargetOutcome, ToShard},
    wire,
};

/// Returns when every shard's mailbox took its part: a full mailbox holds the lane back.
pub async fn deliver(hub: &Arc<Core>, lane: &Arc<Lane>, number: u64, mut message: Deliver) {
    let mut span = start_span(hub, &mut message);
    let (kind, targets) = hub.state().targets(&message, hub.shards().len());
    hub.metrics.delivers(kind).increment(1);
    span.set("pubsub.shards", targets.len() as i64);
    let exclude = excluded(&message);
    let frame = if targets.is_empty() { bytes::Bytes::new() } else { wire::push_frame(&message) };
    let tally = {
        let (lane, life, outcomes) = (lane.clone(), lane.life(), hub.metrics.outcomes.clone());
        Tally::new(targets.len() as u32, move |counts| {
            outcomes.increment(1);
            end_span(span, &counts);
            lane.push(life, Item::Outcome(outcome(number, counts)));
        })
    };
    for (shard, target) in targets {
        let closed = gone(&target);
        let delivery =
            Delivery { frame: frame.clone(), target, exclude: exclude.clone(), tally: tally.clone() };
        if !hub.shards().send(shard, ToShard::Deliver(delivery)).await {
            // The shard has ended, and its sessions with it.
            tally.report(closed);
        }
    }
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

fn end_span(mut span: Span, counts: &Counts) {
    if span.is_recording() {
        for (key, count) in [
            ("pubsub.targets", counts.targets()),
            ("pubsub.written", counts.written),
            ("pubsub.pending", counts.pending),
            ("pubsub.filtered", counts.filtered),
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

fn outcome(number: u64, counts: Counts) -> Outcome {
    let session = |(user, session, outcome): (u32, roomcast_types::SessionId, TargetOutcome)| {
        SessionOutcome { user, session_id: session.as_bytes().to_vec(), kind: session_kind(outcome).into() }
    };
    Outcome {
        number,
        targets: counts.targets(),
        written: counts.written,
        pending: counts.pending,
        filtered: counts.filtered,
        dropped_slow: counts.dropped_slow,
        closed: counts.closed,
        sessions: counts.sessions.into_iter().map(session).collect(),
    }
}

fn session_kind(outcome: TargetOutcome) -> session_outcome::Kind {
    match outcome {
        TargetOutcome::Written => session_outcome::Kind::Written,
        TargetOutcome::Pending => session_outcome::Kind::Pending,
        TargetOutcome::Filtered => session_outcome::Kind::Filtered,
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
