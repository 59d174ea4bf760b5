//! What the controller has to be told: changes that wait or are under way, and the versions of the 64 slices.
//!
//! Pure: it knows neither streams nor clocks. A change is kept until it is answered. Whatever may have got lost marks
//! its slice as unsure, and an unsure slice is sent in full: so the controller's view becomes right again without
//! anything but reports.
//!
//! | change | answered late | stream broke |
//! |---|---|---|
//! | opened | counts; not sent yet, it goes in its turn | asked again while somebody waits, else the slice is unsure |
//! | join | slice unsure: the session did not enter | as opened |
//! | closed | | slice unsure |
//! | leave | | sent again, as nothing else releases the seat, unless its session has asked to join again |
//!
//! Only so many changes are under way at once: what exceeds what the controller can do waits here, where giving it up
//! costs nothing, and not there.

use std::collections::{BTreeMap, HashMap};

use roomcast_proto::pubsub::{
    ChangeResult, RoomChange, SessionChange, SessionRecord, session_change::Change,
};
use roomcast_types::SessionId;
use tokio::{sync::oneshot, time::Instant};

use super::answer::{self, busy};
pub use super::answer::{Answer, Consequence};
use super::{slice::Slice, unsent::Unsent};
use crate::ports::SessionKey;

/// Slices of a node.
pub const SLICES: usize = 64;
/// Changes that wait or are under way; further ones are refused or left to the slices.
const CHANGES_MAX: usize = 32_768;
/// The same for leaves, which nothing else stands for.
const CHANGES_AND_LEAVES_MAX: usize = 49_152;

/// Changes under way at once: several times what a controller applies while an answer travels, and little enough that
/// the last of them is answered within a fraction of a second, also where several nodes report to one controller.
const UNDER_WAY_MAX: usize = 256;
/// Numbers of changes that were given up before they were sent.
const UNSENT_SLACK: usize = 1024;

/// A change that was put into the outbox.
#[derive(Debug)]
pub struct Asked {
    /// Its number.
    pub request: u64,
    /// Resolves with the answer; fails when the answer will never come.
    pub answer: oneshot::Receiver<Answer>,
}

struct Kept {
    change: Change,
    session: SessionKey,
    slice: usize,
    sent_at: Option<Instant>,
    /// Of a join: sent later than this, its answer would come when nobody waits for it any more.
    send_by: Option<Instant>,
    /// Of a leave: the session has asked to join again.
    is_superseded: bool,
    /// Sender: here, once. Receiver: an operation of the session; closed when it no longer waits.
    waiter: Option<oneshot::Sender<Answer>>,
}

impl Kept {
    fn is_awaited(&self) -> bool {
        self.waiter.as_ref().is_some_and(|waiter| !waiter.is_closed())
    }
}

/// See the module.
pub struct Outbox {
    next_request: u64,
    kept: BTreeMap<u64, Kept>,
    /// Not sent on the current stream.
    unsent: Unsent,
    /// Sent on the current stream and not answered.
    under_way: usize,
    /// Leaves that are kept.
    leaves: HashMap<(SessionKey, String), u64>,
    /// Of sessions that were welcomed before their turn came.
    late: HashMap<SessionKey, u64>,
    /// To be sent again with the next heartbeat: the controller could not do it now.
    postponed: Vec<u64>,
    slices: [Slice; SLICES],
    is_linked: bool,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            next_request: 1,
            kept: BTreeMap::new(),
            unsent: Unsent::default(),
            under_way: 0,
            leaves: HashMap::new(),
            late: HashMap::new(),
            postponed: Vec::new(),
            slices: [Slice::default(); SLICES],
            is_linked: false,
        }
    }
}

impl Outbox {
    /// A socket opened. `None`: too much waits, the slice will claim it.
    pub fn opened(&mut self, session: SessionKey, id: SessionId, record: SessionRecord) -> Option<Asked> {
        let asked = self.ask(session, id, Change::Opened(record));
        if asked.is_none() {
            self.mark_unsure(id);
        }
        asked
    }

    /// A session wants into a room, and is refused as busy if this is not sent by then. `None`: too much waits.
    pub fn join(
        &mut self,
        session: SessionKey,
        id: SessionId,
        change: RoomChange,
        send_by: Instant,
    ) -> Option<Asked> {
        if let Some(leave) = self.leaves.get(&(session, change.room_id.clone())).copied() {
            self.supersede(leave);
        }
        if let Some(opened) = self.late.remove(&session) {
            // The controller has to know a session that joins.
            self.unsent.hurry(opened);
        }
        let asked = self.ask(session, id, Change::Join(change))?;
        if let Some(kept) = self.kept.get_mut(&asked.request) {
            kept.send_by = Some(send_by);
        }
        Some(asked)
    }

