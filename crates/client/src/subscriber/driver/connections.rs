//! How the driver gets, moves, loses and releases its sessions.

use std::time::Duration;

use tokio::time::Instant;

use super::Driver;
use crate::subscriber::{
    address::NodeUrl,
    closing,
    event::{Event, Welcome},
    frame::position,
    nodes,
    position::{Log, Start},
    socket::{self, Ended, Session},
};

/// A session that lived this long was a success: the back-off starts over and failed nodes are forgiven.
const STABLE_AFTER: Duration = Duration::from_secs(5);
/// The old session of a move is closed after this time even if a room could not be joined on the new one.
const OVERLAP_MAX: Duration = Duration::from_secs(30);
/// It stays for this long after every room was: what no log keeps is then still on its way to it.
const LINGER: Duration = Duration::from_millis(500);
const NODES_REFRESH: Duration = Duration::from_secs(30);

impl Driver {
    pub(super) fn open(&mut self) {
        self.retry_at = None;
        self.last_session += 1;
        self.is_moving |= self.current.is_some();
        let url = self.directory.choose();
        let since = self.positions.get(&Log::Own).cloned();
        let since_text = since.as_ref().map(|since| format!("{}:{}", since.epoch, since.offset));
        let who = &self.identity;
        let query = [
            ("user_id", who.user_id.as_deref()),
            ("user_name", who.user_name.as_deref()),
            ("client_id", Some(who.client_id.as_str())),
            ("since", since_text.as_deref()),
            ("token", who.token.as_deref()),
        ];
        let request = url.with_query(query.into_iter().filter_map(|(name, value)| Some((name, value?))));
        self.opening = Some(Box::pin(socket::open(self.last_session, url, (request, who.protocol), since)));
    }

    pub(super) async fn on_opened(&mut self, session: Session) -> Option<Event> {
        let now = Instant::now();
        self.is_moving = false;
        if let Some(old) = self.current.take() {
            self.release().await;
            self.retiring = Some(old);
            self.release_at = Some(now + OVERLAP_MAX);
            self.collect(|rooms, step| rooms.session_ended(step));
        }
        self.directory.identify(&session.url, &session.welcome.node_id);
        self.stable_at = Some(now + STABLE_AFTER);
        self.tell_welcome(&session);
        let url = session.url.clone();
        self.current = Some(session);
        self.refresh_nodes(Some(&url));
        let (_, end) = self.step(|rooms, step| rooms.rejoin(step)).await;
        self.release_if_settled();
        end
    }

    fn tell_welcome(&mut self, session: &Session) {
        let frame = &session.welcome;
        let start = Start {
            session: session.number,
            retiring: self.retiring.as_ref().map(|retiring| retiring.number),
            since: session.since.clone(),
            given: position(&frame.epoch, frame.offset),
            is_recovered: frame.recovered == Some(true),
        };
        let (continuity, hole) = self.positions.begin(Log::Own, start);
        let welcome = Welcome {
            session_id: frame.session_id.clone(),
            node_id: frame.node_id.clone(),
            user_id: frame.user_id.clone(),
            client_id: frame.client_id.clone(),
            url: session.url.to_string(),
            continuity,
            position: self.positions.get(&Log::Own).cloned(),
        };
        let is_first = !std::mem::replace(&mut self.was_connected, true);
        self.outbox.push_back(if is_first { Event::Welcome(welcome) } else { Event::Reconnected(welcome) });
        self.outbox.extend(hole.map(|hole| Event::gap(None, continuity.into(), hole)));
    }

    pub(super) fn on_not_opened(&mut self, url: &NodeUrl, ended: Ended) -> Option<Event> {
        // Whatever another node says, the session that is there goes on.
        if self.current.is_none() {
            if ended.is_refused {
                return Some(Event::Closed { code: None, reason: ended.reason });
            }
            if !closing::is_reconnectable(ended.code) {
                return Some(Event::Closed { code: Some(ended.code), reason: ended.reason });
            }
        }
        self.directory.fail(url);
        self.connect_later(ended);
        None
    }

    pub(super) fn on_lost(&mut self, ended: Ended) -> Option<Event> {
        let session = self.current.take()?;
        (self.stable_at, self.refresh_at, self.release_at, self.retiring) = (None, None, None, None);
        self.collect(|rooms, step| rooms.session_ended(step));
        // A move claims the place of the old session, which may be told so before the new one is welcomed, and also when
        // the new one never is.
        let was_moving = std::mem::take(&mut self.is_moving);
        let is_own_takeover = ended.code == closing::TAKEN_OVER && was_moving;
        if !closing::is_reconnectable(ended.code) && !is_own_takeover {
            return Some(Event::Closed { code: Some(ended.code), reason: ended.reason });
        }
        if ended.code != closing::TOO_SLOW {
            self.directory.fail(&session.url);
        }
        self.connect_later(ended);
        None
    }

    /// An attempt in the air goes on, a promised time stands, else the next attempt waits its jitter.
    pub(super) fn connect_later(&mut self, ended: Ended) {
        let now = Instant::now();
        if self.opening.is_none() && self.retry_at.is_none() {
            let wait = ended.retry_after.unwrap_or_else(|| self.directory.retry().wait(self.attempt));
            self.attempt += 1;
            self.retry_at = Some(now + wait);
        }
        if self.current.is_some() {
            return;
        }
        self.refresh_nodes(None);
        let retry_in = self.retry_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let (code, reason) = (ended.code, ended.reason);
        self.outbox.push_back(Event::Disconnected { code, reason, retry_in });
    }

    pub(super) fn refresh_nodes(&mut self, first: Option<&NodeUrl>) {
        self.refresh_at = self.current.is_some().then(|| Instant::now() + NODES_REFRESH);
        if self.asking.is_none() {
            self.asking = Some(Box::pin(nodes::ask(self.directory.to_ask(first))));
        }
    }

    pub(super) fn release_if_settled(&mut self) {
        if let Some(session) = &self.current
            && self.retiring.is_some()
            && self.rooms.is_settled_on(session.number)
        {
            let soon = Instant::now() + LINGER;
            self.release_at = Some(self.release_at.map_or(soon, |at| at.min(soon)));
        }
    }

    pub(super) async fn release(&mut self) {
        self.release_at = None;
        self.take_acks();
        if let Some(old) = self.retiring.take() {
            old.close().await;
        }
    }

    pub(super) async fn goodbye(&mut self) {
        self.take_acks();
        self.rooms.close();
        self.opening = None;
        self.release().await;
        if let Some(session) = self.current.take() {
            session.close().await;
        }
    }

    /// Ends for good: nothing is taken any more, and the application gets what is left.
    pub(super) async fn end(mut self) {
        self.commands.close();
        while self.commands.try_recv().is_ok() {}
        self.goodbye().await;
        while let Some(event) = self.outbox.pop_front() {
            if self.events.send(event).await.is_err() {
                return;
            }
        }
    }
}
