//! Puts a message on the lanes of its plan.

use std::sync::Arc;

use bytes::Bytes;
use opentelemetry::trace::SpanKind;
use roomcast_runtime::Span;

use super::{
    Pusher,
    message::Message,
    plan::Plan,
    record::{Loss, Record, Ticket},
};
use crate::lane::{Parcel, Refusal};

/// Who hears what becomes of a message.
pub enum Heard<'a> {
    /// Its own record.
    By(&'a Arc<Record>),
    /// The record of the first push under its key, which hears already: nothing is added to what it waits for.
    ByTheFirst(&'a Record),
}

impl Heard<'_> {
    fn ticket(&self, slot: usize) -> Ticket {
        match self {
            Self::By(record) => record.ticket(slot),
            Self::ByTheFirst(record) => Ticket::repeat(record.wants_ack),
        }
    }
}

impl Pusher {
    /// Puts the message on the lanes of the plan. Returns the spans of the lanes, which last as long as the push.
    pub(super) fn send(&self, message: &Message, plan: &Plan, heard: &Heard<'_>, span: &Span) -> Vec<Span> {
        let traceparent = span.traceparent();
        let mut spans = Vec::new();
        let mut shared: Option<Bytes> = None;
        let mut unreachable = 0;
        for (slot, leg) in plan.legs.iter().enumerate() {
            let lane = &plan.lanes[leg.lane];
            let item = match (&shared, leg.users.is_empty() && !span.is_recording()) {
                (Some(item), true) => item.clone(),
                (_, is_same_for_all) => {
                    let mut traceparent = traceparent.clone();
                    if span.is_recording() {
                        let mut own = self.traces.tracing.start("lane", SpanKind::Producer, &traceparent);
                        own.set("node_id", lane.node_id().to_string());
                        traceparent = own.traceparent();
                        spans.push(own);
                    }
                    let item = message.item(leg, traceparent);
                    if is_same_for_all {
                        shared = Some(item.clone());
                    }
                    item
                }
            };
            if !leg.is_trusted {
                self.context.metrics.blind_sends.increment(1);
            }
            let ticket = heard.ticket(slot);
            let is_repeat = ticket.is_repeat();
            let parcel = Parcel {
                item,
                ticket: Some((message.message_id, ticket.clone())),
                was_trusted: leg.is_trusted,
                expires_us: message.expires_us,
            };
            if let Err(refusal) = lane.send(parcel, message.bytes(leg)) {
                if !is_repeat {
                    self.context.ledger.refused(lane.node_id(), message.timestamp_ms, leg.announced);
                }
                ticket.lost(match refusal {
                    Refusal::Full => {
                        self.context.metrics.refusals.increment(1);
                        Loss::QueueFull
                    }
                    Refusal::Dead => Loss::Dead,
                });
                // A blind node that did not even get the message may hold a target: the receipt has to name it.
                unreachable += u32::from(refusal == Refusal::Dead || !leg.is_trusted);
            }
        }
        if let Heard::By(record) = heard {
            record.add_unreachable(unreachable);
        }
        spans
    }
}