    /// A session left a room. `None`: too much waits, and the seat stays until its user is away.
    pub fn leave(&mut self, session: SessionKey, id: SessionId, change: RoomChange) -> Option<Asked> {
        let place = (session, change.room_id.clone());
        let asked = self.ask(session, id, Change::Leave(change))?;
        self.leaves.insert(place, asked.request);
        Some(asked)
    }

    /// Sent after the join, this leave would release the seat again.
    fn supersede(&mut self, leave: u64) {
        let Some(kept) = self.kept.get_mut(&leave) else { return };
        if kept.sent_at.is_some() {
            kept.is_superseded = true;
        } else {
            self.remove(leave);
        }
    }

    /// A session ended.
    pub fn closed(&mut self, session: SessionKey, id: SessionId, record: SessionRecord) {
        if !self.is_linked || self.kept.len() >= CHANGES_MAX {
            self.mark_unsure(id);
            return;
        }
        self.put(session, id, Change::Closed(record), None);
    }

    fn ask(&mut self, session: SessionKey, id: SessionId, change: Change) -> Option<Asked> {
        let max = if matches!(change, Change::Leave(_)) { CHANGES_AND_LEAVES_MAX } else { CHANGES_MAX };
        if self.kept.len() >= max {
            return None;
        }
        let (waiter, answer) = oneshot::channel();
        let request = self.put(session, id, change, Some(waiter));
        Some(Asked { request, answer })
    }

    fn put(
        &mut self,
        session: SessionKey,
        id: SessionId,
        change: Change,
        waiter: Option<oneshot::Sender<Answer>>,
    ) -> u64 {
        let request = self.next_request;
        self.next_request += 1;
        let kept = Kept {
            change,
            session,
            slice: id.slice(),
            sent_at: None,
            send_by: None,
            is_superseded: false,
            waiter,
        };
        self.unsent.push(request, &kept.change);
        self.kept.insert(request, kept);
        request
    }

    fn remove(&mut self, request: u64) -> Option<Kept> {
        let kept = self.kept.remove(&request)?;
        self.under_way -= usize::from(kept.sent_at.is_some());
        if let Change::Opened(_) = kept.change {
            self.late.remove(&kept.session);
        }
        if let Change::Leave(change) = &kept.change {
            let place = (kept.session, change.room_id.clone());
            if self.leaves.get(&place) == Some(&request) {
                self.leaves.remove(&place);
            }
        }
        Some(kept)
    }

    /// What the node holds of this session may differ from what the controller knows.
    pub fn mark_unsure(&mut self, id: SessionId) {
        self.slices[id.slice()].mark_unsure();
    }

    /// Nobody waits for the answer any more.
    pub fn give_up(&mut self, request: u64) {
        let Some(kept) = self.kept.get_mut(&request) else { return };
        kept.waiter = None;
        if matches!(kept.change, Change::Leave(_)) || kept.sent_at.is_some() {
            return;
        }
        if matches!(kept.change, Change::Opened(_)) {
            if self.is_linked {
                // It goes in its turn: its slice would tell hundreds of others again.
                self.late.insert(kept.session, request);
                return;
            }
            self.slices[kept.slice].mark_unsure();
        }
        self.remove(request);
        // Without a controller nothing else takes these numbers out.
        if self.unsent.len() > self.kept.len() * 2 + UNSENT_SLACK {
            self.unsent.retain(|request| self.kept.contains_key(request));
        }
    }

    /// A stream began: everything kept is sent on it.
    pub fn link_up(&mut self) {
        self.is_linked = true;
    }

    /// The stream ended: see the table above.
    pub fn link_down(&mut self) {
        self.is_linked = false;
        let slices = &mut self.slices;
        self.kept.retain(|_, kept| {
            let stays = match kept.change {
                Change::Opened(_) | Change::Join(_) => kept.is_awaited(),
                Change::Closed(_) => false,
                Change::Leave(_) => true,
            };
            if !stays {
                slices[kept.slice].mark_unsure();
            }
            kept.sent_at = None;
            stays
        });
        self.under_way = 0;
        self.late.clear();
        self.unsent = Unsent::of(self.kept.iter().map(|(request, kept)| (*request, &kept.change)));
        self.postponed.clear();
    }

