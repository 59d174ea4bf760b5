//! One push from request to receipt: who is addressed, what goes on which lane, and what came of it.

mod absent;
mod kept;
mod plan;
mod receipt;
mod receipts;
mod record;
mod request;
mod watch;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use opentelemetry::trace::SpanKind;
use roomcast_proto::pubsub::{
    self, AllTarget, Deliver, DownItem, PushReply, UserTargets, content, deliver, down_item,
};
use roomcast_runtime::Span;
use roomcast_types::{Fault, Incarnation, Membership, MessageId, RoomCard, RoomId, unix_millis};
use tokio::time::Instant;

pub use absent::{Absences, absences};
pub use kept::Traces;
pub use plan::{Absent, Leg, Plan};
pub use receipt::compose;
pub use receipts::Receipts;
pub use record::{Heard, Loss, Record, RecordLeg, Taken, Ticket};
pub use request::{Level, Push, Target};
pub use watch::Watches;

use crate::{
    cards::{Cards, Standing},
    fleet::Fleet,
    lane::{Context, Parcel, Refusal},
    push::kept::Ended,
    routes::RoomShare,
};

/// The reply leaves this long before the caller's own deadline.
const BEFORE_DEADLINE: Duration = Duration::from_millis(50);
/// What a message costs in a queue beside its content and ids.
const MESSAGE_BYTES: usize = 128;

/// What came with a call beside its message.
#[derive(Debug, Default)]
pub struct Call {
    /// W3C trace context of the caller; empty when there is none.
    pub traceparent: String,
    /// When the caller stops waiting.
    pub deadline: Option<Instant>,
}

/// Takes pushes.
pub struct Pusher {
    context: Arc<Context>,
    fleet: Arc<Fleet>,
    cards: Arc<Cards>,
    traces: Traces,
    receipts: Arc<Receipts>,
    absences: Absences,
    wait: Duration,
    /// Starts at random, so that ids of two lives do not meet.
    counter: AtomicU64,
    is_open: AtomicBool,
    under_way: AtomicUsize,
}

/// What to send, before it is fitted to each lane.
struct Message {
    message_id: MessageId,
    timestamp_ms: i64,
    push: Push,
    /// When its time to live ends.
    expires_us: Option<u64>,
}

impl Pusher {
    /// Refuses pushes until [`Pusher::open`].
    pub fn new(
        context: Arc<Context>,
        fleet: Arc<Fleet>,
        cards: Arc<Cards>,
        traces: Traces,
        receipts: Arc<Receipts>,
        absences: Absences,
        wait: Duration,
    ) -> Self {
        Self {
            context,
            fleet,
            cards,
            traces,
            receipts,
            absences,
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

    /// Pushes that are being answered.
    pub fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Acquire)
    }

    /// Carries a push out.
    pub async fn push(
        &self,
        push: Result<Push, Fault>,
        kind: crate::metrics::Kind,
        call: Call,
    ) -> Result<PushReply, Fault> {
        let began = Instant::now();
        self.under_way.fetch_add(1, Ordering::AcqRel);
        let _guard = UnderWay(&self.under_way);
        let mut span = self.traces.tracing.start("push", SpanKind::Server, &call.traceparent);
        let mut record = None;
        let result = match push {
            Ok(push) => self.carry_out(push, call.deadline, &mut span, &mut record).await,
            Err(fault) => Err(fault),
        };
        let (parent, record) = (call.traceparent.as_str(), record.as_deref());
        self.traces.end(&mut span, &Ended { parent, began, record, result: &result });
        self.context.metrics.push(
            kind,
            result.as_ref().err().map(|fault| fault.code),
            began.elapsed().as_secs_f64(),
        );
        result
    }

    async fn carry_out(
        &self,
        push: Push,
        deadline: Option<Instant>,
        span: &mut Span,
        accepted_as: &mut Option<Arc<Record>>,
    ) -> Result<PushReply, Fault> {
        if !self.is_open.load(Ordering::Acquire) {
            let message = "this push-manager is starting or stopping; try again or ask another one";
            return Err(Fault::unavailable(message, Duration::from_millis(500)));
        }
        let accepted = Instant::now();
        let options = &push.options;
        let mut wait_until = accepted + options.wait.unwrap_or(self.wait);
        if let Some(deadline) = deadline {
            wait_until = wait_until.min(deadline.checked_sub(BEFORE_DEADLINE).unwrap_or(deadline));
        }
        let expires_us = options.ttl.map(|ttl| self.context.clock.at(accepted + ttl));
        self.fleet.vouch().await;
        let plan = self.plan(&push.target).await?;
        // One moment for both: the ledger's minute is read from either.
        let timestamp_ms = unix_millis();
        let id = MessageId::new(
            timestamp_ms.unsigned_abs(),
            self.context.incarnation,
            self.counter.fetch_add(1, Ordering::Relaxed),
        );
        let level = options.level;
        let is_stale = self.fleet.is_stale();
        let record = Record::new(id, push.target.clone(), options.wants_ack, &plan, is_stale);
        let message = Message { message_id: id, timestamp_ms, push, expires_us };
        describe(span, &message, &plan);
        self.context.ledger.accepted(timestamp_ms);
        self.receipts.add(record.clone());
        *accepted_as = Some(record.clone());
        let spans = self.send(&message, &plan, &record, span);
        if let (Absent::Asked, Target::Room(room_id)) = (plan.absent, &message.push.target) {
            self.absences.ask(room_id, plan.announced(), &record);
        }
        record.wait(level, wait_until).await;
        drop(spans);
        let state = record.state();
        let receipt = receipt::compose(&record, &state, level);
        for (outcome, count) in &receipt.outcomes {
            self.context.metrics.targets(outcome, *count);
        }
        self.context.metrics.targets("PENDING", receipt.pending);
        Ok(PushReply {
            message_id: message.message_id.to_string(),
            logged: false,
            degraded: receipt::degraded(&record, &state, level),
            receipt: Some(receipt),
            ..PushReply::default()
        })
    }

