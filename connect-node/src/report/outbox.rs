//! What the controller has to be told: changes that wait or are under way, and the versions of the 64 slices.
//!
//! Pure: it knows neither streams nor clocks. A change is kept until it is answered. Whatever may have got lost marks
//! its slice as unsure, and an unsure slice is sent in full: so the controller's view becomes right again without
//! anything but reports.
//!
//! | change | answered late | stream broke |
//! |---|---|---|
//! | opened | counts | asked again while somebody waits, else the slice is unsure |
//! | join | slice unsure: the session did not enter | as opened |
//! | closed | | slice unsure |
//! | leave | | sent again, as nothing else releases the seat |

use std::collections::{BTreeMap, VecDeque};

use roomcast_proto::pubsub::{
    ChangeResult, RoomChange, SessionChange, SessionRecord, change_result, session_change::Change,
};
use roomcast_types::{Code, Fault, SessionId};
use tokio::{sync::oneshot, time::Instant};

use crate::ports::SessionKey;

/// Slices of a node.
pub const SLICES: usize = 64;
/// Changes that wait or are under way; further ones are refused or left to the slices.
const CHANGES_MAX: usize = 32_768;
/// The same for leaves, which nothing else stands for.
const CHANGES_AND_LEAVES_MAX: usize = 49_152;

/// Numbers of changes that were given up before they were sent.
const UNSENT_SLACK: usize = 1024;

/// What a controller answered.
#[derive(Debug)]
pub enum Answer {
    /// Done.
    Applied,
    /// Whether the session holds its slot.
    Slot(bool),
    /// Admitted.
    Joined {
        /// Version of the room's card; 0 when none was given.
        card_version: u64,
        /// Users with a seat.
        members: u64,
    },
    /// Not done.
    Refused(Fault),
}

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
    /// Sender: here, once. Receiver: an operation of the session; closed when it no longer waits.
    waiter: Option<oneshot::Sender<Answer>>,
}

impl Kept {
    fn is_awaited(&self) -> bool {
        self.waiter.as_ref().is_some_and(|waiter| !waiter.is_closed())
    }
}

#[derive(Clone, Copy, Default)]
struct Slice {
    version: u64,
    /// The controller may know something else under this version.
    is_unsure: bool,
    /// The controller asked for it.
    is_wanted: bool,
    /// How often it was sent in full.
    sends: u64,
}

impl Slice {
    /// The version grows with it: should the slice get lost on its way, the versions still differ.
    fn mark_unsure(&mut self) {
        if !self.is_unsure {
            self.is_unsure = true;
            self.version += 1;
        }
    }
}

/// What an answer means beyond its waiter.
#[derive(Debug, PartialEq, Eq)]
pub enum Consequence {
    /// Nothing.
    None,
    /// A later session holds the slot of this one, and nobody waits for the answer any more.
    SlotLost(SessionKey),
}

/// See the module.
pub struct Outbox {
    next_request: u64,
    kept: BTreeMap<u64, Kept>,
    /// Not sent on the current stream, in order.
    unsent: VecDeque<u64>,
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
            unsent: VecDeque::new(),
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

    /// A session wants into a room. `None`: too much waits.
    pub fn join(&mut self, session: SessionKey, id: SessionId, change: RoomChange) -> Option<Asked> {
        self.ask(session, id, Change::Join(change))
    }

    /// A session left a room. `None`: too much waits, and the seat stays until its user is away.
    pub fn leave(&mut self, session: SessionKey, id: SessionId, change: RoomChange) -> Option<Asked> {
        self.ask(session, id, Change::Leave(change))
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
        self.kept.insert(request, Kept { change, session, slice: id.slice(), sent_at: None, waiter });
        self.unsent.push_back(request);
        request
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
            self.slices[kept.slice].mark_unsure();
        }
        self.kept.remove(&request);
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
        self.unsent = self.kept.keys().copied().collect();
        self.postponed.clear();
    }

    /// The next changes to send, oldest first. `complete` fills in what is known only now, or answers false when the
    /// session is gone and the change with it.
    pub fn take_changes(
        &mut self,
        now: Instant,
        max: usize,
        mut complete: impl FnMut(SessionKey, &mut Change) -> bool,
    ) -> Vec<SessionChange> {
        let mut changes = Vec::new();
        while changes.len() < max
            && let Some(request) = self.unsent.pop_front()
        {
            let Some(kept) = self.kept.get_mut(&request) else { continue };
            let mut change = kept.change.clone();
            if !complete(kept.session, &mut change) {
                self.kept.remove(&request);
                continue;
            }
            kept.sent_at = Some(now);
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
        let Some(mut kept) = self.kept.remove(&result.request) else { return Consequence::None };
        let answer = answer(result.result);
        match (&kept.change, &answer) {
            (Change::Opened(_), Answer::Slot(_)) => {}
            (Change::Opened(_) | Change::Closed(_), Answer::Refused(_)) => {
                self.slices[kept.slice].mark_unsure()
            }
            (Change::Join(_), Answer::Joined { .. }) if !kept.is_awaited() => {
                self.slices[kept.slice].mark_unsure();
            }
            (Change::Leave(_), Answer::Refused(fault)) if fault.code.is_retryable() => {
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
        self.unsent.extend(self.postponed.drain(..));
        self.take_slices(|slice| slice.is_wanted || slice.is_unsure)
    }

    fn take_slices(&mut self, is_due: impl Fn(&Slice) -> bool) -> Vec<usize> {
        (0..SLICES).filter(|index| is_due(&self.slices[*index])).collect()
    }

    /// A slice is being sent in full.
    pub fn slice_sent(&mut self, index: usize) {
        let slice = &mut self.slices[index];
        slice.is_unsure = false;
        slice.is_wanted = false;
        slice.sends += 1;
    }

    /// How often the slice of a session was sent in full: shows whether that happened in between.
    pub fn sends(&self, id: SessionId) -> u64 {
        self.slices[id.slice()].sends
    }

    /// The versions of all slices.
    pub fn versions(&self) -> Vec<u64> {
        self.slices.iter().map(|slice| slice.version).collect()
    }

    /// When the change that is under way for longest was sent.
    pub fn oldest_under_way(&self) -> Option<Instant> {
        self.kept.values().find_map(|kept| kept.sent_at)
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

fn answer(result: Option<change_result::Result>) -> Answer {
    match result {
        Some(change_result::Result::Applied(_)) | None => Answer::Applied,
        Some(change_result::Result::SlotHeld(is_held)) => Answer::Slot(is_held),
        Some(change_result::Result::Joined(joined)) => Answer::Joined {
            card_version: joined.card.map_or(0, |card| card.version),
            members: joined.members,
        },
        Some(change_result::Result::Error(error)) => Answer::Refused(Fault {
            code: error.code.parse().unwrap_or(Code::Internal),
            message: error.message,
            retry_after: (error.retry_after_ms > 0)
                .then(|| std::time::Duration::from_millis(error.retry_after_ms.into())),
        }),
    }
}
