//! What passes between the hub (main runtime) and the shards (a thread each): the only way they meet.
//!
//! A shard owns sockets and its part of every room. The hub owns the node's view: which sessions, users and rooms
//! there are, on which shards, and what the lanes and the controller were told. A shard calls [`Hub`] (never blocks,
//! never waits); the hub answers through the shard's bounded mailbox ([`ToShard`], sent with `.await`, never while a
//! lock is held).

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use roomcast_proto::pubsub::InspectReply;
use roomcast_types::{Class, ClientId, Fault, MessageId, Position, RoomId, SessionId, UserId};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{
    log::returning::{Since, Standing},
    tally::Tally,
    wire::{Encoding, PushFrame},
};

/// Commands that wait for one shard at most; a sender waits for a place.
pub const MAILBOX_CAPACITY: usize = 4096;

/// Names a session on its node: slots are reused, generations are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// Which shard.
    pub shard: u16,
    /// Place in the shard's slab.
    pub slot: u32,
    /// Which use of that place.
    pub generation: u32,
}

/// A session whose socket was upgraded and that waits for its `welcome`.
#[derive(Debug, Clone)]
pub struct OpenedSession {
    /// Where it lives.
    pub key: SessionKey,
    /// Its id, fresh.
    pub session_id: SessionId,
    /// Who.
    pub user_id: UserId,
    /// Names its slot, with the user.
    pub client_id: ClientId,
    /// For display; empty when not given.
    pub user_name: String,
    /// Position in the user's own log, as the client named it.
    pub since: Option<Since>,
    /// In which its frames are written.
    pub encoding: Encoding,
    /// When the socket was accepted: becomes the stamp, on the store's clock.
    pub opened_at: Instant,
}

/// What a shard tells the node. Called on the shard's thread: implementations take short locks and spawn, no more.
pub trait Hub: Send + Sync + 'static {
    /// A session opened. Answered by [`ToShard::Welcome`] when its user is announced and its slot claimed (or 1 s
    /// passed), or by [`ToShard::Close`].
    fn opened(&self, session: OpenedSession);

    /// A session wants into a room, again or for the first time. Answered by [`ToShard::Joined`] when it holds a seat
    /// and the room is announced, or by [`ToShard::JoinRefused`], within 1 s or so. `request` is the frame's id, `since` the
    /// position in the room's log from which the client wants to catch up.
    fn join(&self, session: SessionKey, request: Option<u64>, room: RoomId, since: Option<Since>);

    /// A session left a room by its own wish; the shard has taken it out already. Answered by [`ToShard::Left`].
    fn leave(&self, session: SessionKey, request: Option<u64>, room: RoomId);

    /// A session reports when a message of a trace came.
    fn received(&self, arrival: Arrival);

    /// A session acknowledged messages that lie in its user's inbox.
    fn acknowledged(&self, session: SessionKey, messages: Vec<MessageId>);

    /// A session acknowledged a message of a room's log.
    fn has_read(&self, session: SessionKey, room: RoomId, position: Position);

    /// A session ended; the shard has taken it out of everything. No answer. The last call for this key.
    fn closed(&self, session: SessionKey);
}

/// When a message of a trace came to its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// Which message.
    pub message_id: MessageId,
    /// Which session got it.
    pub session_id: SessionId,
    /// Names this node's span of the message.
    pub traceparent: Arc<str>,
    /// When the kernel took its last byte.
    pub written_at: SystemTime,
    /// As the client says, on this node's clock: not before it was written, not after now.
    pub received_at: SystemTime,
}

/// Commands to a shard. Those for a session that is gone are dropped by the shard.
#[derive(Debug)]
pub enum ToShard {
    /// A fresh connection on the client port, socket options set.
    Accept(std::net::TcpStream),
    /// Send `welcome` and what was missed, then ask for the rooms of the URL.
    Welcome {
        /// Which session.
        session: SessionKey,
        /// Where it stands in its user's log.
        standing: Standing,
    },
    /// Send messages of its user's inbox, and tell the hub which of them it acknowledges.
    Inbox {
        /// Which session.
        session: SessionKey,
        /// Whole frames in the session's encoding, oldest first.
        messages: Vec<(MessageId, Bytes)>,
    },
    /// Tell members of a room, or sessions of a user, that messages may be missing.
    Gap {
        /// Whom.
        target: DeliveryTarget,
        /// Up to here, in the log of the room or of the user.
        position: Position,
    },
    /// Put the session into the room and send `joined`; a member already: only send it.
    Joined {
        /// Which session.
        session: SessionKey,
        /// Id of the client's frame; `None` for rooms of the URL.
        request: Option<u64>,
        /// Which room.
        room: RoomId,
        /// Users with a seat.
        members: u64,
        /// Where it stands in the room's log.
        standing: Standing,
    },
    /// Send `error` with this room.
    JoinRefused {
        /// Which session.
        session: SessionKey,
        /// Id of the client's frame.
        request: Option<u64>,
        /// Which room.
        room: RoomId,
        /// Why.
        fault: Fault,
    },
    /// Take the session out of the room if it is in, and send `left`. For a leave of its own: answers the request.
    Left {
        /// Which session.
        session: SessionKey,
        /// Id of the client's frame; `None` when it did not ask.
        request: Option<u64>,
        /// Which room.
        room: RoomId,
        /// Why.
        reason: LeftReason,
    },
    /// Take everybody out of the room with `left` ROOM_DELETED. The hub has forgotten their rooms already.
    RoomDeleted(RoomId),
    /// Close with this code after what waits was written (or without, when that takes too long).
    Close {
        /// Which session.
        session: SessionKey,
        /// Why.
        code: CloseCode,
    },
    /// Walk the targets.
    Deliver(Delivery),
    /// Say what is known of a user, a room or a message.
    Inspect(Inspection),
    /// The node drains: tell the session to reconnect elsewhere after this delay.
    Notice {
        /// Which session.
        session: SessionKey,
        /// When its client connects anew.
        reconnect_after: Duration,
    },
    /// The node stops: close every session with 4001 behind what waits for it, then end the thread. What takes longer
    /// than `flush_wait` to be written is lost, and the close frame alone gets another second.
    Stop {
        /// How long what waits may take.
        flush_wait: Duration,
    },
}

