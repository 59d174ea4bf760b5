//! What a session is told of a log as it comes in: where it stands, what it missed, and later that messages are missing.

use std::io::IoSlice;

use bytes::Bytes;
use roomcast_types::{MessageId, Position, unix_millis};

use super::{
    out::{Frame, SLICES_MAX},
    rooms::RoomItem,
    sending::SentEnd,
    session::Phase,
    state::Shard,
    timers::millis,
};
use crate::{
    log::returning::Standing,
    ports::{CloseCode, DeliveryTarget, SessionKey},
    wire::{PerEncoding, ServerFrame, Welcome},
};

impl Shard {
    /// Sends `welcome` and what was missed, asks for the rooms of the URL, and lets the client speak.
    pub(super) fn welcome(&mut self, key: SessionKey, standing: Standing) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Phase::Waiting { rooms } = &mut session.phase else { return };
        let rooms = std::mem::take(rooms);
        // A random share of the interval: sessions that came together are pinged apart.
        let interval = millis(self.flow.config.ping_interval);
        session.ping_due = self.flow.now + interval / 2 + rand::random_range(0..=interval / 2);
        session.phase = Phase::Open;
        session.opened = self.history.walks();
        session.wake();
        let config = &self.flow.config;
        let frame = ServerFrame::Welcome(Welcome {
            session_id: session.session_id,
            node_id: &config.node_id,
            user_id: &session.user_id,
            client_id: &session.client_id,
            ping_interval: config.ping_interval,
            server_time_ms: unix_millis(),
            frame_bytes: config.frame_bytes_max,
            rooms: config.rooms_max,
            position: standing.position,
            recovered: standing.recovered,
        });
        let frame = frame.encode(session.encoding);
        self.reschedule(key);
        self.send(key, frame);
        self.send_missed(key, standing.missed);
        for room in rooms {
            self.join(key, None, room, None);
        }
    }

    /// Sends what a session missed. It may be more than a slow reader is allowed to leave waiting: what waits of it does
    /// not count against what comes later.
    pub(super) fn send_missed(&mut self, key: SessionKey, missed: Vec<Bytes>) {
        let frames: Vec<_> = missed.into_iter().map(Frame::plain).collect();
        for frames in frames.chunks(SLICES_MAX) {
            let Some(session) = self.sessions.get_mut(key).filter(|session| session.is_open()) else {
                return;
            };
            session.out.allow(frames);
            let slices: Vec<_> = frames.iter().map(|frame| IoSlice::new(&frame.bytes)).collect();
            match session.send(frames, &slices, key.slot, &mut self.flow).end {
                SentEnd::Complete => {}
                SentEnd::Slow => self.close(key, CloseCode::TooSlow, false),
                SentEnd::Broken => self.finish(key, None),
            }
        }
    }

    /// Sends messages of the inbox.
    pub(super) fn send_inbox(&mut self, key: SessionKey, messages: Vec<(MessageId, Bytes)>) {
        let Some(session) = self.sessions.get_mut(key).filter(|session| session.is_open()) else { return };
        let (ids, frames): (Vec<_>, Vec<_>) = messages.into_iter().unzip();
        session.inbox.extend(ids);
        self.send_missed(key, frames);
    }

    /// Tells whoever is concerned that messages may be missing, behind those that came before.
    pub(super) fn gap(&mut self, target: DeliveryTarget, position: Position) {
        match target {
            DeliveryTarget::Room(room) => {
                if self.rooms.find(&room).is_some() {
                    self.queue_item(&room, RoomItem::Gap(position));
                }
            }
            DeliveryTarget::Sessions(sessions) => self.queue_gap(sessions, position),
            DeliveryTarget::All => {}
        }
    }

    /// A room's turn to hear of a gap.
    pub(super) fn room_gap(&mut self, room: u32, position: Position) {
        let slots: Vec<u32> = self.rooms.get(room).members().collect();
        let frames = PerEncoding::default();
        for slot in slots {
            let Some(session) = self.sessions.in_slot(slot) else { continue };
            let (key, encoding) = (session.key(self.index, slot), session.encoding);
            let room = &self.rooms.get(room).id;
            let frame: &Bytes =
                frames.get(encoding, || ServerFrame::Gap { room: Some(room), position }.encode(encoding));
            self.send(key, frame.clone());
        }
    }
}
