//! What clients say: reading the socket, and acting on each frame.

use std::time::{Duration, SystemTime};

use roomcast_types::{Code, Fault, MessageId, Position, RoomId};
use tokio_tungstenite::tungstenite::Message;

use super::{
    session::{Closing, Phase, Seat},
    state::Shard,
    websocket::Broken,
};
use crate::{
    log::returning::Since,
    ports::{Arrival, CloseCode, LeftReason, SessionKey},
    tally::TargetOutcome,
    wire::{self, BadFrame, ClientFrame, ServerFrame},
};

/// Code for a close frame without one.
const NO_CODE: u16 = 1005;

impl Shard {
    /// Reads the socket once and acts on what came.
    pub(super) fn read(&mut self, key: SessionKey) {
        self.flow.refresh();
        let mut scratch = self.take_scratch();
        self.read_into(key, &mut scratch);
        self.scratch = scratch;
    }

    fn read_into(&mut self, key: SessionKey, scratch: &mut [u8]) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if std::mem::take(&mut session.read_ahead) {
            return self.take_input(key, &[]);
        }
        match session.stream.try_read(scratch) {
            Ok(0) => self.finish(key, None),
            Ok(read) => {
                session.heard();
                if !matches!(session.phase, Phase::Closing(Closing { discards: true, .. })) {
                    self.take_input(key, &scratch[..read]);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => self.finish(key, None),
        }
    }

    /// Acts on every frame that is complete with this input.
    fn take_input(&mut self, key: SessionKey, mut input: &[u8]) {
        while let Some(session) = self.sessions.get_mut(key)
            && let Some(message) = session.next_message(&mut input, &mut self.flow)
        {
            match message {
                Ok(Message::Close(close)) => {
                    return self.peer_closed(key, close.map_or(NO_CODE, |close| close.code.into()));
                }
                Err(Broken::Closed) => return self.peer_closed(key, NO_CODE),
                Err(Broken::TooBig) => return self.close(key, CloseCode::TooBig, true),
                Err(Broken::NotText) => return self.close(key, CloseCode::InvalidData, true),
                Err(Broken::Protocol) => return self.close(key, CloseCode::Protocol, true),
                Ok(_) if !session.is_open() => {}
                Ok(Message::Text(text)) => {
                    let frame = wire::parse_text(session.encoding, &text);
                    self.client_frame(key, frame);
                }
                Ok(Message::Binary(bytes)) => {
                    let frame = wire::parse_binary(session.encoding, &bytes);
                    self.client_frame(key, frame);
                }
                Ok(message) => {
                    if matches!(message, Message::Pong(_)) {
                        session.ponged(self.flow.now);
                    }
                    self.control_frame(key);
                }
            }
        }
        if let Some(session) = self.sessions.get_mut(key) {
            session.queue_control(&mut self.flow);
            self.flush(key);
        }
    }

    /// A ping or a pong. Pongs of ours are queued without asking, so a flood must neither pile up nor be read fast.
    fn control_frame(&mut self, key: SessionKey) {
        let (rate, burst) = (self.config().frames_per_second, self.config().frames_burst);
        let Some(session) = self.sessions.get_mut(key) else { return };
        if session.meter.take(self.flow.now, rate, burst).is_err() {
            session.pause(key.slot, &mut self.flow);
        }
        if !session.is_within_limits(&self.flow) {
            self.flush(key);
        }
        if self.sessions.get(key).is_some_and(|session| !session.is_within_limits(&self.flow)) {
            self.close(key, CloseCode::TooSlow, false);
        }
    }

    fn client_frame(&mut self, key: SessionKey, frame: Result<ClientFrame, BadFrame>) {
        let config = self.flow.config.clone();
        let Some(session) = self.sessions.get_mut(key) else { return };
        if let Err(wait) = session.meter.take(self.flow.now, config.frames_per_second, config.frames_burst) {
            session.pause(key.slot, &mut self.flow);
            self.metrics.frames_in.limited.increment(1);
            let id = match &frame {
                Ok(frame) => frame.id(),
                Err(bad) => bad.id,
            };
            return self.refuse(key, id, None, &rate_limited(&config, wait));
        }
        let counts = &self.metrics.frames_in;
        match frame {
            Ok(ClientFrame::Join { id, room, since }) => {
                counts.join.increment(1);
                self.join(key, id, room, since);
            }
            Ok(ClientFrame::Leave { id, room }) => {
                counts.leave.increment(1);
                self.leave(key, id, room);
            }
            Ok(ClientFrame::Ack { message_ids }) => {
                counts.ack.increment(1);
                self.acked(key, &message_ids);
            }
            Ok(ClientFrame::Received { items }) => {
                counts.received.increment(1);
                self.received(key, &items);
            }
            Ok(ClientFrame::Ping { id }) => {
                counts.ping.increment(1);
                self.say(key, &ServerFrame::Pong { id });
            }
            Ok(ClientFrame::Publish { id, room }) => {
                counts.publish.increment(1);
                let fault = Fault::new(Code::Forbidden, "this room takes no messages from clients");
                self.refuse(key, id, room.as_ref(), &fault);
            }
            Err(bad) => {
                counts.bad.increment(1);
                self.bad_frame(key, &bad);
            }
        }
    }

    /// Counts what was written to this session, wants acknowledgement and was not acknowledged before. The hub hears of
    /// what lies in the inbox.
    fn acked(&mut self, key: SessionKey, message_ids: &[Option<MessageId>]) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let (mut counted, mut stored, mut read) = (0, Vec::new(), Vec::new());
        for message_id in message_ids.iter().flatten() {
            let place = session.inbox.iter().position(|own| own == message_id);
            let entry = session.unacked.take(*message_id);
            counted += u64::from(place.is_some() || entry.is_some());
            if place.is_some() || entry.as_ref().is_some_and(|entry| entry.traits.is_stored) {
                stored.push(*message_id);
            }
            if let Some(place) = place {
                session.inbox.swap_remove(place);
            }
            if let Some(entry) = entry {
                if let Some(place) = &entry.traits.place {
                    note_furthest(&mut read, place);
                }
                entry.settle(TargetOutcome::Acked, session.session_id, &mut self.flow.news);
            }
        }
        if session.inbox.is_empty() {
            session.inbox = Vec::new();
        }
        self.metrics.acks.counted.increment(counted);
        self.metrics.acks.unknown.increment(message_ids.len() as u64 - counted);
        if !stored.is_empty() {
            self.hub.acknowledged(key, stored);
        }
        for (room, position) in read {
            self.hub.has_read(key, room, position);
        }
    }