/// A question about the recent past. Answered as things are when it is taken out of the mailbox.
#[derive(Debug)]
pub struct Inspection {
    /// What is asked.
    pub question: Arc<Question>,
    /// The live sessions of the user asked about, on this shard.
    pub sessions: Vec<SessionKey>,
    /// Takes the answer, which has neither node nor state in it.
    pub answer: oneshot::Sender<InspectReply>,
}

/// What is asked: see `InspectRequest`.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// Sessions of this user.
    pub user: Option<UserId>,
    /// Sessions in this room, or of the user in this room.
    pub room: Option<RoomId>,
    /// Only this message.
    pub message: Option<MessageId>,
    /// Entries of each list at most, except for sessions.
    pub last: usize,
}

/// Why a session is no longer in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftReason {
    /// Its own wish.
    Left,
    /// By request of a business server.
    Kicked,
    /// Its seat was taken away.
    Evicted,
    /// The room is gone.
    RoomDeleted,
}

impl LeftReason {
    /// The word of the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Left => "LEFT",
            Self::Kicked => "KICKED",
            Self::Evicted => "EVICTED",
            Self::RoomDeleted => "ROOM_DELETED",
        }
    }
}

/// Close codes of the client protocol that the server chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum CloseCode {
    /// Protocol error found by the WebSocket layer.
    Protocol = 1002,
    /// A text frame that is not UTF-8.
    InvalidData = 1007,
    /// Too many malformed frames.
    Policy = 1008,
    /// A frame over the size limit.
    TooBig = 1009,
    /// A bug of ours ended the session.
    Internal = 1011,
    /// The node drains or stops.
    GoingAway = 4001,
    /// The reader is too slow.
    TooSlow = 4002,
    /// Nothing came after a ping.
    NoPong = 4003,
    /// A later session took the slot.
    TakenOver = 4500,
    /// By request of a business server.
    Kicked = 4501,
}

/// One message for one shard.
#[derive(Debug)]
pub struct Delivery {
    /// The whole WebSocket frame, header included, encoded once for the node in each encoding.
    pub frame: PushFrame,
    /// Whom it reaches on this shard.
    pub target: DeliveryTarget,
    /// What it is, and how it is treated.
    pub traits: Traits,
    /// Users that are counted as FILTERED instead.
    pub exclude: Option<Arc<HashSet<UserId>>>,
    /// Takes this shard's counts at the end of the walk, and what changes of them later.
    pub tally: Arc<Tally>,
}

/// What a message is, and how it is treated in front of a slow reader.
#[derive(Debug, Clone)]
pub struct Traits {
    /// Which message.
    pub message_id: MessageId,
    /// See [`Class`].
    pub class: Class,
    /// When its time to live ends; `None`: never.
    pub expires_at: Option<Instant>,
    /// LATEST: what it replaces. Names the target, too, so that equal keys of two rooms differ.
    pub key: Option<Arc<str>>,
    /// Clients acknowledge it.
    pub wants_ack: bool,
    /// It lies in the inboxes of its users: the hub hears who acknowledged it.
    pub is_stored: bool,
    /// Its place in the log of its room, if clients acknowledge it: the hub hears who did.
    pub place: Option<(RoomId, Position)>,
    /// Of a trace: names this node's span of it.
    pub trace: Option<Arc<str>>,
}

impl Traits {
    /// Whether it matters later which sessions it was written to.
    pub fn is_noted(&self) -> bool {
        self.wants_ack || self.trace.is_some()
    }
}

/// Whom a delivery reaches.
#[derive(Debug)]
pub enum DeliveryTarget {
    /// Members of a room.
    Room(RoomId),
    /// Single sessions, each with the index of its user in the push.
    Sessions(Vec<(SessionKey, u32)>),
    /// Every session that had its welcome.
    All,
}

/// The mailboxes of all shards, by index.
#[derive(Debug, Clone)]
pub struct Shards {
    mailboxes: Arc<[mpsc::Sender<ToShard>]>,
}

impl Shards {
    /// Of these mailboxes.
    pub fn new(mailboxes: Vec<mpsc::Sender<ToShard>>) -> Self {
        Self { mailboxes: mailboxes.into() }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.mailboxes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.mailboxes.is_empty()
    }

    /// Sends to one shard, waiting for a place; false when the shard has ended.
    pub async fn send(&self, shard: u16, command: ToShard) -> bool {
        match self.mailboxes.get(usize::from(shard)) {
            Some(mailbox) => mailbox.send(command).await.is_ok(),
            None => false,
        }
    }

    /// A place in one shard's mailbox, waiting for it: what is sent through it comes behind everything sent before and
    /// does not wait any more. `None` when the shard has ended.
    pub async fn reserve(&self, shard: u16) -> Option<mpsc::Permit<'_, ToShard>> {
        self.mailboxes.get(usize::from(shard))?.reserve().await.ok()
    }
}
