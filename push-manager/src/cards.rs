//! Room cards: which rooms are known to exist, and who to ask about the others.

use std::{sync::Arc, time::Duration};

use papaya::{HashMap, Operation};
use roomcast_proto::pubsub::{GetRoomInfoRequest, RoomInfo};
use roomcast_types::{CardMark, Code, Fault, Membership, RoomCard, RoomId, RoomState};
use tokio::time::Instant;

use crate::{controllers::Controllers, lane::Context, metrics::Lookup, push::Absent};

/// Cards kept at once; a further one is asked for each time.
const CARDS_MAX: usize = 100_000;
/// How long one controller may take.
const ASK: Duration = Duration::from_millis(500);

/// What is known of a room without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It exists.
    Active(CardMark),
    /// It was deleted by request, at this version of its card.
    Deleted {
        /// Of the card.
        version: u64,
    },
    /// Nothing: it may exist.
    Unknown,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    card: CardMark,
    state: RoomState,
    until: Instant,
}

/// What a controller said of a room.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    /// Its card; version 0 where the controller did not say.
    pub card: CardMark,
    /// Its members who are away.
    pub absent: Absent,
}

/// The cards. That a room is unknown is never remembered: it may be created at any moment.
#[derive(Debug)]
pub struct Cards {
    known: HashMap<RoomId, Known>,
    controllers: Arc<Controllers>,
    context: Arc<Context>,
    ttl: Duration,
    deleted_ttl: Duration,
}

impl Cards {
    /// Knows nothing yet.
    pub fn new(
        controllers: Arc<Controllers>,
        context: Arc<Context>,
        ttl: Duration,
        deleted_ttl: Duration,
    ) -> Self {
        Self { known: HashMap::new(), controllers, context, ttl, deleted_ttl }
    }

    /// What is known of a room. Takes no lock.
    pub fn standing(&self, room_id: &RoomId) -> Standing {
        match self.known.pin().get(room_id) {
            Some(known) if known.until > Instant::now() => match known.state {
                RoomState::Active => Standing::Active(known.card),
                RoomState::Deleted => Standing::Deleted { version: known.card.version },
            },
            _ => Standing::Unknown,
        }
    }

    /// Takes a card in; whether it is news, or the same again. Older ones are forgotten.
    pub fn learn(&self, card: &RoomCard) -> bool {
        let now = Instant::now();
        let ttl = match card.state {
            RoomState::Active => self.ttl,
            RoomState::Deleted => self.deleted_ttl,
        };
        let fresh = Known { card: card.into(), state: card.state, until: now + ttl };
        let known = self.known.pin();
        if known.len() >= CARDS_MAX && !known.contains_key(&card.room_id) {
            known.retain(|_, known| known.until > now);
            if known.len() >= CARDS_MAX {
                return true;
            }
        }
        let mut is_news = true;
        known.compute(card.room_id.clone(), |held| match held {
            Some((_, held)) if held.card.version > fresh.card.version && held.until > now => {
                is_news = false;
                Operation::Abort(())
            }
            _ => {
                is_news = true;
                Operation::Insert(fresh)
            }
        });
        is_news
    }

    /// Asks a controller whether a room exists, and which of its members are away. NOT_FOUND, ROOM_DELETED as it says;
    /// UNAVAILABLE when none answers.
    pub async fn ask(&self, room_id: &RoomId) -> Result<Answer, Fault> {
        let request =
            GetRoomInfoRequest { room_id: room_id.to_string(), card_only: true, ..Default::default() };
        let answer = self
            .controllers
            .ask(ASK, |mut controller| {
                let request = request.clone();
                async move { controller.get_room_info(request).await }
            })
            .await;
        let metrics = &self.context.metrics;
        metrics.controllers_passed_over.set(self.controllers.passed_over() as f64);
        let info = match answer {
            Ok(info) => info,
            Err(fault) => {
                let is_gone = matches!(fault.code, Code::NotFound | Code::RoomDeleted);
                metrics.lookup(if is_gone { Lookup::Gone } else { Lookup::Unanswered });
                return Err(fault);
            }
        };
        match info.card.as_ref().and_then(|card| RoomCard::try_from(card).ok()) {
            Some(card) if card.state == RoomState::Deleted => {
                metrics.lookup(Lookup::Gone);
                self.learn(&card);
                Err(Self::deleted(room_id))
            }
            card => {
                metrics.lookup(Lookup::Found);
                let mark = card.as_ref().map(CardMark::from).unwrap_or_default();
                if let Some(card) = card {
                    self.learn(&card);
                }
                let is_durable = mark.membership == Membership::Durable;
                Ok(Answer { card: mark, absent: if is_durable { absent(&info) } else { Absent::None } })
            }
        }
    }

    /// What a deleted room answers.
    pub fn deleted(room_id: &RoomId) -> Fault {
        Fault::new(Code::RoomDeleted, format!("room {room_id} was deleted"))
    }
}

/// Without presence a controller shows everybody as offline, which says nothing.
fn absent(info: &RoomInfo) -> Absent {
    if info.degraded.iter().any(|word| word == "PRESENCE_UNAVAILABLE") {
        return Absent::Unknown;
    }
    Absent::Count(info.member_count.saturating_sub(info.online_count))
}