    /// Hands on what was written to this session a short while ago, belongs to a trace and was not reported before. The
    /// first such frame says that the session reports at all.
    fn received(&mut self, key: SessionKey, items: &[(Option<MessageId>, u64)]) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let (traced, session_id) = (session.traced.get_or_insert_default(), session.session_id);
        let now = SystemTime::now();
        let mut counted = 0;
        for (message_id, at_ms) in items {
            let Some(written) = message_id.and_then(|id| traced.take(id, now)) else { continue };
            let said = SystemTime::UNIX_EPOCH + Duration::from_millis(*at_ms);
            counted += 1;
            self.hub.received(Arrival {
                message_id: written.message_id,
                session_id,
                traceparent: written.traceparent,
                written_at: written.at,
                received_at: said.min(now).max(written.at),
            });
        }
        self.metrics.arrivals.counted.increment(counted);
        self.metrics.arrivals.unknown.increment(items.len() as u64 - counted);
    }

    fn bad_frame(&mut self, key: SessionKey, bad: &BadFrame) {
        self.refuse(key, bad.id, None, &bad.fault);
        let limit = self.config().bad_frames_per_minute;
        let Some(session) = self.sessions.get_mut(key) else { return };
        if bad.is_malformed && !session.meter.tolerates_bad(self.flow.now, limit) {
            self.close(key, CloseCode::Policy, true);
        }
    }

    fn refuse(&mut self, key: SessionKey, id: Option<u64>, room: Option<&RoomId>, fault: &Fault) {
        self.say(key, &ServerFrame::Error { id, room, fault });
    }

    /// Asks the hub for a place in a room.
    pub(super) fn join(&mut self, key: SessionKey, id: Option<u64>, room: RoomId, since: Option<Since>) {
        let rooms_max = self.config().rooms_max;
        let known = self.rooms.find(&room);
        let Some(session) = self.sessions.get_mut(key).filter(|session| session.is_open()) else { return };
        let place = session.seats.iter().position(|seat| Some(seat.room) == known);
        let is_wanted = place.is_some_and(|place| session.seats[place].is_wanted);
        if !is_wanted && session.seats.iter().filter(|seat| seat.is_wanted).count() >= rooms_max {
            let message = format!("a session may be in {rooms_max} rooms; leave one first");
            return self.refuse(key, id, Some(&room), &Fault::new(Code::TooManyRooms, message));
        }
        let place = place.unwrap_or_else(|| {
            let at = self.rooms.obtain(&room);
            self.rooms.seat_taken(at);
            if session.seats.is_empty() {
                // Most are in one room, and a list grows by four.
                session.seats.reserve_exact(1);
            }
            session.seats.push(Seat {
                room: at,
                position: None,
                unanswered: 0,
                is_wanted: true,
                joined_at: 0,
                joined: 0,
            });
            session.seats.len() - 1
        });
        let seat = &mut session.seats[place];
        seat.is_wanted = true;
        seat.unanswered = seat.unanswered.saturating_add(1);
        self.hub.join(key, id, room, since);
    }

    /// Takes the session out of a room at once; the hub's answer brings `left`.
    fn leave(&mut self, key: SessionKey, id: Option<u64>, room: RoomId) {
        let known = self.rooms.find(&room);
        let Some(session) = self.sessions.get_mut(key) else { return };
        let seat = session.seats.iter_mut().find(|seat| Some(seat.room) == known && seat.is_wanted);
        let Some(seat) = seat else {
            let fault = Fault::new(Code::NotJoined, "the session is not in this room");
            return self.refuse(key, id, Some(&room), &fault);
        };
        seat.is_wanted = false;
        seat.unanswered = seat.unanswered.saturating_add(1);
        let (at, position) = (seat.room, seat.position.take());
        if let Some(position) = position {
            let seat = (room.clone(), seat.joined);
            let session = (session.session_id, session.user_id.clone());
            self.note_left(session, seat, LeftReason::Left);
            self.vacate(at, position);
        }
        self.hub.leave(key, id, room);
    }
}

fn rate_limited(config: &super::Config, wait: std::time::Duration) -> Fault {
    Fault {
        code: Code::RateLimited,
        message: format!(
            "more than {} frames a second, {} at once; this one was not acted on",
            config.frames_per_second, config.frames_burst
        ),
        retry_after: Some(wait),
    }
}

/// One place per room: of an epoch the furthest, else the one acknowledged last.
fn note_furthest(read: &mut Vec<(RoomId, Position)>, (room, position): &(RoomId, Position)) {
    match read.iter_mut().find(|(known, _)| known == room) {
        Some((_, known)) if known.epoch == position.epoch && known.offset >= position.offset => {}
        Some((_, known)) => *known = *position,
        None => read.push((room.clone(), *position)),
    }
}
