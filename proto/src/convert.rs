//! Between the words of the wire and those of `types`.

use roomcast_types::{
    Class, Fault, InvalidId, LogPolicy, Membership, OnLogFailure, RoomCard, RoomId, RoomState,
};

use crate::pubsub::{self, content, room_card};

impl From<Membership> for room_card::Membership {
    fn from(membership: Membership) -> Self {
        match membership {
            Membership::Follow => Self::Follow,
            Membership::Durable => Self::Durable,
        }
    }
}

impl From<room_card::Membership> for Membership {
    fn from(membership: room_card::Membership) -> Self {
        match membership {
            room_card::Membership::Follow => Self::Follow,
            room_card::Membership::Durable => Self::Durable,
        }
    }
}

impl From<LogPolicy> for room_card::Log {
    fn from(log: LogPolicy) -> Self {
        match log {
            LogPolicy::Recent => Self::Recent,
            LogPolicy::None => Self::None,
            LogPolicy::Durable => Self::DurableLog,
        }
    }
}

impl From<room_card::Log> for LogPolicy {
    fn from(log: room_card::Log) -> Self {
        match log {
            room_card::Log::Recent => Self::Recent,
            room_card::Log::None => Self::None,
            room_card::Log::DurableLog => Self::Durable,
        }
    }
}

impl From<OnLogFailure> for room_card::OnLogFailure {
    fn from(on: OnLogFailure) -> Self {
        match on {
            OnLogFailure::Degrade => Self::Degrade,
            OnLogFailure::Refuse => Self::Refuse,
        }
    }
}

impl From<room_card::OnLogFailure> for OnLogFailure {
    fn from(on: room_card::OnLogFailure) -> Self {
        match on {
            room_card::OnLogFailure::Degrade => Self::Degrade,
            room_card::OnLogFailure::Refuse => Self::Refuse,
        }
    }
}

impl From<&RoomCard> for pubsub::RoomCard {
    fn from(card: &RoomCard) -> Self {
        let state = match card.state {
            RoomState::Active => room_card::State::Active,
            RoomState::Deleted => room_card::State::Deleted,
        };
        Self {
            room_id: card.room_id.to_string(),
            version: card.version,
            state: state.into(),
            membership: room_card::Membership::from(card.membership).into(),
            max_users: card.max_users,
            log: room_card::Log::from(card.log).into(),
            on_log_failure: room_card::OnLogFailure::from(card.on_log_failure).into(),
        }
    }
}

impl TryFrom<&pubsub::RoomCard> for RoomCard {
    type Error = InvalidId;

    /// A word of an enumeration this build does not know reads as the default.
    fn try_from(card: &pubsub::RoomCard) -> Result<Self, InvalidId> {
        Ok(Self {
            room_id: RoomId::new(&card.room_id)?,
            version: card.version,
            state: match card.state() {
                room_card::State::Active => RoomState::Active,
                room_card::State::Deleted => RoomState::Deleted,
            },
            membership: card.membership().into(),
            max_users: card.max_users,
            log: card.log().into(),
            on_log_failure: card.on_log_failure().into(),
        })
    }
}

impl From<Class> for content::Class {
    fn from(class: Class) -> Self {
        match class {
            Class::Ordered => Self::Ordered,
            Class::Expiring => Self::Expiring,
            Class::Latest => Self::Latest,
            Class::Critical => Self::Critical,
        }
    }
}

/// The class of a message: the one that was asked for, or that of its type.
pub fn class(asked: content::Class, content_type: content::Type) -> Class {
    match asked {
        content::Class::Ordered => Class::Ordered,
        content::Class::Expiring => Class::Expiring,
        content::Class::Latest => Class::Latest,
        content::Class::Critical => Class::Critical,
        content::Class::ByType => match content_type {
            content::Type::Text | content::Type::Translation => Class::Ordered,
            content::Type::Audio => Class::Expiring,
            content::Type::State => Class::Latest,
            content::Type::System => Class::Critical,
        },
    }
}

/// Reads a membership number of a request; a number outside the list is BAD_REQUEST.
pub fn membership(number: i32) -> Result<Membership, Fault> {
    room_card::Membership::try_from(number).map(Membership::from).map_err(|_| {
        Fault::bad_request(format!("membership {number} is unknown; it takes FOLLOW (0) or DURABLE (1)"))
    })
}

/// Reads a log policy of a request; a number outside the list is BAD_REQUEST.
pub fn log_policy(number: i32) -> Result<LogPolicy, Fault> {
    room_card::Log::try_from(number).map(LogPolicy::from).map_err(|_| {
        Fault::bad_request(format!(
            "log {number} is unknown; it takes RECENT (0), NONE (1) or DURABLE_LOG (2)"
        ))
    })
}

/// Reads what a request wants when the log does not answer; a number outside the list is BAD_REQUEST.
pub fn on_log_failure(number: i32) -> Result<OnLogFailure, Fault> {
    room_card::OnLogFailure::try_from(number).map(OnLogFailure::from).map_err(|_| {
        Fault::bad_request(format!("on_log_failure {number} is unknown; it takes DEGRADE (0) or REFUSE (1)"))
    })
}
