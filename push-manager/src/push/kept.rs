//! Traces of pushes that were not sampled and then were slow or failed: made at their end, from what is known by then.

use std::time::{Duration, SystemTime};

use opentelemetry::trace::SpanKind;
use roomcast_proto::pubsub::PushReply;
use roomcast_runtime::{Span, Tracing};
use roomcast_types::{Code, Fault};
use tokio::time::Instant;

use super::{
    record::{Heard, Record, RecordLeg},
    request::Target,
};

/// Outcomes that say that a target did not get its message though it was there.
const FAILED: [&str; 3] = ["NODE_LOST", "DROPPED_SLOW", "CLOSED"];

/// Makes the spans of pushes.
pub struct Traces {
    pub(super) tracing: Tracing,
    /// From when on a push is slow.
    slow: Duration,
}

/// A push that has ended.
pub struct Ended<'a> {
    /// Trace context of the caller; empty for none.
    pub parent: &'a str,
    /// When it came.
    pub began: Instant,
    /// Unless it was refused.
    pub record: Option<&'a Record>,
    pub result: &'a Result<PushReply, Fault>,
}

impl Traces {
    /// A push that takes `slow` is traced in any case.
    pub fn new(tracing: Tracing, slow: Duration) -> Self {
        Self { tracing, slow }
    }

    /// Keeps a push that has no trace, if it was slow or failed. Costs a good one nothing but the look.
    pub fn look_at(&self, push: &Ended<'_>) {
        if self.tracing.is_on()
            && let Some(why) = self.reason(push)
        {
            self.keep(push, why);
        }
    }

    fn reason(&self, push: &Ended<'_>) -> Option<&'static str> {
        let receipt = match push.result {
            Ok(reply) => reply.receipt.as_ref(),
            Err(fault) if matches!(fault.code, Code::Internal | Code::Unavailable) => return Some("failed"),
            Err(_) => None,
        };
        if let Some(receipt) = receipt {
            if FAILED.iter().any(|word| receipt.outcomes.contains_key(*word)) {
                return Some("partial");
            }
            if !receipt.complete {
                return Some("incomplete");
            }
        }
        (push.began.elapsed() >= self.slow).then_some("slow")
    }

    fn keep(&self, push: &Ended<'_>, why: &'static str) {
        // The spans need the wall clock, the record has the monotonic one.
        let (now, today) = (Instant::now(), SystemTime::now());
        let on_the_wall = |at: Instant| today - now.saturating_duration_since(at);
        let mut root =
            self.tracing.start_kept("push", SpanKind::Server, push.parent, on_the_wall(push.began));
        root.set("kept", why);
        if let Err(fault) = push.result {
            root.fail(fault.to_string());
        }
        if let Ok(reply) = push.result {
            describe(&mut root, reply);
        }
        let Some(record) = push.record else { return root.end_at(today) };
        match &record.target {
            Target::Room(room_id) => root.set("room_id", room_id.to_string()),
            Target::Users(users) => root.set("users", users.len() as i64),
            Target::All => {}
        }
        let parent = root.traceparent();
        for (leg, heard) in record.legs.iter().zip(&record.state().heard) {
            let began = on_the_wall(record.accepted);
            let mut span = self.tracing.start_at("lane", SpanKind::Producer, &parent, Some(began));
            describe_leg(&mut span, leg, heard);
            span.end_at(heard.at.map_or(today, on_the_wall));
        }
        root.end_at(today);
    }
}

fn describe(span: &mut Span, reply: &PushReply) {
    span.set("message_id", reply.message_id.clone());
    let Some(receipt) = &reply.receipt else { return };
    span.set("level", receipt.level.clone());
    span.set("complete", receipt.complete);
    span.set("targets", receipt.targets as i64);
    span.set("pending", receipt.pending as i64);
    for (word, count) in &receipt.outcomes {
        span.set(format!("outcomes.{word}"), *count as i64);
    }
    if let Some(nodes) = &receipt.nodes {
        span.set("nodes.addressed", i64::from(nodes.addressed));
        span.set("nodes.unreachable", i64::from(nodes.unreachable));
        span.set("nodes.blind", i64::from(nodes.blind));
    }
}

fn describe_leg(span: &mut Span, leg: &RecordLeg, heard: &Heard) {
    span.set("node_id", leg.node_id.to_string());
    match &heard.outcome {
        Some(outcome) => {
            span.set("targets", outcome.targets as i64);
            span.set("written", (outcome.written + outcome.acked) as i64);
            span.set("pending", outcome.pending as i64);
            // Of the node: in front of the shards' walks, and in them.
            span.set("wait_us", i64::from(outcome.wait_us));
            span.set("walk_us", i64::from(outcome.walk_us));
        }
        None => span.set("targets", leg.announced as i64),
    }
    if heard.is_lost {
        span.fail("NODE_LOST");
    } else if heard.outcome.is_none() {
        span.fail("no outcome yet");
    }
}
