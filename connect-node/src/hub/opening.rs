//! A session opens: its user is announced and its slot claimed at the same time, then it is welcomed.

use std::sync::Arc;

use roomcast_proto::pubsub::SessionRecord;
use roomcast_types::UserId;
use tokio::{sync::oneshot, time::Instant};

use super::{Core, session::Session, topic::TopicId};
use crate::{
    log::returning::{Since, Standing},
    metrics::Refusal,
    ports::{CloseCode, OpenedSession, SessionKey, ToShard},
    report::outbox::{Answer, Asked},
    wire::Encoding,
};

/// What a session waits for before its welcome.
struct Opening {
    user: UserId,
    topic: TopicId,
    announced: Option<oneshot::Receiver<()>>,
    since: Option<Since>,
    encoding: Encoding,
    claim: Option<Asked>,
}

impl Core {
    /// A socket was upgraded.
    pub(super) fn open(self: &Arc<Self>, opened: OpenedSession) {
        let key = opened.key;
        let opening = self.begin(opened);
        self.tasks.spawn(self.clone().welcome(key, opening));
    }

    fn begin(&self, opened: OpenedSession) -> Opening {
        let mut state = self.state();
        let session = Session {
            id: opened.session_id,
            user: opened.user_id.clone(),
            client_id: opened.client_id,
            user_name: opened.user_name,
            encoding: opened.encoding,
            opened_at: opened.opened_at,
            stamp: None,
            user_topic: None,
            is_open: false,
            inbox: None,
            rooms: Vec::new(),
            busy: Vec::new(),
        };
        // The stamp is set when the change is sent: only then the store's clock may be known.
        let record: SessionRecord = session.record(0, std::iter::empty());
        let claim = if state.breaker.is_open(Instant::now()) {
            // Its slice claims the slot later.
            state.outbox.mark_unsure(opened.session_id);
            self.metrics.controller_refusals(Refusal::Away).increment(1);
            None
        } else {
            state.outbox.opened(opened.key, opened.session_id, record)
        };
        // Kept first: the announcement tells how many sessions are here, this one included.
        state.by_id[opened.session_id.slice()].insert(opened.session_id, opened.key);
        state.readers.add(session.encoding);
        state.sessions.insert(opened.key, Box::new(session));
        let (topic, announced) = state.enter_user(&opened.user_id, Instant::now());
        if let Some(session) = state.sessions.get_mut(&opened.key) {
            session.user_topic = Some(topic);
        }
        state.report_wake.notify_one();
        let OpenedSession { user_id: user, since, encoding, .. } = opened;
        Opening { user, topic, announced, since, encoding, claim }
    }

    async fn welcome(self: Arc<Self>, key: SessionKey, opening: Opening) {
        let began = Instant::now();
        let Opening { user, topic, announced, since, encoding, claim } = opening;
        let sequence = self.user_sequence(&user);
        let prepare = async {
            if let Some(announced) = announced {
                // An error means that the announcement went with the node.
                let _ = announced.await;
            }
            self.metrics.announce_seconds.record(began.elapsed());
            let sequence = sequence.as_ref()?;
            sequence.begin(&self).await;
            Some(sequence.prepare(&self, since, encoding).await)
        };
        let (returned, holds_slot) = tokio::join!(prepare, self.claim(claim));
        let (mut order, mut standing) =
            (None, Standing { recovered: since.map(|_| false), ..Standing::default() });
        if let (Some(sequence), Some(returned)) = (&sequence, returned) {
            let order = order.insert(sequence.lock().await);
            standing = order.standing(&self, returned, None, encoding);
        }
        // The place is taken first: from the moment on that pushes find the session, they come behind its welcome.
        let Some(place) = self.shards().reserve(key.shard).await else { return };
        let mut state = self.state();
        let state = &mut *state;
        let Some(session) = state.sessions.get_mut(&key) else { return };
        if !holds_slot {
            place.send(ToShard::Close { session: key, code: CloseCode::TakenOver });
            return;
        }
        session.is_open = true;
        if let Some(sessions) = state.users.settle(&user, topic) {
            if sessions.keys.is_empty() {
                // Most have one, and a list grows by four.
                sessions.keys.reserve_exact(1);
            }
            sessions.keys.push(key);
        }
        place.send(ToShard::Welcome { session: key, standing });
        // Announced before it is read: what is stored from now on comes here by itself.
        self.read_inbox(key, user, None);
    }

    /// Whether the session may live: only a controller that says so takes its slot away.
    async fn claim(&self, asked: Option<Asked>) -> bool {
        let Some(asked) = asked else { return true };
        match tokio::time::timeout(self.settings.controller_timeout, asked.answer).await {
            Ok(Ok(Answer::Slot(is_held))) => is_held,
            Ok(_) => true,
            Err(_) => {
                self.state().outbox.give_up(asked.request);
                true
            }
        }
    }

    /// A session ended.
    pub(super) fn close(&self, key: SessionKey) {
        let now = Instant::now();
        let mut state = self.state();
        let Some(mut session) = state.sessions.remove(&key) else { return };
        state.readers.remove(session.encoding);
        state.by_id[session.id.slice()].remove(&session.id);
        if session.is_open
            && let Some(sessions) = state.users.get_mut(&session.user)
        {
            sessions.keys.retain(|target| *target != key);
        }
        // Rooms it was on its way into: the join that is under way came before this change.
        let on_the_way = session.busy.iter().map(|busy| &busy.room).filter(|room| !session.is_in(room));
        let rooms = session.rooms.iter().chain(on_the_way);
        let stamp = state.stamp_of(&session);
        let record = session.record(stamp, rooms);
        state.outbox.closed(key, session.id, record);
        if let Some(topic) = session.user_topic {
            state.leave_user(&session.user, topic, session.is_open, now);
        }
        for room in session.rooms.drain(..) {
            state.leave_room(&room, key.shard, now);
        }
        state.report_wake.notify_one();
    }
}
