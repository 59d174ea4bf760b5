//! One push from request to receipt: who is addressed, what goes on which lane, and what came of it.

mod absent;
mod history;
mod kept;
mod log;
mod message;
mod order;
mod plan;
mod receipt;
mod receipts;
mod record;
mod request;
mod send;
mod stream;
mod watch;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use opentelemetry::trace::SpanKind;
use roomcast_proto::{
    lane::encoded,
    pubsub::{self, PushReply, down_item},
};
use roomcast_runtime::Span;
use roomcast_types::{CardMark, Fault, Incarnation, Membership, MessageId, RoomCard, RoomId, unix_millis};
use tokio::time::Instant;

pub use absent::{Absences, absences};
pub use kept::Traces;
pub use log::Kept;
#[cfg(test)]
pub use plan::Leg;
pub use plan::{Absent, Plan};
pub use receipt::compose;
pub use receipts::Receipts;
pub use record::{Heard, Loss, Record, RecordLeg, Taken, Ticket, Told};
pub use request::{Level, Push, Target};
pub use watch::Watches;

use crate::{
    archive::Archive,
    cards::{Cards, Standing},
    failpoint::Failpoints,
    fleet::Fleet,
    lane::{Context, Parcel},
    metrics::Kind,
    push::{
        kept::Ended,
        message::{MESSAGE_BYTES, Message},
        order::Order,
        send::Heard as HeardBy,
    },
    routes::RoomShare,
};

/// The reply leaves this long before the caller's own deadline.
const BEFORE_DEADLINE: Duration = Duration::from_millis(50);

/// What came with a call beside its message.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// W3C trace context of the caller; empty when there is none.
    pub traceparent: Arc<str>,
    /// When the caller stops waiting.
    pub deadline: Option<Instant>,
}

/// A push that was refused, or is on the lanes and waits for its answer.
struct Started<'a> {
    kind: Kind,
    began: Instant,
    traceparent: Arc<str>,
    span: Span,
    sent: Result<Sent, Fault>,
    _under_way: UnderWay<'a>,
}

/// A push on the lanes: its answer waits until its record has come to this level, or for this long.
struct Sent {
    record: Arc<Record>,
    kept: Kept,
    level: Level,
    wait_until: Instant,
    spans: Vec<Span>,
}

/// What a pusher works with.
pub struct Parts {
    pub context: Arc<Context>,
    pub fleet: Arc<Fleet>,
    pub cards: Arc<Cards>,
    pub traces: Traces,
    pub receipts: Arc<Receipts>,
    pub absences: Absences,
    pub archive: Arc<Archive>,
    /// How long a push waits that does not say.
    pub wait: Duration,
}

/// Takes pushes.
pub struct Pusher {
    context: Arc<Context>,
    fleet: Arc<Fleet>,
    cards: Arc<Cards>,
    traces: Traces,
    receipts: Arc<Receipts>,
    absences: Absences,
    archive: Arc<Archive>,
    order: Order,
    failpoints: Failpoints,
    wait: Duration,
    /// Starts at random, so that ids of two lives do not meet.
    counter: AtomicU64,
    is_open: AtomicBool,
    under_way: AtomicUsize,
}

/// What is known of a target before the push.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// Of the room.
    card: CardMark,
    /// Where a controller was asked anyway.
    absent: Option<Absent>,
}

impl Pusher {
    /// Refuses pushes until [`Pusher::open`].
    pub fn new(parts: Parts) -> Self {
        let Parts { context, fleet, cards, traces, receipts, absences, archive, wait } = parts;
        Self {
            order: Order::new(context.metrics.archive.disordered.clone()),
            context,
            fleet,
            cards,
            traces,
            receipts,
            absences,
            archive,
            failpoints: Failpoints::default(),
            wait,
            counter: AtomicU64::new(rand::random()),
            is_open: AtomicBool::new(false),
            under_way: AtomicUsize::new(0),
        }
    }

    /// Takes pushes from now on: this process is registered, and knows every node that was before it.
    pub fn open(&self) {
        self.is_open.store(true, Ordering::Release);
    }

    /// Takes no further pushes.
    pub fn close(&self) {
        self.is_open.store(false, Ordering::Release);
    }

    /// Answers whoever waits for a level with what is known, now and from now on: this process ends.
    pub fn answer_now(&self) {
        self.receipts.end();
    }

