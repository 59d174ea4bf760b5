//! `{u:U}`: the sessions of users and the slots they hold.

use std::collections::HashMap;

use roomcast_types::{SessionId, SessionPolicy, UserId};

use crate::presence::{Claim, SessionEntry};

#[derive(Debug, Default)]
pub(super) struct Users {
    /// Never an empty list.
    sessions: HashMap<UserId, Vec<SessionEntry>>,
}

/// Who of two claimers of a slot holds it: the later stamp, then the greater id.
fn rank(entry: &SessionEntry) -> (roomcast_types::StoreTime, SessionId) {
    (entry.stamp, entry.session_id)
}

impl Users {
    pub(super) fn claim(&mut self, user: &UserId, entry: &SessionEntry, policy: SessionPolicy) -> Claim {
        let sessions = self.sessions.entry(user.clone()).or_default();
        let is_rival = |other: &SessionEntry| {
            other.session_id != entry.session_id
                && (policy == SessionPolicy::Single || other.client_id == entry.client_id)
        };
        let strongest = sessions.iter().filter(|other| is_rival(other)).max_by_key(|other| rank(other));
        if let Some(holder) = strongest.filter(|holder| rank(holder) > rank(entry)) {
            let holder = holder.session_id;
            sessions.retain(|other| other.session_id != entry.session_id);
            return Claim::Lost { holder };
        }
        let displaced = sessions.extract_if(.., |other| is_rival(other)).collect();
        match sessions.iter_mut().find(|other| other.session_id == entry.session_id) {
            Some(own) => own.clone_from(entry),
            None => sessions.push(entry.clone()),
        }
        Claim::Held { displaced }
    }

    pub(super) fn drop_session(&mut self, user: &UserId, session: SessionId) -> bool {
        let Some(sessions) = self.sessions.get_mut(user) else { return false };
        let before = sessions.len();
        sessions.retain(|entry| entry.session_id != session);
        let was_there = sessions.len() < before;
        if sessions.is_empty() {
            self.sessions.remove(user);
        }
        was_there
    }

    pub(super) fn sessions(&self, user: &UserId) -> Vec<SessionEntry> {
        let mut sessions = self.sessions.get(user).cloned().unwrap_or_default();
        sessions.sort_unstable_by_key(|entry| std::cmp::Reverse(rank(entry)));
        sessions
    }
}
