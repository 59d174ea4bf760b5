//! Announcements under way: how many lanes each still waits for, and who waits for it.

use roomcast_types::{RoomId, UserId};
use slab::Slab;
use tokio::sync::oneshot;

/// Names an announcement until its last lane is done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AnnouncementId(usize);

/// What is announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// Interest in a room.
    Room(RoomId),
    /// Interest in a user.
    User(UserId),
}

struct Announcement {
    subject: Subject,
    lanes_left: usize,
    /// Sender: here, once, when the last lane is done. Receiver: an operation of a session; it may have gone.
    waiters: Vec<oneshot::Sender<()>>,
}

/// All announcements under way.
#[derive(Default)]
pub struct Announcements {
    under_way: Slab<Announcement>,
}

impl Announcements {
    /// Begins one; [`Self::wait_for_lanes`] says how many lanes it takes.
    pub fn begin(&mut self, subject: Subject) -> AnnouncementId {
        AnnouncementId(self.under_way.insert(Announcement { subject, lanes_left: 0, waiters: Vec::new() }))
    }

    /// Sets the number of lanes; false when there is none, and the announcement is over.
    pub fn wait_for_lanes(&mut self, id: AnnouncementId, lanes: usize) -> bool {
        if lanes == 0 {
            self.under_way.remove(id.0);
            return false;
        }
        self.under_way[id.0].lanes_left = lanes;
        true
    }

    /// Resolves when every lane is done with the announcement.
    pub fn wait(&mut self, id: AnnouncementId) -> oneshot::Receiver<()> {
        let (waiter, over) = oneshot::channel();
        self.under_way[id.0].waiters.push(waiter);
        over
    }

    /// One lane is done with it. The last one ends it: its subject is returned and its waiters wake.
    pub fn lane_done(&mut self, id: AnnouncementId) -> Option<Subject> {
        let announcement = &mut self.under_way[id.0];
        announcement.lanes_left -= 1;
        if announcement.lanes_left > 0 {
            return None;
        }
        let ended = self.under_way.remove(id.0);
        for waiter in ended.waiters {
            // Who waited may have gone.
            let _ = waiter.send(());
        }
        Some(ended.subject)
    }
}
