//! What is kept of a message before it goes out: its place in a log, its idempotency key, its rows in inboxes.
//!
//! Whoever comes back reads what was kept before the routes were looked up, or is in the routes: so nothing that was kept
//! passes by anybody.

use roomcast_store::log::{Append, Appended, Idempotency, LogKey};
use roomcast_types::{CardMark, Code, Fault, LogPolicy, MessageId, OnLogFailure, Position};

use super::{Pusher, message::Message, order::Turn, request::Target};

/// What was kept, as the record of a push remembers it.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    /// Its place in the log.
    pub position: Option<Position>,
    /// In a durable log, from which members who are away for days catch up.
    pub is_durable: bool,
    /// Its key was used before: this is that push once more.
    pub is_duplicate: bool,
    /// The log did not answer, and the push goes on without.
    pub is_log_away: bool,
    /// By user, whether it lies in the inbox; empty where none is asked for.
    pub stored: Vec<bool>,
    /// Some inbox was full.
    pub is_inbox_full: bool,
}

/// Where a push belongs, and under which rules.
struct Home {
    key: LogKey,
    policy: LogPolicy,
    on_failure: OnLogFailure,
}

impl Pusher {
    /// Keeps what is to be kept of a message, and returns when it is its turn to go out. The message takes the id and the
    /// place that it has now.
    pub(super) async fn keep(
        &self,
        message: &mut Message,
        card: CardMark,
    ) -> Result<(Kept, Option<Turn<'_>>), Fault> {
        let options = &message.push.options;
        let home = self.home(&message.push.target, card);
        let is_logged =
            home.policy != LogPolicy::None && options.log.unwrap_or(!options.class.may_be_dropped());
        let (is_stored, has_key) = (options.is_stored, !options.idempotency_key.is_empty());
        let mut kept = Kept::default();
        // A full inbox refuses the push before it is logged; but whether it is a new one, its key says.
        if is_stored && !has_key {
            Box::pin(self.store(message, &mut kept)).await?;
        }
        let mut turn = None;
        if is_logged || has_key {
            let own = is_logged.then(|| self.order.begin(home.key.clone()));
            Box::pin(self.append(message, home, is_logged, &mut kept)).await?;
            turn = own.filter(|_| kept.position.is_some() && !kept.is_duplicate);
        }
        if is_stored && has_key {
            Box::pin(self.store(message, &mut kept)).await?;
        }
        if let (Some(turn), Some(position)) = (&turn, kept.position) {
            turn.come(position).await;
        }
        Ok((kept, turn))
    }

    fn home(&self, target: &Target, card: CardMark) -> Home {
        let (key, policy, on_failure) = match target {
            Target::Room(room_id) => (LogKey::Room(room_id.clone()), card.log, card.on_log_failure),
            Target::Users(users) => match users.as_slice() {
                [one] => (LogKey::User(one.clone()), self.archive.user_policy(), OnLogFailure::Degrade),
                _ => (LogKey::Unaddressed, LogPolicy::None, OnLogFailure::Degrade),
            },
            Target::All => (LogKey::Unaddressed, LogPolicy::None, OnLogFailure::Degrade),
        };
        Home { key, policy, on_failure }
    }

    async fn append(
        &self,
        message: &mut Message,
        home: Home,
        is_logged: bool,
        kept: &mut Kept,
    ) -> Result<(), Fault> {
        let Home { key, policy, on_failure } = home;
        let idempotency_key = &message.push.options.idempotency_key;
        let idempotency = (!idempotency_key.is_empty())
            .then(|| Idempotency { key: idempotency_key.clone(), digest: message.push.digest() });
        let payload = is_logged.then(|| message.payload());
        let append = Append { key, message_id: message.message_id, payload, idempotency };
        match self.archive.append(policy, &append).await {
            Ok(Appended::New(position)) => kept.position = position,
            Ok(Appended::Repeat { message_id, position }) => {
                kept.position = position;
                kept.is_duplicate = true;
                message.message_id = message_id;
                message.timestamp_ms = i64::try_from(message_id.unix_ms()).unwrap_or(i64::MAX);
            }
            Ok(Appended::KeyTaken { message_id }) => return Err(key_taken(idempotency_key, message_id)),
            Err(fault) => {
                let is_needed = is_logged && policy == LogPolicy::Durable;
                if is_needed || on_failure == OnLogFailure::Refuse {
                    return Err(Fault {
                        message: format!("the log does not answer: {}", fault.message),
                        ..fault
                    });
                }
                kept.is_log_away = true;
            }
        }
        message.position = kept.position;
        kept.is_durable = kept.position.is_some() && policy == LogPolicy::Durable;
        Ok(())
    }

    /// Puts the message into the inboxes of its users. A single user whose inbox is full refuses the push.
    async fn store(&self, message: &mut Message, kept: &mut Kept) -> Result<(), Fault> {
        let options = &message.push.options;
        let users = message.push.target.users();
        let is_excluded = |user: &&roomcast_types::UserId| {
            options.exclude_user_ids.iter().any(|excluded| excluded == user.as_str())
        };
        let wanted: Vec<_> = users.iter().filter(|user| !is_excluded(user)).cloned().collect();
        let ttl = options.ttl.or(options.stored_ttl);
        let stored = self.archive.store(&wanted, message.message_id, message.payload(), ttl).await?;
        let mut stored = stored.into_iter();
        kept.stored = users.iter().map(|user| !is_excluded(&user) && stored.next() == Some(true)).collect();
        kept.is_inbox_full = kept.stored.iter().filter(|is_stored| **is_stored).count() < wanted.len();
        message.is_stored = kept.stored.contains(&true);
        match (users, kept.is_inbox_full) {
            ([one], true) => {
                let most = self.archive.inbox_messages();
                let message = format!("{most} messages wait in the inbox of user {one} (log.inbox_messages)");
                Err(Fault::new(Code::InboxFull, message))
            }
            _ => Ok(()),
        }
    }
}

fn key_taken(key: &str, message_id: MessageId) -> Fault {
    let message = format!("options.idempotency_key {key:?} was used for another message, {message_id}");
    Fault::new(Code::AlreadyExists, message)
}