    async fn plan(&self, target: &Target) -> Result<Plan, Fault> {
        match target {
            Target::Room(room_id) => self.plan_room(room_id).await,
            Target::Users(users) => Ok(Plan::users(self.fleet.lanes(), &self.context, users)),
            Target::All => Ok(Plan::all(self.fleet.lanes(), &self.context)),
        }
    }

    /// A route proves that the room exists; without one its card must be known, or a controller asked.
    async fn plan_room(&self, room_id: &RoomId) -> Result<Plan, Fault> {
        let standing = self.cards.standing(room_id);
        let mut plan = Plan::room(self.fleet.lanes(), &self.context, room_id);
        let card = match standing {
            Standing::Deleted { version } if plan.card.version <= version => {
                return Err(Cards::deleted(room_id));
            }
            Standing::Unknown if !plan.has_route => {
                let answer = self.cards.ask(room_id).await;
                // Whoever joined meanwhile belongs to this push, and its room exists.
                plan = Plan::room(self.fleet.lanes(), &self.context, room_id);
                if !plan.has_route {
                    plan.absent = answer?;
                    return Ok(plan);
                }
                plan.card
            }
            Standing::Active(card) => plan.card.or_younger(card),
            Standing::Deleted { .. } | Standing::Unknown => plan.card,
        };
        if card.membership == Membership::Durable {
            plan.absent = Absent::Asked;
        }
        Ok(plan)
    }

    /// Puts the message on the lanes of the plan. Returns the spans of the lanes, which last as long as the push.
    fn send(&self, message: &Message, plan: &Plan, record: &Arc<Record>, span: &Span) -> Vec<Span> {
        let traceparent = span.traceparent();
        let mut spans = Vec::new();
        let mut shared: Option<Arc<DownItem>> = None;
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
                    let item = Arc::new(message.item(leg, traceparent));
                    if is_same_for_all {
                        shared = Some(item.clone());
                    }
                    item
                }
            };
            if !leg.is_trusted {
                self.context.metrics.blind_sends.increment(1);
            }
            let parcel = Parcel {
                item,
                ticket: Some((message.message_id, record.ticket(slot))),
                was_trusted: leg.is_trusted,
                expires_us: message.expires_us,
            };
            if let Err(refusal) = lane.send(parcel, message.bytes(leg)) {
                self.context.ledger.refused(lane.node_id(), message.timestamp_ms, leg.announced);
                record.ticket(slot).lost(match refusal {
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
        record.add_unreachable(unreachable);
        spans
    }

    /// A controller says that a room changed: remembers the card and passes it on to the nodes that may hold members.
    pub fn room_changed(&self, card: &RoomCard) {
        if !self.cards.learn(card) {
            return;
        }
        let item =
            Arc::new(DownItem { item: Some(down_item::Item::RoomChanged(pubsub::RoomCard::from(card))) });
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

    /// This life of ours.
    pub fn incarnation(&self) -> Incarnation {
        self.context.incarnation
    }
}

impl Message {
    fn item(&self, leg: &Leg, traceparent: String) -> DownItem {
        let target = match &self.push.target {
            Target::Room(room_id) => deliver::Target::RoomId(room_id.to_string()),
            Target::All => deliver::Target::All(AllTarget {}),
            Target::Users(users) => {
                let user_ids = leg.users.iter().map(|user| users[user.position].to_string()).collect();
                deliver::Target::Users(UserTargets { user_ids })
            }
        };
        DownItem {
            item: Some(down_item::Item::Deliver(Deliver {
                message_id: self.message_id.to_string(),
                target: Some(target),
                content: Some(self.push.content.clone()),
                timestamp_ms: self.timestamp_ms,
                exclude_user_ids: self.push.options.exclude_user_ids.clone(),
                traceparent,
                class: content::Class::from(self.push.options.class).into(),
                // Filled in when it leaves: what is left then.
                ttl_ms: self.expires_us.map(|_| 0),
                key: self.push.options.key.clone(),
                ack: self.push.options.wants_ack,
                ..Deliver::default()
            })),
        }
    }

    fn bytes(&self, leg: &Leg) -> usize {
        let users = match &self.push.target {
            Target::Users(users) => leg.users.iter().map(|user| users[user.position].as_str().len()).sum(),
            Target::Room(room_id) => room_id.as_str().len(),
            Target::All => 0,
        };
        let excluded: usize = self.push.options.exclude_user_ids.iter().map(String::len).sum();
        MESSAGE_BYTES + self.push.content.data.len() + self.push.options.key.len() + users + excluded
    }
}

fn describe(span: &mut Span, message: &Message, plan: &Plan) {
    if !span.is_recording() {
        return;
    }
    span.set("message_id", message.message_id.to_string());
    span.set("nodes.addressed", i64::from(plan.addressed));
    match &message.push.target {
        Target::Room(room_id) => span.set("room_id", room_id.to_string()),
        Target::Users(users) => span.set("users", users.len() as i64),
        Target::All => {}
    }
}

struct UnderWay<'a>(&'a AtomicUsize);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