    /// The next changes to send: those in rooms first, oldest first. `complete` fills in what is known only now, or answers false when the
    /// session is gone and the change with it.
    pub fn take_changes(
        &mut self,
        now: Instant,
        max: usize,
        mut complete: impl FnMut(SessionKey, &mut Change) -> bool,
    ) -> Vec<SessionChange> {
        let mut changes = Vec::new();
        while changes.len() < max
            && self.under_way < UNDER_WAY_MAX
            && let Some(request) = self.unsent.pop()
        {
            let Some(kept) = self.kept.get_mut(&request).filter(|kept| kept.sent_at.is_none()) else {
                continue;
            };
            if kept.send_by.is_some_and(|by| by < now) {
                if let Some(waiter) = self.remove(request).and_then(|kept| kept.waiter) {
                    // Whoever no longer waits needs no answer.
                    let _ = waiter.send(Answer::Refused(busy()));
                }
                continue;
            }
            let mut change = kept.change.clone();
            if !complete(kept.session, &mut change) {
                self.remove(request);
                continue;
            }
            self.under_way += 1;
            kept.sent_at = Some(now);
            if let Change::Opened(_) = change {
                self.late.remove(&kept.session);
            }
            // Versions grow in the order of the stream: a gap tells the controller that something was lost.
            let slice = &mut self.slices[kept.slice];
            slice.version += 1;
            changes.push(SessionChange {
                request,
                slice: kept.slice as u32,
                slice_version: slice.version,
                change: Some(change),
            });
        }
        changes
    }

    /// Takes an answer.
    pub fn answered(&mut self, result: ChangeResult) -> Consequence {
        let Some(mut kept) = self.remove(result.request) else { return Consequence::None };
        let answer = answer::read(result.result);
        match (&kept.change, &answer) {
            (Change::Opened(_), Answer::Slot(_)) => {}
            (Change::Opened(_) | Change::Closed(_), Answer::Refused(_)) => {
                self.slices[kept.slice].mark_unsure()
            }
            (Change::Join(_), Answer::Joined { .. }) if !kept.is_awaited() => {
                self.slices[kept.slice].mark_unsure();
            }
            (Change::Leave(_), Answer::Refused(_)) if kept.is_superseded => {
                self.slices[kept.slice].mark_unsure();
            }
            (Change::Leave(change), Answer::Refused(fault)) if fault.code.is_retryable() => {
                self.leaves.insert((kept.session, change.room_id.clone()), result.request);
                kept.waiter = None;
                kept.sent_at = None;
                self.kept.insert(result.request, kept);
                self.postponed.push(result.request);
                return Consequence::None;
            }
            _ => {}
        }
        let is_lost = matches!(answer, Answer::Slot(false));
        let unheard = match kept.waiter.take() {
            Some(waiter) => waiter.send(answer).is_err(),
            None => true,
        };
        if is_lost && unheard { Consequence::SlotLost(kept.session) } else { Consequence::None }
    }

    /// The controller asks for a slice.
    pub fn want(&mut self, slice: u32) {
        if let Some(slice) = self.slices.get_mut(slice as usize) {
            slice.is_wanted = true;
        }
    }

    /// Slices that the controller asked for.
    pub fn take_wanted(&mut self) -> Vec<usize> {
        self.take_slices(|slice| slice.is_wanted)
    }

    /// Slices to send with a heartbeat, whether asked for or unsure; also lets postponed changes go again.
    pub fn take_unsure(&mut self) -> Vec<usize> {
        self.postponed.drain(..).for_each(|request| self.unsent.hurry(request));
        self.take_slices(|slice| slice.is_wanted || slice.is_unsure)
    }

    fn take_slices(&mut self, is_due: impl Fn(&Slice) -> bool) -> Vec<usize> {
        (0..SLICES).filter(|index| is_due(&self.slices[*index])).collect()
    }

    /// A slice is being sent in full.
    pub fn slice_sent(&mut self, index: usize) {
        self.slices[index].sent();
    }

    /// How often the slice of a session was sent in full: shows whether that happened in between.
    pub fn sends(&self, id: SessionId) -> u64 {
        self.slices[id.slice()].sends
    }

    /// The versions of all slices.
    pub fn versions(&self) -> Vec<u64> {
        self.slices.iter().map(|slice| slice.version).collect()
    }

    /// Changes that wait or are under way.
    pub fn waiting(&self) -> usize {
        self.kept.len()
    }

    /// Whether every change was answered.
    pub fn is_settled(&self) -> bool {
        self.kept.is_empty()
    }

    /// Whether a stream is on.
    pub fn is_linked(&self) -> bool {
        self.is_linked
    }
}
