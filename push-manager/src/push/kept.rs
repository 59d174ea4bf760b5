//! The end of a push in its trace; and the whole trace of one that was not sampled and then was slow or failed, made from
//! what is known by then.

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

    /// Says in the push's span what became of it. Keeps a push that has no span, if it was slow or failed: a good one
    /// costs nothing but the look.
    pub fn end(&self, span: &mut Span, push: &Ended<'_>) {
        if span.is_recording() {
            match push.result {
                Ok(reply) => describe(span, reply),
                Err(fault) => span.fail(fault.to_string()),
            }
        } else if self.tracing.is_on()
            && let Some(why) = reason(push.result, push.began.elapsed() >= self.slow)
        {
            self.keep(push, why);
        }
    }

    fn keep(&self, push: &Ended<'_>, why: &'static str) {
        // The spans need the wall clock, the record has the monotonic one.
        let (now, today) = (Instant::now(), SystemTime::now());
        let on_the_wall = |at: Instant| today - now.saturating_duration_since(at);
        let mut root =
            self.tracing.start_kept("push", SpanKind::Server, push.parent, on_the_wall(push.began));
        root.set("kept", why);
        match push.result {
            Ok(reply) => {
                root.set("message_id", reply.message_id.clone());
                describe(&mut root, reply);
            }
            Err(fault) => root.fail(fault.to_string()),
        }
        let Some(record) = push.record else { return root.end_at(today) };
        root.set("nodes.addressed", i64::from(record.addressed));
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

/// Why a push is traced that was not sampled.
fn reason(result: &Result<PushReply, Fault>, is_slow: bool) -> Option<&'static str> {
    let receipt = match result {
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
    is_slow.then_some("slow")
}

fn describe(span: &mut Span, reply: &PushReply) {
    let Some(receipt) = &reply.receipt else { return };
    span.set("level", receipt.level.clone());
    span.set("complete", receipt.complete);
    span.set("targets", receipt.targets as i64);
    span.set("pending", receipt.pending as i64);
    for (word, count) in &receipt.outcomes {
        span.set(format!("outcomes.{word}"), *count as i64);
    }
    if let Some(nodes) = &receipt.nodes {
        span.set("nodes.unreachable", i64::from(nodes.unreachable));
        span.set("nodes.blind", i64::from(nodes.blind));
    }
}

fn describe_leg(span: &mut Span, leg: &RecordLeg, heard: &Heard) {
    span.set("node_id", leg.node_id.to_string());
    match &heard.told {
        Some(told) => {
            span.set("targets", told.targets() as i64);
            span.set("written", (told.written + told.acked) as i64);
            span.set("pending", told.pending as i64);
            // Of the node: in front of the shards' walks, and in them.
            span.set("wait_us", i64::from(told.wait_us));
            span.set("walk_us", i64::from(told.walk_us));
        }
        None => span.set("targets", leg.announced as i64),
    }
    if heard.is_lost() {
        span.fail("NODE_LOST");
    } else if heard.told.is_none() {
        span.fail("no outcome yet");
    }
}

#[cfg(test)]
mod tests {
    use roomcast_proto::pubsub::Receipt;

    use super::*;

    fn reply(outcome: &str, complete: bool) -> Result<PushReply, Fault> {
        let receipt = Receipt { complete, outcomes: [(outcome.to_owned(), 1)].into(), ..Receipt::default() };
        Ok(PushReply { receipt: Some(receipt), ..PushReply::default() })
    }

    #[test]
    fn what_is_slow_failed_or_reached_only_a_part_is_kept_and_nothing_else() {
        let refused = |code| Err(Fault::new(code, "no"));
        for (result, is_slow, kept) in [
            (reply("WRITTEN", true), false, None),
            (reply("WRITTEN", true), true, Some("slow")),
            (reply("WRITTEN", false), false, Some("incomplete")),
            (reply("NODE_LOST", true), false, Some("partial")),
            (reply("DROPPED_SLOW", true), false, Some("partial")),
            (reply("CLOSED", true), false, Some("partial")),
            (reply("OFFLINE", true), false, None),
            (reply("FILTERED", true), false, None),
            (refused(Code::Unavailable), false, Some("failed")),
            (refused(Code::Internal), false, Some("failed")),
            (refused(Code::NotFound), false, None),
            (refused(Code::BadRequest), true, Some("slow")),
        ] {
            assert_eq!(reason(&result, is_slow), kept, "{result:?}");
        }
    }
}