    /// Pushes that are being answered.
    pub fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Acquire)
    }

    /// Carries a push out and answers it.
    pub async fn push(&self, push: Result<Push, Fault>, kind: Kind, call: Call) -> Result<PushReply, Fault> {
        let started = self.start(push, kind, call).await;
        if let Ok(sent) = &started.sent {
            tokio::select! {
                () = sent.record.wait(sent.level, sent.wait_until) => {}
                () = self.receipts.ended() => {}
            }
        }
        self.answer(started)
    }

    /// Carries a push out as far as the lanes.
    async fn start(&self, push: Result<Push, Fault>, kind: Kind, call: Call) -> Started<'_> {
        let began = Instant::now();
        let Call { traceparent, deadline } = call;
        self.under_way.fetch_add(1, Ordering::AcqRel);
        let under_way = UnderWay(&self.under_way);
        let mut span = self.traces.tracing.start("push", SpanKind::Server, &traceparent);
        let sent = match push {
            Ok(push) => self.send_out(push, deadline, &mut span).await,
            Err(fault) => Err(fault),
        };
        Started { kind, began, traceparent, span, sent, _under_way: under_way }
    }

    /// The answer to a push, with what is known now.
    fn answer(&self, started: Started<'_>) -> Result<PushReply, Fault> {
        let Started { kind, began, traceparent, mut span, sent, _under_way } = started;
        let (record, result) = match sent {
            Ok(Sent { record, kept, level, spans, .. }) => {
                drop(spans);
                let reply = self.reply(&record, &kept, level);
                (Some(record), Ok(reply))
            }
            Err(fault) => (None, Err(fault)),
        };
        let (parent, record) = (&*traceparent, record.as_deref());
        self.traces.end(&mut span, &Ended { parent, began, record, result: &result });
        let refused = result.as_ref().err().map(|fault| fault.code);
        self.context.metrics.push(kind, refused, began.elapsed().as_secs_f64());
        result
    }

    async fn send_out(&self, push: Push, deadline: Option<Instant>, span: &mut Span) -> Result<Sent, Fault> {
        if !self.is_open.load(Ordering::Acquire) {
            let message = "this push-manager is starting or stopping; try again or ask another one";
            return Err(Fault::unavailable(message, Duration::from_millis(500)));
        }
        let accepted = Instant::now();
        let level = push.options.level;
        let mut wait_until = accepted + push.options.wait.unwrap_or(self.wait);
        if let Some(deadline) = deadline {
            wait_until = wait_until.min(deadline.checked_sub(BEFORE_DEADLINE).unwrap_or(deadline));
        }
        let known = self.look_up(&push.target).await?;
        let mut message = self.message(push, accepted);
        let (kept, turn) = self.keep(&mut message, known.card).await?;
        self.failpoints.kept().await;
        // After what was kept, and with nothing to wait for before the message is on the lanes.
        self.fleet.vouch().await;
        let plan = self.plan(&message.push.target, &known);
        message.describe(span, &plan);
        let (record, is_the_first) = self.record(&message, &plan, kept.clone());
        let heard = if is_the_first { HeardBy::ByTheFirst(&record) } else { HeardBy::By(&record) };
        let spans = self.send(&message, &plan, &heard, span);
        drop(turn);
        if !is_the_first && let (Absent::Asked, Target::Room(room_id)) = (plan.absent, &message.push.target) {
            self.absences.ask(room_id, plan.announced(), &record);
        }
        Ok(Sent { record, kept, level, wait_until, spans })
    }

    fn message(&self, push: Push, accepted: Instant) -> Message {
        let timestamp_ms = unix_millis();
        // One moment for both: the ledger's minute is read from either.
        let message_id = MessageId::new(
            timestamp_ms.unsigned_abs(),
            self.context.incarnation,
            self.counter.fetch_add(1, Ordering::Relaxed),
        );
        let expires_us = push.options.ttl.map(|ttl| self.context.clock.at(accepted + ttl));
        Message { message_id, timestamp_ms, push, expires_us, position: None, is_stored: false }
    }

    /// The record that hears what becomes of the message; whether it is that of the first push under its key.
    ///
    /// A repeat that this instance took first has the record of the first. Of one that another took, or that is forgotten
    /// or still on its way here, the answer is told from a record that is kept nowhere: the push was accepted once.
    fn record(&self, message: &Message, plan: &Plan, kept: Kept) -> (Arc<Record>, bool) {
        let is_duplicate = kept.is_duplicate;
        if is_duplicate && let Ok(first) = self.receipts.find(message.message_id) {
            return (first, true);
        }
        let (target, wants_ack) = (message.push.target.clone(), message.push.options.wants_ack);
        let is_stale = self.fleet.is_stale();
        let record = Record::new(message.message_id, target, wants_ack, plan, is_stale, kept);
        if !is_duplicate {
            self.context.ledger.accepted(message.timestamp_ms);
            self.receipts.add(record.clone());
        }
        (record, false)
    }

    fn reply(&self, record: &Record, kept: &Kept, level: Level) -> PushReply {
        let (receipt, degraded) = record
            .see(|state| (receipt::compose(record, state, level), receipt::degraded(record, state, level)));
        for (outcome, count) in &receipt.outcomes {
            self.context.metrics.targets(outcome, *count);
        }
        self.context.metrics.targets("PENDING", receipt.pending);
        PushReply {
            message_id: record.message_id.to_string(),
            logged: kept.position.is_some(),
            degraded,
            receipt: Some(receipt),
            epoch: kept.position.map(|position| position.epoch.to_string()).unwrap_or_default(),
            offset: kept.position.map_or(0, |position| position.offset),
            duplicate: kept.is_duplicate,
        }
    }

    /// What has to be known of a target before anything is kept. A route proves that a room exists; without one its card
    /// must be known, or a controller asked.
    async fn look_up(&self, target: &Target) -> Result<Known, Fault> {
        let Target::Room(room_id) = target else { return Ok(Known::default()) };
        let (has_route, card) = self.route_card(room_id);
        match self.cards.standing(room_id) {
            Standing::Deleted { version } if card.version <= version => Err(Cards::deleted(room_id)),
            Standing::Active(known) => Ok(Known { card: card.or_younger(known), absent: None }),
            // A node that knows no card knows no policy.
            Standing::Unknown if !has_route || card.version == 0 => match Box::pin(self.cards.ask(room_id))
                .await
            {
                Ok(answer) => Ok(Known { card: card.or_younger(answer.card), absent: Some(answer.absent) }),
                // Whoever joined meanwhile belongs to this push, and its room exists.
                Err(fault) => match self.route_card(room_id) {
                    (true, card) => Ok(Known { card, absent: None }),
                    (false, _) => Err(fault),
                },
            },
            Standing::Deleted { .. } | Standing::Unknown => Ok(Known { card, absent: None }),
        }
    }

    /// Whether some node holds the room, and the youngest card that one knows.
    fn route_card(&self, room_id: &RoomId) -> (bool, CardMark) {
        self.context.routes.rooms.read(room_id.as_str(), |shares: &[RoomShare]| {
            let cards = shares.iter().map(|share| share.card);
            (!shares.is_empty(), cards.fold(CardMark::default(), CardMark::or_younger))
        })
    }

    fn plan(&self, target: &Target, known: &Known) -> Plan {
        let lanes = self.fleet.lanes();
        let room_id = match target {
            Target::Room(room_id) => room_id,
            Target::Users(users) => return Plan::users(lanes, &self.context, users),
            Target::All => return Plan::all(lanes, &self.context),
        };
        let mut plan = Plan::room(lanes, &self.context, room_id);
        if known.card.or_younger(plan.card).membership == Membership::Durable {
            plan.absent = match known.absent {
                // Nobody came in between whom it counts as away.
                Some(absent) if !plan.has_route => absent,
                _ => Absent::Asked,
            };
        }
        plan
    }

    /// A controller says that a room changed: remembers the card and passes it on to the nodes that may hold members.
    pub fn room_changed(&self, card: &RoomCard) {
        if !self.cards.learn(card) {
            return;
        }
        let item = encoded(down_item::Item::RoomChanged(pubsub::RoomCard::from(card)));
        let plan = Plan::room(self.fleet.lanes(), &self.context, &card.room_id);
        for leg in &plan.legs {
            let parcel =
                Parcel { item: item.clone(), ticket: None, was_trusted: leg.is_trusted, expires_us: None };
            let bytes = MESSAGE_BYTES + card.room_id.as_str().len();
            if plan.lanes[leg.lane].send(parcel, bytes).is_err() {
                let node = plan.lanes[leg.lane].node_id();
                tracing::warn!(%node, room = %card.room_id, "a node was not told of a changed room");
            }
        }
    }

    /// Sessions in a room, as the nodes last announced them.
    pub fn announced(&self, room_id: &str) -> u64 {
        let sessions = |shares: &[RoomShare]| shares.iter().map(|share| u64::from(share.sessions)).sum();
        self.context.routes.rooms.read(room_id, sessions)
    }

    /// What breaks on purpose, in tests.
    #[cfg(feature = "failpoints")]
    pub fn failpoints(&self) -> &Failpoints {
        &self.failpoints
    }

    /// This life of ours.
    pub fn incarnation(&self) -> Incarnation {
        self.context.incarnation
    }
}

struct UnderWay<'a>(&'a AtomicUsize);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
