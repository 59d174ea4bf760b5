//! One push as its push-manager remembers it.

use std::collections::BTreeMap;

use roomcast_proto::pubsub::{PushEvidence, PushHop};
use roomcast_types::UserId;

use crate::{
    clock::micros,
    push::{Heard, Level, Record, RecordLeg, Target, Told, compose},
};

/// With what became of it for one user, where the push names that one.
pub fn push(manager_id: &str, record: &Record, user: Option<&UserId>) -> PushEvidence {
    let state = record.state();
    let level = if record.wants_ack { Level::Acked } else { Level::Settled };
    let receipt = compose(record, &state, level);
    let (target, room_id) = match &record.target {
        Target::Room(room) => ("ROOM", room.to_string()),
        Target::Users(_) => ("USERS", String::new()),
        Target::All => ("ALL", String::new()),
    };
    let own = receipt.users.iter().find(|own| user.is_some_and(|user| own.user_id == user.as_str()));
    let mut outcomes = receipt.outcomes;
    if receipt.pending > 0 {
        outcomes.insert("PENDING".to_owned(), receipt.pending);
    }
    let legs = record.legs.iter().zip(&state.heard);
    PushEvidence {
        message_id: record.message_id.to_string(),
        manager_id: manager_id.to_owned(),
        target: target.to_owned(),
        room_id,
        users: record.target.users().len() as u64,
        names_user: own.is_some(),
        ack: record.wants_ack,
        age_ms: u64::try_from(record.accepted.elapsed().as_millis()).unwrap_or(u64::MAX),
        targets: receipt.targets,
        outcomes,
        user_outcome: own.map(|own| own.outcome.clone()).unwrap_or_default(),
        unreachable: state.unreachable,
        hops: legs.map(|(leg, heard)| hop(record, leg, heard, user)).collect(),
        epoch: record.kept.position.map(|position| position.epoch.to_string()).unwrap_or_default(),
        offset: record.kept.position.map_or(0, |position| position.offset),
        log_unavailable: record.kept.is_log_away,
    }
}

fn hop(record: &Record, leg: &RecordLeg, heard: &Heard, user: Option<&UserId>) -> PushHop {
    let announced = match (&record.target, user) {
        (Target::Users(users), Some(user)) => {
            let own = leg.users.iter().filter(|own| users.get(own.position) == Some(user));
            own.map(|own| own.announced).sum()
        }
        _ => leg.announced,
    };
    let told = heard.told.as_ref();
    PushHop {
        node_id: leg.node_id.to_string(),
        trusted: leg.is_awaited,
        announced,
        sent_us: leg.sent_us().map(u64::from),
        wait_us: told.map(|told| told.wait_us.into()),
        walk_us: told.map(|told| told.walk_us.into()),
        heard_us: heard.at.filter(|_| told.is_some()).map(|at| micros(at - record.accepted)),
        lost: heard.lost.map(|loss| loss.as_str().to_owned()).unwrap_or_default(),
        outcomes: told.map(outcomes).unwrap_or_default(),
    }
}

fn outcomes(told: &Told) -> BTreeMap<String, u64> {
    let counts = [
        ("WRITTEN", told.written),
        ("ACKED", told.acked),
        ("PENDING", told.pending),
        ("FILTERED", told.filtered),
        ("EXPIRED", told.expired),
        ("SUPERSEDED", told.superseded),
        ("DROPPED_SLOW", told.dropped_slow),
        ("CLOSED", told.closed),
    ];
    let counted = counts.into_iter().filter(|(_, count)| *count > 0);
    counted.map(|(word, count)| (word.to_owned(), count)).collect()
}
