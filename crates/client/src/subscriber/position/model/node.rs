//! The model's nodes: what each does with the items that reach it, for its one session.

use std::collections::{HashSet, VecDeque};

use super::{Position, ROOM};
use crate::subscriber::frame::JoinedFrame;

/// What the log keeps.
const KEPT: usize = 6;

#[derive(Debug, Clone)]
pub enum Item {
    Logged { at: Position, id: usize, is_for_us: bool, went_before: bool },
    Plain { id: usize },
    Renewed { epoch: String },
}

pub enum Frame {
    /// With how many items came before it.
    Joined(JoinedFrame, usize),
    Push(Option<Position>, usize),
    Gap(Position),
}

/// A session as its node sees it.
pub struct Session {
    pub number: u64,
    pub asked: VecDeque<(u64, Option<Position>)>,
    pub frames: VecDeque<Frame>,
    /// Items that the node got.
    pub arrived: usize,
    is_joined: bool,
    /// The node knows that it lacks something before the next message.
    pub has_gap: bool,
    seen: HashSet<usize>,
}

impl Session {
    /// On a node that got so many items.
    pub fn open(number: u64, arrived: usize) -> Self {
        Self {
            number,
            asked: VecDeque::new(),
            frames: VecDeque::new(),
            arrived,
            is_joined: false,
            has_gap: false,
            seen: HashSet::new(),
        }
    }

    pub fn pass_on(&mut self, item: &Item, is_missed: bool) {
        if !self.is_joined {
            return;
        }
        match item {
            Item::Plain { id } => {
                self.seen.insert(*id);
                self.frames.push_back(Frame::Push(None, *id));
            }
            Item::Renewed { epoch } => {
                self.frames.push_back(Frame::Gap(Position { epoch: epoch.clone(), offset: 0 }));
                self.has_gap = false;
            }
            Item::Logged { .. } if is_missed => self.has_gap = true,
            Item::Logged { at, id, is_for_us, went_before } => {
                if self.has_gap {
                    let before = Position { offset: at.offset - 1, ..at.clone() };
                    self.frames.push_back(Frame::Gap(before));
                    self.has_gap = false;
                }
                if *is_for_us && !(*went_before && self.seen.contains(id)) {
                    self.frames.push_back(Frame::Push(Some(at.clone()), *id));
                }
            }
        }
    }

    /// `log`: what was ever logged in its epoch, unless it is away.
    pub fn join(&mut self, id: u64, since: Option<Position>, own: Position, log: Option<Vec<Item>>) {
        let mut joined =
            JoinedFrame { id: Some(id), room_id: ROOM.into(), members: 1, ..JoinedFrame::default() };
        self.is_joined = true;
        let Some(log) = log else {
            joined.recovered = since.map(|_| false);
            self.has_gap = true;
            self.frames.push_back(Frame::Joined(joined, self.arrived));
            return;
        };
        let first_kept = log.len().saturating_sub(KEPT) as u64 + 1;
        let recovers = |since: &Position| since.epoch == own.epoch && since.offset + 1 >= first_kept;
        joined.recovered = since.as_ref().map(&recovers);
        let since = since.filter(recovers);
        let given = since.clone().unwrap_or(own.clone());
        (joined.epoch, joined.offset) = (Some(given.epoch), Some(given.offset));
        self.frames.push_back(Frame::Joined(joined, self.arrived));
        let Some(since) = since else { return };
        for item in &log {
            if let Item::Logged { at, id, is_for_us: true, .. } = item
                && (since.offset < at.offset && at.offset <= own.offset)
            {
                self.frames.push_back(Frame::Push(Some(at.clone()), *id));
            }
        }
    }
}
